"""Answers that were preferred over others, by files: every common preference schema in, pairs out."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from typing import NamedTuple

from trivium.errors import DataError
from trivium.records import Message, Pair, Role
from trivium.text.answers import holds_messages, prompt_in, text_of, with_answer
from trivium.text.rows import REMEDY, ROW_KINDS, Row
from trivium.text.schemas import BadRows, Say, Schema, named, quiet, read_file, read_sources
from trivium.text.sources import sources_of

PROMPTS = ("prompt", "instruction", "question", "query", "input", "messages", "context")
SIDES = tuple(
    (f"{stem}_{left}", f"{stem}_{right}")
    for left, right in (("a", "b"), ("1", "2"), ("0", "1"))
    for stem in ("conversation", "response", "output", "answer", "completion")
)
VERDICTS = ("winner", "preference", "preferred", "choice", "better", "better_response_id", "label")
TIES = ("tie", "tie (bothbad)", "tie (both bad)", "bothbad", "both bad", "both", "neither", "draw", "equal")
TRANSCRIPT = re.compile(r"(?:\A|\n\n)\s*(Human|Assistant):")


def read_pairs(
    specs: Sequence[str], *, bad_rows: BadRows = "stop", say: Say = quiet, first: int | None = None
) -> Iterator[Pair]:
    """Every pair of the files that the specs stand for.

    specs   paths, folders, globs and data sets of the hub
    first   only so many of each file
    raises  ConfigError for a spec without files, DataError for a bad file, or a bad row unless bad_rows = "skip"
    """
    sources = sources_of(specs, field="data.pairs", kinds=ROW_KINDS, say=say)
    read = partial(read_file, recognise=recognise, noun="pair", bad_rows=bad_rows)
    return read_sources(sources, read, bad_rows=bad_rows, say=say, first=first)


def recognise(row: Row) -> Schema[Pair]:
    """The first schema whose columns the row has. Raises DataError naming the columns seen and the schemas known."""
    for schema in SCHEMAS:
        if schema.fits(row.value):
            return schema
    stems = ", ".join(sorted({left.rpartition("_")[0] for left, _ in SIDES}))
    raise DataError(
        f"{row.where}: no known schema has {named(row.value)}; known are chosen and rejected, with or without a prompt "
        f"({', '.join(PROMPTS)}); {stems} followed by _a and _b, or _1 and _2, with one of {', '.join(VERDICTS)}"
    )


class _Sides(NamedTuple):
    """The columns that hold the two answers."""

    left: str
    right: str


def _of_chosen(row: Row) -> list[Pair]:
    return [_pair(row, _Sides("chosen", "rejected"), tie=_is_tie(row.value))]


def _of_verdict(row: Row) -> list[Pair]:
    sides, key = _sides_in(row.value), _verdict_in(row.value)
    assert sides is not None  # the schema fits
    assert key is not None
    winner = None if _is_tie(row.value) else _winner(row, key, sides)
    ordered = _Sides(sides.right, sides.left) if winner == sides.right else sides
    return [_pair(row, ordered, tie=winner is None)]


def _pair(row: Row, sides: _Sides, *, tie: bool) -> Pair:
    """The turns that both sides share are the prompt; raises DataError unless only the last answers differ."""
    prompt = _prompt(row)
    chosen = _whole(row, prompt, sides.left)
    rejected = _whole(row, prompt, sides.right)
    both = f"{sides.left} and {sides.right}"
    if chosen[:-1] != rejected[:-1]:
        shared = sum(1 for _ in takewhile(lambda turns: turns[0] == turns[1], zip(chosen, rejected, strict=False)))
        raise DataError(
            f"{row.where}: {both} part at turn {shared + 1}, before their last answers; "
            f"make the turns before the last answer the same, or {REMEDY}"
        )
    if chosen[-1].content.strip() == rejected[-1].content.strip():
        raise DataError(f"{row.where}: {both} are the same text; a pair needs two different answers, so {REMEDY}")
    return Pair(tuple(chosen[:-1]), chosen[-1].content, rejected[-1].content, row.where, tie=tie)


def _prompt(row: Row) -> list[Message]:
    """The turns before the answers; none when the row has no prompt of its own."""
    key = _prompt_in(row.value)
    if key is None:
        return []
    value = row.value[key]
    if isinstance(value, str) and _is_transcript(value):
        prompt = _turns(value.strip().removesuffix("Assistant:"), key, row.where)
    else:
        prompt = prompt_in(row, key)
    if prompt[-1].role != "user":
        raise DataError(f'{row.where}: "{key}" ends with role "{prompt[-1].role}"; its last turn must be the user\'s')
    return prompt


def _whole(row: Row, prompt: list[Message], key: str) -> list[Message]:
    """The conversation that one side is, from its first turn to the answer."""
    value = row.value[key]
    if not prompt and _is_transcript(value):
        turns = _turns(str(value), key, row.where)
    else:
        turns = with_answer(prompt, value, key, row.where)
    last = turns[-1].role
    if last != "assistant":
        raise DataError(f'{row.where}: "{key}" ends with role "{last}"; the last turn must be the assistant\'s')
    return turns


def _is_transcript(value: object) -> bool:
    return isinstance(value, str) and value.lstrip().startswith(("Human:", "Assistant:"))


def _turns(text: str, key: str, where: str) -> list[Message]:
    """The turns of a transcript as in HH-RLHF: "\\n\\nHuman: ...\\n\\nAssistant: ..."."""
    parts = TRANSCRIPT.split(text)[1:]  # before the first speaker there is nothing
    roles: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
    said = zip(parts[::2], parts[1::2], strict=True)
    return [
        Message(roles[speaker], text_of(content.strip(), f'"{key}", turn {number} ({speaker}),', where))
        for number, (speaker, content) in enumerate(said, start=1)
    ]


def _is_tie(value: dict[str, object]) -> bool:
    return _flag(value.get("tie")) or any(_lower(value.get(key)) in TIES for key in VERDICTS)


def _flag(value: object) -> bool:
    return _lower(value) in ("true", "1", "yes")


def _winner(row: Row, key: str, sides: _Sides) -> str | None:
    """The column of the better answer; None for a tie. Raises DataError when the verdict is neither."""
    verdict = _lower(row.value[key])
    known: dict[str, str | None] = {}
    for side in sides:
        suffix = side.rpartition("_")[2]
        known |= {suffix: side, side: side, f"model_{suffix}": side}
    if sides.left.endswith("_1"):  # AlpacaFarm writes 1 and 2, and for a tie what lies between or nothing
        known |= {"0": None, "1.5": None}
    if verdict not in known:
        remedy = f"give {', '.join(known)} or tie, or {REMEDY}"
        raise DataError(f'{row.where}: "{key}" is {verdict[:40] or "empty"}, which names neither answer; {remedy}')
    return known[verdict]


def _lower(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip().lower()


def _prompt_in(value: dict[str, object]) -> str | None:
    return next((key for key in PROMPTS if key in value), None)


def _sides_in(value: dict[str, object]) -> _Sides | None:
    return next((_Sides(left, right) for left, right in SIDES if left in value and right in value), None)


def _verdict_in(value: dict[str, object]) -> str | None:
    return next((key for key in VERDICTS if key in value), None)


def _chosen_in(value: dict[str, object], *, prompt: bool) -> bool:
    return "chosen" in value and "rejected" in value and (_prompt_in(value) is not None) is prompt


def _with_prompt(value: dict[str, object]) -> bool:
    return _chosen_in(value, prompt=True)


def _conversations(value: dict[str, object]) -> bool:
    return _chosen_in(value, prompt=False) and holds_messages(value["chosen"])


def _transcripts(value: dict[str, object]) -> bool:
    return _chosen_in(value, prompt=False) and _is_transcript(value["chosen"])


def _bare(value: dict[str, object]) -> bool:
    return _chosen_in(value, prompt=False) and not _conversations(value) and not _transcripts(value)


def _with_verdict(sides: tuple[str, str]) -> Callable[[dict[str, object]], bool]:
    return lambda value: _sides_in(value) == sides and _verdict_in(value) is not None


SCHEMAS: tuple[Schema[Pair], ...] = (
    Schema("prompt, chosen and rejected", _with_prompt, _of_chosen),
    Schema("chosen and rejected conversations", _conversations, _of_chosen),
    Schema("chosen and rejected transcripts", _transcripts, _of_chosen),
    Schema("chosen and rejected without a prompt", _bare, _of_chosen),
    *(Schema(f"{left} and {right} with a winner", _with_verdict((left, right)), _of_verdict) for left, right in SIDES),
)
