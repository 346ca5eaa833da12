"""The bytes of files: as they are, packed with gzip or zstandard, or inside a zip archive. Knows no kinds of content.

A file inside an archive goes by a path of its own, "texts.zip/sub/a.txt", and is read like any other; nothing is
written to the disk under that name.
"""

import gzip
import io
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOENT
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from trivium.errors import DataError

PACKED = (".gz", ".zst")
ARCHIVE = ".zip"
_FAULTS = (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


def kind_of(path: Path) -> str:
    """The suffix that says what a file holds: ".jsonl" for "a.JSONL.gz"."""
    return (Path(path.stem) if path.suffix.lower() in PACKED else path).suffix.lower()


def is_archive(path: Path) -> bool:
    return path.suffix.lower() == ARCHIVE and path.is_file()


def archive_of(path: Path) -> Path | None:
    """The archive that a path leads into."""
    try:
        return next((parent for parent in path.parents if is_archive(parent)), None)
    except OSError:  # a name too long, or a folder that may not be looked into
        return None


def label(path: Path) -> str:
    """The file's name; of one in an archive also the archive's: "texts.zip/sub/a.txt"."""
    archive = archive_of(path)
    return path.relative_to(archive.parent).as_posix() if archive else path.name


def members(archive: Path) -> list[Path]:
    """Paths of the files inside, sorted; hidden ones are passed over. Raises DataError when it is no whole archive."""
    with _named(archive, archive.name):
        found = sorted(archive / name for name in _opened(archive).files)
    return [path for path in found if not _is_hidden(path.relative_to(archive))]


def size_of(path: Path) -> int:
    """Bytes of a file, of one in an archive unpacked. Raises DataError when it is not there."""
    archive = archive_of(path)
    with _named(path, path.name):
        if archive is None:
            return path.stat().st_size
        return _opened(archive).files[path.relative_to(archive).as_posix()].file_size


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


@contextmanager
def open_bytes(path: Path, name: str) -> Iterator[BinaryIO]:
    """A file's bytes, unpacked. Raises DataError when it cannot be opened or, later, read."""
    with _named(path, name), _raw(path) as raw:
        if path.suffix.lower() == ".gz":
            with gzip.open(raw, "rb") as file:
                yield cast(BinaryIO, file)
        elif path.suffix.lower() == ".zst":
            with _open_zstandard(raw) as file:
                yield file
        else:
            yield raw


@contextmanager
def open_anywhere(path: Path, name: str) -> Iterator[BinaryIO]:
    """The same for readers that jump about: what is packed is unpacked into a nameless temporary file first."""
    with open_bytes(path, name) as file:
        if path.suffix.lower() not in PACKED and archive_of(path) is None:
            yield file
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            yield cast(BinaryIO, copy)


@contextmanager
def _named(path: Path, name: str) -> Iterator[None]:
    """Whatever the libraries raise becomes a DataError that names the file."""
    sort = path.suffix.lower().removeprefix(".") if path.suffix.lower() in PACKED else "zip"
    try:
        yield
    except _FAULTS as error:
        raise DataError(f"{name}: is not a whole {_WORDS[sort]} file ({error}); copy or download it again") from error
    except OSError as error:
        if error.errno is None and sort == "zst":  # pyarrow's
            whole = f"is not a whole {_WORDS[sort]} file ({error})"
            raise DataError(f"{name}: {whole}; copy or download it again") from error
        raise DataError(f"{name}: cannot be read ({error.strerror or error}); check the path and its rights") from error


_WORDS = {"gz": "gzip", "zst": "zstandard", "zip": "zip"}


@contextmanager
def _raw(path: Path) -> Iterator[BinaryIO]:
    archive = archive_of(path)
    if archive is None:
        with path.open("rb") as file:
            yield file
        return
    opened = _opened(archive)
    info = opened.files.get(path.relative_to(archive).as_posix())
    if info is None:
        raise FileNotFoundError(ENOENT, "no such file in the archive")
    try:
        member = opened.zip.open(info)
    except (RuntimeError, NotImplementedError) as error:  # a password, or a method of packing that is not known here
        raise zipfile.BadZipFile(str(error)) from error
    with member:
        yield cast(BinaryIO, member)


def _open_zstandard(raw: BinaryIO) -> io.BufferedReader:
    import pyarrow  # here: slow to import. Unlike other readers it notices a file that was cut off

    return io.BufferedReader(pyarrow.CompressedInputStream(raw, "zstd"))


class _Archive(NamedTuple):
    zip: zipfile.ZipFile
    files: dict[str, zipfile.ZipInfo]


def _opened(archive: Path) -> _Archive:
    state = archive.stat()
    return _open_zip(archive, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)  # for each of many files in one archive its directory would be read again
def _open_zip(archive: Path, changed: int, size: int) -> _Archive:
    opened = zipfile.ZipFile(archive)
    return _Archive(opened, {_clean(info.filename): info for info in opened.infolist() if not info.is_dir()})


def _clean(name: str) -> str:
    """A name that stays inside its archive, whatever it says."""
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))
