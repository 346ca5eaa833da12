"""What votes can tell: agreement, ceilings, intervals, sample sizes. Numbers in, numbers out; no store."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from itertools import combinations
from math import ceil, sqrt
from statistics import NormalDist, fmean
from typing import NamedTuple, TypeVar

from trivium.errors import DataError

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


def _z_two_sided(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
