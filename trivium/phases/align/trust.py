"""How far a reward model can be trusted, on held-out votes, and whether anything may learn from it."""

from collections.abc import Callable, Sequence
from functools import partial
from math import pi, sqrt
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivium.feedback.agreement import wilson_interval
from trivium.feedback.store import LabelledPair
from trivium.phases.align.scorer import Scorer

Floats = NDArray[np.float64]
Found = TypeVar("Found")
Fit = Callable[[Floats, Floats, Floats], Found]  # margin, length difference, vote → what is found
Apply = Callable[[Floats, Floats, Found], Floats]  # margin, length difference, that → one number for each pair
SURE = 1.96  # standard errors of a 95 % interval
MISTAKEN = 5  # pairs that are shown
HOTTEST = 20.0  # a temperature lies between this and its inverse: few pairs that are all right would have none
MOST_MISTAKEN = 0.4  # share of the votes
OF_A_SIGN = sqrt(2 / pi)  # how far the sign of what is normally distributed correlates with it


class Curve(NamedTuple):
    """What votes bought, and what more of them would."""

    votes: int  # learned from
    half_accuracy: float  # of a model that learned from half of them
    gain: float  # accuracy that the second half bought; as many votes again may buy as much
    gain_low: float
    gain_high: float


class RewardReport(NamedTuple):
    """How far a reward model can be trusted, on held-out votes."""

    accuracy: float  # share of the decided votes it agrees with
    accuracy_low: float
    accuracy_high: float
    ceiling: float | None  # the best that anything could reach against such votes; None when unknown
    ece: float  # expected calibration error, 0 to 1, of `confidence` as other votes taught it
    length_correlation: float | None  # of reward and length difference, at equal quality; None when it cannot be told
    longer_wins: float  # accuracy of "the longer answer wins"
    pairs: int  # decided held-out pairs
    by_margin: tuple[tuple[float, float, int], ...]  # (mean confidence, accuracy, pairs), least sure first
    raw_ece: float = 0.0  # of rewards as they are
    temperature: float = 1.0  # that makes rewards log-odds
    mistaken_votes: float = 0.0  # share of the votes that say the opposite, however sure one could be
    length_slope: float = 0.0  # reward per token that length alone adds, at equal quality
    over_longer: float = 0.0  # accuracy minus that of the longer answer
    over_longer_low: float = 0.0
    curve: Curve | None = None
    members: tuple[float, ...] = ()  # the same accuracy of each member alone
    levels: tuple[float, ...] = ()  # what each gives on average, taken off before they are combined
    spread: float = 0.0  # standard deviation of the members' margins, mean over the pairs
    mistaken: tuple[tuple[str, str, str, float], ...] = ()  # prompt, preferred, scored higher, by how much: worst first


def measure(
    scorer: Scorer, pairs: Sequence[LabelledPair], *, ceiling: float | None, debias_length: bool = False
) -> RewardReport:
    """The held-out report; tied votes say nothing about right and wrong and are left out.

    ceiling  the most that even the truth would agree with these votes, where it is known: the rest of them is mistaken

    Temperature and slope are fitted on one half of the pairs and judged on the other, and the other way round.
    """
    decided = [pair for pair in pairs if pair.preference != 0.5]
    if not decided:
        levels = tuple(scorer.ensemble.levels)
        return RewardReport(0.5, 0.0, 1.0, ceiling, 0.0, None, 0.5, 0, (), levels=levels)  # nothing is known
    found, lengths = scorer.of_pairs(decided)
    margin, longer = found.numpy().astype(np.float64), lengths.numpy().astype(np.float64)
    vote = np.array([1.0 if pair.preference > 0.5 else -1.0 for pair in decided])
    reliability = OF_A_SIGN * (1.0 if ceiling is None else 2 * ceiling - 1)
    slope = length_slope(margin, longer, vote, reliability=reliability)
    if debias_length:
        pull = partial(length_slope, reliability=reliability)
        margin = across(margin, longer, vote, pull, lambda m, x, s: m - s * x, usual=0.0)
    known = None if ceiling is None else 1 - ceiling
    seen = partial(across, margin, longer, vote, usual=(1.0, known or 0.0))
    sure = seen(lambda m, _, v: calibrate(m * v, known), lambda m, _, c: confidence(abs(m), *c))
    right, ruler = margin * vote > 0, (longer * vote > 0) + 0.5 * (longer == 0)
    low, high = wilson_interval(int(right.sum()), len(decided))
    bins = calibration(sure, right)
    temperature, wrong = calibrate(margin * vote, known)
    over, error = difference(right, ruler)
    each = scorer.of_pairs_by_member(decided).numpy().astype(np.float64)
    return RewardReport(
        accuracy=float(right.mean()),
        accuracy_low=low,
        accuracy_high=high,
        ceiling=ceiling,
        ece=calibration_error(bins),
        length_correlation=partial_correlation(margin, longer, vote, reliability=reliability),
        longer_wins=float(ruler.mean()),
        pairs=len(decided),
        by_margin=bins,
        raw_ece=calibration_error(calibration(confidence(np.abs(margin)), right)),
        temperature=temperature,
        mistaken_votes=wrong,
        length_slope=slope,
        over_longer=over,
        over_longer_low=over - SURE * error,
        members=tuple(((each * vote) > 0).mean(1).tolist()),
        levels=tuple(scorer.ensemble.levels),
        spread=float(each.std(0).mean()),
        mistaken=mistaken(decided, margin),
    )


def mistaken(pairs: Sequence[LabelledPair], margin: Floats) -> tuple[tuple[str, str, str, float], ...]:
    """The pairs in which it is surest of the answer that voters did not prefer."""
    found = []
    for pair, points in zip(pairs, margin.tolist(), strict=True):
        first_wins = pair.preference > 0.5
        if points and first_wins != (points > 0):
            answers = (pair.first, pair.second) if first_wins else (pair.second, pair.first)
            found.append(("".join(turn.content for turn in pair.prompt[-1:]), *answers, abs(points)))
    return tuple(sorted(found, key=lambda one: -one[3])[:MISTAKEN])


def learning_curve(whole: Scorer, half: Scorer, pairs: Sequence[LabelledPair], *, votes: int) -> Curve | None:
    """What the second half of the votes bought, pair by pair; None where no held-out pair is decided.

    whole, half  learned from all votes and from half of them
    """
    decided = [pair for pair in pairs if pair.preference != 0.5]
    if not decided:
        return None
    vote = np.array([pair.preference - 0.5 for pair in decided])
    right, before = (scorer.of_pairs(decided)[0].numpy() * vote > 0 for scorer in (whole, half))
    gain, error = difference(right, before)
    return Curve(votes, float(before.mean()), gain, gain - SURE * error, gain + SURE * error)


def objection(report: RewardReport) -> str:
    """Why nothing should learn from this reward model; empty when something may."""
    share = f"it agrees with {report.accuracy:.3f} ({report.accuracy_low:.3f} to {report.accuracy_high:.3f})"
    of = f"of {report.pairs:,} held-out votes"
    if report.accuracy_low <= 0.5:
        return f"{share} {of}, which is not surely better than chance"
    if report.over_longer_low <= 0:
        rule = f"the rule that the longer answer wins agrees with {report.longer_wins:.3f}"
        return f"{share} {of}, and {rule}, than which it is not surely better"
    return ""


def is_better(report: RewardReport) -> bool:
    """Whether it agrees with more of the held-out votes than chance and than the longer answer would, surely or not."""
    return report.accuracy > 0.5 and report.over_longer > 0


def read_report(data: bytes) -> RewardReport:
    """As it was written, but for the curve."""
    found = msgspec.json.decode(data)
    return RewardReport(**{name: value for name, value in found.items() if name != "curve"})


def across(
    margin: Floats, longer: Floats, vote: Floats, fit: Fit[Found], apply: Apply[Found], *, usual: Found
) -> Floats:
    """What `apply` makes of each half of the pairs, with what `fit` found on the other half; of one pair, the usual."""
    halves = [np.arange(len(margin)) % 2 == side for side in (0, 1)]
    made = margin.copy()
    for mine, other in (halves, halves[::-1]):
        found = fit(margin[other], longer[other], vote[other]) if other.any() else usual
        made[mine] = apply(margin[mine], longer[mine], found)
    return made


def length_slope(margin: Floats, longer: Floats, vote: Floats, *, reliability: float = 1.0) -> float:
    """Reward per token of length at equal quality: least squares on quality and length; 0 where length is constant,
    or where votes say nothing of quality.

    vote         (pairs,) 1 or -1: what is better, but for votes that are mistaken
    reliability  correlation of votes and true quality: 1 minus twice the share of the mistaken, times OF_A_SIGN, since
                 a vote says which is better and not by how much (biserial: Pearson 1909). Votes tell less of quality
                 than there is, so length seems to add what quality does (Fuller 1987, "Measurement Error Models", 1.1)
    """
    if reliability <= 0:  # the votes say nothing of quality
        return 0.0
    spread = float((longer * longer).mean())
    with_length = float((vote * longer).mean()) / reliability
    with_margin = float((vote * margin).mean()) / reliability
    left = spread - with_length**2
    return (float((longer * margin).mean()) - with_length * with_margin) / left if left > 1e-9 * spread else 0.0


def difference(right: NDArray[Any], other: NDArray[Any]) -> tuple[float, float]:
    """Mean difference of two accuracies on the same pairs, and its standard error."""
    gaps = right.astype(np.float64) - other
    return float(gaps.mean()), float(gaps.std() / sqrt(len(gaps)))


def calibration_error(bins: Sequence[tuple[float, float, int]]) -> float:
    """Mean distance of confidence and accuracy, weighed by pairs."""
    return sum(abs(sure - right) * count for sure, right, count in bins) / sum(count for _, _, count in bins)


def calibration(
    sure: NDArray[np.float64], right: NDArray[np.bool_], *, bins: int = 10
) -> tuple[tuple[float, float, int], ...]:
    """Confidence beside accuracy, in bins of equally many pairs. Guo et al. 2017, arXiv:1706.04599.

    sure  (pairs,) 0.5 to 1
    """
    order = np.argsort(sure, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    return tuple((float(sure[part].mean()), float(right[part].mean()), len(part)) for part in parts)


def confidence(margin: Floats, temperature: float = 1.0, mistaken: float = 0.0) -> Floats:
    """How probably a voter prefers the first of two answers: mistaken + (1 - 2 mistaken) sigmoid(margin / temperature).

    margin    (pairs,) reward of the first minus that of the second
    mistaken  share of the votes that say the opposite: no margin, however wide, is surer than the rest
    """
    return np.asarray(mistaken + (1 - 2 * mistaken) / (1 + np.exp(-np.clip(margin / temperature, -500, 500))))


def calibrate(signed: Floats, mistaken: float | None = None) -> tuple[float, float]:
    """Temperature and share of mistaken votes under which `confidence` is most likely to have given the votes.

    signed    (pairs,) margin, positive where the vote agrees
    mistaken  where it is known; else the likeliest one is sought too
    """
    shares = np.linspace(0, MOST_MISTAKEN, 17) if mistaken is None else np.array([mistaken])
    scales = np.geomspace(1 / HOTTEST, HOTTEST, 121)
    likely = [[np.log(confidence(signed, t, m) + 1e-12).sum() for t in scales] for m in shares]
    share, scale = np.unravel_index(int(np.argmax(likely)), (len(shares), len(scales)))
    return float(scales[scale]), float(shares[share])


def partial_correlation(x: Floats, y: Floats, given: Floats, *, reliability: float = 1.0) -> float | None:
    """Pearson correlation of x and y with what `given` explains linearly taken out of both.

    returns  None where that leaves nothing of one of them: it is constant, or `given` says it all, or nothing

    reliability  of `given`, as in `length_slope`
    r_xy.z = (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2))
    """

    def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        spread = a.std() * b.std()
        return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else 0.0

    if reliability <= 0:
        return None
    xy, xz, yz = correlation(x, y), correlation(x, given) / reliability, correlation(y, given) / reliability
    rest = (1 - xz**2) * (1 - yz**2)
    defined = x.std() > 0 < y.std() and xz**2 < 1 > yz**2 and rest > 0
    return max(-1.0, min(1.0, (xy - xz * yz) / sqrt(rest))) if defined else None
