"""Next-token losses: tensors in, tensors out. No model, no config, no ranks.

P positions, N of them supervised, D width, V vocabulary.
"""

import math
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from trivium.native.linear import WHOLE, add_weight_gradient, filled_up, input_gradient

LOGITS_AT_ONCE = 2**23  # few enough to take little memory, many enough for long products ...
LOGITS_ON_A_GPU = 2**26  # ... and what keeps a GPU busy


def next_token_loss(logits: Tensor, targets: Tensor, supervised: Tensor) -> Tensor:
    """Cross-entropy summed over the supervised positions; divide by their count for nats per token.

    logits      (..., V) any float dtype; computed in float32
    targets     (...) int64
    supervised  (...) bool; True where the target counts
    returns     () float32, nats
    """
    losses = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
    return (losses * supervised.flatten()).sum()


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    supervised: Tensor,
    step: "Step | None" = None,
    offsets: Tensor | None = None,
) -> Tensor:
    """The cross-entropy of softmax(hidden weight^T), summed; what is never kept are the logits.

    hidden      (P, D); its dtype is that of the products
    weight      (V, D) float32
    targets     (P,) int64
    supervised  (N,) int64, the positions that count, each once
    step        `logits_gradient`, or another that does the same: compiled, or in C++
    offsets     (V,) float32, what the logits count for more in the sum over all: where one token stands for several
    returns     () float32, nats
    Some positions at a time, each with its gradients at once: as in Hsu et al. 2024, arXiv:2410.10989
    """
    found: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, supervised, step or logits_gradient, offsets)  # type: ignore[no-untyped-call]
    return found


def linear_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor, step: "Step | None" = None) -> Tensor:
    """Log-probability of each target under softmax(hidden weight^T).

    hidden   (N, D); its dtype is that of the products
    weight   (V, D)
    targets  (N,) int64
    step     as in `linear_cross_entropy`
    returns  (N,) float32, nats
    In place of its logits a position keeps their gradient, which is multiplied once it is known what by.
    """
    rows, wanted = filled_up(hidden), filled_up(targets)
    found: Tensor = _LinearLogprobs.apply(rows, weight, wanted, step or logits_gradient)  # type: ignore[no-untyped-call]
    return found[: len(targets)]


class Step(Protocol):
    def __call__(
        self, hidden: Tensor, weight: Tensor, targets: Tensor, counted: Tensor, offsets: Tensor | None = None, /
    ) -> tuple[Tensor, Tensor]: ...


def logits_gradient(
    hidden: Tensor, weight: Tensor, targets: Tensor, counted: Tensor, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Loss of some positions (N,) float32, and its gradient in their logits (N, V), in the dtype of hidden.

    counted  (N,) float32, what each is multiplied by
    offsets  (V,) float32, as in `linear_cross_entropy`
    """
    logits = (hidden @ weight.T).float()
    logprobs = (logits if offsets is None else logits + offsets).log_softmax(-1)
    losses = -logprobs.gather(-1, targets[:, None])[:, 0]
    losses = losses if offsets is None else losses + offsets[targets]
    is_target = torch.arange(len(weight), device=targets.device) == targets[:, None]
    gradient = logprobs.exp_().sub_(is_target.to(hidden.dtype)).mul_(counted[:, None])  # in place: there are many
    return losses * counted, gradient.to(hidden.dtype)


def in_few_sizes(step: Step) -> Step:
    """The step, which is compiled for each number of positions, on positions filled up to one of three."""

    def filled(
        hidden: Tensor, weight: Tensor, targets: Tensor, counted: Tensor, offsets: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        count, most = len(hidden), positions_at_once(len(weight), on_cpu=hidden.device.type == "cpu")
        more = next(size for size in (most // 4, most // 2, most) if size >= count) - count
        rows = F.pad(hidden, (0, 0, 0, more))
        losses, gradient = step(rows, weight, F.pad(targets, (0, more)), F.pad(counted, (0, more)), offsets)
        return losses[:count], gradient[:count]

    return filled


def positions_at_once(vocab_size: int, *, on_cpu: bool = True) -> int:
    """How many positions have their logits in memory at the same time: a power of two, at least `WHOLE`."""
    most = max(WHOLE, (LOGITS_AT_ONCE if on_cpu else LOGITS_ON_A_GPU) // vocab_size)
    return 1 << most.bit_length() - 1


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        supervised: Tensor,
        step: Step,
        offsets: Tensor | None,
    ) -> Tensor:
        chunk = positions_at_once(len(weight), on_cpu=hidden.device.type == "cpu")
        narrow = weight.to(hidden.dtype)
        total, to_weight = torch.zeros((), device=hidden.device), torch.zeros_like(weight)
        to_hidden = torch.zeros_like(hidden)
        for places in supervised.split(chunk) if len(supervised) else ():
            some, counted = filled_up(places), filled_up(torch.ones(len(places), device=hidden.device))
            rows = hidden.index_select(0, some)
            losses, gradient = step(rows, narrow, targets.index_select(0, some), counted, offsets)
            total += losses.sum()
            to_hidden.index_copy_(0, places, input_gradient(gradient, narrow)[: len(places)])
            if ctx.needs_input_grad[1]:
                add_weight_gradient(to_weight, gradient, rows)
        ctx.save_for_backward(to_hidden, to_weight)
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        to_hidden, to_weight = ctx.saved_tensors
        return to_hidden * scale.to(to_hidden.dtype), to_weight * scale, None, None, None, None


class _LinearLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, step: Step) -> Tensor:
        narrow = weight.to(hidden.dtype)
        losses, gradient = step(hidden, narrow, targets, torch.ones(len(targets), device=hidden.device))
        ctx.save_for_backward(hidden, weight, gradient)
        return -losses

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        hidden, weight, gradient = ctx.saved_tensors
        fall = -slope[:, None]
        to_hidden = (input_gradient(gradient, weight.to(hidden.dtype)) * fall).to(hidden.dtype)
        if not ctx.needs_input_grad[1]:
            return to_hidden, None, None, None
        to_weight = torch.zeros_like(weight)
        add_weight_gradient(to_weight, gradient, (hidden * fall).to(hidden.dtype))
        return to_hidden, to_weight, None, None


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
