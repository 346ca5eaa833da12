"""How often somebody may try a secret in vain: after that nobody gets on from there for a while."""

import time
from collections import deque
from collections.abc import Callable

from fastapi import HTTPException

MOST = 20  # vain tries
SPAN = 600.0  # seconds in which they count
REMEMBERED = 10_000  # places and names


class Tries:
    """Kept in memory: a studio that is started again forgives. Threads may share it."""

    def __init__(self, *, most: int = MOST, span: float = SPAN, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._span, self._clock = most, span, clock
        self._vain: dict[str, deque[float]] = {}

    def require_room(self, *keys: str) -> None:
        """raises  HTTPException 429 where one of these has tried in vain too often"""
        for key in keys:
            tries = self._vain.get(key, deque())
            if len(tries) >= self._most and (left := tries[-self._most] + self._span - self._clock()) > 0:
                headers = {"Retry-After": str(int(left) + 1)}
                raise HTTPException(429, "too many tries in vain; wait a few minutes", headers=headers)

    def count(self, *keys: str) -> None:
        """They tried in vain."""
        for key in keys:
            tries = self._vain.pop(key, None) or deque(maxlen=self._most)  # the newest are the last to be forgotten
            tries.append(self._clock())
            self._vain[key] = tries
            while len(self._vain) > REMEMBERED:
                self._vain.pop(next(iter(self._vain)), None)
