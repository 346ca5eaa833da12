"""Which text each row of a cache holds, so that none of it is read twice: a prompt of a group, a dialogue that goes on.

R rows, S positions.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Copy(NamedTuple):
    """What one row holds goes to another: so many tokens, from the first on."""

    source: int
    row: int
    length: int


class Reading(NamedTuple):
    """How prompts come into their rows, in this order; the last token of each is left to the step that follows."""

    before: list[Copy]
    unread: dict[int, list[int]]  # row → the tokens that have to be read; maybe none
    after: list[Copy]  # whole prompts, of rows that were read


class Texts:
    """Of every row, the tokens whose keys and values stand in the cache; and one more, the last."""

    def __init__(self, rows: int, positions: int) -> None:
        self._ids = np.full((rows, positions + 1), -1, dtype=np.int32)
        self._length = np.zeros(rows, dtype=np.int64)

    def begin(self, prompts: Mapping[int, Sequence[int]]) -> Reading:
        """These rows get new prompts: what can be copied, or stands there already, need not be read.

        Of equal prompts one is read. Rows that get no prompt lend theirs, and a row keeps what its own begins with.
        """
        lenders = np.setdiff1d(np.flatnonzero(self._length), list(prompts))
        found = {row: self._beginning(row, prompt, lenders) for row, prompt in prompts.items()}
        leader: dict[tuple[int, ...], int] = {}  # of equal prompts, the row that knows most
        for row in sorted(prompts, key=lambda row: -found[row].length):
            leader.setdefault(tuple(prompts[row]), row)
        read = {row: found[row] for row in prompts if leader[tuple(prompts[row])] == row}
        before = [copy for copy in read.values() if copy.source != copy.row and copy.length]
        unread = {row: list(prompts[row][copy.length : -1]) for row, copy in read.items()}
        after = [
            Copy(leader[tuple(prompt)], row, len(prompt) - 1) for row, prompt in prompts.items() if row not in read
        ]
        for row, prompt in prompts.items():
            self._ids[row] = -1
            self._ids[row, : len(prompt)] = prompt
            self._length[row] = len(prompt)
        return Reading(before, unread, [copy for copy in after if copy.length])

    def add(self, row: int, token: int) -> None:
        """Its last token was read, and this one is the last now."""
        self._ids[row, self._length[row]] = token
        self._length[row] += 1

    def _beginning(self, row: int, prompt: Sequence[int], lenders: np.ndarray) -> Copy:
        """The row that holds most of the prompt's beginning; of several, the row itself."""
        rows = np.array([row, *lenders])
        wanted = np.array(prompt[:-1], dtype=np.int32)
        same = self._ids[rows, : len(wanted)] == wanted
        common = np.where(same.all(1), len(wanted), same.argmin(1) if len(wanted) else 0)
        known = np.minimum(common, np.maximum(self._length[rows] - 1, 0))
        best = int(known.argmax())
        return Copy(int(rows[best]), row, int(known[best]))
