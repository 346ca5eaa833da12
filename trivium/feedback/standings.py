"""Which model's answers people prefer: Bradley-Terry strengths with intervals, with and without the length of answers.

Comparisons in, numbers out; no store. M models, N comparisons.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trivium.feedback.agreement import Floats, Interval, Strengths, bradley_terry, tally, win_rate

RESAMPLES = 300
PRIOR = 0.1  # draws added between every two models, as in bradley_terry
STEPS = 25  # of Newton's; few are needed


class Comparison(NamedTuple):
    """Answers of two models, and which was preferred."""

    first: str  # the model
    second: str
    choice: str  # as a vote has it
    longer: float  # the first answer's length minus the second's, in logarithms


class Standings(NamedTuple):
    """Strengths in nats with mean 0: one nat more is 73 % of the comparisons."""

    names: list[str]  # (M,) the strongest first
    plain: Strengths  # (M,)
    at_equal_length: Strengths  # (M,)
    pull: Interval  # nats by which an answer gains that is e times as long
    wins: list[list[Interval | None]]  # (M, M) how often the row beat the column, ties half
    comparisons: int


def standings(comparisons: Sequence[Comparison]) -> Standings | None:
    """None when no two different models were compared."""
    kept = [one for one in comparisons if one.choice != "skip" and one.first != one.second]
    if not kept:
        return None
    names, wins, ties = tally((one.first, one.second, one.choice) for one in kept)
    plain = bradley_terry(wins, ties, resamples=RESAMPLES, prior=PRIOR)
    at_equal_length, pull = _at_equal_length(kept, names)
    order = np.argsort(-plain.strength)
    counted = [[_won(wins, ties, i, j) for j in order] for i in order]
    in_order = [Strengths(*(column[order] for column in found)) for found in (plain, at_equal_length)]
    return Standings([names[i] for i in order], in_order[0], in_order[1], pull, counted, len(kept))


def _won(wins: Floats, ties: Floats, i: int, j: int) -> Interval | None:
    won, drawn, lost = int(wins[i, j]), int(ties[i, j]), int(wins[j, i])
    return win_rate(won, drawn, lost) if i != j and won + drawn + lost else None


def _at_equal_length(kept: Sequence[Comparison], names: Sequence[str]) -> tuple[Strengths, Interval]:
    """Logistic regression on who wrote the answers and on their lengths, with percentile bootstrap intervals.

    Length is one more player, as in Dubois et al. 2024, "Length-controlled AlpacaEval", arXiv:2404.04475, who have
    further terms.
    """
    place = {name: i for i, name in enumerate(names)}
    x = np.zeros((len(kept), len(names) + 1))
    for row, one in zip(x, kept, strict=True):
        row[place[one.first]], row[place[one.second]], row[-1] = 1, -1, one.longer
    y = np.array([{"first": 1.0, "second": 0.0}.get(one.choice, 0.5) for one in kept])
    generator = np.random.default_rng(0)
    drawn = (generator.integers(len(kept), size=len(kept)) for _ in range(RESAMPLES))
    fits = np.array([_fit(x, y), *(_fit(x[some], y[some]) for some in drawn)])  # (1 + R, M + 1)
    low, high = np.quantile(fits[1:], [0.025, 0.975], axis=0)
    return Strengths(fits[0, :-1], low[:-1], high[:-1]), Interval(fits[0, -1], low[-1], high[-1])


def _fit(x: Floats, y: Floats) -> Floats:
    """(M + 1,) coefficients of the highest likelihood, by Newton's steps; the last is that of length."""
    weights: Floats = np.zeros(x.shape[1])
    pull = np.full(x.shape[1], PRIOR / 2)  # toward 0, as so many draws would
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (y - p) - pull * weights
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(pull)
        step = np.linalg.solve(hessian, gradient)
        weights = weights + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-6:
            break
    weights[:-1] -= weights[:-1].mean()
    return weights
