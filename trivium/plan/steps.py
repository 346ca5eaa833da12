"""How large a step is and how fast the weights follow it, from the model's width and from all that it will read."""

from math import log2
from typing import NamedTuple

from trivium.config import PretrainConfig
from trivium.model.shape import ModelConfig

USUAL = PretrainConfig()
MEASURED_WIDTH, MEASURED_TOKENS, MEASURED_STEP = 128, 2e6, 4096  # where the usual learning rates were measured
STEP_POWER = 0.4  # a step grows with the tokens: Bergsma et al. 2025, arXiv:2505.13738
FEWEST_ROWS, MOST_STEP = 8, 2**19  # rows in a step, and tokens


class Follow(NamedTuple):
    """Settings of phase I."""

    rows_per_step: int
    learning_rate: float
    matrix_learning_rate: float


def follow(model: ModelConfig, tokens: float) -> Follow:
    """
    tokens  that will be read

    The larger the step, the less noise in its gradient: rates grow with its root (Malladi et al. 2022,
    arXiv:2205.10287). Embeddings are wider in wide models, where AdamW must follow more slowly: with the root of the
    width. Muon moves every direction of a matrix by the same amount, in wide models as in narrow ones.
    """
    ideal = MEASURED_STEP * (tokens / MEASURED_TOKENS) ** STEP_POWER
    rows = max(FEWEST_ROWS, 2 ** round(log2(min(ideal, MOST_STEP) / model.context_length)))
    faster = (rows * model.context_length / MEASURED_STEP) ** 0.5
    wider = max(1.0, model.width / MEASURED_WIDTH)
    return Follow(
        rows_per_step=int(rows),
        learning_rate=_plain(USUAL.learning_rate * faster / wider**0.5),
        matrix_learning_rate=_plain(USUAL.matrix_learning_rate * faster),
    )


def _plain(rate: float) -> float:
    """To be read in recipe.toml."""
    return float(f"{rate:.2g}")
