"""Memory that training takes, predicted: what benchmarks/memory.py measures."""

from typing import NamedTuple

import torch

from trivium.losses.language_model import positions_at_once
from trivium.model.attention import scores_computed
from trivium.model.shape import ModelConfig
from trivium.model.transformer import in_cpp
from trivium.native.attention import serves

CPU = torch.device("cpu")


class Kept(NamedTuple):
    """What a step keeps for its way back, in numbers: benchmarks/memory.py measures what they come to."""

    width: int  # float32, per position, layer and unit of width
    mlp_width: int  # in the products' precision, per position, layer and unit of mlp_width
    logits: int  # bytes per logit at work
    weights: int  # bytes per parameter: weight, gradient, one moment or two, and an update in the making
    scores: int = 0  # bytes per attention score and layer
    scores_at_work: int = 0  # of the one layer at work
    narrow_width: int = 0  # in the products' precision, per position, layer and unit of width


BY_PYTORCH = {
    False: Kept(width=10, mlp_width=8, logits=20, weights=20, scores=5, scores_at_work=12),
    True: Kept(width=6, mlp_width=3, logits=12, weights=20, scores=4, scores_at_work=12),
}
IN_CPP = {  # attention keeps no scores, nor Muon an update, and logits become their gradient in place
    False: Kept(width=6, mlp_width=7, logits=4, weights=11),
    True: Kept(width=2, mlp_width=5, logits=6, weights=16),
}
LAYERS_IN_CPP = Kept(width=3, narrow_width=6, mlp_width=3, logits=4, weights=12)
MEMORY_SLACK = 1.1  # what the allocator holds and cannot use


def peak_memory(
    model: ModelConfig,
    rows: int,
    dtype_bytes: int,
    *,
    compiled: bool,
    targets: int | None = None,
    layers_in_cpp: bool | None = None,
) -> int:
    """Bytes that training on the CPU takes beside the libraries: weights and optimizer, activations, scores, logits.

    rows           of context_length positions, computed at once
    targets        positions whose logits are computed at once, and whose gradient is kept; None: of some at a time, and
                   none
    layers_in_cpp  None: where this processor does that for such a shape
    """
    attends, tokens = serves(model.head_dim, CPU), rows * model.context_length
    whole = in_cpp(model, CPU) if layers_in_cpp is None else layers_in_cpp
    kept = LAYERS_IN_CPP if whole and not compiled else (IN_CPP if attends else BY_PYTORCH)[compiled]
    narrow = kept.narrow_width * model.width + kept.mlp_width * model.mlp_width
    activations = tokens * (4 * kept.width * model.width + dtype_bytes * narrow)
    scores = rows * model.num_heads * scores_computed(model.context_length)
    attention = scores * (kept.scores * model.num_layers + kept.scores_at_work)
    predicted = min(tokens, positions_at_once(model.vocab_size)) if targets is None else targets
    per_logit = dtype_bytes if attends and targets is not None else kept.logits
    logits = per_logit * predicted * model.vocab_size
    return int(MEMORY_SLACK * (kept.weights * model.parameters + model.num_layers * activations + attention + logits))
