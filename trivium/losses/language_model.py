"""Next-token losses: tensors in, tensors out. No model, no config, no ranks.

N positions, V vocabulary.
"""

import math

from torch import Tensor
from torch.nn import functional as F


def next_token_loss(logits: Tensor, targets: Tensor, supervised: Tensor) -> Tensor:
    """Cross-entropy summed over the supervised positions; divide by their count for nats per token.

    logits      (..., V) any float dtype; computed in float32
    targets     (...) int64
    supervised  (...) bool; True where the target counts
    returns     () float32, nats
    """
    losses = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
    return (losses * supervised.flatten()).sum()


def token_logprobs(logits: Tensor, targets: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Log-probability of each target under softmax(logits / temperature).

    logits   (..., V)
    targets  (...) int64
    returns  (...) float32, nats, at most 0
    """
    scaled = logits.float() / temperature
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
