"""What votes can tell, against hand-worked numbers and laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.errors import DataError
from trivium.feedback.agreement import (
    agreement,
    ceiling_range,
    implied_accuracy,
    votes_needed,
    wilson_interval,
    win_rate,
)

probabilities = st.floats(0, 1)


def test_wilson_interval_of_eight_in_ten_is_the_hand_worked_one() -> None:
    # z^2 = 3.8415: middle (.8 + .19207) / 1.38415 = .71674; half 1.95996 sqrt(.016 + .0096037) / 1.38415 = .22658
    assert wilson_interval(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.floats(0, n), st.just(n))))
def test_wilson_interval_holds_the_rate_and_stays_in_range(counts: tuple[float, int]) -> None:
    low, high = wilson_interval(*counts)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1


def test_wilson_interval_of_nothing_is_everything() -> None:
    assert wilson_interval(0, 0) == (0, 1)


def test_wilson_interval_covers_the_truth_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(1).binomial(40, 0.3, size=2000)
    covered = [low <= 0.3 <= high for low, high in (wilson_interval(int(k), 40) for k in drawn)]
    assert 0.93 < np.mean(covered) < 0.97


def test_win_rate_counts_a_tie_as_half_a_win() -> None:
    found = win_rate(7, 2, 1)  # 8 of 10
    assert found == pytest.approx((0.8, 0.49016, 0.94332), abs=1e-5)
    assert win_rate(1, 2, 7).rate == pytest.approx(1 - found.rate)


def test_a_win_rate_without_comparisons_is_refused() -> None:
    with pytest.raises(DataError, match="win rate: no comparisons; vote first"):
        win_rate(0, 0, 0)


def test_agreement_is_the_share_of_doubly_rated_pairs_with_equal_choices() -> None:
    votes = [("a", "first"), ("a", "first"), ("b", "first"), ("b", "tie"), ("c", "first"), ("d", "tie"), ("d", "skip")]
    found = agreement(votes)
    assert found is not None
    assert (found.rate, found.pairs) == (0.5, 2)
    assert (found.low, found.high) == wilson_interval(1, 2)


def test_a_pair_with_three_raters_counts_once() -> None:
    found = agreement([(1, "first"), (1, "first"), (1, "second"), (2, "tie"), (2, "tie")])
    assert found is not None
    assert (found.rate, found.pairs) == (pytest.approx((1 / 3 + 1) / 2), 2)


def test_agreement_of_lone_raters_is_unknown() -> None:
    assert agreement([(1, "first"), (2, "second")]) is None


def test_agreement_of_73_percent_means_a_vote_is_right_84_percent_of_the_time() -> None:
    assert implied_accuracy(0.73) == pytest.approx(0.84, abs=0.005)
    assert implied_accuracy(0.63) == pytest.approx(0.75, abs=0.006)
    assert [implied_accuracy(1), implied_accuracy(0.5), implied_accuracy(0.4)] == [1, 0.5, 0.5]


@given(st.floats(0, 0.5))
def test_implied_accuracy_undoes_symmetric_noise(noise: float) -> None:
    agreed = min(1.0, (1 - noise) ** 2 + noise**2)
    assert implied_accuracy(agreed) == pytest.approx(1 - noise, abs=1e-7)


@given(st.lists(st.floats(0.5, 1), min_size=1, max_size=20))
def test_the_ceiling_lies_in_its_range_however_hard_the_pairs(majorities: list[float]) -> None:
    low, high = ceiling_range(float(np.mean([q * q + (1 - q) ** 2 for q in majorities])))
    assert low - 1e-7 <= np.mean(majorities) <= high + 1e-7


def test_votes_needed_are_the_published_numbers() -> None:
    assert [votes_needed(0.6), votes_needed(0.55), votes_needed(0.4)] == [194, 783, 194]


def test_votes_needed_give_the_asked_power() -> None:
    n = votes_needed(0.6)
    won = np.random.default_rng(3).binomial(n, 0.6, size=20_000)
    found = np.abs(won / n - 0.5) / math.sqrt(0.25 / n) > 1.95996
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_a_rate_that_no_votes_can_tell_is_refused(rate: float) -> None:
    with pytest.raises(DataError, match=r"must lie between 0 and 1 and differ from 0\.5"):
        votes_needed(rate)
