"""Memory that training takes, predicted: what benchmarks/memory.py measures. Arithmetic only."""

from typing import NamedTuple

from trivium.losses.language_model import positions_at_once
from trivium.model.attention import scores_computed
from trivium.model.shape import ModelConfig


class Kept(NamedTuple):
    """What a step keeps for its way back, in numbers: benchmarks/memory.py measures what they come to."""

    width: int  # float32, per position, layer and unit of width
    mlp_width: int  # in the products' precision, per position, layer and unit of mlp_width
    scores: int  # bytes per attention score and layer
    logits: int  # bytes per logit


KEPT = {False: Kept(width=10, mlp_width=8, scores=5, logits=20), True: Kept(width=6, mlp_width=3, scores=4, logits=12)}
SCORES_AT_WORK = 12  # bytes per attention score of the one layer at work
WEIGHTS = 20  # bytes per parameter: weight, gradient, two moments, and the update in the making
MEMORY_SLACK = 1.1  # what the allocator holds and cannot use


def peak_memory(model: ModelConfig, rows: int, dtype_bytes: int, *, compiled: bool, targets: int | None = None) -> int:
    """Bytes that training on the CPU takes beside the libraries: weights and optimizer, activations, scores, logits.

    rows      of context_length positions, computed at once
    targets   positions whose logits are computed and kept; None: of some positions at a time, and none is kept
    """
    kept, tokens = KEPT[compiled], rows * model.context_length
    activations = tokens * (4 * kept.width * model.width + dtype_bytes * kept.mlp_width * model.mlp_width)
    scores = rows * model.num_heads * scores_computed(model.context_length)
    attention = scores * (kept.scores * model.num_layers + SCORES_AT_WORK)
    predicted = min(tokens, positions_at_once(model.vocab_size)) if targets is None else targets
    logits = kept.logits * predicted * model.vocab_size
    return int(MEMORY_SLACK * (WEIGHTS * model.parameters + model.num_layers * activations + attention + logits))
