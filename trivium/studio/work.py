"""The command line at work on the run: started, paused, asked how it goes. All of its state is in the run folder.

The process has a session of its own, so that closing the page or the studio stops nothing, and a studio that was
started again finds it by the run's lock.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from trivium.errors import RunError
from trivium.runs import Run, holder

LOG = "studio.log"
TAIL = 4096  # bytes of the log that are looked at


class State(NamedTuple):
    """Who is at work."""

    working: bool
    can_stop: bool  # it runs on this machine
    doing: str  # what it said last; empty before it said anything
    complaint: str  # why the last one that we started gave up; empty when it did not


class Work:
    """Starts one process at a time, and finds one that somebody else started."""

    def __init__(self, run: Run, *, program: Sequence[str] = (sys.executable, "-m", "trivium")) -> None:
        self.run = run
        self._program = tuple(program)
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def log(self) -> Path:
        """What the command line said while it was at work."""
        return self.run.path / LOG

    def state(self) -> State:
        pid, starting = holder(self.run), self._is_alive()
        if pid is None and not starting:
            code = self._child.returncode if self._child else 0
            return State(False, False, "", self._last_line("trivium: ", "Error: ") if code not in (0, 130) else "")
        return State(True, pid != 0, self._last_line(), "")

    def start(self, *flags: str) -> None:
        """Go on with the run, as `trivium run RUN FLAGS` would. Raises RunError when somebody is at work on it."""
        with self._lock:
            if self.state().working:
                raise RunError(f"{self.run.path}: is at work already; pause it first, or wait")
            command = [*self._program, "run", str(self.run.path), *flags]
            with self.log.open("wb") as log:
                self._child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )

    def pause(self) -> None:
        """Ask whoever is at work to save and stop. Raises RunError when nobody is, or when it is out of reach."""
        pid = holder(self.run)
        if pid is None and self._is_alive():
            assert self._child
            pid = self._child.pid
        if pid is None:
            raise RunError(f"{self.run.path}: nobody is at work on it")
        if pid == 0:
            raise RunError(f"{self.run.path}: is at work on another machine; stop it there")
        os.kill(pid, signal.SIGTERM)

    def _is_alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def _last_line(self, *having: str) -> str:
        """The newest line of the log; with words to look for, the newest that has one of them."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return ""
        told = (line.strip() for line in reversed(lines))
        return next((line for line in told if line and (not having or any(word in line for word in having))), "")
