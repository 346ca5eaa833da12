"""Rows of random words said twice: there a model learns in some hundred steps to look things up in its context.

In running text that skill comes late, for few words depend on it. It takes two things at once, and neither helps
without the other: to know of each word which one stood before it, and to find where the word at hand stood before
(Olsson et al. 2022, arXiv:2209.11895). So the rows teach first to say the word before, then also what followed last
time; a tag in front says which is asked, or the first lesson would stand in the way of the second. Text then uses what
stands ready. After "pre-pretraining" on formal languages, Hu et al. 2025, arXiv:2502.19249; measured in docs/log.md.

B rows, T positions, V vocabulary.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trivium.batch import TokenBatch

FIRST_LESSON = 0.25  # of the steps: only the word before is asked
BEFORE_SHARE = 0.2  # of the segments after that
FEW_WORDS, MANY_WORDS = (4, 12), (8, 48)  # that are said twice: among few, the right one is found sooner
FEW_UNTIL = 0.6  # of the steps


class Tags(NamedTuple):
    """Control tokens that stand in front of a segment."""

    before: int  # the target is the word before
    after: int  # the target is the word after, where it is said the second time


def echo_batch(
    frequencies: NDArray[np.float64], tags: Tags, rows: int, row_length: int, *, seed: int, step: int, steps: int
) -> TokenBatch:
    """Rows of echoes, a pure function of (seed, step).

    frequencies  (V,) how often each word is drawn, summing to 1
    steps        of echoes in all
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, 7, step))))
    cumulative = frequencies.cumsum()
    share = 1.0 if step < FIRST_LESSON * steps else BEFORE_SHARE
    shortest, longest = FEW_WORDS if step < FEW_UNTIL * steps else MANY_WORDS
    shape = (rows, row_length)
    tokens, targets, positions, documents = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    supervised = np.zeros(shape, dtype=np.bool_)
    for row in range(rows):
        start = number = 0
        while start < row_length:
            before = bool(generator.random() < share)
            size = int(generator.integers(shortest, longest + 1))
            said = np.searchsorted(cumulative, generator.random(size) * cumulative[-1])
            segment = np.concatenate([[tags.before if before else tags.after], said, said])[: row_length - start]
            stop = start + len(segment)
            tokens[row, start:stop], documents[row, start:stop] = segment, number
            positions[row, start:stop] = np.arange(len(segment))
            targets[row, start:stop] = np.roll(segment, 1 if before else -1)
            supervised[row, start + (2 if before else size + 1) : stop - 1] = True
            start, number = stop, number + 1
    return TokenBatch(*map(torch.from_numpy, (tokens, targets, supervised, positions, documents)))


def word_frequencies(ids: NDArray[np.int32], vocab_size: int, *, without: list[int]) -> NDArray[np.float64]:
    """(V,) shares of the tokens in some text, those of `without` left out."""
    counts = np.bincount(ids, minlength=vocab_size).astype(np.float64)
    counts[without] = 0
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
