"""Where fresh weights begin: counts by hand, and a fit that comes near to the best that pairs allow."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivium.compute import Compute
from trivium.distributed.world import alone
from trivium.model.shape import ModelConfig
from trivium.model.transformer import EMBEDDING_SPREAD, Transformer, initialise
from trivium.train import bigrams
from trivium.train.bigrams import Pairs, begin_with_pairs, contexts, count_pairs, find_gradients, fit

PLAIN = Compute(torch.device("cpu"), torch.float32, False)
IDS = np.array([0, 1, 0, 2, 0, 1, 3, 3], dtype=np.int32)


def drawn(vocab_size: int, tokens: int = 60_000) -> NDArray[np.int32]:
    """A chain in which each token prefers a few others; the last token never stands anywhere."""
    generator = np.random.default_rng(0)
    table = generator.dirichlet(np.full(vocab_size - 1, 0.2), size=vocab_size - 1).cumsum(1)
    chances, ids = generator.random(tokens), np.zeros(tokens, dtype=np.int32)
    for place in range(1, tokens):
        ids[place] = min(vocab_size - 2, int(np.searchsorted(table[ids[place - 1]], chances[place])))
    return ids


def table(pairs: Pairs, first: Tensor) -> Tensor:
    """(B, V) what follows these tokens (B,), as shares; zeros after what was never seen."""
    places, shares = pairs.following(first)
    assert len(places.unique()) == len(places)
    found = torch.zeros(len(first), len(pairs.starts) - 1)
    found.view(-1)[places] = shares
    return found


def loss(pairs: Pairs, embedding: Tensor, output: Tensor) -> float:
    """Nats per token."""
    wanted = table(pairs, torch.arange(len(output)))
    return float((-pairs.frequencies * (wanted * (embedding @ output.T).log_softmax(1)).sum(1)).sum())


def least(pairs: Pairs) -> float:
    """Of any model of pairs: the entropy of the counts."""
    wanted = table(pairs, torch.arange(len(pairs.starts) - 1))
    return float((-pairs.frequencies * torch.special.xlogy(wanted, wanted).sum(1)).sum())


def test_counts_by_hand() -> None:
    pairs = count_pairs(IDS, 5)
    assert pairs.frequencies.tolist() == pytest.approx([3 / 7, 2 / 7, 1 / 7, 1 / 7, 0])
    wanted = [[0, 2 / 3, 1 / 3, 0, 0], [1 / 2, 0, 0, 1 / 2, 0], [1, 0, 0, 0, 0], [0, 0, 0, 1, 0], [0] * 5]
    assert torch.allclose(table(pairs, torch.arange(5)), torch.tensor(wanted))
    assert torch.allclose(table(pairs, torch.tensor([3, 0])), torch.tensor([wanted[3], wanted[0]]))


def test_the_fit_comes_near_to_the_best_there_is() -> None:
    pairs = count_pairs(drawn(40), 40)
    embedding, output = fit(pairs, 32, PLAIN, seed=0)
    assert torch.allclose(embedding.square().mean(1), torch.ones(40), atol=1e-3)
    unigram = float(torch.special.entr(pairs.frequencies).sum())
    assert least(pairs) < loss(pairs, embedding, output) < least(pairs) + 0.02 * (unigram - least(pairs))


def test_of_more_tokens_than_fit_the_rare_are_learned_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigrams, "AT_ONCE", 40 * 10)
    pairs = count_pairs(drawn(40), 40)
    first = torch.cat([part.first for part in next(contexts(pairs, torch.Generator().manual_seed(0), torch.float32))])
    assert len(first.unique()) == 10
    assert set(pairs.frequencies.argsort(descending=True)[:5].tolist()) <= set(first.tolist())
    embedding, output = fit(pairs, 32, PLAIN, seed=0, rounds=400)
    assert loss(pairs, embedding, output) < least(pairs) + 0.2


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_gradients_are_those_of_autograd(dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigrams, "IN_MEMORY", 40 * 15)  # parts, the last one smaller
    pairs = count_pairs(drawn(40), 40)
    these = next(contexts(pairs, torch.Generator().manual_seed(0), dtype))
    assert len(these) > 1
    generator = torch.Generator().manual_seed(0)
    embedding, output = (torch.randn(40, 32, generator=generator) for _ in range(2))
    output *= 32**-0.5
    find_gradients(embedding.requires_grad_(), output.requires_grad_(), these)
    found = embedding.grad, output.grad
    embedding.grad = output.grad = None
    first, weight = (torch.cat(each) for each in zip(*(part[:2] for part in these), strict=True))
    logprobs = (torch.nn.functional.rms_norm(embedding[first], (32,)) @ output.T).log_softmax(1)
    (-weight[:, None] * table(pairs, first) * logprobs).sum().backward()
    for mine, exact in zip(found, (embedding.grad, output.grad), strict=True):
        assert mine is not None
        assert exact is not None
        assert torch.dist(mine, exact) < tolerance * exact.norm()


def test_drawn_contexts_stand_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigrams, "AT_ONCE", 40 * 10)
    pairs = count_pairs(drawn(40), 40)
    rounds = contexts(pairs, torch.Generator().manual_seed(0), torch.float32)
    found = torch.zeros(40)
    for _ in range(2000):
        for part in next(rounds):
            found.index_add_(0, part.first, part.weight / 2000)
    assert torch.allclose(found, pairs.frequencies, rtol=0.15)


def test_the_same_seed_fits_the_same_bits() -> None:
    pairs = count_pairs(drawn(20, 2000), 20)
    once, again, other = (fit(pairs, 8, PLAIN, seed=seed, rounds=5) for seed in (1, 1, 2))
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])
    assert not torch.equal(once[0], other[0])


def test_a_fresh_decoder_begins_as_the_model_of_pairs() -> None:
    """Before its first step it predicts from the token at hand, better than from how often tokens stand anywhere."""
    vocab_size, ids = 30, drawn(30)
    shape = ModelConfig(vocab_size=vocab_size, num_layers=1, width=32, num_heads=2, num_kv_heads=2, mlp_width=32)
    model = initialise(Transformer(shape), 0)
    begin_with_pairs(model, ids, PLAIN, alone(), seed=0)
    pairs = count_pairs(ids, vocab_size)
    rows = torch.arange(vocab_size)[None]
    logits = model(rows, rows, torch.zeros_like(rows))[0].detach()
    wanted = table(pairs, rows[0])
    found = float((-pairs.frequencies * (wanted * logits.log_softmax(1)).sum(1)).sum())
    assert found < least(pairs) + 0.02 * (float(torch.special.entr(pairs.frequencies).sum()) - least(pairs))
    assert torch.allclose(model.embed_tokens.weight.square().mean(1).sqrt(), torch.tensor(EMBEDDING_SPREAD), rtol=1e-2)
