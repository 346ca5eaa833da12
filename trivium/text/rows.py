"""Rows of JSONL, JSON, CSV, TSV and Parquet files, each with its place. What the columns mean is not known here."""

import csv
from collections.abc import Callable, Collection, Iterator
from functools import partial
from os import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from trivium.errors import DataError
from trivium.text.archives import kind_of, open_anywhere, open_bytes

ROW_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
MAX_LINE_BYTES = 16 * 2**20
MAX_FILE_BYTES = 2**30  # only for what must be held whole: a .json file that is one list
MAX_DEPTH = 64
PEEKED_BYTES = 4096
PARQUET_BATCH = 256  # rows
# Text that is not UTF-8, times out of range, time zones that are not known here.
PARQUET_VALUE_ERRORS = (ValueError, OverflowError, KeyError)
OR_SKIP = ', or set data.bad_rows = "skip"'
REMEDY = f"fix or remove the line{OR_SKIP}"


def skipped(fault: DataError) -> DataError:
    """The same, of a row that is skipped: that it may be is no remedy any more."""
    return DataError(str(fault).replace(OR_SKIP, ""))


class Row(NamedTuple):
    value: dict[str, object]
    where: str  # "name:line", for messages


Entry = Row | DataError  # a bad row is a value, so that a reader may go on after it


def read_rows(path: Path, *, name: str | None = None) -> Iterator[Row]:
    """Every row of a file, in order.

    name    what messages call the file; its own name when not given
    raises  DataError at the first row that cannot be read
    """
    for entry in read_entries(path, name=name):
        if isinstance(entry, DataError):
            raise entry
        yield entry


def read_entries(path: Path, *, name: str | None = None, columns: Collection[str] = ()) -> Iterator[Entry]:
    """Every row of a file, or the error that stands in its place. Raises DataError only for a kind without rows.

    columns  that are wanted: where a Parquet file has some of them, it is read no further than these
    """
    readers: dict[str, Callable[[Path, str], Iterator[Entry]]] = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json,
        ".csv": _csv,
        ".tsv": _csv,
        ".parquet": partial(_parquet, columns=columns),
    }
    name = path.name if name is None else name
    kind = kind_of(path)
    if kind not in readers:
        raise DataError(
            f"{name}: {kind or 'a file without a suffix'} holds no rows; give one of {', '.join(ROW_KINDS)}"
        )
    return readers[kind](path, name)


def lines_of(path: Path, name: str) -> Iterator[tuple[int, bytes | DataError]]:
    """Numbered lines without a byte order mark, each at most MAX_LINE_BYTES; damage ends the file with an error."""
    number = 0
    try:
        with open_bytes(path, name) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    yield number, _too_long(file, line, where=f"{name}:{number}")
                else:
                    yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except DataError as error:
        at = str(error).replace(name, f"{name}:{number + 1}", 1) if number else str(error)
        yield number + 1, DataError(at)


def _too_long(file: BinaryIO, line: bytes, *, where: str) -> DataError:
    while line and not line.endswith(b"\n"):
        line = file.readline(MAX_LINE_BYTES)
    return DataError(f"{where}: is longer than {MAX_LINE_BYTES:,} bytes; split it, or {REMEDY}")


def not_utf8(where: str, error: UnicodeDecodeError) -> DataError:
    byte = error.object[error.start]
    return DataError(f"{where}: is not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8, or {REMEDY}")


def _json_lines(path: Path, name: str) -> Iterator[Entry]:
    for number, line in lines_of(path, name):
        if isinstance(line, DataError):
            yield line
        elif line.strip():
            yield _parse(line, where=f"{name}:{number}")


def _parse(raw: bytes, *, where: str) -> Entry:
    try:
        value = msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        return not_utf8(where, _in_line(error, raw))
    except msgspec.DecodeError as error:
        return DataError(f"{where}: not valid JSON ({error}); {REMEDY}")
    except RecursionError:
        return _too_deep(where)
    if not isinstance(value, dict):
        return DataError(f"{where}: holds {an(value)} where a row is one JSON object; {REMEDY}")
    # Counting brackets is far cheaper than walking, and no row is deeper than it has brackets.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        return _too_deep(where)
    return Row(value, where)


def _in_line(error: UnicodeDecodeError, raw: bytes) -> UnicodeDecodeError:
    """The same fault as an offset into the line: msgspec counts from the start of the string it was reading."""
    try:
        raw.decode()
    except UnicodeDecodeError as whole:
        return whole
    return error


def _too_deep(where: str) -> DataError:
    return DataError(f"{where}: is nested more than {MAX_DEPTH} deep; {REMEDY}")


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _json(path: Path, name: str) -> Iterator[Entry]:
    """A .json file is one list of objects, or lines of objects."""
    return _json_list(path, name) if _begins(path, name) == b"[" else _json_lines(path, name)


def _begins(path: Path, name: str) -> bytes:
    """The first byte that is neither blank nor of a byte order mark; none where the file cannot be read."""
    try:
        with open_bytes(path, name) as file:
            while some := file.read(PEEKED_BYTES):
                if shown := some.removeprefix(b"\xef\xbb\xbf").lstrip():
                    return shown[:1]
    except DataError:  # is told by whoever reads it
        pass
    return b""


def _json_list(path: Path, name: str) -> Iterator[Entry]:
    try:
        with open_bytes(path, name) as file:
            data = file.read(MAX_FILE_BYTES + 1).removeprefix(b"\xef\xbb\xbf")
    except DataError as error:
        yield error
        return
    if len(data) > MAX_FILE_BYTES:
        yield DataError(f"{name}: one JSON list of more than {MAX_FILE_BYTES:,} bytes; save it as .jsonl, a row a line")
        return
    try:
        raws = msgspec.json.decode(data, type=list[msgspec.Raw])  # each of them a part of the data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield DataError(f"{name}: not a valid JSON list ({error}); fix it, or save it as .jsonl, a row a line")
        return
    line, at = 1, 0
    for raw in map(bytes, raws):
        start = data.index(raw, at)
        line += data.count(b"\n", at, start)
        yield _parse(raw, where=f"{name}:{line}")
        at = start + len(raw)
        line += raw.count(b"\n")


class _CsvLines:
    """Decoded lines for csv.reader, which remembers those of the record at hand so that they can be read again."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.taken: list[tuple[int, str]] = []
        self._again: list[tuple[int, str]] = []
        self._lines = lines_of(path, name)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        numbered = self._again.pop() if self._again else self._decode(*next(self._lines))
        self.taken.append(numbered)
        return numbered[1]

    def _decode(self, number: int, line: bytes | DataError) -> tuple[int, str]:
        if isinstance(line, DataError):
            raise line
        try:
            return number, line.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(f"{self.name}:{number}", error) from error

    def hand_out_again(self, *, without: int = 0) -> None:
        """Read the lines of the record at hand once more, without so many of its first ones."""
        self._again += reversed(self.taken[without:])
        self.taken = []


class _Record(NamedTuple):
    number: int  # of its first line
    fields: list[str]


def _csv(path: Path, name: str) -> Iterator[Entry]:
    records = _records(_CsvLines(path, name), "\t" if kind_of(path) == ".tsv" else None)
    header = next(records, None)
    if not isinstance(header, _Record):
        yield from filter(None, [header])
        return
    columns = [column.strip() for column in header.fields]
    if twice := {column for column in columns if columns.count(column) > 1}:
        yield DataError(f"{name}:{header.number}: names the column {sorted(twice)[0]!r} twice; rename one")
        return
    for record in records:
        if isinstance(record, DataError):
            yield record
        elif len(record.fields) == len(columns):
            yield Row(dict(zip(columns, record.fields, strict=True)), f"{name}:{record.number}")
        else:
            found = f"{name}:{record.number}: has {len(record.fields)} fields where the header has {len(columns)}"
            yield DataError(f"{found}; put quotes around a field that holds the separator, or {REMEDY}")


def _records(lines: _CsvLines, separator: str | None) -> Iterator[_Record | DataError]:
    """Records that are not blank. After a broken one, reading goes on at its second line.

    separator  of fields; None: as the header has it
    """
    # The limit is the process's own, so it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    reader = None
    while True:
        lines.taken = []
        try:
            if reader is None:
                reader = csv.reader(lines, delimiter=separator or _delimiter(next(lines, "")), strict=True)
                lines.hand_out_again()
            fields = next(reader)
        except StopIteration:
            return
        except DataError as error:
            yield from _cut_short(lines)
            yield error
        except csv.Error as error:
            yield DataError(f"{lines.name}:{lines.taken[0][0]}: not valid CSV ({error}); {REMEDY}")
            lines.hand_out_again(without=1)
        else:
            if any(fields):
                yield _Record(lines.taken[0][0], fields)


def _cut_short(lines: _CsvLines) -> Iterator[DataError]:
    """The error of a record whose quoted field ran into a line that cannot be read."""
    if lines.taken:
        yield DataError(f"{lines.name}:{lines.taken[0][0]}: not valid CSV (a quote is not closed); {REMEDY}")
        lines.hand_out_again(without=1)


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _parquet(path: Path, name: str, *, columns: Collection[str]) -> Iterator[Entry]:
    import pyarrow  # here: slow to import, and most data is not Parquet
    import pyarrow.parquet

    number = 0
    try:
        with open_anywhere(path, name) as file:
            if not file.seek(0, SEEK_END):
                return  # as an empty file of another kind
            # Without buffers of its own, which hold a group of rows whole
            with pyarrow.parquet.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as table:
                found = [column for column in table.schema_arrow.names if column in columns]
                for batch in table.iter_batches(batch_size=PARQUET_BATCH, columns=found or None):
                    yield from _values(batch, name, number)
                    number += batch.num_rows
    except DataError as error:
        yield error
    except (pyarrow.ArrowException, RecursionError, *PARQUET_VALUE_ERRORS) as error:
        yield DataError(f"{name}:{number + 1}: not valid Parquet ({_reason(error)}); write the file again")


def _values(batch: Any, name: str, before: int) -> Iterator[Entry]:
    """The rows of one pyarrow batch; converted one by one only where they cannot be at once."""
    try:
        values = batch.to_pylist()
    except PARQUET_VALUE_ERRORS as error:
        if batch.num_rows == 1:
            yield DataError(f"{name}:{before + 1}: holds a value that cannot be read ({_reason(error)}); {REMEDY}")
            return
        for at in range(batch.num_rows):
            yield from _values(batch.slice(at, 1), name, before + at)
    else:
        yield from (Row(value, f"{name}:{number}") for number, value in enumerate(values, start=before + 1))


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def an(value: object) -> str:
    """What a JSON value is, in words: "a list", "an object", "null"."""
    words = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")
