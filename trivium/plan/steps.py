"""How large a step is and how long it is remembered, how fast embeddings follow it, what pulls the matrices back, and
how many tokens it tells apart, from all that will be read."""

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
CANDIDATES = 1024  # tokens: micro-batches of 8 rows of 256 have some 600 different ones ...
FEWEST_KNOWN, MOST_KNOWN = 4096, 8192  # ... of vocabularies of such sizes: of more, each would stand for too many
HEAVY = 0.2  # is an output matrix of more than that share of what is multiplied
FREE_EPOCHS, DECAY_OF_AN_EPOCH, MOST_DECAY = 5.0, 0.05, 1.0


class Follow(NamedTuple):
    """Settings of phase I."""

    rows_per_step: int
    learning_rate: float
    weight_decay: float
    momentum: float
    candidates: int


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
    are pulled to zero, the more the oftener; read five times it is not yet.
    """
    ideal = min(MOST_STEP, MEASURED_STEP * (tokens / MEASURED_TOKENS) ** STEP_POWER)
    rows = max(FEWEST_ROWS, 2 ** round(log2(ideal / model.context_length)))
    rate = USUAL.learning_rate / max(1.0, model.width / MEASURED_WIDTH) ** 0.5
    decay = min(MOST_DECAY, DECAY_OF_AN_EPOCH * max(0.0, epochs - FREE_EPOCHS))
    steps = tokens / (rows * model.context_length)
    remembered = min(MOST_REMEMBERED, max(FEWEST_REMEMBERED, REMEMBERED * steps))
    return Follow(int(rows), _plain(rate), _plain(decay), _plain(1 - 1 / remembered), choose_candidates(model))


def choose_candidates(model: ModelConfig) -> int:
    """Tokens that a micro-batch tells apart; 0: all. What they are good for: docs/results.md."""
    is_heavy = model.vocab_size * model.width > HEAVY * model.matrix_parameters
    return CANDIDATES if is_heavy and FEWEST_KNOWN <= model.vocab_size <= MOST_KNOWN else 0


def multiplied(model: ModelConfig, candidates: int | None = None) -> ModelConfig:
    """The model with an output matrix as large as phase I's steps multiply with.

    candidates  that are told apart; 0: all; None: as many as the dial would
    """
    known = choose_candidates(model) if candidates is None else candidates
    return model.model_copy(update={"vocab_size": min(known or model.vocab_size, model.vocab_size)})


def _plain(value: float) -> float:
    """To be read in recipe.toml."""
    return float(f"{value:.2g}")
