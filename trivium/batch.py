"""What one micro-batch holds, and the count that weighs it. No model, no loss, no files.

B rows, T positions.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Batch(Protocol):
    @property
    def tokens(self) -> Tensor:
        """(rows, T) int64: what the model reads."""
        ...

    @property
    def count(self) -> Tensor:
        """() float32: how many counted items this micro-batch holds."""
        ...


class TokenBatch(NamedTuple):
    """Packed rows: several documents in a row, none of which sees another."""

    tokens: Tensor  # (B, T) int64
    targets: Tensor  # (B, T) int64; the next token of the same document
    supervised: Tensor  # (B, T) bool; True where the target counts
    positions: Tensor  # (B, T) int64; starts anew at each document
    documents: Tensor  # (B, T) int64; equal where two positions may see each other; padding has numbers of its own

    @property
    def count(self) -> Tensor:  # type: ignore[override]
        return self.supervised.sum().to(torch.float32)


class PairBatch(NamedTuple):
    """Two answers to each prompt, rendered whole and padded on the right. P pairs."""

    tokens: Tensor  # (2P, T) int64; rows 0..P-1 hold the preferred answers, P..2P-1 the others
    lengths: Tensor  # (2P,) int64; the last real token, the end of the answer, stands at lengths - 1
    preference: Tensor  # (P,) float32; probability that the first of the pair is better: 1 preferred, .5 tie

    @property
    def count(self) -> Tensor:  # type: ignore[override]
        return torch.tensor(float(len(self.preference)))


class RolloutBatch(NamedTuple):
    """Answers that the live policy wrote, padded on the right, with what they earned."""

    tokens: Tensor  # (B, T) int64; prompt then response
    supervised: Tensor  # (B, T-1) bool; True where the target tokens[:, 1:] is part of the response
    advantages: Tensor  # (B,) float32
    old_logprobs: Tensor  # (B, T-1) nats, under the policy that wrote them
    reference_logprobs: Tensor  # (B, T-1) nats, under the reference

    @property
    def count(self) -> Tensor:  # type: ignore[override]
        return self.supervised.sum().to(torch.float32)
