"""Strengths are found again from simulated votes; a preference for length alone is told from a better model."""

from math import log

import numpy as np
import pytest

from trivium.errors import DataError
from trivium.feedback.standings import covariate, standings, win_matrix
from trivium.feedback.votes import Choice, Comparison


def met(first: str, second: str, choice: Choice, texts: tuple[str, str] = ("a b", "a b")) -> Comparison:
    return Comparison(first, second, *texts, choice, 1, False)


def simulated(strengths: dict[str, float], by_length: float, number: int = 3000) -> list[Comparison]:
    """Model c writes longer answers; voters like strength, and length by so many nats per nat."""
    chance, names, found = np.random.default_rng(2), list(strengths), []
    for _ in range(number):
        i, j = chance.choice(len(names), 2, replace=False)
        sizes = [int(chance.integers(5, 60)) * (3 if names[k] == "c" else 1) for k in (i, j)]
        margin = strengths[names[i]] - strengths[names[j]] + by_length * (np.log1p(sizes[0]) - np.log1p(sizes[1]))
        choice: Choice = "first" if chance.random() < 1 / (1 + np.exp(-margin)) else "second"
        found.append(met(names[i], names[j], choice, ("x" * sizes[0], "x" * sizes[1])))
    return found


def test_two_models_and_three_to_one_are_log_three_apart() -> None:
    votes = [met("a", "b", "first")] * 300 + [met("b", "a", "first")] * 100
    found = standings(votes, prior=1e-6, resamples=50)
    strong, weak = found.players
    assert (strong.model, strong.votes, found.comparisons) == ("a", 400, 400)
    assert strong.strength - weak.strength == pytest.approx(log(3), abs=1e-4)
    assert strong.low < strong.strength < strong.high


def beaten(wins: list[list[int]]) -> list[Comparison]:
    """So often the row was preferred to the column."""
    names = "abcdefgh"
    rows = [(names[i], names[j], number) for i, row in enumerate(wins) for j, number in enumerate(row)]
    return [met(winner, loser, "first") for winner, loser, number in rows for _ in range(number)]


def test_strengths_are_those_of_the_slow_algorithm() -> None:
    wins = [[0, 5, 1, 2], [2, 0, 4, 4], [7, 0, 0, 1], [3, 3, 3, 0]]
    scores, skill = np.array(wins, float), np.ones(4)
    for _ in range(2000):  # Hunter 2004, "MM algorithms for generalized Bradley-Terry models", eq. 3
        skill = scores.sum(1) / ((scores + scores.T) / (skill[:, None] + skill)).sum(1)
    reference = np.log(skill) - np.log(skill).mean()
    found = {player.model: player.strength for player in standings(beaten(wins), prior=1e-9, resamples=0).players}
    assert [found[name] for name in "abcd"] == pytest.approx(reference, abs=1e-6)


@pytest.mark.parametrize("games", [1, 300])
def test_who_wins_every_comparison_is_on_top_and_finite(games: int) -> None:
    found = standings(beaten(np.triu(np.full((8, 8), games), 1).tolist()), resamples=20).players
    assert "".join(player.model for player in found) == "abcdefgh"
    assert np.isfinite([(player.low, player.strength, player.high) for player in found]).all()
    with pytest.raises(DataError, match=r"prior = 0\.0: must be positive"):
        standings(beaten([[0, 1], [0, 0]]), prior=0.0)


def test_only_ties_make_all_models_equally_strong() -> None:
    votes = [met("a", "b", "tie"), met("b", "c", "both_bad"), met("c", "a", "tie")] * 10
    assert [player.strength for player in standings(votes, resamples=0).players] == pytest.approx([0, 0, 0])


def test_known_strengths_lie_in_the_intervals() -> None:
    truth = {"a": -0.6, "b": 0.0, "c": 0.6}
    for player in standings(simulated(truth, 0.0)).players:
        assert player.low < truth[player.model] < player.high
        assert player.high - player.low < 0.35


def test_length_that_voters_like_is_told_from_strength() -> None:
    votes = simulated({"a": 0.0, "b": 0.0, "c": 0.0}, 1.0)
    plain = {player.model: player for player in standings(votes).players}
    assert plain["c"].low > 0.3  # it looks better
    found = standings(votes, covariates=["length"], confidence=0.99)
    assert all(player.low < 0 < player.high for player in found.players)  # it is only longer
    (effect,) = found.effects
    assert (effect.covariate, effect.low > 0.5) == ("length", True)


def test_repetition_is_the_share_of_words_said_before() -> None:
    assert covariate("repetition", "the mill the mill") == 0.5
    assert covariate("repetition", "") == 0
    assert covariate("length", "") == 0
    with pytest.raises(DataError, match='covariate "style" is unknown'):
        covariate("style", "")  # type: ignore[arg-type]


def test_the_win_matrix_counts_ties_half_and_leaves_out_what_says_nothing() -> None:
    votes = [met("a", "b", "first"), met("b", "a", "tie"), met("a", "a", "first"), met("a", "b", "skip")]
    found = win_matrix([*votes, met("", "b", "first"), met("c", "a", "second")])
    assert found.models == ["a", "b", "c"]
    assert found.counts == [[0, 2, 1], [2, 0, 0], [1, 0, 0]]
    assert [cell.rate if cell else None for cell in found.rates[0]] == [None, 0.75, 1.0]
    assert standings([]).players == []
