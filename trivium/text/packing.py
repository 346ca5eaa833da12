"""Rows of T positions, packed from segments; the order of all data as a pure function of (seed, step). No files.

A segment is a document, a dialogue, or a piece of a document too long for a row. T row length, B rows, N segments.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from math import floor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trivium.batch import TokenBatch
from trivium.errors import ConfigError, DataError
from trivium.text.planning import Cut, Epoch, Integers

Fetch = Callable[[int, int, int, int], tuple[NDArray[np.int32], NDArray[np.bool_]]]

_PADDING_DOCUMENT = -1
_EPOCHS_KEPT = 2
_PHASE = 2  # use of a generator beside those of planning.py: where in its weight's turn an item is


class Row(NamedTuple):
    """One row of a TokenBatch."""

    tokens: Integers  # (T,)
    targets: Integers  # (T,)
    supervised: NDArray[np.bool_]  # (T,)
    positions: Integers  # (T,)
    documents: Integers  # (T,)


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
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """
        lengths  (items,) tokens
        fetch    (epoch, item, start, stop) -> ids and which of them are targets, both (stop - start,); a pure function.
                 May return fewer, or up to the item's slack more
        pad      id that fills rows up
        slack    epoch -> (items,) tokens, >= 0: room to leave in each piece of the item, when `fetch` may lengthen it
        cut      whether an item without slack may go on in another row, so that rows have no gaps
        weights  (items,) > 0: how often each item comes in an epoch, on average exactly; None: once
        raises   DataError when there is not one token; ConfigError when the row is too short
        """
        self._lengths = np.asarray(lengths, dtype=np.int64)
        if not self._lengths.sum():
            raise DataError("documents: there is not one token to learn from; name a source that holds text")
        if row_length < 2:
            raise ConfigError(f"row_length = {row_length}: a token and its target need 2 positions; give more")
        self._fetch = fetch
        self.row_length = row_length
        self._seed = seed
        self._pad = pad
        self._slack = slack
        self._cut = cut
        self._weights = weights
        self._ends: list[int] = []  # of the epochs that are over, the number of the first row that is not theirs
        self._epochs: dict[int, Epoch] = {}  # those last used

    def rows_per_epoch(self, epoch: int) -> int:
        while len(self._ends) <= epoch:
            self._ends.append(self._first_of(len(self._ends)) + len(self._epoch(len(self._ends))))
        return self._ends[epoch] - self._first_of(epoch)

    def _first_of(self, epoch: int) -> int:
        """The number of its first row, where the epochs before it are over."""
        return self._ends[epoch - 1] if epoch else 0

    def row(self, index: int) -> Row:
        """Row number `index`, counted through all epochs."""
        epoch = bisect_right(self._ends, index)
        while not self._epoch(epoch).has(index - self._first_of(epoch)):
            self.rows_per_epoch(epoch)
            epoch += 1
        place = index - self._first_of(epoch)
        return self._fill([self._fetch(epoch, *segment) for segment in self._epoch(epoch).segments(place)])

    def batch(self, step: int, rows_per_step: int) -> TokenBatch:
        """All rows of a step."""
        return _stack([self.row(index) for index in range(step * rows_per_step, (step + 1) * rows_per_step)])

    def _epoch(self, epoch: int) -> Epoch:
        if epoch not in self._epochs:
            while len(self._epochs) >= _EPOCHS_KEPT:
                del self._epochs[next(iter(self._epochs))]
            self._epochs[epoch] = self._begin(epoch)
        return self._epochs[epoch]

    def _begin(self, epoch: int) -> Epoch:
        slack = self._slack(epoch) if self._slack else np.zeros_like(self._lengths)
        longest = int(slack.max())
        if longest >= self.row_length:
            raise ConfigError(
                f"model.context_length = {self.row_length}: must exceed the {longest} tokens beside the text; give more"
            )
        cut = Cut(self._lengths, self.row_length - slack, self._times(epoch))
        return Epoch(cut, slack, self.row_length, partial(self._generator, epoch), may_cut=self._cut)

    def _times(self, epoch: int) -> Integers | int:
        """(items,) how often each comes in an epoch: of a weight of 2.5 twice and three times by turns."""
        if self._weights is None:
            return 1
        phase = self._generator(0, _PHASE).random(len(self._lengths))
        return np.floor(self._weights * (epoch + 1) + phase).astype(np.int64) - np.floor(
            self._weights * epoch + phase
        ).astype(np.int64)

    def _generator(self, epoch: int, use: int, block: int = 0) -> np.random.Generator:
        parts = (self._seed, epoch, use, block) if block else (self._seed, epoch, use)
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(parts)))

    def _fill(self, segments: Sequence[tuple[NDArray[np.int32], NDArray[np.bool_]]]) -> Row:
        length = self.row_length
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
