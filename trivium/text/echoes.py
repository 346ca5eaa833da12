"""Rows of words said twice. A model that reads them learns to look things up in its context, within a hundred steps.

In running text that skill comes late: few words depend on it, and small models first spend millions of tokens on what
stands next to what. Random words repeated leave nothing else to learn; text then uses what stands ready. After "pre-
pretraining" on formal languages, Hu et al. 2025, arXiv:2502.19249; the circuit: Olsson et al. 2022, arXiv:2209.11895.

B rows, T positions, V vocabulary.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from trivium.batch import TokenBatch

SHORTEST, LONGEST = 8, 48  # tokens that are said twice


def echo_batch(frequencies: NDArray[np.float64], rows: int, row_length: int, *, seed: int, step: int) -> TokenBatch:
    """Rows of echoes, a pure function of (seed, step): only what is said the second time is supervised.

    frequencies  (V,) how often each token stands in the text, summing to 1; 0 for what must not appear
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, 7, step))))
    spread = np.sqrt(frequencies) / np.sqrt(frequencies).sum()  # rare words, too, are worth looking up
    cumulative = spread.cumsum()
    tokens = np.zeros((rows, row_length), dtype=np.int64)
    supervised = np.zeros((rows, row_length), dtype=np.bool_)
    positions, documents = np.zeros_like(tokens), np.zeros_like(tokens)
    for row in range(rows):
        start = number = 0
        while start < row_length:
            size = int(generator.integers(SHORTEST, LONGEST + 1))
            said = np.searchsorted(cumulative, generator.random(size) * cumulative[-1])
            echo = np.tile(said, 2)[: row_length - start]
            here = slice(start, start + len(echo))
            tokens[row, here], documents[row, here] = echo, number
            positions[row, here] = np.arange(len(echo))
            supervised[row, start + size : start + len(echo) - 1] = (
                True  # from the echo's first word to its last but one
            )
            start, number = start + len(echo), number + 1
    targets = np.roll(tokens, -1, axis=1)
    return TokenBatch(*map(torch.from_numpy, (tokens, targets, supervised, positions, documents)))


def token_frequencies(ids: NDArray[np.int32], vocab_size: int, *, without: list[int]) -> NDArray[np.float64]:
    """(V,) shares of the tokens in some text, those of `without` left out."""
    counts = np.bincount(ids, minlength=vocab_size).astype(np.float64)
    counts[without] = 0
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
