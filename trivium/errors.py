"""The few errors a user can meet. Each is one line that names the thing, the rule and the remedy."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class TriviumError(Exception):
    """A mistake or a fault the user can do something about: shown as one line, exit code 2, no traceback."""


class ConfigError(TriviumError):
    """A setting that is unknown, malformed, or does not fit another: `field = value: rule; what to do`."""


class DataError(TriviumError):
    """A file or a row that cannot be used: `file:line: what is wrong; what to do`."""


class CheckpointError(TriviumError):
    """Weights or state that are missing, damaged or do not fit: `folder: what is wrong; what to do`."""


class RunError(TriviumError):
    """A run folder that cannot be used now: locked, unwritable, or not a run."""


class BusyError(RunError):
    """A database that cannot be reached or written now, and perhaps soon can."""


class DivergedError(RunError):
    """Training whose loss stays without a finite value."""


class RewardError(TriviumError):
    """A reward model that nothing should learn from."""


class Interrupted(BaseException):
    """The user or the system asked to stop; what can be saved is saved. Exit code 130.

    Not an Exception, as KeyboardInterrupt is none: no library on the way may take it for a fault of its own.
    """


def did_you_mean(name: str, known: Iterable[str], *, folder: Path = Path()) -> str:
    """`; did you mean X?` when a known name is near, else nothing.

    folder  that the names lie in, where they are files
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {folder / near[0] if folder.parts else near[0]}?" if near else ""
