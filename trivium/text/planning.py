"""Which segments stand in which row: every item cut to pieces, the pieces in a drawn order, rows filled by best fit.

Bounded in memory: an epoch is planned block by block, and numbers lie in arrays. No tokens, no files.
N segments, T row length.
"""

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_BUFFER = 1000  # segments a row is chosen from: enough for rows without gaps, few enough to keep near the drawn order
_LEAST_PIECE = 24  # tokens: a gap smaller than that is not worth a cut, and no smaller rest is left
_BLOCK = 2**16  # segments whose rows are planned together, when the first of them is asked for
_BLOCKS_KEPT = 2
_SEGMENT_ORDER, _ROW_ORDER = 0, 1  # which of an epoch's permutations


class Chunks(NamedTuple):
    """Pieces of items: item[i] from position start[i] up to stop[i]. N pieces."""

    item: Integers  # (N,)
    start: Integers  # (N,)
    stop: Integers  # (N,)


class RowPlan(NamedTuple):
    """Row r holds the segments segments[bounds[r]:bounds[r + 1]], in that order. N placed, whole or in part."""

    segments: Integers  # (N,)
    starts: Integers  # (N,) where in its segment each begins: 0, but for what is left of one that was cut
    sizes: Integers  # (N,) tokens
    bounds: Integers  # (rows + 1,)

    def __len__(self) -> int:
        return len(self.bounds) - 1


class Cut:
    """The pieces of items by number, found when they are asked for: of each item all of them, as often as it comes."""

    def __init__(self, lengths: Integers, limits: Integers, times: Integers | int) -> None:
        """
        lengths  (items,) tokens; an item of none gives no piece
        limits   (items,) or one for all; tokens, >= 1: all pieces of an item but the last are exactly so long
        times    (items,) or one for all: how often an item comes
        """
        self._lengths, self._limits = lengths, np.broadcast_to(limits, lengths.shape)
        self._ends = np.cumsum(-(-lengths // limits) * times)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def pieces(self, numbers: Integers) -> Chunks:
        item = np.searchsorted(self._ends, numbers, side="right")
        length, limit = self._lengths[item], self._limits[item]
        before = np.where(item > 0, self._ends[item - 1], 0)
        start = (numbers - before) % -(-length // limit) * limit
        return Chunks(item, start, np.minimum(start + limit, length))


def plan_rows(
    lengths: Integers, row_length: int, order: Integers, *, may_cut: NDArray[np.bool_] | None = None
) -> RowPlan:
    """Best fit within a sliding window of the order: the oldest waiting segment, then always the longest that fits.

    lengths  (N,) tokens, each from 1 to row_length
    order    (N,) a permutation of the segments
    may_cut  (N,) which segments may be cut where a row's last gap is worth it; the rest waits for another row
    O(N log N)
    """
    count = len(order)
    window = _Window(array("q", lengths[order].tobytes()))
    cuttable = may_cut[order] if may_cut is not None else np.zeros(count, dtype=np.bool_)
    placed, bounds = array("q"), array("q", [0])
    while (oldest := window.oldest()) is not None:
        room = row_length
        place: int | None = oldest
        while place is not None:
            start, size = window.take(place)
            placed.extend((place, start, size))
            room -= size
            place = window.longest_within(room)
        if room >= _LEAST_PIECE and (place := window.one_longer_than(room + _LEAST_PIECE, cuttable)) is not None:
            placed.extend((place, *window.cut(place, room)))
        bounds.append(len(placed) // 3)
    places, starts, sizes = np.frombuffer(placed, dtype=np.int64).reshape(-1, 3).T
    return RowPlan(order[places], starts, sizes, np.frombuffer(bounds, dtype=np.int64))


class _Window:
    """The segments that wait for a row, sorted by length, those that came first last among equals."""

    def __init__(self, lengths: "array[int]") -> None:
        self._left, self._start = lengths, array("q", bytes(8 * len(lengths)))  # tokens to place, and from where
        self._count = len(lengths)
        self._keys: list[int] = []  # length * count + age
        self._arrived = self._oldest = 0
        self._arrive()

    def oldest(self) -> int | None:
        while self._oldest < self._count and not self._left[self._oldest]:
            self._oldest += 1
        self._arrive()
        return self._oldest if self._oldest < self._count else None

    def take(self, place: int) -> tuple[int, int]:
        """All that is left of a segment: its start and size."""
        size = self._left[place]
        self._forget(place)
        self._left[place] = 0
        self._arrive()
        return self._start[place], size

    def cut(self, place: int, size: int) -> tuple[int, int]:
        """The first tokens of what is left of a segment; the rest goes on waiting."""
        start = self._start[place]
        self._forget(place)
        self._start[place], self._left[place] = start + size, self._left[place] - size
        insort(self._keys, self._key(place))
        return start, size

    def longest_within(self, room: int) -> int | None:
        at = bisect_right(self._keys, room * self._count + self._count - 1) - 1
        return self._place(at) if at >= 0 else None

    def one_longer_than(self, size: int, allowed: NDArray[np.bool_]) -> int | None:
        """The shortest of those at least so long that is allowed."""
        for at in range(bisect_left(self._keys, size * self._count), len(self._keys)):
            if allowed[self._place(at)]:
                return self._place(at)
        return None

    def _arrive(self) -> None:
        while self._arrived < self._count and (len(self._keys) < _BUFFER or self._arrived <= self._oldest):
            insort(self._keys, self._key(self._arrived))
            self._arrived += 1

    def _forget(self, place: int) -> None:
        del self._keys[bisect_left(self._keys, self._key(place))]

    def _key(self, place: int) -> int:
        return self._left[place] * self._count + self._count - 1 - place

    def _place(self, at: int) -> int:
        return self._count - 1 - self._keys[at] % self._count


class _Block(NamedTuple):
    """The rows of some of an epoch's segments."""

    pieces: Chunks
    plan: RowPlan
    rows: Integers  # (rows,) in which order the planned rows come


class Epoch:
    """One pass over the items in a drawn order, planned block by block: rows not asked for cost nothing."""

    def __init__(
        self, cut: Cut, slack: Integers, row_length: int, draw: Callable[..., np.random.Generator], *, may_cut: bool
    ) -> None:
        """draw  (use, block) -> the generator of one of its permutations"""
        self._cut, self._slack, self._row_length, self._draw = cut, slack, row_length, draw
        self._may_cut = may_cut
        count = len(cut)
        self._order = draw(_SEGMENT_ORDER).permutation(count).astype(np.uint32 if count < 2**32 else np.int64)
        self._ends: list[int] = []  # rows up to the end of each block so far
        self._blocks: dict[int, _Block] = {}  # those last used

    def __len__(self) -> int:
        """Its rows; plans all blocks."""
        self.has(len(self._order))
        return self._ends[-1] if self._ends else 0

    def has(self, index: int) -> bool:
        """Whether there is such a row; plans the blocks before it."""
        while (not self._ends or index >= self._ends[-1]) and len(self._ends) * _BLOCK < len(self._order):
            rows = len(self._block(len(self._ends)).plan)
            self._ends.append((self._ends[-1] if self._ends else 0) + rows)
        return bool(self._ends) and index < self._ends[-1]

    def segments(self, index: int) -> list[tuple[int, int, int]]:
        """Item, start and stop of all that stands in a row that it `has`."""
        number = bisect_right(self._ends, index)
        pieces, plan, rows = self._block(number)
        place = rows[index - (self._ends[number - 1] if number else 0)]
        return [_range_of(pieces, plan, n) for n in range(plan.bounds[place], plan.bounds[place + 1])]

    def _block(self, number: int) -> _Block:
        if number not in self._blocks:
            while len(self._blocks) >= _BLOCKS_KEPT:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[number] = self._plan(number)
        return self._blocks[number]

    def _plan(self, number: int) -> _Block:
        segments = self._order[number * _BLOCK : (number + 1) * _BLOCK].astype(np.int64)
        pieces = self._cut.pieces(segments)
        slack = self._slack[pieces.item]
        sizes = pieces.stop - pieces.start + slack
        may_cut = slack == 0 if self._may_cut else None
        plan = plan_rows(sizes, self._row_length, np.arange(len(segments)), may_cut=may_cut)
        return _Block(pieces, plan, self._draw(_ROW_ORDER, number).permutation(len(plan)))


def _range_of(pieces: Chunks, plan: RowPlan, placed: int) -> tuple[int, int, int]:
    """Item, start and stop of what stands at one place of a plan."""
    segment = plan.segments[placed]
    start = int(pieces.start[segment] + plan.starts[placed])
    return int(pieces.item[segment]), start, min(start + int(plan.sizes[placed]), int(pieces.stop[segment]))
