"""The user's own texts by files, folders, globs and data sets: which they are, and the documents in them."""

import glob
import io
import os
import re
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from functools import partial
from itertools import chain, groupby, islice
from math import inf
from pathlib import Path
from typing import NamedTuple, TypeVar

from trivium.errors import ConfigError, DataError, did_you_mean
from trivium.records import Dialogue, Document
from trivium.text import hub
from trivium.text.archives import PACKED, archive_of, is_archive, kind_of, label, members, open_bytes, size_of
from trivium.text.rows import REMEDY, ROW_KINDS, Row, an, not_utf8
from trivium.text.schemas import BadRows, Heard, Say, Schema, Source, Tell, named, quiet, read_file, read_sources
from trivium.text.sections import sections

PLAIN_KINDS = (".txt", ".text", ".md", ".markdown", ".rst")
TEXT_KINDS = PLAIN_KINDS + ROW_KINDS
TEXT_COLUMNS = ("text", "content", "document", "body", "article", "story", "passage", "page_content", "raw_content")
END_OF_TEXT = "<|endoftext|>"  # on a line of its own it parts the documents of a text file
SECTION = 20_000  # characters
PIECE_BYTES = 2**16
UNPACKED, UNPACKED_COLUMNS = 3.0, 2.0  # times as large is text out of .gz or .zst, and out of Parquet, roughly
NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)")
MOST_WEIGHT = 1000

Record = TypeVar("Record", Document, Dialogue)


def files_of(spec: str, *, field: str = "data.text", kinds: Collection[str] = TEXT_KINDS) -> list[Path]:
    """The files that a path, a folder (with its subfolders) or a glob stands for, sorted.

    field    the setting that holds the spec, for messages
    kinds    the suffixes that count; other files are left out of folders and globs
    raises   ConfigError when there is no such file, or none of these kinds
    """
    return _resolve(spec, field=field, kinds=kinds, say=quiet)[0]


def names_files(spec: str) -> bool:
    """Whether there is anything by this path or glob."""
    return bool(_matches(spec))


def weigh(spec: str, *, field: str) -> tuple[str, float]:
    """A spec without its weight, and the weight: ("a.txt", 0.5) of "a.txt*0.5"; 1 where none is said.

    What there is by the whole name is never taken for a name and a weight.
    raises  ConfigError when what stands behind a file's name is no number, not above 0, or absurd
    """
    name, _, weighs = spec.rpartition("*")
    is_number = NUMBER.fullmatch(weighs)
    if not name or _matches(spec) or not (is_number or _is_file(name)):
        return spec, 1.0
    weight = float(weighs) if is_number else 0.0
    if not 0 < weight <= MOST_WEIGHT:
        remedy = "give how often it is to be seen in an epoch, or leave the source out"
        raise ConfigError(f'{field} = "{spec}": a weight is a number above 0 and at most {MOST_WEIGHT:,}; {remedy}')
    return name, weight


def weighted(records: Iterable[Record], weight: float) -> Iterator[Record]:
    """The records with their source's weight."""
    return (record if weight == record.weight else record._replace(weight=weight) for record in records)


def sources_of(specs: Sequence[str], *, field: str, kinds: Collection[str], say: Say = quiet) -> list[Source]:
    """The files and data sets of all specs, in the order of the specs; each once, as the last spec has it.

    Other columns of the same file are another source.
    """
    found: dict[tuple[Path, str | None], Source] = {}
    for written in specs:
        spec, weight = weigh(written, field=field)
        sources = _sources(spec, field=field, kinds=kinds, say=say)
        before = [old for source in sources if (old := found.pop((source.path, source.column), None))]
        if before:
            more = f" and {len(before) - 1:,} more" if len(before) > 1 else ""
            other = f", as {written} has it" if any(old.weight != weight for old in before) else ""
            say(f"{before[0].path}{more}: named twice and read once{other}")
        found |= {(each.path, each.column): each._replace(spec=written, weight=weight) for each in sources}
    files = Counter(path for (path, _), source in found.items() if source.data_set is None)
    names = _names(list(files))
    return [
        source._replace(name=names.get(path, source.name) + (f":{column}" if files[path] > 1 and column else ""))
        for (path, column), source in found.items()
    ]


def read_documents(
    specs: Sequence[str],
    *,
    bad_rows: BadRows = "stop",
    say: Say = quiet,
    section: int = SECTION,
    first: int | None = None,
    most: float = inf,
    share: float = 1.0,
) -> Iterator[Document]:
    """Every document of the files that the specs stand for; a long one is cut into sections ("alice.txt§3").

    specs    paths, folders, globs and data sets of the hub (hub.SHAPE); "file.csv:column" where the column of the text
             is not one of TEXT_COLUMNS; "NAME*0.5" where its records are seen in every second epoch only
    section  characters
    first    only so many of each file
    most     UTF-8 bytes of text that are taken of each data set of the hub
    share    of the text of the files that is taken: of large ones the beginnings, of many small ones some
    raises   ConfigError for a spec without files, DataError for a bad file, or a bad row unless bad_rows = "skip"
    """

    files = _Allowance(0.0)

    def read(source: Source, tell: Tell) -> Iterator[Document]:
        known = partial(_recognise, column=source.column, section=section)
        if source.data_set is None and kind_of(source.path) in PLAIN_KINDS:
            found = _read_plain(source, tell, bad_rows=bad_rows, section=section)
        else:
            wanted = (source.column,) if source.column else TEXT_COLUMNS
            found = read_file(source, tell, recognise=known, noun="document", bad_rows=bad_rows, columns=wanted)
        if source.data_set is not None:
            own = _Allowance(most)
            found = own.of(found, lambda: say(f"{source.name}: its first {(most - own.left) / 1e6:,.1f} MB are taken"))
        elif share < 1:
            files.left = min(files.left, 0.0) + share * text_size(source)
            found = files.of(found)
        return weighted(found, source.weight)

    sources = sources_of(specs, field="data.text", kinds=TEXT_KINDS, say=say)
    return read_sources(sources, read, bad_rows=bad_rows, say=say, first=first)


class _Allowance:
    """How many bytes of text may still be taken."""

    def __init__(self, left: float) -> None:
        self.left = left

    def of(self, documents: Iterable[Document], more: Callable[[], None] = lambda: None) -> Iterator[Document]:
        """As many as may be taken, the last one whole; `more` is called when there are others."""
        if self.left <= 0:
            return  # which does not even open a file
        for document in documents:
            if self.left <= 0:
                more()
                return
            self.left -= size_in_bytes(document)
            yield document


def size_in_bytes(document: Document) -> int:
    """UTF-8 bytes of its text."""
    return len(document.text.encode("utf-8", "surrogatepass"))


def text_size(source: Source) -> float:
    """UTF-8 bytes of a file's text, roughly: by its size, for it is not read."""
    packed = source.path.suffix.lower() in PACKED
    columns = kind_of(source.path) == ".parquet"
    return size_of(source.path) * (UNPACKED if packed else UNPACKED_COLUMNS if columns else 1.0)


def _sources(spec: str, *, field: str, kinds: Collection[str], say: Say) -> list[Source]:
    """What one spec without a weight stands for; files have no name yet."""
    if hub.is_hub(spec):
        named_set = hub.parse(spec, field=field)
        found = [Source(Path(spec), named_set.label, spec, named_set.column, data_set=named_set)]
    else:
        paths, named_column = _resolve(spec, field=field, kinds=kinds, say=say)
        found = [Source(path, "", spec, named_column) for path in paths]
    if (column := found[0].column) and kinds != TEXT_KINDS:
        raise ConfigError(f'{field} = "{spec}": a column is named for texts only; leave ":{column}" out')
    return found


def _resolve(spec: str, *, field: str, kinds: Collection[str], say: Say) -> tuple[list[Path], str | None]:
    """The files of a spec and the column it names. A path that exists is never taken for a path and a column."""
    head, colon, column = spec.rpartition(":")
    if not _matches(spec) and colon and column and _matches(head):
        return _of_kinds(head, _matches(head), field=field, kinds=kinds, say=say), column
    return _of_kinds(spec, _matches(spec), field=field, kinds=kinds, say=say), None


def _matches(spec: str) -> list[Path]:
    if not spec.strip() or "\0" in spec:
        return []
    path = _path(spec)
    if (archive := archive_of(path)) is not None:
        return [file for file in members(archive) if path in (file, *file.parents) or fnmatch(str(file), str(path))]
    if _exists(path) or not glob.has_magic(spec):
        return [path] if _exists(path) else []
    return sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207 (pathlib takes no absolute globs)


def _path(spec: str) -> Path:
    return Path(os.path.expanduser(spec))  # noqa: PTH111 (pathlib raises where a name has no home)


def _is_file(spec: str) -> bool:
    return any(path.is_file() for path in _matches(spec)[:1])


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, or a folder that may not be looked into
        return False


def _of_kinds(spec: str, found: list[Path], *, field: str, kinds: Collection[str], say: Say) -> list[Path]:
    if not found:
        raise ConfigError(f'{field} = "{spec}": {_missing(spec)}')
    files = [file for path in found for file in (_walk(path) if path.is_dir() else [path])]
    files = list(dict.fromkeys(Path(os.path.normpath(file)) for file in files))
    files = [inside for file in files for inside in (members(file) if is_archive(file) else [file])]
    fit = [file for file in files if kind_of(file) in kinds and (file.is_file() or archive_of(file))]
    known = ", ".join(kinds)
    if not fit:
        raise ConfigError(
            f'{field} = "{spec}": holds no file that can be read here; give {known}, also as .gz or .zst, or in a .zip'
        )
    if left := sorted({file.name for file in files} - {file.name for file in fit}):
        more = f" and {len(left) - 3:,} more" if len(left) > 3 else ""
        say(f"{spec}: left out {', '.join(left[:3])}{more}; read here are {known}")
    return fit


def _walk(folder: Path) -> Iterator[Path]:
    """Files of a folder and its subfolders, sorted; hidden ones are passed over, links to folders not followed."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in sorted(files) if not name.startswith("."))


def _missing(spec: str) -> str:
    """What is wrong with a path that does not exist, and the nearest name beside the first part that is missing."""
    if not spec.strip() or "\0" in spec:
        return "no such file; name a file, a folder or a glob such as texts/*.txt"
    if (archive := archive_of(_path(spec))) is not None:
        names = [path.relative_to(archive).as_posix() for path in members(archive)]
        wanted = _path(spec).relative_to(archive).as_posix()
        return f'the archive "{archive}" has no such member{_nearest(wanted, names, folder=archive, holder="it")}'
    known, missing = Path(), ""
    for part in _path(spec).parts:
        if not _exists(known / part):
            missing = part
            break
        known = known / part
    listable = known.is_dir() and os.access(known, os.R_OK)
    siblings = [entry.name for entry in islice(os.scandir(known), 10_000)] if listable else []
    siblings = [name for name in siblings if not name.startswith(".")]
    holder = f'the folder "{known}"'
    return f"no such file{_nearest(missing, siblings, folder=known, holder=holder)}"


def _nearest(name: str, known: Sequence[str], *, folder: Path, holder: str) -> str:
    """The nearest of the names in a folder, else some of them."""
    shown = f"{', '.join(sorted(known)[:5])}{', …' if len(known) > 5 else ''}"
    return did_you_mean(name, known, folder=folder) or f"; {holder} holds {shown or 'nothing'}"


def _names(paths: list[Path]) -> dict[Path, str]:
    """File names; paths from the folder they share where two files have the same name."""
    names = {path: label(path) for path in paths}
    if len(set(names.values())) == len(paths):
        return names
    shared = os.path.commonpath([path.absolute().parent for path in paths])
    return {path: Path(os.path.relpath(path.absolute(), shared)).as_posix() for path in paths}


def _recognise(row: Row, *, column: str | None, section: int) -> Schema[Document]:
    """The column that holds the text. Raises DataError naming the columns there are."""
    strings = [key for key, value in row.value.items() if isinstance(value, str)]
    empty = [key for key, value in row.value.items() if value is None]
    wanted = [column] if column else TEXT_COLUMNS
    found = next((name for names in (strings, empty) for name in wanted if name in names), None)
    if found is not None:
        return Schema(
            f'text in column "{found}"',
            lambda value: found in value,
            lambda row: _documents(row, column=found, section=section),
        )
    file = row.where.rpartition(":")[0]
    if column is not None:
        near = did_you_mean(column, strings)
        remedy = near or "; name another, or leave it out"
        raise DataError(f'{row.where}: has no text in a column "{column}", it has {named(row.value)}{remedy}')
    known = ", ".join(TEXT_COLUMNS)
    raise DataError(
        f"{row.where}: none of the text columns {known} is here, it has {named(row.value)}; "
        f'name the one to read: "{file}:COLUMN"'
    )


def _documents(row: Row, *, column: str, section: int) -> list[Document]:
    """The sections of a row's text; none when it is blank or null, as in many published data sets."""
    text = row.value[column]
    if text is None:
        return []
    if not isinstance(text, str):
        raise DataError(f'{row.where}: "{column}" is {an(text)}; make it a string, or {REMEDY}')
    pieces = (text[at : at + PIECE_BYTES] for at in range(0, len(text), PIECE_BYTES))
    return list(_cut(pieces, row.where, section=section))


def _cut(pieces: Iterable[str], name: str, *, section: int) -> Iterator[Document]:
    """One document under its own name, or numbered sections."""
    texts = sections(pieces, size=section)
    first = list(islice(texts, 2))
    if len(first) < 2:
        yield from (Document(text, name) for text in first)
    else:
        yield from (Document(text, f"{name}§{number}") for number, text in enumerate(chain(first, texts), start=1))


def _read_plain(source: Source, tell: Tell, *, bad_rows: BadRows, section: int) -> Iterator[Document]:
    """The documents of a text file. A line that is not UTF-8 is a bad row."""
    if source.column is not None:
        spec = f"{source.path}:{source.column}"
        raise ConfigError(f'data.text = "{spec}": a text file has no columns; leave ":{source.column}" out')
    heard = Heard(source.name, bad_rows=bad_rows, tell=tell)
    try:
        for first, lines in groupby(_lines(source, heard), key=lambda line: line.document):
            name = source.name if first == 1 else f"{source.name}:{first}"
            heard.count((yield from _counted(_cut((line.text for line in lines), name, section=section))))
    except GeneratorExit:  # no more is wanted of this document, which counts
        heard.count(1)
        heard.tell("text", "document")
        raise
    heard.tell("text", "document")


class _Line(NamedTuple):
    document: int  # the line that its document starts at
    text: str


def _lines(source: Source, heard: Heard) -> Iterator[_Line]:
    """Decoded lines with \\n at their ends; one longer than PIECE_BYTES comes in pieces."""
    decoder = io.IncrementalNewlineDecoder(getincrementaldecoder("utf-8-sig")(), translate=True)
    number = document = 1
    try:
        with open_bytes(source.path, source.name) as file:
            while raw := file.readline(PIECE_BYTES):
                text = _decode(decoder, raw, where=f"{source.name}:{number}", heard=heard)
                number += raw.endswith(b"\n")
                if text.strip() == END_OF_TEXT:
                    document = number
                elif text:
                    yield _Line(document, text)
        _decode(decoder, b"", where=f"{source.name}:{number}", heard=heard)
    except DataError as error:
        heard.skip(error)


def _decode(decoder: io.IncrementalNewlineDecoder, raw: bytes, *, where: str, heard: Heard) -> str:
    try:
        text = decoder.decode(raw, final=not raw)
    except UnicodeDecodeError as error:
        decoder.reset()
        heard.skip(not_utf8(where, error))
        return ""
    if "\0" in text:
        heard.skip(DataError(f"{where}: holds a NUL character, so it is not UTF-8 text; save it as such, or {REMEDY}"))
        return ""
    return text


def _counted(documents: Iterator[Document]) -> Generator[Document, None, int]:
    """The documents, and at the end how many there were."""
    number = 0
    for document in documents:
        number += 1
        yield document
    return number
