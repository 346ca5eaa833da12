"""What votes can tell: agreement, ceilings, intervals, strengths, sample sizes. Numbers in, numbers out; no store."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from itertools import combinations
from math import ceil, sqrt
from statistics import NormalDist, fmean
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from trivium.errors import DataError

Floats = NDArray[np.float64]
PairId = TypeVar("PairId", bound=Hashable)


class Interval(NamedTuple):
    """An estimate and the interval around it."""

    rate: float
    low: float
    high: float


class Agreement(NamedTuple):
    """How often two raters said the same."""

    rate: float
    low: float
    high: float
    pairs: int  # those that two or more raters judged


class Strengths(NamedTuple):
    """Bradley-Terry strengths of M players, nats, with mean 0."""

    strength: Floats  # (M,)
    low: Floats  # (M,)
    high: Floats  # (M,)


def wilson_interval(successes: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion; (0, 1) when n is 0. Halves are allowed: ties count one half.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference"
    """
    assert 0 <= successes <= n, f"{successes} successes of {n}"
    if n == 0:
        return 0.0, 1.0
    z = _z_two_sided(confidence)
    rate = successes / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # at rate 0 and 1 the bound is exactly the rate; rounding must not carry it past
    return min(rate, max(0.0, middle - half)), max(rate, min(1.0, middle + half))


def win_rate(wins: int, ties: int, losses: int, *, confidence: float = 0.95) -> Interval:
    """Share of comparisons won, a tie being half a win: rate = (wins + ties / 2) / n, n = wins + ties + losses.

    The interval is Wilson's for wins + ties / 2 successes of n. A score in {0, 1/2, 1} varies at most as much as a
    yes-or-no of the same mean, so with ties it is wider than it need be, never narrower.
    raises  DataError when there are no comparisons
    """
    n = wins + ties + losses
    if n == 0:
        raise DataError("win rate: no comparisons; vote first")
    successes = wins + ties / 2
    return Interval(successes / n, *wilson_interval(successes, n, confidence=confidence))


def agreement(votes: Iterable[tuple[PairId, str]], *, confidence: float = 0.95) -> Agreement | None:
    """Share of equal choices on pairs that two or more raters judged; None when there is no such pair.

    votes  (pair, choice), one per rater and pair; "skip" is no judgement and is left out

    A pair with more than two raters counts once, with the share of its rater pairs that agree, and n of the Wilson
    interval is the number of pairs: votes on one pair are not independent. Every choice is a class of its own; for
    implied_accuracy, which knows two answers only, pass the votes for "first" and "second" alone.
    """
    by_pair: dict[PairId, list[str]] = defaultdict(list)
    for pair, choice in votes:
        if choice != "skip":
            by_pair[pair].append(choice)
    shares = [fmean(a == b for a, b in combinations(choices, 2)) for choices in by_pair.values() if len(choices) > 1]
    if not shares:
        return None
    low, high = wilson_interval(sum(shares), len(shares), confidence=confidence)
    return Agreement(fmean(shares), low, high, len(shares))


def implied_accuracy(agreement: float) -> float:
    """How often a single vote is right when every vote errs alike: p >= 1/2 with p^2 + (1 - p)^2 = agreement.

    p = (1 + sqrt(2 agreement - 1)) / 2; below one half there is no such p, and the answer is 1/2: chance.
    """
    assert 0 <= agreement <= 1, agreement
    return (1 + sqrt(max(0.0, 2 * agreement - 1))) / 2


def accuracy_ceiling(noise: float) -> float:
    """Best expected held-out accuracy against single votes that are wrong with probability noise: 1 - noise.

    A perfect model answers rightly, and so equals the vote exactly when the vote is right. Nothing that the model
    learns lifts it higher, for the errors are not in the answers; several votes a pair would lift the ceiling.
    """
    assert 0 <= noise <= 0.5, noise
    return 1 - noise


def ceiling_range(agreement: float) -> tuple[float, float]:
    """Between what the ceiling on held-out accuracy lies when pairs differ in difficulty, as real ones do.

    Let q in [1/2, 1] be the share of raters who side with the majority on a pair. The ceiling is E[q], the agreement
    E[q^2 + (1-q)^2]. As q^2 + (1-q)^2 <= q, the agreement is a lower bound; as it is convex in q, implied_accuracy is
    an upper one (Jensen), reached when all pairs are equally hard.
    """
    return max(0.5, agreement), implied_accuracy(agreement)


def votes_needed(rate: float, *, significance: float = 0.05, power: float = 0.8) -> int:
    """Comparisons needed to tell a win rate from 1/2, two-sided, without ties.

    n = ((z_{1 - significance/2} / 2 + z_power sqrt(rate (1 - rate))) / (rate - 1/2))^2
    Fleiss, Levin and Paik 2003, "Statistical Methods for Rates and Proportions", section 2.5, no continuity correction
    raises  DataError when the rate is 1/2, which no number of votes tells from 1/2, or not inside (0, 1)
    """
    if not 0 < rate < 1 or rate == 0.5:
        raise DataError(f"rate = {rate}: must lie between 0 and 1 and differ from 0.5")
    spread = _z_two_sided(1 - significance) / 2 + NormalDist().inv_cdf(power) * sqrt(rate * (1 - rate))
    return ceil((spread / (rate - 0.5)) ** 2)


def tally(comparisons: Iterable[tuple[str, str, str]]) -> tuple[list[str], Floats, Floats]:
    """Count (first player, second player, choice) into names (M), wins (M, M) and ties (M, M) for bradley_terry.

    "tie" and "both_bad" are ties; "skip", and a player against itself, say nothing about strength.
    """
    kept = [(a, b, choice) for a, b, choice in comparisons if choice != "skip" and a != b]
    names = sorted({name for a, b, _ in kept for name in (a, b)})
    place = {name: i for i, name in enumerate(names)}
    wins, ties = np.zeros((2, len(names), len(names)))
    for a, b, choice in kept:
        i, j = place[a], place[b]
        if choice in ("tie", "both_bad"):
            ties[i, j] += 1
            ties[j, i] += 1
        else:
            winner, loser = (i, j) if choice == "first" else (j, i)
            wins[winner, loser] += 1
    return names, wins, ties


def bradley_terry(
    wins: Floats,
    ties: Floats | None = None,
    *,
    prior: float = 0.1,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> Strengths:
    """Strengths s with P(i beats j) = 1 / (1 + exp(s_j - s_i)), and percentile bootstrap intervals over comparisons.

    wins   (M, M) how often the row beat the column
    ties   (M, M) symmetric: how often the two drew, each draw half a win to both
    prior  > 0: draws added between every two players. Without it a player who never loses is infinitely strong, and
           groups that never met have no common scale; that is our departure from the source
    Hunter 2004, "MM algorithms for generalized Bradley-Terry models", eq. 2, doi:10.1214/aos/1079120141; climbed by
    Newton's steps, for the paper's MM steps (the test's reference) crawl when results are one-sided
    raises DataError when the counts are not (M, M) whole numbers, or the prior is not positive
    """
    ties = np.zeros_like(wins) if ties is None else ties
    _check_counts(wins, ties, prior)
    scores = np.concatenate([_scores(wins, ties, prior)[None], _resampled(wins, ties, prior, resamples, seed)])
    strengths = _climb(scores)
    tail = (1 - confidence) / 2
    low, high = np.quantile(strengths[1:], [tail, 1 - tail], axis=0) if resamples else strengths[[0, 0]]
    return Strengths(strengths[0], low, high)


def _scores(wins: Floats, ties: Floats, prior: float) -> Floats:
    """(..., M, M) half points included: what the row took from the column."""
    return wins + ties / 2 + prior / 2 * (1 - np.eye(wins.shape[-1]))


def _resampled(wins: Floats, ties: Floats, prior: float, resamples: int, seed: int) -> Floats:
    """(resamples, M, M) scores of as many comparisons, drawn again with replacement."""
    size = len(wins)
    outcomes = np.concatenate([wins.ravel(), np.triu(ties).ravel()])
    total = int(outcomes.sum())
    drawn = np.zeros((resamples, 2 * size * size))
    if total:
        drawn += np.random.default_rng(seed).multinomial(total, outcomes / total, size=resamples)
    again, upper = drawn.reshape(resamples, 2, size, size).swapaxes(0, 1)
    return _scores(again, upper + upper.swapaxes(1, 2), prior)


def _climb(scores: Floats, *, tolerance: float = 1e-6, longest_step: float = 1.0, max_steps: int = 500) -> Floats:
    """(R, M) strengths of the highest likelihood, nats, from (R, M, M) scores, by Newton's steps of bounded length."""
    met = scores + scores.swapaxes(1, 2)  # (R, M, M)
    strengths: Floats = np.zeros(scores.shape[:2])
    for _ in range(max_steps):
        beats = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))  # (R, M, M): P(row beats column)
        gradient = (scores - met * beats).sum(2)
        curvature = met * beats * beats.swapaxes(1, 2)
        hessian = curvature.sum(2)[:, :, None] * np.eye(scores.shape[1]) - curvature
        # the likelihood is flat along a common shift: a one everywhere pins the mean at 0
        step = np.linalg.solve(hessian + 1, gradient[:, :, None])[:, :, 0]
        size = np.abs(step).max(1, initial=0, keepdims=True)  # (R, 1)
        strengths += step * np.minimum(1, longest_step / np.maximum(size, longest_step))
        if size.max(initial=0) < tolerance:
            return strengths
    raise AssertionError("Newton's steps on a concave likelihood must end")


def _check_counts(wins: Floats, ties: Floats, prior: float) -> None:
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or ties.shape != wins.shape:
        raise DataError(f"wins {wins.shape} and ties {ties.shape}: both must be (players, players)")
    whole = np.isfinite(wins).all() and np.isfinite(ties).all() and (wins % 1 == 0).all() and (ties % 1 == 0).all()
    if not whole or (wins < 0).any() or (ties < 0).any() or wins.diagonal().any() or ties.diagonal().any():
        raise DataError("wins and ties: must be whole numbers, not negative, with an empty diagonal")
    if (ties != ties.T).any():
        raise DataError("ties: must be symmetric; a draw belongs to both players")
    if not prior > 0:
        raise DataError(f"prior = {prior}: must be positive, or a player who never loses is infinitely strong")


def _z_two_sided(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
