"""Rotary position embeddings: each pair of a head's dimensions turns with the position.

Su et al. 2021, arXiv:2104.09864.

B batch, T time, H heads, d head dimension.
"""

import torch
from torch import Tensor


def rope_angles(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle.

    positions  (B, T) int64
    returns    (B, 1, T, d) float32 each; the second half repeats the first, as Hugging Face lays it out
    """
    frequencies = theta ** -(torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim)
    angles = positions[:, None, :, None].float() * torch.cat((frequencies, frequencies))
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + d/2) of every head.

    x        (B, H, T, d)
    returns  (B, H, T, d) in the dtype of x
    """
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)
