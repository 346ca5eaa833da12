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

    def copy(self, source: int, row: int, length: int) -> None:
        """The first positions of one row, so many, into another."""
        for cells in (self.keys, self.values):
            cells[:, row, :, :length] = cells[:, source, :, :length]

    def rows(self, rows: Tensor, filled: int) -> "Rows":
        """Some of the rows, as memory for what only they read.

        rows    (B',) int64 indices
        filled  positions that they will have written
        """
        return Rows(self, rows, filled)

    def keep(self, rows: Tensor) -> None:
        """Only these rows, in this order; a row may be named twice.

        rows  (B',) int64 indices, or (B,) bool
        """
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]


class Rows:
    """Some rows of a cache."""

    def __init__(self, cache: Cache, rows: Tensor, filled: int) -> None:
        self._cache, self._rows, self.filled = cache, rows, filled

    def extend(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """As `Cache.extend`."""
        heads = torch.arange(k.shape[1], device=k.device)[None, :, None]
        where = self._rows[:, None, None], heads, positions[:, None]
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[where], values[where] = k.to(keys.dtype), v.to(values.dtype)
        return keys[self._rows, :, : self.filled], values[self._rows, :, : self.filled]
