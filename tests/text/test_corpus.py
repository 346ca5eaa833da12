"""What a recipe's data settings name: worlds, files and their weights, each where it belongs."""

import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from trivium.config import DataConfig, resolve
from trivium.errors import ConfigError, DataError
from trivium.text.corpus import check_files, has_world, is_judged, load_dialogues, load_documents, load_pairs
from trivium.text.schemas import quiet
from trivium.worlds import pydocs


def settings(folder: Path | str = "", **data: Any) -> DataConfig:
    return resolve({"data": {"folder": str(folder), "stories": 20, "dialogues": 20, **data}}).data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        rows = [
            json.dumps({"text": f"Document {n} of {name} is not like any other of the {n * n}."}) for n in range(40)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    asked = [f"What is {n}?,It is {n}." for n in range(20)]
    (tmp_path / "asked.csv").write_text("\n".join(["prompt,completion", *asked]))
    return tmp_path


def test_sources_have_the_weights_that_follow_their_names(folder: Path) -> None:
    found = load_documents(settings(folder, text=["a.jsonl*0.5", "b.jsonl", "tinyworld*3"]), 0, quiet)
    weights = {document.source.partition(":")[0]: document.weight for document in found.train}
    assert weights == {"a.jsonl": 0.5, "b.jsonl": 1.0, "tinyworld": 3.0}
    assert {document.weight for document in found.held_out if document.source.startswith("tinyworld")} == {1.0}
    dialogues, measured = load_dialogues(settings(folder, answers=["asked.csv*2", "tinyworld"]), 0, quiet)
    assert {dialogue.weight for dialogue in dialogues if dialogue.source.startswith("asked")} == {2.0}
    assert {dialogue.weight for dialogue in dialogues if not dialogue.source.startswith("asked")} == {1.0}
    assert any(dialogue.source.startswith("asked") for dialogue in measured)
    assert {dialogue.weight for dialogue in measured} == {1.0}


def test_a_file_whose_name_ends_like_a_weight_is_that_file(folder: Path) -> None:
    (folder / "a.jsonl*2").write_bytes((folder / "a.jsonl").read_bytes())
    (folder / "part12").mkdir()
    (folder / "part12" / "c.txt").write_text("Something else.")
    found = load_documents(settings(folder, text=["part*2", "b.jsonl*2"]), 0, quiet)
    assert {d.source.partition(":")[0]: d.weight for part in found for d in part} == {"c.txt": 1.0, "b.jsonl": 2.0}


@pytest.mark.parametrize(
    "spec", ["a.jsonl*0", "a.jsonl*1001", "a.jsonl*-1", "a.jsonl*abc", "pydocs*0.0", "tinyworld*-1"]
)
def test_a_weight_that_makes_no_sense_is_refused(folder: Path, spec: str) -> None:
    with pytest.raises(
        ConfigError, match=r"data.text = .*: a weight is a number above 0 and at most 1,000; give how often"
    ):
        load_documents(settings(folder, text=[spec]), 0, quiet)


@pytest.mark.parametrize(
    ("field", "name", "near"),
    [("text", "tinywrld", "tinyworld"), ("text", "pydoc", "pydocs"), ("answers", "tiny-world*2", "tinyworld")],
)
def test_a_built_in_text_that_is_misspelt_is_told_with_its_name(folder: Path, field: str, name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=rf"no such file, and no built-in text of this name; did you mean {near}\?"):
        check_files(settings(folder, **{field: [name]}))
    (folder / name).write_bytes((folder / "asked.csv").read_bytes())
    with pytest.raises(ConfigError, match="holds no file that can be read here"):
        check_files(settings(folder, **{field: [name]}))


@pytest.mark.parametrize("field", ["text_held_out", "answers_held_out", "pairs", "pairs_held_out"])
def test_what_is_measured_on_and_votes_have_no_weights(folder: Path, field: str) -> None:
    with pytest.raises(
        ConfigError, match=rf'data.{field} = "{folder}/asked.csv\*2": what is measured on, and each vote'
    ):
        check_files(settings(folder, **{field: ["asked.csv*2"]}))


def test_a_single_dialogue_to_part_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    """Phase I would take all its time first."""
    for name, prompts in (("one.jsonl", "aa"), ("two.jsonl", "ab")):
        rows = [{"prompt": prompt, "response": "r"} for prompt in prompts]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"data.answers: 1 dialogue to learn from and 0 held out .* data.answers_held_"):
        check_files(settings(tmp_path, answers=["one.jsonl"]))
    check_files(settings(tmp_path, answers=["two.jsonl"]))
    check_files(settings(tmp_path, answers=["one.jsonl", "tinyworld"]))
    check_files(settings(tmp_path, answers=["one.jsonl"], answers_held_out=["one.jsonl"]))


def test_worlds_that_do_not_write_what_is_asked_of_them_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.answers = pydocs: it is texts to learn from"):
        check_files(settings(answers=["pydocs"]))
    with pytest.raises(ConfigError, match=r"data.pairs = tinyworld: it has no pairs on file"):
        load_pairs(settings(pairs=["tinyworld*2"]), quiet)
    with pytest.raises(ConfigError, match=r"data.text_held_out = tinyworld: "):
        check_files(settings(text_held_out=["tinyworld"]))


def test_of_a_file_of_pairs_a_bad_line_is_found_before_anything_is_trained_however_late_it_comes(
    tmp_path: Path,
) -> None:
    line = '{{"prompt": "What is {}?", "chosen": "Good.", "rejected": "{}"}}\n'
    (tmp_path / "pairs.jsonl").write_text(
        "".join(line.format(n, "Good." if n == 3000 else "Bad.") for n in range(3001))
    )
    with pytest.raises(DataError, match=r"pairs.jsonl:3001: chosen and rejected are the same text"):
        check_files(settings(tmp_path, pairs=["pairs.jsonl"]))


def test_a_world_with_a_weight_is_still_that_world() -> None:
    data = settings(text=["tinyworld*2"], answers=["tinyworld*0.5"])
    assert has_world(data, "text")
    assert is_judged(data)
    assert not has_world(settings(text=["pydocs*2"]), "text")


def test_pydocs_are_texts_of_which_a_share_is_held_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    some = list(islice(pydocs.documents(), 400))
    monkeypatch.setattr(pydocs, "documents", lambda: iter([*some, some[7]]))
    found = load_documents(settings(text=["pydocs"]), 0, told.append)
    assert 0.02 < len(found.held_out) / (len(found.train) + len(found.held_out)) < 0.08
    assert told[0].startswith("pydocs: documentation of Python 3.")
    assert "repeat others word for word" in told[1]
    apart = load_documents(settings(folder, text=["pydocs"], text_held_out=["a.jsonl"]), 0, quiet)
    assert {document.source.partition(":")[0] for document in apart.held_out} == {"a.jsonl"}


def test_texts_are_gathered_once_until_a_file_or_a_setting_changes(folder: Path) -> None:
    data, told, cache = settings(folder, text=["a.jsonl"]), [], folder / "cache"
    first = load_documents(data, 0, told.append, cache)
    assert len(told) == 2  # what the file holds, and what was left out
    assert load_documents(data, 0, told.append, cache).train.fingerprint == first.train.fingerprint
    assert len(told) == 2
    load_documents(data, 0, told.append, cache, keep=False)
    assert len(told) == 2
    os.utime(folder / "a.jsonl", (0, 0))
    load_documents(data, 0, told.append, cache, keep=False)
    assert len(told) == 4
    assert len(list(cache.iterdir())) == 1
    load_documents(settings(folder, text=["a.jsonl"], duplicates="keep"), 0, told.append, cache)
    assert len(told) == 6
    assert len(list(cache.iterdir())) == 2


def test_that_a_share_of_the_files_is_taken_is_said_and_another_share_is_gathered_anew(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(f"Sheep {number} is asleep." for number in range(50_000)))
    told: list[str] = []
    little, more = (
        load_documents(
            settings(tmp_path, text=["a.txt"], file_megabytes=size, duplicates="exact"),
            0,
            told.append,
            tmp_path / "cache",
        )
        for size in (0.1, 0.3)
    )
    assert told[0].startswith("0.1 of 1.2 MB of text on file are taken: of each file its beginning,")
    assert little.train.size + little.held_out.size == pytest.approx(100_000, rel=0.3)
    assert more.train.size > 2 * little.train.size
