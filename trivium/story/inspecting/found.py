"""What an inspection finds, as plain records: `--json` prints them, the terminal and the page show them."""

from collections.abc import Iterator
from typing import TypedDict

import msgspec

from trivium.text.spans import Span


class Specimen(msgspec.Struct, frozen=True):
    """One thing that the model will see."""

    title: str
    told: str  # its size, and what was done to it
    spans: list[Span]  # the first of its tokens
    left: int = 0  # how many more it has


class Section(msgspec.Struct, frozen=True):
    """Specimens of one sort."""

    name: str
    title: str
    told: str
    specimens: list[Specimen]
    none: str = "There is none."  # what to say where there are none


class Numbers(TypedDict):
    """Of one sort of records; lengths and shares as the model sees them. None where there is nothing to tell."""

    train: int
    held_out: int
    tokens: int  # in those that were counted
    median: float | None  # tokens of one record
    p90: float | None
    p99: float | None
    longest: int | None
    with_loss: float | None  # share of the tokens
    padding: float | None  # share of the positions of packed rows
    cut: int  # records that context_length shortens, or cuts into pieces
    left_out: int  # records of which nothing fits
    repeated: int  # say again what an earlier one said
    held_out_learned: int  # held-out ones whose prompt, or text, is also learned from


class Inspection(msgspec.Struct, frozen=True):
    """All of it."""

    name: str  # of the recipe or run
    vocabulary: int
    whose: str  # where the vocabulary is from
    context_length: int
    loss_on: str
    sections: list[Section]
    numbers: dict[str, Numbers]  # of documents, dialogues and pairs
    notes: list[str]


def rows_of(found: Inspection) -> Iterator[tuple[str, str, list[str]]]:
    """The numbers for people: a name, what it means, and a cell for each sort."""
    of = list(found.numbers.values())
    yield "to learn from", "records", [f"{each['train']:,}" for each in of]
    yield "held out", "records that only measure", [f"{each['held_out']:,}" for each in of]
    yield "median", "tokens of a record", [_count(each["median"]) for each in of]
    yield "90 % have at most", "tokens", [_count(each["p90"]) for each in of]
    yield "99 % have at most", "tokens", [_count(each["p99"]) for each in of]
    yield "longest", "tokens", [_count(each["longest"]) for each in of]
    yield "with loss", "of the tokens", [_share(each["with_loss"]) for each in of]
    yield "padding", "of the positions in packed rows", [_share(each["padding"], 1) for each in of]
    yield "shortened", f"longer than {found.context_length} tokens", [f"{each['cut']:,}" for each in of]
    yield "left out", "nothing of them fits", [f"{each['left_out']:,}" for each in of]
    yield "repeated", "say again what an earlier one said", [f"{each['repeated']:,}" for each in of]
    yield "held out, yet learned", "the same prompt or text", [f"{each['held_out_learned']:,}" for each in of]


def _count(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}"


def _share(share: float | None, digits: int = 0) -> str:
    return "" if share is None else f"{share:.{digits}%}"
