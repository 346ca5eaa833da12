"""Candidates: who is among them, how often, and that what they teach is on average what the whole vocabulary does."""

import numpy as np
import pytest
import torch
from torch import Tensor

from trivium.losses.language_model import linear_cross_entropy
from trivium.train.candidates import draw, shares_of

VOCABULARY, ALWAYS = 200, [3, 7]
SHARES = shares_of(np.arange(VOCABULARY, dtype=np.int32).repeat(np.arange(VOCABULARY) + 1), ALWAYS, VOCABULARY)


def targets_of(seed: int, count: int = 60) -> Tensor:
    likely = SHARES.clone()
    likely[ALWAYS] = 0
    return torch.multinomial(likely, count, replacement=True, generator=torch.Generator().manual_seed(seed))


def test_targets_and_what_always_is_are_among_as_many_as_were_asked_for() -> None:
    targets = targets_of(0)
    tokens, offsets = draw(targets, SHARES, 96)
    assert len(tokens) == len(offsets) == 96
    assert set(ALWAYS) | set(targets.tolist()) <= set(tokens.tolist())
    assert torch.equal(tokens, tokens.unique())
    assert (offsets >= 0).all()
    assert offsets[torch.isin(tokens, torch.tensor(ALWAYS))].tolist() == [0, 0]


def test_the_same_targets_have_the_same_candidates_and_others_have_others() -> None:
    one, again, other = (draw(targets_of(seed), SHARES, 128).tokens.tolist() for seed in (0, 0, 1))
    assert one == again
    assert one != other


@pytest.mark.parametrize("count", [16, 40, 184, 200, 1000])
def test_more_targets_than_were_asked_for_are_all_among_them(count: int) -> None:
    """In a number that C++ serves, up to the whole vocabulary."""
    targets = targets_of(0)
    found = draw(targets, SHARES, count)
    given = len({*targets.tolist(), *ALWAYS})
    assert len(found.tokens) == min(VOCABULARY, max(count, given + -given % 16))
    assert found.offsets.isfinite().all()
    if len(found.tokens) == VOCABULARY:
        assert found.offsets.abs().max() < 1e-6


def test_a_token_counts_for_as_many_as_its_chance_to_be_a_candidate_is_small() -> None:
    found = torch.zeros(VOCABULARY)
    for seed in range(3000):
        tokens, offsets = draw(targets_of(seed), SHARES, 96)
        found[tokens] += offsets.exp() / 3000
    assert found.mean() == pytest.approx(1, abs=0.02)
    assert (found - 1).abs().max() < 0.2


def test_on_average_they_teach_what_the_vocabulary_does() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, hidden = (torch.randn(rows, 8, generator=generator) for rows in (VOCABULARY, 60))
    weight *= 0.3
    place, whole, part = torch.arange(60), torch.zeros_like(weight), torch.zeros_like(weight)
    losses, estimates = [], []
    for seed in range(1000):
        targets = targets_of(seed)
        free = weight.clone().requires_grad_()
        losses.append(linear_cross_entropy(hidden, free, targets, place))
        whole += torch.autograd.grad(losses[-1], free)[0]
        tokens, offsets = draw(targets, SHARES, 112)
        free = weight.clone().requires_grad_()
        among = torch.searchsorted(tokens, targets)
        estimates.append(linear_cross_entropy(hidden, free[tokens], among, place, offsets=offsets))
        part += torch.autograd.grad(estimates[-1], free)[0]
    assert torch.stack(estimates).mean().item() == pytest.approx(torch.stack(losses).mean().item(), rel=0.02)
    assert torch.dist(part, whole) < 0.1 * whole.norm()
