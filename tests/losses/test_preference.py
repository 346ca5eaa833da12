"""Preference losses: what equality costs, what ties teach, and that only differences matter."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trivium.losses.preference import bradley_terry_loss, centering_penalty, dpo_loss, ipo_loss, margins_of

numbers = st.floats(-30, 30)


def loss(margin: float, preference: float, smoothing: float = 0.0) -> float:
    return bradley_terry_loss(torch.tensor([margin]), torch.tensor([preference]), smoothing=smoothing).item()


@given(preference=st.floats(0, 1), smoothing=st.floats(0, 0.5))
def test_equal_rewards_cost_log_two_whatever_was_preferred(preference: float, smoothing: float) -> None:
    assert loss(0.0, preference, smoothing) == pytest.approx(math.log(2), abs=1e-6)


def test_a_loss_worked_by_hand() -> None:
    assert loss(math.log(3), 1.0) == pytest.approx(math.log(4 / 3))  # sigmoid(log 3) is 3/4
    assert loss(math.log(3), 0.0) == pytest.approx(math.log(4))


@given(margin=numbers, preference=st.floats(0, 1), smoothing=st.floats(0, 0.5))
def test_swapping_the_answers_and_the_vote_changes_nothing(margin: float, preference: float, smoothing: float) -> None:
    assert loss(margin, preference, smoothing) == pytest.approx(loss(-margin, 1 - preference, smoothing), abs=1e-5)


@given(margin=numbers)
def test_a_tie_is_half_a_vote_for_each(margin: float) -> None:
    assert loss(margin, 0.5) == pytest.approx((loss(margin, 1.0) + loss(margin, 0.0)) / 2, abs=1e-5)


def test_a_tie_pulls_the_rewards_together() -> None:
    for start in (-2.0, 2.0):
        margin = torch.tensor([start], requires_grad=True)
        bradley_terry_loss(margin, torch.tensor([0.5])).sum().backward()
        assert margin.grad is not None
        assert margin.grad.item() * start > 0


def test_the_best_margin_under_smoothing_is_finite_and_is_the_share_of_right_votes() -> None:
    margin = torch.tensor([math.log(0.9 / 0.1)], requires_grad=True)
    bradley_terry_loss(margin, torch.tensor([1.0]), smoothing=0.1).sum().backward()
    assert margin.grad is not None
    assert margin.grad.item() == pytest.approx(0, abs=1e-6)


def test_margins_far_out_stay_finite() -> None:
    assert loss(1e4, 0.0) == pytest.approx(1e4)
    assert loss(1e4, 1.0) == 0


def test_the_level_of_a_pair_is_penalised_and_its_margin_is_not() -> None:
    first, second = torch.tensor([3.0, 1.0]), torch.tensor([-3.0, 2.0])
    assert centering_penalty(first, second).tolist() == [0.0, 2.25]


def of_pairs(loss: Any, ours: float, theirs: float, preference: float, **settings: float) -> float:
    found: Tensor = loss(torch.tensor([ours]), torch.tensor([theirs]), torch.tensor([preference]), **settings)
    return found.item()


@given(margin=numbers, preference=st.floats(0, 1))
def test_dpo_costs_log_two_when_policy_equals_reference(margin: float, preference: float) -> None:
    assert of_pairs(dpo_loss, margin, margin, preference, beta=0.1) == pytest.approx(math.log(2), abs=1e-6)


def test_dpo_worked_by_hand() -> None:
    """A margin gained of log 3 / beta makes a vote for the first three times as probable as one against it."""
    gained = math.log(3) / 0.1
    assert of_pairs(dpo_loss, gained + 2, 2.0, 1.0, beta=0.1) == pytest.approx(math.log(4 / 3), rel=1e-5)
    assert of_pairs(dpo_loss, gained + 2, 2.0, 0.0, beta=0.1) == pytest.approx(math.log(4), rel=1e-5)


def test_ipo_aims_at_a_margin_and_no_further() -> None:
    assert of_pairs(ipo_loss, 5.0, 0.0, 1.0, beta=0.1) == 0
    assert of_pairs(ipo_loss, 8.0, 1.0, 1.0, beta=0.1) == pytest.approx(4.0)
    assert of_pairs(ipo_loss, -5.0, 0.0, 0.0, beta=0.1) == 0


@pytest.mark.parametrize("loss", [dpo_loss, ipo_loss])
@given(ours=st.floats(-5, 5), theirs=st.floats(-5, 5), preference=st.floats(0, 1), smoothing=st.floats(0, 0.5))
def test_a_pair_turned_round_costs_the_same(
    loss: Any, ours: float, theirs: float, preference: float, smoothing: float
) -> None:
    one = of_pairs(loss, ours, theirs, preference, beta=0.3, smoothing=smoothing)
    other = of_pairs(loss, -ours, -theirs, 1 - preference, beta=0.3, smoothing=smoothing)
    assert one == pytest.approx(other, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("loss", [dpo_loss, ipo_loss])
def test_of_a_tied_pair_half_counts_for_each_side(loss: Any) -> None:
    tied, won, lost = (of_pairs(loss, 1.0, 3.0, preference, beta=0.3) for preference in (0.5, 1.0, 0.0))
    assert tied == pytest.approx((won + lost) / 2, rel=1e-5)


def toy() -> tuple[Tensor, Tensor]:
    """Logits and reward of four answers, all that can be written."""
    return torch.tensor([0.3, -0.2, 0.9, 0.0]), torch.tensor([1.0, 0.0, -1.0, 0.5])


def test_dpo_over_all_pairs_ends_at_the_best_policy_for_the_reward_that_the_votes_follow() -> None:
    """Votes of sigmoid(reward difference), all of them: the gradient is zero at reference exp(reward / beta) / Z, which
    maximises reward - beta KL (Rafailov et al. 2023, eq. 4), and not at the reference itself."""
    reference, reward = toy()
    beta = 0.5
    first, second = torch.cartesian_prod(torch.arange(4), torch.arange(4)).T
    votes = torch.sigmoid(reward[first] - reward[second])

    def steepness(logits: Tensor) -> float:
        logits = logits.clone().requires_grad_()
        ours, theirs = logits.log_softmax(-1), reference.log_softmax(-1)
        losses = dpo_loss(ours[first] - ours[second], theirs[first] - theirs[second], votes, beta=beta)
        (found,) = torch.autograd.grad(losses.sum(), logits)
        return float(found.abs().max())

    assert steepness(reference + reward / beta) < 1e-6
    assert steepness(reference) > 0.1


def test_margins_of_answers_whole_and_per_token() -> None:
    logprobs, owners = torch.tensor([-1.0, -2.0, -4.0, -1.0, -1.0, -3.0]), torch.tensor([0, 0, 1, 2, 2, 3])
    assert margins_of(logprobs, owners, 4, per_token=False).tolist() == [1.0, 1.0]
    assert margins_of(logprobs, owners, 4, per_token=True).tolist() == [2.5, 2.0]
