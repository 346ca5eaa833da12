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


class Answered(NamedTuple):
    """Answers packed beside their prompts, each prompt read once: see text/branches.py. A answers of N tokens."""

    tokens: Tensor  # (B, T) int64
    positions: Tensor  # (B, T) int64; every answer goes on where its prompt ends
    trees: Tensor  # (B, T) int64; equal where two positions share their prompt; padding has numbers of its own
    branches: Tensor  # (B, T) int64; 0 in a prompt, else the number of the answer within its tree
    targets: Tensor  # (N,) int64; the answers' tokens, one answer after the other
    sources: Tensor  # (N,) int64; place in the flattened rows from which each of them is predicted
    owners: Tensor  # (N,) int64; which answer each of them belongs to, 0 to A - 1
    ends: Tensor  # (A,) int64; place of each answer's last token in the flattened rows

    def to(self, device: torch.device) -> "Answered":
        return Answered(*(field.to(device) for field in self))


class PairBatch(NamedTuple):
    """Two answers to each prompt, up to their end tokens. P pairs."""

    answers: Answered  # 2P of them: both of the first pair, both of the second, ...
    preference: Tensor  # (P,) float32; probability that the first of the pair is better: 1 preferred, .5 tie

    @property
    def tokens(self) -> Tensor:
        return self.answers.tokens

    @property
    def count(self) -> Tensor:  # type: ignore[override]
        return torch.tensor(float(len(self.preference)))


class LabelBatch(NamedTuple):
    """Single answers, up to their end tokens, called good or bad. A answers."""

    answers: Answered
    labels: Tensor  # (A,) float32; 1 good, 0 bad

    @property
    def tokens(self) -> Tensor:
        return self.answers.tokens

    @property
    def count(self) -> Tensor:  # type: ignore[override]
        return torch.tensor(float(len(self.labels)))


class PreferenceBatch(NamedTuple):
    """Two answers to each prompt, for the policy itself to learn from. P pairs."""

    answers: Answered  # 2P of them, of N tokens in all: both of the first pair, both of the second, ...
    preference: Tensor  # (P,) float32; probability that the first of the pair is better
    reference_logprobs: Tensor  # (N,) nats, under the reference
    lesson: TokenBatch | None = None  # what phase II taught, to be learned beside it

    @property
    def tokens(self) -> Tensor:
        return self.answers.tokens

    @property
    def count(self) -> Tensor:  # type: ignore[override]
        return torch.tensor(float(len(self.preference)))


class RolloutBatch(NamedTuple):
    """Answers that the live policy wrote, with what they earned. A answers of N tokens in all."""

    answers: Answered
    advantages: Tensor  # (N,) float32
    weights: Tensor  # (N,) float32; what each token weighs in the loss, 0 where it is not learned from
    items: Tensor  # () float32; how many items these weights are of: tokens, or answers
    old_logprobs: Tensor | None  # (N,) nats, under the policy that wrote them; None: as it is now
    reference_logprobs: Tensor | None  # (N,) nats, under the reference; None where nobody asks
    sampled_logprobs: Tensor | None = None  # (N,) nats, by the sampler that wrote them; None: as the policy has them
    values: Tensor | None = None  # (N,) what the value model expected before each token
    returns: Tensor | None = None  # (N,) what it should have expected
    lesson: TokenBatch | None = None  # what phase II taught, to be learned beside it

    @property
    def tokens(self) -> Tensor:
        return self.answers.tokens

    @property
    def count(self) -> Tensor:  # type: ignore[override]
        return self.items.clamp_min(1e-6)  # of a step from which nothing is learned the loss is 0, and not 0 / 0
