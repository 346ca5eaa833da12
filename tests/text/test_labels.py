"""Single answers called good or bad: the common columns in, labels out, and what does not fit is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from trivium.errors import DataError
from trivium.records import Label, Message
from trivium.text.labels import read_labels


def read(folder: Path, *rows: dict[str, Any]) -> list[Label]:
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_labels([str(path)]))


@pytest.mark.parametrize(
    ("said", "good"),
    [(True, True), (1, True), ("good", True), (1.0, True), (False, False), (0, False), ("down", False)],
)
def test_a_label_is_good_or_bad_in_whatever_words(said: object, good: bool, tmp_path: Path) -> None:
    (found,) = read(tmp_path, {"prompt": "Hi", "completion": "Hello.", "label": said})
    assert found == Label((Message("user", "Hi"),), "Hello.", good, "labels.jsonl:1")


def test_prompt_and_answer_may_be_messages(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "Hi"}]
    (found,) = read(
        tmp_path, {"prompt": asked, "completion": [{"role": "assistant", "content": "Hello."}], "label": True}
    )
    assert (found.prompt, found.answer) == ((Message("user", "Hi"),), "Hello.")


def test_what_is_no_label_is_named_with_its_line(tmp_path: Path) -> None:
    good = {"prompt": "Hi", "completion": "Hello.", "label": 1}
    with pytest.raises(DataError, match=r'labels.jsonl:2: "label" is perhaps; give 1 or 0'):
        read(tmp_path, good, {**good, "label": "perhaps"})
    with pytest.raises(DataError, match=r"labels.jsonl:1: no labelled answer has the columns prompt; it takes one of"):
        read(tmp_path, {"prompt": "Hi"})
