"""Rotary position embeddings: each pair of a head's dimensions turns with the position.

Su et al. 2021, arXiv:2104.09864.

B batch, T time, H heads, d head dimension.
"""

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor


def rope_angles(positions: Tensor, head_dim: int, theta: float, scaling: Sequence[float] = ()) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle.

    positions  (B, T) int64
    scaling    see `ModelConfig.rope_scaling`
    returns    (B, 1, T, d) float32 each; the second half repeats the first, as Hugging Face lays it out
    """
    frequencies = theta ** -(torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim)
    frequencies = stretched(frequencies, scaling)
    angles = positions[:, None, :, None].float() * torch.cat((frequencies, frequencies))
    return angles.cos(), angles.sin()


def packed_angles(positions: Tensor, head_dim: int, theta: float, scaling: Sequence[float] = ()) -> Tensor:
    """(2, B, T, d / 2) float32: the same cosines and sines, each once."""
    return torch.stack([x[:, 0, :, : head_dim // 2] for x in rope_angles(positions, head_dim, theta, scaling)])


def stretched(frequencies: Tensor, scaling: Sequence[float]) -> Tensor:
    """Frequencies for a context longer than the one first learned.

    frequencies  (d / 2,) radians per position
    scaling      nothing; (factor,): all turn slower by it, Chen et al. 2023, arXiv:2306.15595; (factor, low, high,
                 original context): only those do that turn less than `low` times in the original context, those that
                 turn more than `high` times stay, and the others lie in between, as in Llama 3.1
    """
    if not scaling:
        return frequencies
    if len(scaling) == 1:
        return frequencies / scaling[0]
    factor, low, high, original = scaling
    turns = original * frequencies / (2 * pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / factor)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + d/2) of every head.

    x        (B, H, T, d)
    returns  (B, H, T, d) in the dtype of x
    """
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)
