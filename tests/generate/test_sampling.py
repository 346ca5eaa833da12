"""Choosing a token: a pure function of its random number, with the distribution it promises."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trivium.generate.sampling import Sampling, choose, random_stream, restrict, stream_seed

LOGITS = torch.tensor([1.0, 3.0, -2.0, 2.5, 0.0, -30.0])
DRAWS = 20_000


def counts(sampling: Sampling, logits: Tensor = LOGITS) -> Tensor:
    chosen = choose(logits.expand(DRAWS, -1), sampling, random_stream(7, DRAWS))
    return chosen.bincount(minlength=len(logits))


def assert_drawn_from(probabilities: Tensor, found: Tensor) -> None:
    """Chi-square over the outcomes that are expected at all; five standard deviations."""
    expected = probabilities * DRAWS
    assert found[expected < 1e-6].sum() == 0
    likely = expected > 5
    chi_square = ((found - expected)[likely].square() / expected[likely]).sum().item()
    degrees = int(likely.sum()) - 1
    assert chi_square < degrees + 5 * math.sqrt(2 * degrees)
    assert found[~likely].sum() < expected[~likely].sum() + 10


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_from_the_softmax_at_that_temperature(temperature: float) -> None:
    assert_drawn_from((LOGITS / temperature).softmax(-1), counts(Sampling(temperature=temperature)))


def test_the_bound_of_this_test_would_notice_another_temperature() -> None:
    with pytest.raises(AssertionError):
        assert_drawn_from(LOGITS.softmax(-1), counts(Sampling(temperature=1.05)))


def test_top_k_keeps_the_k_most_probable_in_their_proportions() -> None:
    kept = torch.tensor([0, 1, 0, 1, 0, 0]).bool()
    assert_drawn_from(LOGITS.masked_fill(~kept, -math.inf).softmax(-1), counts(Sampling(top_k=2)))


def test_top_p_by_hand() -> None:
    logits = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()
    for top_p, kept in ((0.4, [1]), (0.6, [1, 3]), (0.74, [1, 3]), (0.8, [1, 2, 3]), (0.95, [0, 1, 2, 3])):
        left = restrict(logits[None], Sampling(top_p=top_p))[0]
        assert left.isfinite().nonzero().flatten().tolist() == kept


def test_top_p_looks_at_the_probabilities_at_the_temperature() -> None:
    logits = torch.tensor([0.6, 0.4]).log()[None]
    assert restrict(logits, Sampling(top_p=0.65)).isfinite().tolist() == [[True, True]]
    assert restrict(logits, Sampling(top_p=0.65, temperature=0.5)).isfinite().tolist() == [[True, False]]


@given(st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=12), st.floats(0.01, 0.99))
def test_top_p_keeps_the_smallest_set_that_reaches_p(row: list[float], top_p: float) -> None:
    logits = torch.tensor([row])
    probabilities = logits.softmax(-1)[0]
    kept = restrict(logits, Sampling(top_p=top_p))[0].isfinite()
    total = probabilities[kept].sum().item()
    assert total >= top_p - 1e-5
    assert total - probabilities[kept].min().item() < top_p + 1e-5  # without its least it would not reach p
    if not kept.all():
        assert probabilities[kept].min() >= probabilities[~kept].max()


@given(st.integers(0, 2**31), st.integers(1, 8))
def test_top_k_of_one_is_greedy(seed: int, rows: int) -> None:
    logits = torch.randn(rows, 9, generator=torch.Generator().manual_seed(seed))
    greedy = choose(logits, Sampling(temperature=0), torch.zeros(rows))
    assert torch.equal(choose(logits, Sampling(top_k=1), random_stream(seed, rows)), greedy)
    assert torch.equal(greedy, logits.argmax(-1))


@given(st.floats(0, 1, exclude_max=True, width=32))
def test_a_token_of_no_probability_is_never_chosen(uniform: float) -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    assert choose(logits, Sampling(), torch.tensor([uniform])).item() in (1, 3)


def test_the_largest_random_number_still_names_a_token_that_may_be_chosen() -> None:
    almost_one = torch.tensor([1.0]).nextafter(torch.tensor([0.0]))
    logits = torch.cat([torch.zeros(3000), torch.full((100,), -math.inf)])[None]
    assert choose(logits, Sampling(), almost_one).item() < 3000


def test_a_random_stream_belongs_to_its_seed_and_does_not_depend_on_its_length() -> None:
    assert torch.equal(random_stream(3, 50)[:10], random_stream(3, 10))
    assert not torch.equal(random_stream(3, 10), random_stream(4, 10))
    assert 0.4 < random_stream(3, 1000).mean() < 0.6


def test_different_places_have_different_seeds_and_equal_ones_the_same() -> None:
    seeds = {stream_seed(a, b, c) for a in range(12) for b in range(12) for c in range(12)}
    assert len(seeds) == 12**3
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stream_seed(1, 2) == stream_seed(1, 2)
    assert len({stream_seed(1, 2), stream_seed(2, 1), stream_seed(1, 2, 0), stream_seed(-1, 2)}) == 4
