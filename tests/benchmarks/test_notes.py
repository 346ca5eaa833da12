"""What a long benchmark has measured is kept, and counts only for what it was measured on."""

from pathlib import Path

import pytest
import torch

from benchmarks.notes import Notes
from benchmarks.school import Corpus, School, Way
from trivium.compute import Compute
from trivium.config import merge
from trivium.worlds.tinyworld import stories

TINY = Way("tiny", {"model": {
    "num_layers": 1, "width": 16, "mlp_width": 16, "num_heads": 1, "num_kv_heads": 1, "vocab_size": 300,
    "context_length": 32,
}, "pretrain": {"rows_per_step": 2, "microbatch_rows": 2}})  # fmt: skip


def test_a_note_is_found_again_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    assert Notes(path).find(lambda: (1, 2.5), minutes=3) == [1, 2.5]
    assert Notes(path).find(lambda: pytest.fail("measured again"), minutes=3) == [1, 2.5]


def test_other_settings_and_other_code_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notes.jsonl"
    Notes(path).find(lambda: 1, minutes=3)
    assert Notes(path).find(lambda: 2, minutes=4) == 2
    monkeypatch.setattr("benchmarks.notes.code_version", lambda: "newer")
    assert Notes(path).find(lambda: 3, minutes=3) == 3


def test_a_line_torn_by_a_kill_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    Notes(path).find(lambda: 1, minutes=3)
    Notes(path).find(lambda: 2, minutes=4)
    path.write_bytes(path.read_bytes()[:-5])
    assert Notes(path).find(lambda: 5, minutes=4) == 5
    assert [Notes(path).find(lambda: 0, minutes=minutes) for minutes in (3, 4)] == [1, 5]


def test_a_training_is_done_again_when_text_steps_seed_or_choices_change(tmp_path: Path) -> None:
    path, texts = tmp_path / "notes.jsonl", [stories.story(0, index) for index in range(40)]
    taught: list[int] = []

    class Counted(School):
        def model(self, way: Way, steps: int, *, seed: int = 0):
            taught.append(steps)
            return super().model(way, steps, seed=seed)

    def teach(way: Way = TINY, *, texts: list[str] = texts, steps: int = 2, seed: int = 0) -> float:
        compute, corpus = Compute(torch.device("cpu"), torch.float32, False), Corpus("few", texts, texts[:2])
        return Counted(corpus, compute, tmp_path, notes=Notes(path)).teach(way, steps, seed=seed).bits

    first = teach()
    assert teach() == first
    assert len(taught) == 1
    teach(seed=1)
    teach(steps=3)
    teach(texts=texts[:30])
    teach(TINY._replace(name="another"))
    teach(TINY._replace(settings=merge(TINY.settings, {"pretrain": {"learning_rate": 1e-3}})))
    assert len(taught) == 6
