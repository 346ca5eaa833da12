"""Which model is preferred: Bradley-Terry strengths with and without covariates, and who beat whom. Numbers only."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivium.errors import DataError
from trivium.feedback.agreement import Interval, wilson_interval
from trivium.feedback.votes import Comparison

Floats = NDArray[np.float64]
Covariate = Literal["length", "repetition"]
_WORTH = {"first": 1.0, "second": 0.0, "tie": 0.5, "both_bad": 0.5}


class Standing(NamedTuple):
    """A model's strength, nats, the mean over all models being 0: P(i beats j) = sigmoid(s_i - s_j)."""

    model: str
    strength: float
    low: float
    high: float
    votes: int


class Effect(NamedTuple):
    """What a covariate does to the preference, nats per standard deviation of its difference."""

    covariate: Covariate
    effect: float
    low: float
    high: float


class Standings(NamedTuple):
    players: list[Standing]  # the strongest first
    effects: list[Effect]
    comparisons: int


class WinMatrix(NamedTuple):
    models: list[str]
    rates: list[list[Interval | None]]  # the row against the column, a tie half a win; None where they never met
    counts: list[list[int]]


def between_models(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Those that say something: two models, both known, and a judgement."""
    return [
        one
        for one in comparisons
        if one.choice != "skip" and one.first_model and one.second_model and one.first_model != one.second_model
    ]


def standings(
    comparisons: Sequence[Comparison],
    *,
    covariates: Sequence[Covariate] = (),
    prior: float = 0.1,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> Standings:
    """Bradley-Terry as a logistic regression, and percentile bootstrap intervals over comparisons.

    P(first) = sigmoid(s_first - s_second + sum_c b_c x_c), x_c the difference of the answers in covariate c, divided by
    its root mean square: strengths with covariates are those at equal length or equal repetition.

    prior   > 0: weight of s^2 / 2 and b^2 / 2 in the loss, nats; keeps who never lost finite
    Chiang et al. 2024, section 4, arXiv:2403.04132; covariates after Li et al. 2024, "Does style matter?"
    """
    if not prior > 0:
        raise DataError(f"prior = {prior}: must be positive, or a model that never loses is infinitely strong")
    kept = between_models(comparisons)
    models = sorted({model for one in kept for model in (one.first_model, one.second_model)})
    if not kept:
        return Standings([], [], 0)
    design, worth = _design(kept, models, covariates)
    chance = np.random.default_rng(seed)
    weights = np.concatenate(
        [np.ones((1, len(kept))), chance.multinomial(len(kept), np.full(len(kept), 1 / len(kept)), size=resamples)]
    )
    found = np.array([_fit(design, worth, weight, prior) for weight in weights])  # (1 + resamples, models + covariates)
    found[:, : len(models)] -= found[:, : len(models)].mean(1, keepdims=True)
    tail = (1 - confidence) / 2
    low, high = np.quantile(found[1:], [tail, 1 - tail], axis=0) if resamples else found[[0, 0]]
    votes = Counter(model for one in kept for model in (one.first_model, one.second_model))
    rows = [(float(found[0, i]), float(low[i]), float(high[i])) for i in range(found.shape[1])]
    players = [Standing(model, *row, votes[model]) for model, row in zip(models, rows, strict=False)]
    effects = [Effect(name, *row) for name, row in zip(covariates, rows[len(models) :], strict=True)]
    return Standings(sorted(players, key=lambda player: -player.strength), effects, len(kept))


def _design(
    kept: Sequence[Comparison], models: Sequence[str], covariates: Sequence[Covariate]
) -> tuple[Floats, Floats]:
    """(N, models + covariates) and what each comparison was worth to the first answer, (N,)."""
    place = {model: i for i, model in enumerate(models)}
    design = np.zeros((len(kept), len(models) + len(covariates)))
    for row, one in zip(design, kept, strict=True):
        row[place[one.first_model]] += 1
        row[place[one.second_model]] -= 1
        for column, name in enumerate(covariates, start=len(models)):
            row[column] = covariate(name, one.first) - covariate(name, one.second)
    spread = np.sqrt((design[:, len(models) :] ** 2).mean(0))
    design[:, len(models) :] /= np.where(spread > 0, spread, 1)
    return design, np.array([_WORTH[one.choice] for one in kept])


def covariate(name: Covariate, answer: str) -> float:
    """length: log of 1 + characters; repetition: share of the words that stood there before, in [0, 1)."""
    if name == "length":
        return float(np.log1p(len(answer)))
    if name == "repetition":
        words = answer.lower().split()
        return 1 - len(set(words)) / len(words) if words else 0.0
    raise DataError(f'covariate "{name}" is unknown; choose length or repetition')


def _fit(design: Floats, worth: Floats, weight: Floats, prior: float, *, max_steps: int = 100) -> Floats:
    """(columns,) of the highest penalised likelihood, by Newton's steps of bounded length."""
    found = np.zeros(design.shape[1])
    for _ in range(max_steps):
        chance = 1 / (1 + np.exp(-np.clip(design @ found, -50, 50)))
        gradient = design.T @ (weight * (worth - chance)) - prior * found
        hessian = (design * (weight * chance * (1 - chance))[:, None]).T @ design + prior * np.eye(len(found))
        step = np.linalg.solve(hessian, gradient)
        found += step * min(1.0, 2 / max(2.0, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-8:
            return found
    raise AssertionError("Newton's steps on a strictly concave likelihood must end")


def win_matrix(comparisons: Sequence[Comparison], *, confidence: float = 0.95) -> WinMatrix:
    """How often each model was preferred to each other one."""
    kept = between_models(comparisons)
    models = sorted({model for one in kept for model in (one.first_model, one.second_model)})
    place = {model: i for i, model in enumerate(models)}
    won, met = np.zeros((2, len(models), len(models)))
    for one in kept:
        i, j = place[one.first_model], place[one.second_model]
        won[i, j] += _WORTH[one.choice]
        won[j, i] += 1 - _WORTH[one.choice]
        met[i, j] += 1
        met[j, i] += 1
    rates = [
        [
            Interval(won[i, j] / met[i, j], *wilson_interval(won[i, j], met[i, j], confidence=confidence))
            if met[i, j]
            else None
            for j in range(len(models))
        ]
        for i in range(len(models))
    ]
    return WinMatrix(models, rates, met.astype(int).tolist())
