"""What a recipe's data settings name, gathered and parted: texts, dialogues and pairs, to learn from and to measure on.

Worlds write their own held-out records; of files a share is kept, unless the recipe names files to measure on.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from math import inf
from pathlib import Path
from typing import TypeVar

from trivium import __version__
from trivium.config import DataConfig
from trivium.errors import ConfigError, DataError, TriviumError, did_you_mean
from trivium.records import Dialogue, Document, Pair
from trivium.text import hub
from trivium.text.answers import read_dialogues
from trivium.text.archives import archive_of
from trivium.text.documents import MEGABYTE, Corpus, Rules, Side, gather
from trivium.text.preferences import read_pairs
from trivium.text.schemas import Progress, Say, unseen
from trivium.text.sources import TEXT_KINDS, names_files, read_documents, sources_of, text_size, weigh, weighted
from trivium.text.split import Split, dialogue_key, pair_key, split
from trivium.wording import counted
from trivium.worlds import pydocs, tinyworld

Record = TypeVar("Record", Dialogue, Pair)

TINYWORLD, PYDOCS = "tinyworld", "pydocs"
HELD_OUT = 1000  # records that a world writes to measure on
FIRST_TEXTS, FIRST_RECORDS = 200, 100_000  # of each file are read before anything is trained: records in a second
MOST_TEXTS, MOST_RECORDS = 10_000, 200_000  # of each sort: of very many files the last ones are not looked into
WEIGHTED = ("text", "answers")
WRITTEN = {TINYWORLD: WEIGHTED, PYDOCS: ("text",)}
NOT_WRITTEN = {
    TINYWORLD: "it has no pairs on file, its judge votes on the model's own answers; it measures on its own",
    PYDOCS: "it is texts to learn from, of which a share is held out; name it in data.text",
}
FORMAT = "2"  # of what is gathered: another one is gathered anew


def load_documents(
    data: DataConfig,
    seed: int,
    say: Say,
    folder: Path | None = None,
    progress: Progress = unseen,
    *,
    keep: bool = True,
) -> Corpus:
    """Texts on disk, those that repeat others left out; where the folder has them of the same sources, none is read.

    folder, keep  as `gather` has them
    """
    rules = Rules(data.held_out_share, data.duplicates, data.similarity)
    stream = documents_of(data, seed, say)
    return gather(stream, folder, key=_key(data, seed), rules=rules, say=say, progress=progress, keep=keep)


def documents_of(data: DataConfig, seed: int, say: Say) -> Iterator[tuple[Document, Side]]:
    """Every document that the recipe names, and where it belongs."""
    side = Side.TRAIN if data.text_held_out else Side.SHARE
    for name, weight in worlds_of(data, "text"):
        if name == TINYWORLD:
            yield from ((story, Side.LEARN) for story in weighted(_stories(seed, data.stories, False), weight))
            yield from ((story, Side.MEASURE) for story in _stories(seed, HELD_OUT, True))
        else:
            yield from ((document, side) for document in weighted(_told(pydocs.documents(), say), weight))
    for field, where in (("text", side), ("text_held_out", Side.HELD_OUT)):
        if on_file := files_named(data, field):
            most, share = MEGABYTE * data.hub_megabytes, share_of_files(data) if field == "text" else 1.0
            if share < 1:
                there_is = bytes_of_files(data) / MEGABYTE
                say(
                    f"{data.file_megabytes:,.1f} of {there_is:,.1f} MB of text on file are taken: of each file its "
                    "beginning, of small ones some (data.file_megabytes)"
                )
            found = read_documents(on_file, bad_rows=data.bad_rows, say=say, most=most, share=share)
            yield from ((document, where) for document in found)


def share_of_files(data: DataConfig) -> float:
    """How much of the text of the files to learn from is taken, by their sizes."""
    size = bytes_of_files(data) if data.file_megabytes else 0.0
    return min(1.0, most_of_files(data) / size) if size else 1.0


def most_of_files(data: DataConfig) -> float:
    """UTF-8 bytes that are taken of the text of the files to learn from; infinite: all."""
    return MEGABYTE * data.file_megabytes or inf


def bytes_of_files(data: DataConfig, *, in_an_epoch: bool = False) -> float:
    """UTF-8 bytes of text in the files to learn from, by their sizes, for none is read; 0 if one cannot be found.

    in_an_epoch  each as often as its weight says
    """
    with suppress(TriviumError):
        sources = sources_of(files_named(data, "text"), field="data.text", kinds=TEXT_KINDS)
        files = [source for source in sources if not source.data_set]
        return sum(text_size(file) * (file.weight if in_an_epoch else 1.0) for file in files)
    return 0.0


def _stories(seed: int, count: int, held_out: bool) -> Iterator[Document]:
    for index in range(count):
        yield Document(tinyworld.story(seed, index, held_out=held_out), f"tinyworld:{index}")


def _told(documents: Iterator[Document], say: Say) -> Iterator[Document]:
    number = 0
    for document in documents:
        number += 1
        yield document
    say(f"pydocs: {pydocs.TITLE}, {number:,} documents")


def _key(data: DataConfig, seed: int) -> str:
    """What decides which documents there are: names, and of files when and how large they were written."""
    parts: list[object] = [FORMAT, data.text, data.text_held_out, data.bad_rows, pydocs.TITLE]
    parts += [data.file_megabytes] if data.file_megabytes else []
    if has_world(data, "text"):
        parts += [__version__, seed, data.stories]
    for field in ("text", "text_held_out"):
        for source in sources_of(files_named(data, field), field="data.text", kinds=TEXT_KINDS):
            parts += [data.hub_megabytes] if source.data_set else []
            folder = source.data_set.name if source.data_set else ""
            files = sorted(Path(folder).rglob("*")) if folder and Path(folder).is_dir() else [source.path]
            for file in (archive_of(file) or file for file in files):
                state = file.stat() if file.is_file() else None
                parts.append((str(source), str(file), state and (state.st_size, state.st_mtime_ns)))
    return repr(parts)


def hub_sets(data: DataConfig) -> int:
    """How many data sets of the hub the texts to learn from come from."""
    return sum(map(hub.is_hub, files_named(data, "text")))


def load_dialogues(data: DataConfig, seed: int, say: Say) -> Split[Dialogue]:
    def world(count: int, held_out: bool) -> Iterator[Dialogue]:
        for index in range(count):
            yield tinyworld.task(seed, index, held_out=held_out).dialogue

    def files(names: Sequence[str]) -> Iterator[Dialogue]:
        return read_dialogues(names, bad_rows=data.bad_rows, say=say)

    split = _load(data, "answers", files, dialogue_key)
    split = Split(split.train, list(weighted(split.held_out, 1.0)))  # what is measured on counts once
    for name, weight in worlds_of(data, "answers"):
        assert name == TINYWORLD  # or _on_file has refused it
        learned = weighted(world(data.dialogues, False), weight)
        split = Split([*learned, *split.train], [*world(HELD_OUT, True), *split.held_out])
    return split


def load_pairs(data: DataConfig, say: Say) -> Split[Pair]:
    """Pairs from files; empty when the recipe names none."""

    def files(names: Sequence[str]) -> Iterator[Pair]:
        return read_pairs(names, bad_rows=data.bad_rows, say=say)

    return _load(data, "pairs", files, pair_key)


def worlds_of(data: DataConfig, field: str) -> list[tuple[str, float]]:
    """The built-in worlds that a field names, and their weights."""
    named = [weigh(spec, field=f"data.{field}") for spec in getattr(data, field)]
    return [(name, weight) for name, weight in named if name in WRITTEN]


def has_world(data: DataConfig, field: str) -> bool:
    """Whether a field names TinyWorld."""
    return any(name == TINYWORLD for name, _ in worlds_of(data, field))


def is_judged(data: DataConfig) -> bool:
    """Whether the world has a judge who knows the truth, and pairs do not come from files."""
    return has_world(data, "answers") and not data.pairs


def check_files(data: DataConfig) -> None:
    """Reads the first texts of the sources that the recipe names, and most answers and pairs, as nobody knows how long
    it is until they are needed: what is wrong is told at once. What comes over a network is not waited for.

    raises  what loading them would raise
    """
    readers: list[tuple[Callable[..., Iterator[object]], Sequence[str]]] = [
        (read_documents, ("text", "text_held_out")),
        (read_dialogues, ("answers", "answers_held_out")),
        (read_pairs, ("pairs", "pairs_held_out")),
    ]
    for read, field in ((read, field) for read, fields in readers for field in fields):
        if files := files_named(data, field):
            few = read is read_documents or any(map(hub.is_hub, files))
            first, most = (FIRST_TEXTS, MOST_TEXTS) if few else (FIRST_RECORDS, MOST_RECORDS)
            prompts = set[str]()
            for record in islice(read(files, bad_rows=data.bad_rows, first=first), most):
                if isinstance(record, Dialogue) and len(prompts) < 2:  # more need not be known
                    prompts.add(dialogue_key(record))
            if len(prompts) == 1 and field == "answers" and not (data.answers_held_out or worlds_of(data, field)):
                raise DataError(too_few(field, "dialogue", learned=1, held_out=0))


def too_few(field: str, noun: str, *, learned: int, held_out: int) -> str:
    """What an error says where a phase has nothing to learn from, or nothing to measure on."""
    told = f"data.{field}: {counted(learned, noun)} to learn from and {held_out} held out to measure on"
    more = "give more" + (", or part it by lines of <|endoftext|>" if field == "text" else "")
    return f"{told}; {more}, or name what to measure on in data.{field}_held_out"


def files_named(data: DataConfig, field: str) -> list[str]:
    """The names of a field that are of no world, files from data.folder.

    raises  ConfigError when a world has none of these records, a name is nearly a world's, or a weight says nothing
    """
    for world, _ in worlds_of(data, field):
        if field not in WRITTEN[world]:
            raise ConfigError(f"data.{field} = {world}: {NOT_WRITTEN[world]}")
    named = [spec for spec in getattr(data, field) if weigh(spec, field=f"data.{field}")[0] not in WRITTEN]
    found = [str(Path(data.folder) / spec) if data.folder and not hub.is_hub(spec) else spec for spec in named]
    for name, spec in zip(named, found, strict=True):
        near = did_you_mean(name, _worlds_for(field))
        if near and not Path(name).suffix and not names_files(spec):
            raise ConfigError(f'data.{field} = "{name}": no such file, and no built-in text of this name{near}')
    for spec in found if field not in WEIGHTED else ():
        name, weight = weigh(spec, field=f"data.{field}")
        if weight != 1:
            remedy = f'give "{name}"; weights are for {" and ".join(f"data.{field}" for field in WEIGHTED)}'
            raise ConfigError(f'data.{field} = "{spec}": what is measured on, and each vote, counts once; {remedy}')
    return found


def _worlds_for(field: str) -> list[str]:
    return [world for world, fields in WRITTEN.items() if field in fields]


def _load(
    data: DataConfig, field: str, read: Callable[[Sequence[str]], Iterator[Record]], key: Callable[[Record], str]
) -> Split[Record]:
    """The records on file, parted by their keys unless the recipe names files to measure on."""
    learned, measured = files_named(data, field), files_named(data, f"{field}_held_out")
    records = read(learned) if learned else iter(())
    parted = Split(list(records), []) if measured else split(records, key=key, share=data.held_out_share)
    return Split(parted.train, list(read(measured))) if measured else parted
