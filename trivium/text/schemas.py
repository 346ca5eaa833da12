"""Which shape the rows of a file have: recognised from the first ones, said once, and held to."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar

from trivium.errors import DataError
from trivium.text import hub
from trivium.text.rows import Entry, Row, read_entries, skipped
from trivium.wording import counted

Record = TypeVar("Record")
BadRows = Literal["stop", "skip"]
Say = Callable[[str], None]
Progress = Callable[[str, int, int | None], None]  # what is done, how many bytes of it, of how many if that is known

PEEK = 64  # rows that vote on what a file holds
NAMED = 3  # skipped rows, or files, that are told one by one
FEW_FILES = 3  # of a folder or a glob are told one by one; more of them in one line


def quiet(line: str) -> None:
    """Say nothing."""


def unseen(doing: str, done: int, total: int | None) -> None:
    """Nobody looks on."""


class Source(NamedTuple):
    """A file to read, or a data set of the hub."""

    path: Path
    name: str  # the shortest that tells it from the other files; for messages
    spec: str  # what the user wrote that stands for it, and perhaps for others
    column: str | None = None  # named by the user as "file.csv:column"
    weight: float = 1.0  # named by the user as "file.csv*0.5": how often its records are seen in an epoch
    data_set: hub.HubSet | None = None  # where it is no file

    def entries(self, columns: Collection[str] = ()) -> Iterator[Entry]:
        """Its rows.

        columns  that are wanted, if it has some of them; others may be left out
        """
        if self.data_set:
            return hub.read_rows(self.data_set, columns)
        return read_entries(self.path, name=self.name, columns=columns)


class Schema(NamedTuple, Generic[Record]):
    title: str  # "OpenAI messages"
    fits: Callable[[dict[str, object]], bool]  # by its columns; that it `read`s is not yet promised
    read: Callable[[Row], Iterable[Record]]  # nothing: an empty row; raises DataError


class Held(NamedTuple):
    """What one file held, or several of one shape."""

    name: str
    title: str  # the shape
    noun: str
    kept: int  # good rows
    parts: int  # records that they became
    empty: int
    skipped: int
    faults: Sequence[DataError] = ()  # the first of the skipped

    def told(self, *, weight: float = 1.0) -> str:
        often = "" if weight == 1 else f", each seen {weight:g} times in an epoch"
        empty = f"; {counted(self.empty, 'empty row')} passed over" if self.empty else ""
        skipped = f"; {counted(self.skipped, 'bad row')} skipped" if self.skipped else ""
        cut = f" in {counted(self.parts, 'section')}" if self.parts > self.kept else ""
        return f"{self.title}, {counted(self.kept, self.noun)}{cut}{often}{empty}{skipped}"


Tell = Callable[[Held], None]


class Heard:
    """What one file held: records are counted, bad rows stop the reading or are counted too."""

    def __init__(self, name: str, *, bad_rows: BadRows, tell: Tell) -> None:
        self.name = name
        self.stop = bad_rows == "stop"
        self.kept = self.parts = self.empty = self.skipped = 0
        self.first: list[DataError] = []
        self._tell = tell

    def skip(self, fault: DataError) -> None:
        if self.stop:
            raise fault
        self.skipped += 1
        if len(self.first) < NAMED:
            self.first.append(skipped(fault))

    def count(self, parts: int) -> None:
        """A good row became so many records: none when it was empty, more than one when it was cut."""
        self.kept += parts > 0
        self.parts += parts
        self.empty += parts == 0

    def tell(self, title: str, noun: str) -> None:
        """The file is read. Raises DataError when nothing was kept."""
        if not self.kept and not self.skipped:
            raise DataError(f"{self.name}: is empty; fill it, or leave it out")
        if not self.kept:
            raise DataError(
                f"{self.name}: none of its {counted(self.skipped, 'row')} can be used, the first: {self.first[0]}"
            )
        self._tell(Held(self.name, title, noun, self.kept, self.parts, self.empty, self.skipped, self.first))


def read_sources(
    sources: Iterable[Source],
    read: Callable[[Source, Tell], Iterator[Record]],
    *,
    bad_rows: BadRows,
    say: Say,
    first: int | None = None,
) -> Iterator[Record]:
    """The records of all files. With "skip", a file without a good row is told and passed over if another has one.

    first  only so many of each file
    """
    faults: list[DataError] = []
    kept = False
    for spec, files in groupby(sources, key=lambda source: source.spec):
        held: list[Held] = []
        before, weight = len(faults), 1.0
        for source in files:
            weight = source.weight  # that of the spec
            try:
                for record in islice(read(source, held.append), first):
                    kept = True
                    yield record
            except DataError as error:
                if bad_rows == "stop":
                    raise
                faults.append(error)
                if len(faults) - before <= NAMED:
                    say(f"skipped {error}")
        for line in summary(spec, held, left_out=len(faults) - before, weight=weight):
            say(line)
    if faults and not kept:
        raise faults[-1]


def summary(spec: str, held: Sequence[Held], *, left_out: int = 0, weight: float = 1.0) -> Iterator[str]:
    """What the files of one spec held: a line for each of a few, one line for many; then the first bad rows.

    left_out  files that could not be used
    """
    if len(held) + left_out <= FEW_FILES:
        for file in held:
            yield f"{file.name}: {file.told(weight=weight)}"
            yield from _skipped(file.faults)
        return
    shapes = [_together(held, title).told(weight=weight) for title in dict.fromkeys(file.title for file in held)]
    unused = [f"{left_out:,} of them could not be used"] if left_out else []
    yield f"{spec}: {counted(len(held) + left_out, 'file')}: {'; '.join(shapes + unused)}"
    yield from _skipped([fault for file in held for fault in file.faults][:NAMED])


def _skipped(faults: Sequence[DataError]) -> Iterator[str]:
    return (f"skipped {str(fault).partition('; ')[0]}" for fault in faults)


def _together(held: Sequence[Held], title: str) -> Held:
    same = [file for file in held if file.title == title]
    kept, parts, empty, skipped = (
        sum(column) for column in zip(*((f.kept, f.parts, f.empty, f.skipped) for f in same), strict=True)
    )
    return Held("", title, same[0].noun, kept, parts, empty, skipped)


def read_file(
    source: Source,
    tell: Tell,
    *,
    recognise: Callable[[Row], Schema[Record]],
    noun: str,
    bad_rows: BadRows,
    columns: Collection[str] = (),
) -> Iterator[Record]:
    """The records of one file, whose rows must all have the schema that most of the first ones have.

    columns  that are wanted, as Source.entries has them
    """
    heard = Heard(source.name, bad_rows=bad_rows, tell=tell)
    entries = source.entries(columns)
    schema: Schema[Record] | None = None
    try:
        while batch := list(islice(entries, PEEK)):
            schema = schema or _commonest(batch, recognise)
            for entry in batch:
                try:
                    records = _read(entry, schema, recognise)
                except DataError as fault:
                    heard.skip(fault)
                    continue
                yield from records
                heard.count(len(records))
    except GeneratorExit:  # no more is wanted, beginning with this row; what was taken is told all the same
        if heard.kept:
            heard.tell(schema.title if schema else "", noun)
        raise
    heard.tell(schema.title if schema else "", noun)


def _commonest(batch: list[Entry], recognise: Callable[[Row], Schema[Record]]) -> Schema[Record] | None:
    found = []
    for entry in batch:
        if isinstance(entry, Row):
            try:
                found.append(recognise(entry))
            except DataError:
                continue  # told when its turn comes
    titles = Counter(schema.title for schema in found)
    return max(found, key=lambda schema: titles[schema.title], default=None)


def _read(entry: Entry, schema: Schema[Record] | None, recognise: Callable[[Row], Schema[Record]]) -> list[Record]:
    if isinstance(entry, DataError):
        raise entry
    if schema is None:
        schema = recognise(entry)  # raises: no row of this batch was recognised
    if not schema.fits(entry.value):
        raise DataError(
            f"{entry.where}: does not fit {schema.title}, which the first rows of the file are: "
            f"it has {named(entry.value)}; put rows of another kind into a file of their own"
        )
    return list(schema.read(entry))


def named(keys: Iterable[str]) -> str:
    """The columns of a row, for messages."""
    shown = [str(key)[:40] for key in islice(keys, 12)]
    return f"the columns {', '.join(shown)}" if shown else "no columns"
