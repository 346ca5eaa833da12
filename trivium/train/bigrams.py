"""Where fresh weights begin: as a model of pairs of tokens, fitted to their counts in seconds.

Fresh layers add nothing yet (`initialise`), so a fresh decoder is its embedding, its last norm and its output matrix:
the next token from this one alone (Elhage et al. 2021, "A mathematical framework for transformer circuits"). All that
such a model can learn stands in the counts of pairs, and it is fitted to all of them at once, where a step of text
tells of some thousand. The layers then begin with what pairs do not say. What that is worth: docs/log.md.

V vocabulary, D width, B contexts.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from trivium.compute import Compute
from trivium.distributed.world import World
from trivium.model.transformer import EMBEDDING_SPREAD, Transformer
from trivium.native.linear import add_weight_gradient

ROUNDS, RATE, BETAS = 100, 0.8, (0.9, 0.9)  # of Adam; the rate, over the root of the width, falls to zero
AT_ONCE, IN_MEMORY = 2**24, 2**22  # numbers of (B, V) in a round, and of logits held at a time


class Pairs(NamedTuple):
    """How often which token follows which; K different pairs."""

    starts: Tensor  # (V + 1,) int64: where the pairs of each first token begin
    seconds: Tensor  # (K,) int64
    counts: Tensor  # (K,) float32

    @property
    def frequencies(self) -> Tensor:
        """(V,) how often each token stands first, as shares."""
        ends = F.pad(self.counts.double().cumsum(0), (1, 0))[self.starts]
        return (ends.diff() / ends[-1]).float()

    def following(self, first: Tensor) -> tuple[Tensor, Tensor]:
        """What follows these tokens (B,): places in a table (B, V), flat, and shares of each row there.

        returns  (n,) int64, each once, and (n,) float32; a token that was never seen first has none
        """
        sizes = (self.starts[1:] - self.starts[:-1])[first]
        rows = torch.arange(len(first), device=first.device).repeat_interleave(sizes)
        offsets = torch.arange(len(rows), device=first.device) - (sizes.cumsum(0) - sizes)[rows]
        places = self.starts[first][rows] + offsets
        counts = self.counts[places]
        totals = counts.new_zeros(len(first)).index_add_(0, rows, counts)
        return rows * (len(self.starts) - 1) + self.seconds[places], counts / totals[rows]


def count_pairs(ids: NDArray[np.int32], vocab_size: int) -> Pairs:
    """Of neighbours in a row of tokens."""
    keys, counts = np.unique(ids[:-1].astype(np.int64) * vocab_size + ids[1:], return_counts=True)
    first, second = np.divmod(keys, vocab_size)
    starts = np.searchsorted(first, np.arange(vocab_size + 1))
    return Pairs(torch.from_numpy(starts), torch.from_numpy(second), torch.from_numpy(counts).float())


def begin_with_pairs(model: Transformer, ids: NDArray[np.int32], compute: Compute, world: World, *, seed: int) -> None:
    """Embedding and output matrix of a fresh model, fitted to the pairs in some text. They must not be one matrix."""

    def fitted() -> list[Tensor]:
        pairs = count_pairs(ids, model.config.vocab_size)
        return [each.cpu() for each in fit(pairs, model.config.width, compute, seed=seed)]

    found = world.from_first(fitted() if world.first else [])  # ranks of different make would round differently
    with torch.no_grad():
        model.embed_tokens.weight.copy_(EMBEDDING_SPREAD * found[0])
        model.lm_head.weight.copy_(found[1])


def fit(pairs: Pairs, width: int, compute: Compute, *, seed: int, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Embedding, its rows of mean square 1, and output matrix, both (V, D): their product is the log-odds of pairs."""
    generator = torch.Generator().manual_seed(seed)
    pairs = Pairs(*map(compute.send, pairs))
    drawn = (torch.randn(len(pairs.starts) - 1, width, generator=generator) for _ in range(2))
    embedding, output = (compute.send(each).requires_grad_() for each in drawn)
    output.data *= width**-0.5
    optimizer = torch.optim.Adam([embedding, output], betas=BETAS, fused=True)
    for number, these in zip(range(rounds), contexts(pairs, generator, compute.dtype), strict=False):
        optimizer.param_groups[0]["lr"] = RATE * width**-0.5 * (1 - number / rounds)
        optimizer.zero_grad()
        find_gradients(embedding, output, these)
        optimizer.step()
    return F.rms_norm(embedding.detach(), (width,)), output.detach()


def find_gradients(embedding: Tensor, output: Tensor, these: Sequence["Contexts"]) -> None:
    """Of the cross-entropy of what follows these contexts, for embedding and output matrix (V, D).

    By hand: autograd goes over their logits a dozen times.
    """
    dtype = these[0].shares.dtype
    output.grad, narrow = torch.zeros_like(output), output.detach().to(dtype)
    for first, weight, places, shares in these:
        hidden = F.rms_norm(embedding[first], output.shape[1:])
        slope = (hidden.detach().to(dtype) @ narrow.T).softmax(1)
        slope.view(-1).index_add_(0, places, shares, alpha=-1)
        add_weight_gradient(output.grad, slope, (hidden.detach() * weight[:, None]).to(dtype))
        hidden.backward((slope @ narrow) * weight[:, None])


class Contexts(NamedTuple):
    """Some, and what follows them, as `Pairs.following` has it."""

    first: Tensor  # (B,) tokens
    weight: Tensor  # (B,)
    places: Tensor  # (n,)
    shares: Tensor  # (n,) in the dtype of products


def contexts(pairs: Pairs, generator: torch.Generator, dtype: torch.dtype) -> Iterator[list[Contexts]]:
    """Of each round all tokens; where they are too many the commonest, and some of the others in place of all."""
    frequencies = pairs.frequencies
    size = max(2, AT_ONCE // len(frequencies))
    sometimes = size // 2 if size < len(frequencies) else 0
    often, others = frequencies.argsort(descending=True).tensor_split([size - sometimes])

    def described(first: Tensor, weight: float) -> list[Contexts]:
        parts = first.split(max(1, IN_MEMORY // len(frequencies)))
        followed = ((part, *pairs.following(part)) for part in parts)
        return [Contexts(part, weight * frequencies[part], places, s.to(dtype)) for part, places, s in followed]

    always = described(often, 1.0)
    while not sometimes:
        yield always
    while True:
        some = others[torch.randperm(len(others), generator=generator)[:sometimes].to(others.device)]
        yield always + described(some, len(others) / sometimes)
