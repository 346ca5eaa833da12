"""Next-token losses: tensors in, tensors out. No model, no config, no ranks.

N positions, D width, V vocabulary.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LOGITS_AT_ONCE = 2**21


def next_token_loss(logits: Tensor, targets: Tensor, supervised: Tensor) -> Tensor:
    """Cross-entropy summed over the supervised positions; divide by their count for nats per token.

    logits      (..., V) any float dtype; computed in float32
    targets     (...) int64
    supervised  (...) bool; True where the target counts
    returns     () float32, nats
    """
    losses = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
    return (losses * supervised.flatten()).sum()


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, step: "Step | None" = None) -> Tensor:
    """The cross-entropy of softmax(hidden weight^T), summed; what is never kept are the logits.

    hidden   (N, D); its dtype is that of the products
    weight   (V, D) float32
    targets  (N,) int64
    step     `logits_gradient`, or what it was compiled to
    returns  () float32, nats
    Some positions at a time, each with its gradients at once: as in Hsu et al. 2024, arXiv:2410.10989
    """
    found: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, step or logits_gradient)  # type: ignore[no-untyped-call]
    return found


Step = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def logits_gradient(hidden: Tensor, weight: Tensor, targets: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Summed loss () float32 of some positions, and its gradient in their logits (N, V), in the dtype of hidden.

    counted  (N,) float32, 0 or 1
    """
    logits = (hidden @ weight.T).float()
    highest = logits.amax(-1, keepdim=True)
    exponentials = (logits - highest).exp()
    total = exponentials.sum(-1, keepdim=True)
    losses = (total.log() + highest - logits.gather(-1, targets[:, None]))[:, 0]
    is_target = torch.arange(len(weight), device=targets.device) == targets[:, None]
    gradient = exponentials * (counted[:, None] / total) - is_target * counted[:, None]
    return (losses * counted).sum(), gradient.to(hidden.dtype)


def positions_at_once(vocab_size: int) -> int:
    """How many positions have their logits in memory at the same time."""
    return max(64, LOGITS_AT_ONCE // vocab_size)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, step: Step) -> Tensor:
        chunk = positions_at_once(len(weight))
        short = -len(targets) % chunk  # every chunk is filled up to one size, for which the step is compiled
        rows, wanted = F.pad(hidden, (0, 0, 0, short)), F.pad(targets, (0, short))
        counted = F.pad(torch.ones(len(targets), device=hidden.device), (0, short))
        narrow = weight.to(hidden.dtype)
        total, to_weight = torch.zeros((), device=hidden.device), torch.zeros_like(weight)
        is_learned = ctx.needs_input_grad[1]
        to_rows = torch.empty_like(rows)
        for some, here, count, out in zip(*(x.split(chunk) for x in (rows, wanted, counted, to_rows)), strict=True):
            loss, gradient = step(some, narrow, here, count)
            total += loss
            torch.mm(gradient, narrow, out=out)
            if is_learned:
                to_weight += gradient.T @ some
        ctx.save_for_backward(to_rows[: len(targets)], to_weight)
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_rows, to_weight = ctx.saved_tensors
        return to_rows * scale.to(to_rows.dtype), to_weight * scale, None, None


def token_logprobs(logits: Tensor, targets: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Log-probability of each target under softmax(logits / temperature).

    logits   (..., V)
    targets  (...) int64
    returns  (...) float32, nats, at most 0
    """
    scaled = logits.float() if temperature == 1 else logits.float() / temperature  # spares a pass over all of them
    return -F.cross_entropy(scaled.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits).

    logits   (..., V)
    returns  (...) float32, nats, 0 to log V
    """
    logprobs = logits.float().log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def bits_per_byte(nats: float, byte_count: int) -> float:
    """Summed loss over a text, per byte of its UTF-8: comparable across tokenizers.

    nats        summed loss over every token of the text
    byte_count  > 0
    """
    return nats / (byte_count * math.log(2))
