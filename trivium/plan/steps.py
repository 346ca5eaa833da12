"""How large a step is and how long it is remembered, how fast embeddings follow it and what pulls the matrices back,
from all that will be read."""

from math import log2
from typing import NamedTuple

from trivium.config import PretrainConfig
from trivium.model.shape import ModelConfig

USUAL = PretrainConfig()
MEASURED_WIDTH, MEASURED_TOKENS, MEASURED_STEP = 128, 4e6, 2048  # where the usual rates serve best: docs/results.md
STEP_POWER = 0.4
FEWEST_ROWS, MOST_STEP = 8, 2**19  # rows in a step, and tokens
FEWEST_REMEMBERED, MOST_REMEMBERED = 1 / (1 - USUAL.momentum), 20.0  # steps
REMEMBERED = 1 / 400  # of all steps
DECAY_FROM_EPOCHS, DECAY_OF_AN_EPOCH, MOST_DECAY = 2.0, 0.1, 1.0


class Follow(NamedTuple):
    """Settings of phase I."""

    rows_per_step: int
    learning_rate: float
    weight_decay: float
    momentum: float


def follow(model: ModelConfig, tokens: float, epochs: float = 1.0) -> Follow:
    """
    tokens  that will be read
    epochs  how often each text is

    A step grows with the tokens to the power .4 (Bergsma et al. 2025, arXiv:2505.13738). Larger steps would bear larger
    rates, more tokens want smaller ones (Bjorck et al. 2024, arXiv:2409.19913): along this rule both cancel, nearly.
    Embeddings are AdamW's, which has to follow more slowly in wide models, with the root of the width (Karpathy 2025,
    nanochat). Muon moves every direction of a matrix by the same amount, in wide models as in narrow ones, and what is
    noise in a gradient with the rest: over long runs it is averaged for 20 steps (Jordan et al. 2024), while a short
    one has no time for that (docs/results.md). Text that is read over and over is learned by heart, unless its matrices
    are pulled to zero, the more the oftener.
    """
    ideal = min(MOST_STEP, MEASURED_STEP * (tokens / MEASURED_TOKENS) ** STEP_POWER)
    rows = max(FEWEST_ROWS, 2 ** round(log2(ideal / model.context_length)))
    rate = USUAL.learning_rate / max(1.0, model.width / MEASURED_WIDTH) ** 0.5
    decay = min(MOST_DECAY, DECAY_OF_AN_EPOCH * epochs) if epochs >= DECAY_FROM_EPOCHS else USUAL.weight_decay
    steps = tokens / (rows * model.context_length)
    remembered = min(MOST_REMEMBERED, max(FEWEST_REMEMBERED, REMEMBERED * steps))
    return Follow(int(rows), _plain(rate), _plain(decay), _plain(1 - 1 / remembered))


def _plain(value: float) -> float:
    """To be read in recipe.toml."""
    return float(f"{value:.2g}")
