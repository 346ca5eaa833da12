"""The two sizes of the benchmarks, and what a row of the tables says of a ratio."""

import statistics
from collections.abc import Sequence
from typing import Any

SMALL = {"num_layers": 4, "width": 128, "num_heads": 4, "num_kv_heads": 4, "mlp_width": 384, "vocab_size": 2048}
MIDDLE = {"num_layers": 6, "width": 384, "num_heads": 6, "num_kv_heads": 6, "mlp_width": 1024, "vocab_size": 8192}
SHAPES: dict[str, dict[str, Any]] = {"S": SMALL, "M": MIDDLE}


def spread(ratios: Sequence[float]) -> str:
    """Median (least to most)."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
