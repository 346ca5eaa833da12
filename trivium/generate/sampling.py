"""Choosing the next token. Every answer has a random stream of its own, so that it does not depend on its neighbours.

B rows, V vocabulary, N tokens.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Sampling(NamedTuple):
    """How the next token is chosen; temperature 0 takes the most probable."""

    temperature: float = 1.0
    top_k: int | None = None  # only the k most probable
    top_p: float = 1.0  # only the most probable that together reach p; Holtzman et al. 2020, arXiv:1904.09751
    max_new_tokens: int = 96
    min_p: float = 0.0  # only those at least this share as probable as the most probable; Nguyen 2024, arXiv:2407.01082

    @property
    def restricted(self) -> bool:
        """Whether some tokens are left out."""
        return self.top_k is not None or self.top_p < 1 or self.min_p > 0


class Penalties(NamedTuple):
    """What makes tokens less probable that were there before."""

    repetition: float = 1.0  # of prompt and answer: divides positive logits, multiplies others; arXiv:1909.05858, 4.1
    presence: float = 0.0  # taken once from the logit of each token of the answer
    frequency: float = 0.0  # taken as often as it stands in the answer


NO_PENALTIES = Penalties()


def penalise(logits: Tensor, penalties: Penalties, prompt: Tensor, written: Tensor) -> Tensor:
    """Logits (V,) of one row after its penalties.

    prompt, written  (N,) int64 each; the tokens before
    """
    counts = torch.bincount(written, minlength=len(logits)).to(logits)
    seen = counts > 0
    seen[prompt] = True
    harder = torch.where(logits > 0, logits / penalties.repetition, logits * penalties.repetition)
    return torch.where(seen, harder, logits) - penalties.presence * (counts > 0) - penalties.frequency * counts


def choose(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """One token per row.

    logits   (B, V)
    uniform  (B,) random numbers in [0, 1)
    returns  (B,) int64
    By inverting the cumulative distribution: much cheaper than torch.multinomial, and a pure function of `uniform`.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = (restrict(logits.float(), sampling) / sampling.temperature).softmax(-1)
    cumulative = probabilities.cumsum(-1)
    drawn = uniform[:, None] * cumulative[:, -1:]  # the sum is 1 only up to rounding
    return torch.searchsorted(cumulative, drawn, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)


def restrict(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits with the tokens that top_k, top_p and min_p leave out at minus infinity.

    logits   (B, V) float32
    returns  (B, V) float32
    """
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if sampling.top_p < 1:
        ordered, order = logits.sort(descending=True)
        heat = sampling.temperature or 1.0
        before = (ordered / heat).softmax(-1).cumsum(-1).roll(1, -1)
        before[:, 0] = 0  # the most probable always stays
        out = torch.zeros_like(before, dtype=torch.bool).scatter(1, order, before >= sampling.top_p)
        logits = logits.masked_fill(out, float("-inf"))
    if sampling.min_p > 0:
        least = logits.amax(-1, keepdim=True) + (sampling.temperature or 1.0) * math.log(sampling.min_p)
        logits = logits.masked_fill(logits < least, float("-inf"))
    return logits


def random_stream(seed: int, length: int) -> Tensor:
    """The random numbers of one answer.

    returns  (N,) float32 in [0, 1)
    """
    return torch.rand(length, generator=torch.Generator().manual_seed(seed))


def stream_seed(*parts: int) -> int:
    """A seed from (seed, phase, step, item): derived, never carried. A multiplicative hash; 63 bits."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = ((state ^ (part & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
