"""Keys and values of what was already read, in memory taken once.

B rows, K key heads, S positions, d head dimension.
"""

import torch
from torch import Tensor

from trivium.model.shape import ModelConfig


class Cache:
    """Room for so many positions of each row; every row writes at its own positions."""

    def __init__(
        self, config: ModelConfig, rows: int, positions: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (config.num_layers, rows, config.num_kv_heads, positions, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.filled = 0  # positions that any row has written, set by whoever writes next

    def extend(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Write new keys and values, and return everything up to the farthest position written.

        k, v       (B, K, T, d)
        positions  (B, T) int64; where they stand
        returns    (B, K, filled, d) each; the caller's mask says what is real
        """
        index = positions[:, None, :, None].expand_as(k)
        self.keys[layer].scatter_(2, index, k.to(self.keys.dtype))
        self.values[layer].scatter_(2, index, v.to(self.values.dtype))
        return self.keys[layer, :, :, : self.filled], self.values[layer, :, :, : self.filled]

    def keep(self, rows: Tensor) -> None:
        """Only these rows, in this order; a row may be named twice.

        rows  (B',) int64 indices, or (B,) bool
        """
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
