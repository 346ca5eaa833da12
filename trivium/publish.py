"""Files that are published, not written: whole and verified, or not there at all. Knows nothing of tensors or of runs.

A folder is filled under a temporary name beside its own, flushed, sealed with a manifest and renamed into place. A
process that dies leaves at worst a temporary, which `sweep` removes. Where the system cannot swap two folders in one
step, replacing takes two renames; `sweep` finishes those as well.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from trivium.errors import CheckpointError, TriviumError

MANIFEST = "manifest.json"
_FORMAT = "trivium-manifest-1"
_Entry = dict[str, int | str]  # size in bytes, sha256 in hexadecimal
_TEMPORARY = ".tmp-"
_ASIDE = ".old-"

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOTDIR: "choose a path that does not lead through a file",
    errno.EEXIST: "choose a path that does not lead through a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk",
}


def publish(folder: Path, write: Callable[[Path], None]) -> str:
    """Fills `folder` with what `write` puts into the empty folder it is given; all of it is on disk on return.

    An earlier version stays in place until the new one stands, and whatever fails leaves it as it was.
    returns  the fingerprint of the new version
    raises   CheckpointError when the disk refuses, or when `folder` holds files that were not published
    """
    with _disk_faults(folder):
        _make_folder(folder.parent)
        _sweep_named(folder.parent, folder.name)
        _refuse_foreign(folder)
        kept = ", its earlier version is intact" if folder.exists() else ""
    with _disk_faults(folder, kept=kept), _temporary_folder(folder) as fresh:
        write(fresh)
        _seal(fresh)
        _put_in_place(fresh, folder)
    return fingerprint(folder)


def write_text(path: Path, text: str) -> None:
    """Replaces one file in one step: a reader, or a crash, sees the old text or the new one.

    raises  CheckpointError when the disk refuses; the old text is intact
    """
    publish_file(path, lambda fresh: fresh.write_bytes(text.encode()))


def publish_file(path: Path, write: Callable[[Path], object]) -> None:
    """The same for a file that `write` fills under the temporary name it is given.

    raises  CheckpointError when the disk refuses; the old file is intact, whatever fails
    """
    with _disk_faults(path):
        _make_folder(path.parent)
        fresh = _temporary_name(path)
        try:
            with fresh.open("xb") as file:
                _mark_in_use(file.fileno())
                write(fresh)
                os.fsync(file.fileno())
                fresh.replace(path)
            _sync(path.parent)
        finally:
            fresh.unlink(missing_ok=True)


def verify(folder: Path) -> str:
    """Reads every byte of a published folder against its manifest; files that the manifest does not name are left out.

    returns  the fingerprint
    raises   CheckpointError naming the first file that is missing or differs
    """
    if found := flaw(folder):
        raise CheckpointError(f"{folder}: {found}; restore it from a copy, or delete it and run the same command again")
    return fingerprint(folder)


def fingerprint(folder: Path) -> str:
    """16 hexadecimal digits that stand for the folder's contents; reads the manifest only.

    raises  CheckpointError when the folder has no manifest
    """
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise CheckpointError(
            f"{folder}: {_unreadable(MANIFEST, error)}; give a folder that Trivium published"
        ) from error


def file_fingerprint(folder: Path, name: str) -> str:
    """16 hexadecimal digits that name the content of one file of a published folder.

    raises  CheckpointError when the folder has no manifest that lists it
    """
    try:
        entries = _parse_manifest((folder / MANIFEST).read_bytes())
    except OSError:
        entries = None
    if entries is None or name not in entries:
        raise CheckpointError(f"{folder}: its manifest does not list {name}; make it again")
    return str(entries[name]["sha256"])[:16]


def flaw(folder: Path) -> str | None:
    """What is wrong with a published folder, in a few words; None when nothing is."""
    try:
        if not folder.exists():
            return "does not exist"
        sealed = (folder / MANIFEST).read_bytes()
    except OSError as error:
        return _unreadable(MANIFEST, error)
    files = _parse_manifest(sealed)
    if files is None:
        return f"{MANIFEST} is damaged"
    return next(filter(None, (_file_flaw(folder, name, entry) for name, entry in files.items())), None)


def discard(folder: Path) -> None:
    """Removes a folder so that a crash leaves the whole of it or nothing.

    raises  CheckpointError when the disk refuses
    """
    with _disk_faults(folder):
        gone = folder.rename(_temporary_name(folder))
        _remove(gone)


def sweep(parent: Path) -> None:
    """Removes what dead publishers left in `parent` and finishes their replacements; those at work are left alone.

    raises  CheckpointError when the disk refuses
    """
    with _disk_faults(parent):
        if parent.is_dir():
            _sweep_named(parent, "")


def _sweep_named(parent: Path, name: str) -> None:
    """Sweeps what was left under this name; under every name when it is empty."""
    for aside in [path for path in parent.iterdir() if path.name.startswith(_ASIDE)]:
        folder = parent / aside.name.removeprefix(_ASIDE)
        if name in ("", folder.name):
            with suppress(FileNotFoundError):  # another sweep was quicker
                _remove(aside) if folder.exists() else aside.rename(folder)
    for fresh in [path for path in parent.iterdir() if path.name.startswith(_TEMPORARY)]:
        if name in ("", _published_name(fresh)) and not _in_use(fresh):
            with suppress(FileNotFoundError):
                _remove(fresh)


def _refuse_foreign(folder: Path) -> None:
    """Replacing deletes what was there: never do that to files of the user's own."""
    if folder.exists() and any(folder.iterdir()):
        manifest = folder / MANIFEST
        if not manifest.is_file() or _FORMAT.encode() not in manifest.read_bytes():
            raise CheckpointError(f"{folder}: holds files that Trivium did not publish; choose another folder")


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    fresh = _temporary_name(folder)
    fresh.mkdir()
    descriptor = os.open(fresh, os.O_RDONLY)
    try:
        _mark_in_use(descriptor)
        yield fresh
    finally:
        # after a swap this name holds the old version, after a plain rename nothing
        shutil.rmtree(fresh, ignore_errors=True)
        os.close(descriptor)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f"{_TEMPORARY}{path.name}-{secrets.token_hex(4)}")


def _published_name(temporary: Path) -> str:
    return temporary.name.removeprefix(_TEMPORARY).rpartition("-")[0]


def _mark_in_use(descriptor: int) -> None:
    """A lock that the system drops when this process dies, so that a sweep can tell the living from the dead."""
    with suppress(OSError):  # some network file systems lock no folders; there a run's own lock protects it
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _in_use(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # its publisher has just finished
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _seal(folder: Path) -> None:
    """Flushes every file and folder within, then writes the manifest: its presence says that all else is on disk."""
    readable = folder.stat().st_mode & 0o666  # safetensors makes files for their owner only; follow the umask instead
    entries: dict[str, _Entry] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.chmod(readable)
            entries[path.relative_to(folder).as_posix()] = _entry(path)
        _sync(path)
    assert MANIFEST not in entries, f"{MANIFEST} is written here, not by the caller"
    manifest = folder / MANIFEST
    manifest.write_bytes(_manifest_bytes(entries))
    _sync(manifest)
    _sync(folder)


def _put_in_place(fresh: Path, folder: Path) -> None:
    """Afterwards the name `fresh` is free or holds the old version. When the disk refuses, all is as it was."""
    move = _swap if folder.exists() else Path.rename
    move(fresh, folder)
    try:
        _sync(folder.parent)
    except OSError:
        _swap(fresh, folder) if move is _swap else folder.rename(fresh)
        raise


def _swap(one: Path, other: Path) -> None:
    """Two folders change names: in one step, or where the system cannot, in three that `sweep` can finish."""
    if _exchange(one, other):
        return
    aside = other.with_name(f"{_ASIDE}{other.name}")
    other.rename(aside)
    try:
        one.rename(other)
    except BaseException:
        aside.rename(other)
        raise
    aside.rename(one)


def _exchange(one: Path, other: Path) -> bool:
    """Linux's way to swap two names in one step; False where the system or the file system has none."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE in C's headers
    return renameat2 is not None and renameat2(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def _entry(path: Path) -> _Entry:
    return {"size": path.stat().st_size, "sha256": _sha256(path)}


def _manifest_bytes(files: dict[str, _Entry]) -> bytes:
    return json.dumps({"format": _FORMAT, "files": files}, indent=1).encode() + b"\n"


def _parse_manifest(sealed: bytes) -> dict[str, _Entry] | None:
    """The files it names. It has no seal of its own, so it must be, to the byte, what `_manifest_bytes` writes."""
    try:
        files = json.loads(sealed)["files"]
        whole = _manifest_bytes(files) == sealed and all(entry.keys() == {"size", "sha256"} for entry in files.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return files if whole else None


def _file_flaw(folder: Path, name: str, expected: _Entry) -> str | None:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return f"{MANIFEST} names {name}, which is outside of the folder"
    path = folder / name
    try:
        if not path.is_file():
            return f"{name} is missing"
        # size first: it spares the reading of a file that was cut short
        if path.stat().st_size != expected["size"] or _entry(path) != expected:
            return f"{name} does not match its manifest"
    except OSError as error:
        return _unreadable(name, error)
    return None


def _unreadable(name: str, error: OSError) -> str:
    return f"has no {name}" if isinstance(error, FileNotFoundError) else f"{name} cannot be read ({error.strerror})"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network and FUSE file systems flush files, but know no flushing of folders
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    """Like mkdir -p, and each new name is on disk."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _disk_faults(path: Path, *, kept: str = "") -> Iterator[None]:
    """Turns the system's refusals into one line that names the path, the reason and the remedy."""
    try:
        yield
    except Exception as error:
        if (refusal := _refusal(error)) is None:
            raise
        # a temporary's name tells the user nothing; any other file's does
        where = f" at {refusal.filename}" if refusal.filename and _TEMPORARY not in str(refusal.filename) else ""
        remedy = _REMEDIES.get(refusal.errno or 0, "look at the folder")
        raise CheckpointError(
            f"{path}: cannot be written ({refusal.strerror}{where}){kept}; {remedy} and run the same command again"
        ) from error


def _refusal(error: Exception) -> OSError | None:
    """The system's error; libraries written in Rust hand it on as text only: `... (os error 28)`."""
    if isinstance(error, OSError):
        return error
    told = None if isinstance(error, TriviumError) else re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(told[1]), os.strerror(int(told[1]))) if told else None
