"""How much text there is: counted while it is little, told from the files' sizes when it is much."""

import gzip
import json
import math
from pathlib import Path

import pytest

from trivium.config import DataConfig
from trivium.text import amount
from trivium.text.amount import text_on_file

TEXTS = [f"{number} sheep are asleep. " * 20 for number in range(50)]
WHOLE = sum(map(len, TEXTS))


def config(*text: Path | str, **more: object) -> DataConfig:
    return DataConfig.model_validate({"text": tuple(map(str, text)), **more})


def write_rows(path: Path) -> Path:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_little_text_is_counted(name: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / name)
    assert text_on_file(config(path, text_held_out=(str(path),))) == WHOLE
    assert text_on_file(config(path)) == pytest.approx(0.95 * WHOLE)


def test_much_text_is_told_from_the_sizes_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amount, "COUNTED_BYTES", 100)
    for number in range(3):
        write_rows(tmp_path / f"{number}.jsonl")
    told = text_on_file(config(tmp_path))
    assert told == pytest.approx(0.95 * 3 * WHOLE, rel=0.1)


def test_no_more_counts_than_is_taken(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl")
    assert text_on_file(config(path, file_megabytes=0.01)) == pytest.approx(0.95 * 10_000)


def test_packed_text_is_more_than_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amount, "COUNTED_BYTES", 100)
    path = write_rows(tmp_path / "rows.jsonl.gz")
    assert text_on_file(config(path)) == pytest.approx(0.95 * 3 * path.stat().st_size)


def test_tinyworld_is_on_no_file_and_the_documentation_of_python_is_some_megabytes() -> None:
    assert text_on_file(config("tinyworld")) == 0
    assert 1e6 < text_on_file(config("tinyworld", "pydocs")) < 1e7


def test_what_the_hub_holds_is_not_read() -> None:
    assert text_on_file(config("hf:a/b@train:text")) == math.inf


def test_of_the_hub_there_is_what_is_said_to_be_taken(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl")
    told = text_on_file(config("hf:a/b@train:text", "hf:c/d", path, hub_megabytes=5))
    assert told == pytest.approx(0.95 * (2 * 5_000_000 + WHOLE))
