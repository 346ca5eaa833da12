"""What the records come to: means with intervals, the fitted curves of over-optimisation, votes saved. No files."""

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from benchmarks.alignment.policies import HALVES
from trivium.config import WatchConfig
from trivium.evaluate.preference import GLANCE
from trivium.phases.align.watch import watch
from trivium.train.phase import Measured

Record = dict[str, Any]
Point = tuple[float, float]
# of Student's t, two-sided 95 %, by degrees of freedom from 1 on; beyond, that of the normal
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10)


class Mean(NamedTuple):
    """Over seeds, with the 95 % interval of that mean; of a single seed there is none."""

    value: float
    low: float | None
    high: float | None
    seeds: int


def mean(values: Sequence[float]) -> Mean:
    value, count = statistics.fmean(values), len(values)
    if count == 1:
        return Mean(value, None, None, 1)
    wide = STUDENT[min(count - 2, len(STUDENT) - 1)] * statistics.stdev(values) / math.sqrt(count)
    return Mean(value, value - wide, value + wide, count)


class Fit(NamedTuple):
    """R(d) = d (alpha - beta log d), d the root of the KL: Gao et al. 2022, eq. 2, arXiv:2210.10760."""

    alpha: float
    beta: float

    def at(self, d: float) -> float:
        return d * (self.alpha - self.beta * math.log(d)) if d > 0 else 0.0

    @property
    def peak(self) -> float | None:
        """Where it turns over, in roots of nats; None where it does not."""
        return math.exp(self.alpha / self.beta - 1) if self.beta > 0 else None


def fit(points: Sequence[Point]) -> Fit | None:
    """Least squares over (root of the KL, gain since the start); None of fewer than three."""
    known = [(d, gain) for d, gain in points if d > 0]
    if len(known) < 3:
        return None
    d, gain = np.array(known).T
    (alpha, beta), *_ = np.linalg.lstsq(np.stack([d, -d * np.log(d)], 1), gain, rcond=None)
    return Fit(float(alpha), float(beta))


def gains(records: Sequence[Record], name: str) -> list[Point]:
    """(root of the KL, `name` minus what it was at first), all seeds together."""
    points = []
    for record in records:
        known = [one for one in record["curve"] if one["kl"] is not None and one[name] is not None]
        start = record["gold_at_first"] if name == "gold" else known[0][name] if known else 0.0
        points += [(math.sqrt(max(0.0, one["kl"])), one[name] - start) for one in known]
    return sorted(points)


def win_rate_at(points: Sequence[Point], kl: float) -> float | None:
    """Of rising (KL, win rate), by straight lines; None outside of them."""
    for (low, a), (high, b) in pairwise(points):
        if low <= kl <= high:
            return a + (b - a) * (kl - low) / (high - low or 1)
    return None


def kept_by_watch(record: Record, kl: float | None = None) -> tuple[Record, list[Record]]:
    """The evaluation that the watch would keep, and the curve as far as it is followed.

    kl  nats; the curve is followed until it is that far; None: to its end
    """
    far = next((i for i, one in enumerate(record["curve"]) if kl is not None and (one["kl"] or 0.0) >= kl), None)
    curve = record["curve"][: None if far is None else far + 1]
    seen = [Measured(one["step"], {k: v for k, v in one.items() if v is not None}) for one in curve]
    verdicts = (watch(seen[: i + 1], WatchConfig(), comparisons=GLANCE) for i in range(len(seen)))
    keep = 0
    for verdict in verdicts:
        keep = verdict.keep
        if verdict.reason:
            break
    return next(one for one in curve if one["step"] == keep), curve


def final_over_peak(record: Record, kl: float | None = None) -> float | None:
    """What the watch would keep, as a share of the best of the curve, both as gains over the start in gold.

    Both are measured on questions that the watch does not see; the best is chosen on one half of them and measured on
    the other, and the other way round: so neither is flattered by having been chosen for what chance gave it.
    None where that was not measured, or nothing is gained.
    """
    kept, curve = kept_by_watch(record, kl)
    if any(one.get(half) is None for one in curve for half in HALVES):
        return None
    gained, most = 0.0, 0.0
    for chosen_on, judged_on in (HALVES, HALVES[::-1]):
        best = max(curve, key=lambda one: one[chosen_on])
        gained += kept[judged_on] - curve[0][judged_on]
        most += best[judged_on] - curve[0][judged_on]
    return gained / most if most > 0 else None


ACCURACY, WIN_RATE = 1, 2  # columns, behind the votes


def votes_ratio(record: Record, column: int = WIN_RATE) -> float | None:
    """How many votes at random are worth one where the members disagree: at the best figure that both reach."""
    ways = [[(one[0], one[column]) for one in record[way] if len(one) > column] for way in ("random", "active")]
    if not all(ways):
        return None
    reached = min(max(figure for _, figure in points) for points in ways)
    first, second = (votes_at(points, reached) for points in ways)
    return first / second if first and second else None


def votes_at(points: Sequence[Point], figure: float) -> float | None:
    """The fewest votes that reach it, by straight lines between those that were tried."""
    before: Point | None = None
    for votes, reached in points:
        if reached >= figure:
            if before is None or reached == before[1]:
                return votes
            return before[0] + (votes - before[0]) * (figure - before[1]) / (reached - before[1])
        before = (votes, reached)
    return None
