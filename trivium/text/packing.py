"""Rows of T positions, packed from segments; the order of all data as a pure function of (seed, step). No files.

A segment is a document, a dialogue, or a piece of a document too long for a row. T row length, B rows, N segments.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from math import floor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trivium.batch import TokenBatch
from trivium.errors import ConfigError, DataError

Integers = NDArray[np.int64]
Fetch = Callable[[int, int, int, int], tuple[NDArray[np.int32], NDArray[np.bool_]]]

_BUFFER = 1000  # segments a row is chosen from: enough for rows without gaps, few enough to keep near the drawn order
_LEAST_PIECE = 24  # tokens: a gap smaller than that is not worth a cut, and no smaller rest is left
_PADDING_DOCUMENT = -1
_PLANS_KEPT = 2
_SEGMENT_ORDER, _ROW_ORDER = 0, 1  # which of an epoch's two permutations


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


class Row(NamedTuple):
    """One row of a TokenBatch."""

    tokens: Integers  # (T,)
    targets: Integers  # (T,)
    supervised: NDArray[np.bool_]  # (T,)
    positions: Integers  # (T,)
    documents: Integers  # (T,)


def chunks(lengths: Integers, limits: Integers | int) -> Chunks:
    """Cut every item into pieces of at most its limit, all but the last of an item of exactly that; in order.

    lengths  (items,) tokens; an item of none gives no piece
    limits   (items,) or one for all; tokens, >= 1
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    limits = np.broadcast_to(np.asarray(limits, dtype=np.int64), lengths.shape)
    pieces = -(-lengths // limits)
    item = np.repeat(np.arange(len(lengths)), pieces)
    nth = np.arange(len(item)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start = nth * limits[item]
    return Chunks(item, start, np.minimum(start + limits[item], lengths[item]))


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
    window = _Window(lengths[order].tolist())
    cuttable = may_cut[order] if may_cut is not None else np.zeros(count, dtype=np.bool_)
    placed: list[tuple[int, int, int]] = []
    bounds = [0]
    while (oldest := window.oldest()) is not None:
        room = row_length
        place: int | None = oldest
        while place is not None:
            start, size = window.take(place)
            placed.append((place, start, size))
            room -= size
            place = window.longest_within(room)
        if room >= _LEAST_PIECE and (place := window.one_longer_than(room + _LEAST_PIECE, cuttable)) is not None:
            placed.append((place, *window.cut(place, room)))
        bounds.append(len(placed))
    places, starts, sizes = np.array(placed, dtype=np.int64).reshape(-1, 3).T
    return RowPlan(order[places], starts, sizes, np.array(bounds, dtype=np.int64))


class _Window:
    """The segments that wait for a row, sorted by length, those that came first last among equals."""

    def __init__(self, lengths: list[int]) -> None:
        self._left, self._start = lengths, [0] * len(lengths)  # tokens to place, and from where
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


class _Epoch(NamedTuple):
    pieces: Chunks
    plan: RowPlan
    rows: Integers  # (rows,) in which order the planned rows come


RowOf = Callable[[int], Row]  # any row of an endless stream


def microbatches(
    row: RowOf, step: int, *, rows_per_step: int, rank: int, ranks: int, microbatch_rows: int
) -> list[TokenBatch]:
    """What one rank does of a step: every ranks-th row, in batches of at most microbatch_rows.

    raises  ConfigError when the ranks cannot have equally many rows: they would wait for each other for ever
    """
    if rows_per_step % ranks:
        raise ConfigError(
            f"rows_per_step = {rows_per_step}: must divide among {ranks} ranks; "
            f"try {rows_per_step // ranks * ranks or ranks}"
        )
    mine = range(step * rows_per_step + rank, (step + 1) * rows_per_step, ranks)
    return [
        _stack([row(index) for index in mine[first : first + microbatch_rows]])
        for first in range(0, len(mine), microbatch_rows)
    ]


def mixed(main: RowOf, other: RowOf, share: float) -> RowOf:
    """Rows of one stream with rows of another spread evenly among them, each in its own order.

    share  of the other's rows, 0 to 1
    """

    def row(index: int) -> Row:
        others = floor(share * index)
        return other(others) if floor(share * (index + 1)) > others else main(index - others)

    return row


class PackedRows:
    """All rows of all epochs, numbered on end. Any of them can be asked for at any time: nothing is carried."""

    def __init__(
        self,
        lengths: Integers,
        fetch: Fetch,
        *,
        row_length: int,
        seed: int,
        pad: int,
        slack: Callable[[int], Integers] | None = None,
        cut: bool = False,
    ) -> None:
        """
        lengths  (items,) tokens
        fetch    (epoch, item, start, stop) -> ids and which of them are targets, both (stop - start,); a pure function.
                 May return fewer, or up to the item's slack more
        pad      id that fills rows up
        slack    epoch -> (items,) tokens, >= 0: room to leave in each piece of the item, when `fetch` may lengthen it
        cut      whether an item without slack may go on in another row, so that rows have no gaps
        raises   DataError when there is not one token; ConfigError when the row is too short
        """
        self._lengths = np.asarray(lengths, dtype=np.int64)
        if not self._lengths.sum():
            raise DataError("documents: there is not one token to learn from; name a source that holds text")
        if row_length < 2:
            raise ConfigError(f"row_length = {row_length}: a token and its target need 2 positions; give more")
        self._fetch = fetch
        self._row_length = row_length
        self._seed = seed
        self._pad = pad
        self._slack = slack
        self._cut = cut
        self._counts: list[int] = []  # rows of each epoch so far
        self._epochs: dict[int, _Epoch] = {}  # the plans last used

    def rows_per_epoch(self, epoch: int) -> int:
        while len(self._counts) <= epoch:
            self._counts.append(len(self._epoch(len(self._counts)).plan))
        return self._counts[epoch]

    def row(self, index: int) -> Row:
        """Row number `index`, counted through all epochs."""
        epoch = 0
        while index >= self.rows_per_epoch(epoch):
            index -= self.rows_per_epoch(epoch)
            epoch += 1
        pieces, plan, rows = self._epoch(epoch)
        place = rows[index]
        return self._fill(
            [self._fetch(epoch, *_range_of(pieces, plan, n)) for n in range(plan.bounds[place], plan.bounds[place + 1])]
        )

    def batch(self, step: int, rows_per_step: int) -> TokenBatch:
        """All rows of a step."""
        return _stack([self.row(index) for index in range(step * rows_per_step, (step + 1) * rows_per_step)])

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._epochs:
            while len(self._epochs) >= _PLANS_KEPT:
                del self._epochs[next(iter(self._epochs))]
            self._epochs[epoch] = self._plan(epoch)
        return self._epochs[epoch]

    def _plan(self, epoch: int) -> _Epoch:
        slack = self._slack(epoch) if self._slack else np.zeros_like(self._lengths)
        longest = int(slack.max())
        if longest >= self._row_length:
            raise ConfigError(
                f"row_length = {self._row_length}: must exceed the {longest} tokens kept free in each piece; give more"
            )
        pieces = chunks(self._lengths, self._row_length - slack)
        sizes = pieces.stop - pieces.start + slack[pieces.item]
        order = self._generator(epoch, _SEGMENT_ORDER).permutation(len(sizes))
        may_cut = slack[pieces.item] == 0 if self._cut else None
        plan = plan_rows(sizes, self._row_length, order, may_cut=may_cut)
        return _Epoch(pieces, plan, self._generator(epoch, _ROW_ORDER).permutation(len(plan)))

    def _generator(self, epoch: int, use: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence((self._seed, epoch, use))))

    def _fill(self, segments: Sequence[tuple[NDArray[np.int32], NDArray[np.bool_]]]) -> Row:
        length = self._row_length
        row = Row(
            np.full(length, self._pad, dtype=np.int64),
            np.full(length, self._pad, dtype=np.int64),
            np.zeros(length, dtype=np.bool_),
            np.arange(length, dtype=np.int64),
            np.full(length, _PADDING_DOCUMENT, dtype=np.int64),
        )
        start = 0
        for number, (ids, supervised) in enumerate(segments):
            stop = start + len(ids)
            assert stop <= length, "fetch returned more tokens than were planned for"
            row.tokens[start:stop] = ids
            row.targets[start : stop - 1] = ids[1:]
            row.supervised[start : stop - 1] = supervised[1:]
            row.documents[start:stop] = number
            row.positions[start:stop] = np.arange(len(ids))
            start = stop
        row.positions[start:] = np.arange(length - start)
        return row


def _range_of(pieces: Chunks, plan: RowPlan, placed: int) -> tuple[int, int, int]:
    """Item, start and stop of what stands at one place of a plan."""
    segment = plan.segments[placed]
    start = int(pieces.start[segment] + plan.starts[placed])
    return int(pieces.item[segment]), start, min(start + int(plan.sizes[placed]), int(pieces.stop[segment]))


def _stack(rows: Sequence[Row]) -> TokenBatch:
    return TokenBatch(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))
