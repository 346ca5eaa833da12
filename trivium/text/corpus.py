"""What a recipe's data settings name, gathered and parted: texts, dialogues and pairs, to learn from and to measure on.

Worlds write their own held-out records; of files a share is kept, unless the recipe names files to measure on.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from trivium.config import DataConfig
from trivium.errors import ConfigError
from trivium.records import Dialogue, Document, Pair
from trivium.text.answers import read_dialogues
from trivium.text.preferences import read_pairs
from trivium.text.schemas import Say
from trivium.text.sources import read_documents
from trivium.text.split import Split, dialogue_key, document_key, pair_key, split
from trivium.worlds import tinyworld

Record = TypeVar("Record", Document, Dialogue, Pair)

TINYWORLD = "tinyworld"
HELD_OUT = 1000  # records that a world writes to measure on
FIRST_RECORDS = 200  # of each file are read before anything is trained
MOST_RECORDS = 10_000  # of each sort: of very many files the last ones are not looked into
NO_PAIRS = "data.pairs = tinyworld: it has no pairs on file, its judge votes on the model's own answers"


def load_documents(data: DataConfig, seed: int, say: Say) -> Split[Document]:
    def world(count: int, held_out: bool) -> Iterator[Document]:
        for index in range(count):
            yield Document(tinyworld.story(seed, index, held_out=held_out), f"tinyworld:{index}")

    def files(names: Sequence[str]) -> Iterator[Document]:
        return read_documents(names, bad_rows=data.bad_rows, say=say)

    return _load(data, data.text, data.text_held_out, files, document_key, world, data.stories)


def load_dialogues(data: DataConfig, seed: int, say: Say) -> Split[Dialogue]:
    def world(count: int, held_out: bool) -> Iterator[Dialogue]:
        for index in range(count):
            yield tinyworld.task(seed, index, held_out=held_out).dialogue

    def files(names: Sequence[str]) -> Iterator[Dialogue]:
        return read_dialogues(names, bad_rows=data.bad_rows, say=say)

    return _load(data, data.answers, data.answers_held_out, files, dialogue_key, world, data.dialogues)


def load_pairs(data: DataConfig, say: Say) -> Split[Pair]:
    """Pairs from files; empty when the recipe names none."""

    def world(count: int, held_out: bool) -> Iterator[Pair]:
        raise ConfigError(NO_PAIRS)

    def files(names: Sequence[str]) -> Iterator[Pair]:
        return read_pairs(names, bad_rows=data.bad_rows, say=say)

    return _load(data, data.pairs, data.pairs_held_out, files, pair_key, world, 0)


def is_judged(data: DataConfig) -> bool:
    """Whether the world has a judge who knows the truth, and pairs do not come from files."""
    return TINYWORLD in data.answers and not data.pairs


def check_files(data: DataConfig) -> None:
    """Reads the first records of the files that the recipe names, so that what is wrong is told at once.

    raises  what loading them would raise
    """
    if TINYWORLD in data.pairs:
        raise ConfigError(NO_PAIRS)
    readers: list[tuple[Callable[..., Iterator[object]], Sequence[Sequence[str]]]] = [
        (read_documents, (data.text, data.text_held_out)),
        (read_dialogues, (data.answers, data.answers_held_out)),
        (read_pairs, (data.pairs, data.pairs_held_out)),
    ]
    for read, lists in readers:
        for files in filter(None, (_on_file(data, names) for names in lists)):
            for _ in islice(read(files, bad_rows=data.bad_rows, first=FIRST_RECORDS), MOST_RECORDS):
                pass


def _on_file(data: DataConfig, names: Sequence[str]) -> list[str]:
    """The names that stand for files, from data.folder."""
    return [str(Path(data.folder) / name) if data.folder else name for name in names if name != TINYWORLD]


def _load(
    data: DataConfig,
    names: Sequence[str],
    names_held_out: Sequence[str],
    read: Callable[[Sequence[str]], Iterator[Record]],
    key: Callable[[Record], str],
    world: Callable[[int, bool], Iterator[Record]],
    count: int,
) -> Split[Record]:
    train: list[Record] = []
    held_out: list[Record] = []
    if TINYWORLD in names:
        train += world(count, False)
        held_out += world(HELD_OUT, True)
    if on_file := _on_file(data, names):
        records = read(on_file)
        if names_held_out:
            train += records
        else:
            parted = split(records, key=key, share=data.held_out_share)
            train, held_out = train + parted.train, held_out + parted.held_out
    if apart := _on_file(data, names_held_out):
        held_out += read(apart)
    return Split(train, held_out)
