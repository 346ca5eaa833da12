"""Tokens become text while they are written: whole characters only, and nothing that may be part of a stop string."""

import codecs
from collections.abc import Sequence


class Spelling:
    """The text of one answer. What is given out is never taken back."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        """stop  texts that end the answer and are not part of it"""
        self._stop = [text for text in stop if text]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False

    def add(self, written: bytes) -> str:
        """The text that is certain after these bytes; nothing more once a stop string was met."""
        return self._give(self._decoder.decode(written))

    def end(self) -> str:
        """What was still held back; half a character becomes U+FFFD."""
        rest = self._give(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return rest

    def _give(self, text: str) -> str:
        if self.stopped:
            return ""
        whole = self._held + text
        if found := [(place + len(stop), place) for stop in self._stop if (place := whole.find(stop)) >= 0]:
            self.stopped, self._held = True, ""
            return whole[: min(found)[1]]  # of the one that was complete first, however the text was cut
        certain = len(whole) - max((_begun(whole, stop) for stop in self._stop), default=0)
        self._held = whole[certain:]
        return whole[:certain]


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of the text may begin the stop string."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
