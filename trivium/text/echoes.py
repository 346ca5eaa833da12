"""Rows of passages said twice: there a model learns in some hundred steps to look things up in its context.

In running text that skill comes late, for few words depend on it. It takes two things, and neither helps without the
other: to know of each word which one stood before it, and to find where the word at hand stood before (Olsson et al.
2022, arXiv:2209.11895). So only what a passage says the second time is asked, and at first the passages are short, or
the right word is not found among the many. They are cut from the text itself: random words teach the same, but unlearn
what fresh weights know of pairs. "Pre-pretraining" on formal languages: Hu et al. 2025, arXiv:2502.19249; measured in
docs/log.md.

B rows, T positions.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from trivium.batch import TokenBatch

SHORT, LONG = (4, 12), (8, 48)  # tokens of a passage
SHORT_UNTIL = 0.4  # of the steps


def echo_batch(
    text: NDArray[np.int32], tag: int, rows: int, row_length: int, *, seed: int, step: int, steps: int
) -> TokenBatch:
    """Rows of echoes, a pure function of (seed, step).

    text   ids, from which passages are cut anywhere
    tag    the token in front of them
    steps  of echoes in all
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, 7, step))))
    shortest, longest = (min(size, len(text)) for size in (SHORT if step < SHORT_UNTIL * steps else LONG))
    shape = (rows, row_length)
    tokens, targets, positions, documents = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    supervised = np.zeros(shape, dtype=np.bool_)
    for row in range(rows):
        start = number = 0
        while start < row_length:
            size = int(generator.integers(shortest, longest + 1))
            first = int(generator.integers(len(text) - size + 1))
            said = text[first : first + size]
            segment = np.concatenate([[tag], said, said])[: row_length - start]
            stop = start + len(segment)
            tokens[row, start:stop], documents[row, start:stop] = segment, number
            positions[row, start:stop] = np.arange(len(segment))
            targets[row, start:stop] = np.roll(segment, -1)
            supervised[row, start + size + 1 : stop - 1] = True
            start, number = stop, number + 1
    return TokenBatch(*map(torch.from_numpy, (tokens, targets, supervised, positions, documents)))
