"""Preference losses: what equality costs, what ties teach, and that only differences matter."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trivium.losses.preference import bradley_terry_loss, centering_penalty

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
