"""Prompts from rows: whatever a row answers, the turns before it are what is asked."""

import json
from pathlib import Path

import pytest

from trivium.errors import DataError
from trivium.records import Message
from trivium.text.prompts import read_prompts

ASKED = [{"role": "user", "content": "Why?"}]
BRIEF = {"role": "system", "content": "Be brief."}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?"},
        {"text": "Why?"},
        {"question": "Why?", "answer": "So."},
        {"instruction": "Why?", "output": "So."},
        {"prompt": ASKED},
        {"messages": ASKED},
        {"messages": [*ASKED, {"role": "assistant", "content": "So."}]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
    ],
)
def test_what_is_asked_is_found_in_every_schema(row: dict[str, object], tmp_path: Path) -> None:
    assert list(read_prompts(write(tmp_path / "p.jsonl", row))) == [(Message("user", "Why?"),)]


def test_system_turns_stay_and_a_context_stands_below_its_question(tmp_path: Path) -> None:
    rows = (
        {"messages": [BRIEF, *ASKED]},
        {"instruction": "Add.", "input": "1, 2"},
        {"system": "Be brief.", "prompt": "Why?"},
    )
    found = list(read_prompts(write(tmp_path / "p.jsonl", *rows)))
    brief = Message("system", "Be brief.")
    asked = Message("user", "Why?")
    assert found == [(brief, asked), (Message("user", "Add.\n\n1, 2"),), (brief, asked)]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"story": "Once."}, "p.jsonl:2: no prompt in the columns story; known are messages"),
        ({"messages": [{"role": "assistant", "content": "So."}]}, 'p.jsonl:2: "messages" has no turn of the user'),
        ({"prompt": 3}, 'p.jsonl:2: "prompt" is a number'),
    ],
)
def test_a_row_without_a_prompt_is_named(row: dict[str, object], told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        list(read_prompts(write(tmp_path / "p.jsonl", {"prompt": "Why?"}, row)))
    with pytest.raises(DataError, match="is no file"):
        list(read_prompts(tmp_path / "none.jsonl"))
