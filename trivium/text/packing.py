"""Rows of T positions, packed from segments; the order of all data as a pure function of (seed, step). No files.

A segment is a document, a dialogue, or a piece of a document too long for a row. T row length, B rows, N segments.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trivium.batch import TokenBatch
from trivium.errors import ConfigError, DataError

Integers = NDArray[np.int64]
Fetch = Callable[[int, int, int, int], tuple[NDArray[np.int32], NDArray[np.bool_]]]

_BUFFER = 1000  # segments a row is chosen from: enough for rows without gaps, few enough to keep near the drawn order
_PADDING_DOCUMENT = -1
_PLANS_KEPT = 2
_SEGMENT_ORDER, _ROW_ORDER = 0, 1  # which of an epoch's two permutations


class Chunks(NamedTuple):
    """Pieces of items: item[i] from position start[i] up to stop[i]. N pieces."""

    item: Integers  # (N,)
    start: Integers  # (N,)
    stop: Integers  # (N,)


class RowPlan(NamedTuple):
    """Row r holds the segments segments[bounds[r]:bounds[r + 1]], in that order."""

    segments: Integers  # (N,)
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


def plan_rows(lengths: Integers, row_length: int, order: Integers) -> RowPlan:
    """Best fit within a sliding window of the order: the oldest waiting segment, then always the longest that fits.

    lengths  (N,) tokens, each from 1 to row_length
    order    (N,) a permutation of the segments
    O(N log N)
    """
    count = len(order)
    # A key sorts by length, then the older last: the key at the right end of the allowed ones is the one to take.
    keys = (lengths[order] * count + np.arange(count - 1, -1, -1)).tolist()
    window: list[int] = []
    taken = bytearray(count)
    segments: list[int] = []
    bounds = [0]
    arrived = oldest = 0
    while len(segments) < count:
        while taken[oldest]:
            oldest += 1
        while arrived < count and (len(window) < _BUFFER or arrived <= oldest):
            insort(window, keys[arrived])
            arrived += 1
        at, room = bisect_left(window, keys[oldest]), row_length
        while at >= 0:
            length, place = divmod(window.pop(at), count)
            place = count - 1 - place
            taken[place] = True
            segments.append(place)
            room -= length
            at = bisect_right(window, room * count + count - 1) - 1
        bounds.append(len(segments))
    return RowPlan(order[np.array(segments, dtype=np.int64)], np.array(bounds, dtype=np.int64))


class _Epoch(NamedTuple):
    pieces: Chunks
    plan: RowPlan
    rows: Integers  # (rows,) in which order the planned rows come


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
    ) -> None:
        """
        lengths  (items,) tokens
        fetch    (epoch, item, start, stop) -> ids and which of them are targets, both (stop - start,); a pure function.
                 May return fewer, or up to the item's slack more
        pad      id that fills rows up
        slack    epoch -> (items,) tokens, >= 0: room to leave in each piece of the item, when `fetch` may lengthen it
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
        segments = plan.segments[plan.bounds[place] : plan.bounds[place + 1]]
        return self._fill(
            [self._fetch(epoch, int(pieces.item[s]), int(pieces.start[s]), int(pieces.stop[s])) for s in segments]
        )

    def batch(self, step: int, rows_per_step: int) -> TokenBatch:
        """All rows of a step."""
        return _stack([self.row(index) for index in range(step * rows_per_step, (step + 1) * rows_per_step)])

    def microbatches(
        self, step: int, *, rows_per_step: int, rank: int, ranks: int, microbatch_rows: int
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
            _stack([self.row(index) for index in mine[first : first + microbatch_rows]])
            for first in range(0, len(mine), microbatch_rows)
        ]

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
        plan = plan_rows(sizes, self._row_length, self._generator(epoch, _SEGMENT_ORDER).permutation(len(sizes)))
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


def _stack(rows: Sequence[Row]) -> TokenBatch:
    return TokenBatch(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))
