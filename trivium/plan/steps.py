"""How large a step is, from all that will be read; how fast embeddings follow it, from the model's width."""

from math import log2
from typing import NamedTuple

from trivium.config import PretrainConfig
from trivium.model.shape import ModelConfig

USUAL = PretrainConfig()
MEASURED_WIDTH, MEASURED_TOKENS, MEASURED_STEP = 128, 8e6, 4096  # where the usual settings were measured
STEP_POWER = 0.4
FEWEST_ROWS, MOST_STEP = 16, 2**19  # rows in a step, and tokens


class Follow(NamedTuple):
    """Settings of phase I."""

    rows_per_step: int
    learning_rate: float


def follow(model: ModelConfig, tokens: float) -> Follow:
    """
    tokens  that will be read

    A step grows with the tokens to the power .4 (Bergsma et al. 2025, arXiv:2505.13738). Larger steps would bear larger
    rates, more tokens want smaller ones (Bjorck et al. 2024, arXiv:2409.19913): along this rule both cancel, nearly.
    Embeddings are AdamW's, which has to follow more slowly in wide models, with the root of the width (Karpathy 2025,
    nanochat). Muon moves every direction of a matrix by the same amount, in wide models as in narrow ones.
    """
    ideal = min(MOST_STEP, MEASURED_STEP * (tokens / MEASURED_TOKENS) ** STEP_POWER)
    rows = max(FEWEST_ROWS, 2 ** round(log2(ideal / model.context_length)))
    rate = USUAL.learning_rate / max(1.0, model.width / MEASURED_WIDTH) ** 0.5
    return Follow(int(rows), float(f"{rate:.2g}"))  # to be read in recipe.toml
