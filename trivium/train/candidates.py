"""Which tokens of a large vocabulary a micro-batch tells apart: its own targets, and others drawn in place of all.

The output matrix of a narrow model costs more than its layers, and most of its rows are of tokens that a micro-batch
does not hold. So the sum over the vocabulary is estimated, each candidate counting for as many tokens as its chance to
be one is small: Bengio and Senécal 2008, "Adaptive importance sampling to accelerate training of a neural probabilistic
language model"; targets as candidates: Jean et al. 2015, arXiv:1412.2007. What is measured and written knows them all.

V vocabulary, N targets, C candidates.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivium.native.cross_entropy import WHOLE


class Candidates(NamedTuple):
    tokens: Tensor  # (C,) int64, rising
    offsets: Tensor  # (C,) float32, what their logits count for more in the sum: minus the logarithm of their chance


def shares_of(ids: NDArray[np.int32], always: list[int], vocab_size: int) -> Tensor:
    """(V,) the share of each token in a text, never 0.

    always  tokens that stand more often among targets than in the text; their share is 1
    """
    counts = torch.from_numpy(np.bincount(ids, minlength=vocab_size) + 1)
    shares = (counts / counts.sum()).float()
    shares[always] = 1.0
    return shares


def draw(targets: Tensor, shares: Tensor, count: int) -> Candidates:
    """The same for the same targets, which seed the draw.

    targets  (N,) int64, each a candidate
    shares   (V,) of each token among the targets of all micro-batches; one whose share is 1 is always a candidate
    count    C, where there are not more different targets
    """
    chosen = shares >= 1
    chosen[targets] = True
    given, others = int(chosen.sum()), (~chosen).nonzero()[:, 0]
    missing = min(len(others), max(count - given, -given % WHOLE))
    drawn = torch.randperm(len(others), generator=torch.Generator().manual_seed(int(targets.sum())))[:missing]
    chosen[others[drawn]] = True
    tokens = chosen.nonzero()[:, 0]
    is_left_out = (1 - missing / max(1, len(others))) * torch.exp(max(1, len(targets)) * torch.log1p(-shares[tokens]))
    return Candidates(tokens, -torch.log1p(-is_left_out))
