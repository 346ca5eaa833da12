"""Prompts by files, in the schemas of answers and pairs; an answer that stands there is passed by."""

from collections.abc import Iterator
from pathlib import Path

from trivium.errors import DataError
from trivium.records import Message
from trivium.text.answers import COLUMNS, LISTS, holds_messages, messages_of, prompt_in
from trivium.text.rows import Row, read_rows
from trivium.text.schemas import named

KEYS = tuple(dict.fromkeys(("prompt", *(prompt for prompt, _, _ in COLUMNS), "text")))


def read_prompts(path: Path) -> Iterator[tuple[Message, ...]]:
    """The turns before the answer, of every row; raises DataError at the first row that has none."""
    if not path.is_file():
        raise DataError(f"{path}: is no file; name one with a prompt in each row")
    for row in read_rows(path):
        yield tuple(_turns(row))


def _turns(row: Row) -> list[Message]:
    listed = next((key for key in LISTS if holds_messages(row.value.get(key))), None)
    if listed:
        turns = messages_of(row.value[listed], listed, row.where)
        asked = turns[:-1] if turns[-1].role == "assistant" else turns
        if any(turn.role == "user" for turn in asked):
            return asked
        raise DataError(f'{row.where}: "{listed}" has no turn of the user; put the question there')
    key = next((key for key in KEYS if row.value.get(key)), None)
    if key is None:
        raise DataError(
            f"{row.where}: no prompt in {named(row.value)}; known are {', '.join(LISTS[:2])}, {', '.join(KEYS)}"
        )
    return prompt_in(row, key)
