"""The run folder: where everything lies, who may write to it, and its journal.

Opens no model and no data; reading a run needs no lock.
"""

import errno
import fcntl
import os
import re
import shutil
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trivium.errors import DataError, RunError, did_you_mean
from trivium.publish import sweep, write_text

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LOCK = ".lock"


@dataclass(frozen=True)
class Round:
    """One turn of phase III: votes → reward model → aligned model."""

    number: int  # 1 is the first
    path: Path

    @property
    def reward(self) -> Path:
        return self.path / "reward"

    def member(self, number: int) -> Path:
        """A reward model of the ensemble; the first is `reward` itself."""
        return self.reward if number == 1 else self.path / f"reward-{number}"

    @property
    def reward_report(self) -> Path:
        """How far the reward model can be trusted."""
        return self.reward / "report.json"

    @property
    def imitator(self) -> Path:
        """The model that reinforcement starts from, when pairs came from files."""
        return self.path / "imitator"

    @property
    def aligned(self) -> Path:
        return self.path / "aligned"

    @property
    def aligned_report(self) -> Path:
        """How reinforcement ended, and which answers fooled its reward."""
        return self.aligned / "report.json"


@dataclass(frozen=True)
class Run:
    """A run folder. Nothing that it names needs to exist yet."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @property
    def base(self) -> Path:
        return self.path / "base"

    @property
    def instruct(self) -> Path:
        return self.path / "instruct"

    def member(self, number: int) -> Path:
        """The base of a further member of the reward's ensemble, from 2 on."""
        return self.path / "members" / f"{number}"

    @property
    def feedback(self) -> Path:
        return self.path / "feedback.db"

    @property
    def samples(self) -> Path:
        return self.path / "samples.jsonl"

    @property
    def measures(self) -> Path:
        """What the examination found."""
        return self.path / "measures.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def cache(self) -> Path:
        """What can be made again: compiled code, gathered texts, token shards."""
        return self.path / ".cache"

    def state(self, phase: str) -> Path:
        """The checkpoints of a phase in progress."""
        assert NAME.fullmatch(phase), phase
        return self.path / ".state" / phase

    def data(self, phase: str) -> Path:
        """Which data a phase in progress was begun with."""
        return self.path / ".state" / f"{phase}.data"

    def best(self, phase: str) -> Path:
        """The weights of a phase in progress that were the best so far, where somebody watches it."""
        return self.state(f"{phase}-best")

    def forget(self, phase: str) -> None:
        """Remove the checkpoints of a phase whose model is published."""
        for folder in (self.state(phase), self.best(phase)):
            shutil.rmtree(folder, ignore_errors=True)
        self.data(phase).unlink(missing_ok=True)

    def round(self, number: int) -> Round:
        assert number >= 1, number
        return Round(number, self.path / "rounds" / f"{number:03}")

    def rounds(self) -> list[Round]:
        """Those that have begun, the first one first."""
        numbers = (int(path.name) for path in self.path.glob("rounds/*") if re.fullmatch(r"\d{3,}", path.name))
        return [self.round(number) for number in sorted(numbers) if number]


def votes_of(run: Run, database: str = "") -> Path | str:
    """Where a run's votes are kept: what TRIVIUM_DATABASE says, else the setting votes.database, else its own file."""
    return os.environ.get("TRIVIUM_DATABASE") or database or run.feedback


def read_run(path: Path) -> Run:
    """A run to look at, which may be at work.

    raises  RunError when there is no run at this path, with the nearest name beside it
    """
    with _refusals(path, "cannot be read", "look at its permissions"):
        if _is_run(path):
            return Run(path)
        around = next((above for above in path.parents[:3] if (above / "recipe.toml").exists()), None)
        if around and not path.exists():
            raise RunError(f"{path}: the run {around} has no such model yet; go on with `trivium run {around}`")
        near = _nearest_run(path) or f"; start one with `trivium run --out {path}`"
        raise RunError(f"{path}: {'is not a run folder' if path.exists() else 'there is no such run'}{near}")


@contextmanager
def open_run(path: Path, *, create: bool) -> Iterator[Run]:
    """A run to write to, held by this process alone until the block ends or the process dies.

    What an earlier process left half done is cleared away first.
    raises  RunError when another process holds it, when it cannot be written to, or when there is none to open
    """
    run = _made_if_new(path) if create else read_run(path)
    with _held(run):
        for folder in _publishing_folders(run):
            sweep(folder)
        yield run


def holder(run: Run) -> int | None:
    """The process that is at work on the run, by its id; None when nobody is. Asks the system, and takes no lock.

    The id is 0 where the process is on another machine that shares the folder.
    raises  RunError when the lock cannot be looked at
    """
    if run.path.resolve() in _held_here:  # and closing the file would drop our own lock
        return os.getpid()
    with _refusals(run.path, "cannot be read", "look at its permissions"):
        try:
            descriptor = os.open(run.path / _LOCK, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            return _asked(descriptor)
        finally:
            os.close(descriptor)


def _asked(descriptor: int) -> int | None:
    """Who would be in the way of an exclusive lock."""
    darwin = sys.platform == "darwin"  # where the fields of struct flock stand in another order
    if darwin:
        said = fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack("qqihh", 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET))
        _, _, pid, kind, _ = struct.unpack("qqihh", said)
    else:
        said = fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        kind, _, _, _, pid = struct.unpack("hhqqi0q", said)
    return None if kind == fcntl.F_UNLCK else max(0, pid)


def _is_run(path: Path) -> bool:
    # the lock file comes first, the recipe second; a copied run may have lost its hidden files
    return (path / "recipe.toml").is_file() or (path / _LOCK).is_file()


def _nearest_run(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    return did_you_mean(path.name, (each.name for each in path.parent.iterdir() if _is_run(each)), folder=path.parent)


def _made_if_new(path: Path) -> Run:
    with _refusals(path):
        if _is_run(path):
            return Run(path)
        _check_name(path)
        if path.is_file():
            raise RunError(f"{path}: is a file, and a run is a folder; choose another with --out")
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()) and not _is_run(path):  # another process may have begun it just now
            raise RunError(f"{path}: is neither empty nor a run folder; choose another with --out")
    return Run(path)


def _check_name(path: Path) -> None:
    name = path.resolve().name
    if not NAME.fullmatch(name):
        near = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).lstrip("._-")[:64] or "run-1"
        raise RunError(f"{path}: a run's name is up to 64 of a-z 0-9 . _ -, the first a letter or digit; try {near}")


def _publishing_folders(run: Run) -> list[Path]:
    """Every folder in which something is published."""
    patterns = ("rounds", "rounds/*", "members", ".state/*", ".cache", ".cache/shards", ".cache/texts")
    inner = (folder for pattern in patterns for folder in run.path.glob(pattern))
    return [run.path, *(folder for folder in inner if folder.is_dir())]


_held_here: set[Path] = set()  # fcntl lets one process lock a file twice, and drops both at the first close


@contextmanager
def _held(run: Run) -> Iterator[None]:
    """Holds the run's lock. The system drops it however this process dies, and forked children do not keep it."""
    place = run.path.resolve()
    if place in _held_here:
        raise RunError(f"{run.path}: this process (pid {os.getpid()}) is using it already; wait until it is done")
    with _refusals(run.path):
        descriptor = os.open(run.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with _refusals(run.path):
            _lock(descriptor, run)
        _held_here.add(place)
        yield
    finally:
        _held_here.discard(place)
        os.close(descriptor)


def _lock(descriptor: int, run: Run) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        pid, _, host = os.pread(descriptor, 300, 0).decode(errors="replace").strip().partition(" ")
        where = "" if host == socket.gethostname() else f" on {host or 'an unknown host'}"
        raise RunError(
            f"{run.path}: another process (pid {pid or 'unknown'}{where}) is using it; wait, or stop it"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)


@contextmanager
def _refusals(
    path: Path, what: str = "cannot be written", remedy: str = "make it writable, or choose another with --out"
) -> Iterator[None]:
    """Turns the system's refusals into one line that names the path, the reason and the remedy."""
    try:
        yield
    except OSError as error:
        remedy = "free some space" if error.errno == errno.ENOSPC else remedy
        raise RunError(f"{path}: {what} ({error.strerror}); {remedy}") from error


class Journal:
    """JSON lines that are only ever added, by the one process that holds the run; anyone may read them meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def write(self, record: Mapping[str, object]) -> None:
        """Adds one line, columns in the order given; NaN and infinities become null, as JSON has neither.

        raises  RunError when the disk refuses; no part of the line is left
        """
        line = msgspec.json.encode(dict(record)) + b"\n"
        with _refusals(self.path):
            descriptor = self._open()
            before = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(descriptor, before)
                raise

    def sync(self) -> None:
        """All lines so far survive a power failure; worth its time before a checkpoint, not at each line."""
        with _refusals(self.path):
            os.fsync(self._open())

    def read(self) -> list[dict[str, object]]:
        """All lines, the oldest first, without one that is still being written or was torn by a kill.

        raises  DataError naming a line before the last that is not a JSON object
        """
        return [record for _, record in self._lines()]

    def rewind(self, phase: str, step: int) -> None:
        """Forgets what `phase` did after `step`: a run that goes on from there writes those lines again."""

        def undone(record: dict[str, object]) -> bool:
            at = record.get("step")
            return record.get("phase") == phase and isinstance(at, int) and at > step

        lines = self._lines()
        kept = [line for line, record in lines if not undone(record)]
        if len(kept) < len(lines):
            self.close()  # the descriptor belongs to the file that is replaced
            write_text(self.path, b"".join(kept).decode())

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            whole = sum(len(line) for line, _ in self._lines())
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            os.ftruncate(self._descriptor, whole)  # a torn last line would spoil the next one
        return self._descriptor

    def _lines(self) -> list[tuple[bytes, dict[str, object]]]:
        """Each line as it stands and what it says, but for a torn last one."""
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        read: list[tuple[bytes, dict[str, object]]] = []
        for number, line in enumerate(lines, start=1):
            try:
                record = msgspec.json.decode(line, type=dict[str, object])
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if number == len(lines):
                    break
                raise DataError(f"{self.path}:{number}: is not a JSON object ({error}); delete that line") from error
            if line.endswith(b"\n"):
                read.append((line, record))
        return read
