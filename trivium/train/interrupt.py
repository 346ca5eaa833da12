"""Ctrl-C and SIGTERM: at once where nothing would be lost, after the step where there is something to save."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from trivium.errors import Interrupted

HEARD = (signal.SIGINT, signal.SIGTERM)
STOPPED = "stopped; the same command goes on from here"


class Interrupt:
    """Whether somebody has asked to stop. A second request does not wait."""

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a request is only noted, for whoever looks at `requested` between two steps."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.requested:
            raise Interrupted(STOPPED)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._deferred and not self.requested:
            self.requested = True
            return
        raise Interrupted(STOPPED)


@contextmanager
def listen(*signals: int) -> Iterator[Interrupt]:
    """Hear these in here, or SIGINT and SIGTERM; the old handlers come back at the end."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt._handle) for number in signals or HEARD}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
