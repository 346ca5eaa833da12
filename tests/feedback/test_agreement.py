"""What votes can tell, against hand-worked numbers and laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.errors import DataError
from trivium.feedback.agreement import (
    accuracy_ceiling,
    agreement,
    bradley_terry,
    ceiling_range,
    implied_accuracy,
    tally,
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
    assert implied_accuracy(agreed) == pytest.approx(accuracy_ceiling(noise), abs=1e-7)


@given(st.lists(st.floats(0.5, 1), min_size=1, max_size=20))
def test_the_ceiling_lies_in_its_range_however_hard_the_pairs(majorities: list[float]) -> None:
    low, high = ceiling_range(float(np.mean([q * q + (1 - q) ** 2 for q in majorities])))
    assert low - 1e-7 <= np.mean(majorities) <= high + 1e-7


def test_a_perfect_model_reaches_the_ceiling_against_noisy_votes() -> None:
    wrong = np.random.default_rng(2).random(20_000) < 0.16
    assert np.mean(~wrong) == pytest.approx(accuracy_ceiling(0.16), abs=0.01)


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


def test_tally_counts_wins_and_ties_of_either_order() -> None:
    names, wins, ties = tally(
        [("b", "a", "first"), ("a", "b", "second"), ("a", "b", "both_bad"), ("a", "b", "skip"), ("a", "a", "first")]
    )
    assert names == ["a", "b"]
    assert wins.tolist() == [[0, 0], [2, 0]]
    assert ties.tolist() == [[0, 1], [1, 0]]


def test_bradley_terry_of_two_players_is_the_log_odds() -> None:
    found = bradley_terry(np.array([[0.0, 3], [1, 0]]), prior=1.0)
    assert found.strength[0] - found.strength[1] == pytest.approx(math.log(3.5 / 1.5))  # half of the prior draw each
    assert found.strength.sum() == pytest.approx(0)


def test_bradley_terry_recovers_the_strengths_and_its_intervals_hold_them() -> None:
    truth = np.array([-1.0, -0.2, 0.3, 0.9])
    chance = np.random.default_rng(4)
    wins = np.zeros((4, 4))
    for i in range(4):
        for j in range(i):
            wins[i, j] = chance.binomial(400, 1 / (1 + math.exp(truth[j] - truth[i])))
            wins[j, i] = 400 - wins[i, j]
    found = bradley_terry(wins)
    assert np.abs(found.strength - truth).max() < 0.15
    assert ((found.low <= truth) & (truth <= found.high)).sum() >= 3
    assert (found.high - found.low < 0.4).all()


def test_bradley_terry_satisfies_its_likelihood_equation() -> None:
    wins = np.array([[0.0, 5, 1], [2, 0, 4], [7, 0, 0]])
    ties = np.array([[0.0, 1, 0], [1, 0, 3], [0, 3, 0]])
    strength = bradley_terry(wins, ties, prior=0.2, resamples=0).strength
    scores = wins + ties / 2 + 0.1 * (1 - np.eye(3))
    chance = 1 / (1 + np.exp(strength[None] - strength[:, None]))
    assert scores.sum(1) == pytest.approx(((scores + scores.T) * chance).sum(1) - (scores + scores.T).diagonal() / 2)


def test_bradley_terry_agrees_with_the_slow_algorithm_of_its_source() -> None:
    wins = np.array([[0.0, 5, 1, 2], [2, 0, 4, 4], [7, 0, 0, 1], [3, 3, 3, 0]])
    scores = wins + 0.05 * (1 - np.eye(4))
    skill = np.ones(4)
    for _ in range(2000):  # Hunter 2004, eq. 3
        skill = scores.sum(1) / ((scores + scores.T) / (skill[:, None] + skill)).sum(1)
    reference = np.log(skill) - np.log(skill).mean()
    assert bradley_terry(wins, resamples=0).strength == pytest.approx(reference, abs=1e-8)


@pytest.mark.parametrize("games", [1.0, 1000.0])
def test_bradley_terry_finds_the_top_even_when_every_game_goes_to_the_better(games: float) -> None:
    wins = np.triu(np.full((8, 8), games), 1)
    strength = bradley_terry(wins, resamples=0).strength
    scores = wins + 0.05 * (1 - np.eye(8))
    chance = 1 / (1 + np.exp(strength[None] - strength[:, None]))
    assert scores.sum(1) == pytest.approx(((scores + scores.T) * chance).sum(1), abs=1e-6)


def test_bradley_terry_keeps_a_player_who_never_loses_finite() -> None:
    found = bradley_terry(np.array([[0.0, 50, 50], [0, 0, 20], [0, 30, 0]]), resamples=100)
    assert np.isfinite([found.strength, found.low, found.high]).all()
    assert found.strength.argmax() == 0


def test_only_ties_make_all_players_equally_strong() -> None:
    ties = 10 * (1 - np.eye(3))
    assert bradley_terry(np.zeros((3, 3)), ties).strength == pytest.approx(0)


@pytest.mark.parametrize(
    ("wins", "ties", "prior", "message"),
    [
        (np.zeros((2, 3)), None, 0.1, r"both must be \(players, players\)"),
        (np.array([[0, 0.5], [1, 0]]), None, 0.1, "must be whole numbers"),
        (np.eye(2), None, 0.1, "empty diagonal"),
        (np.zeros((2, 2)), np.array([[0.0, 1], [0, 0]]), 0.1, "ties: must be symmetric"),
        (np.zeros((2, 2)), None, 0.0, "prior = 0.0: must be positive"),
    ],
)
def test_counts_that_cannot_be_are_refused(
    wins: np.ndarray, ties: np.ndarray | None, prior: float, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        bradley_terry(wins, ties, prior=prior)
