"""How each rater votes: agreement, consistency, known answers, speed, sides, drift. It flags and removes nothing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import exp, log
from statistics import fmean, median
from typing import Literal, NamedTuple

from trivium.feedback.agreement import Interval, wilson_interval
from trivium.feedback.votes import Choice, Vote

MIN_VOTES = 20  # fewer say little about a rater
HASTY = 0.25  # of the median time of all raters
FlagKind = Literal["agreement", "consistency", "known", "speed", "side", "drift"]


class Flag(NamedTuple):
    kind: FlagKind
    reason: str


class Assessment(NamedTuple):
    """What one rater's votes say about the rater. Each interval is None where there is nothing to compare."""

    rater: str
    simulated: bool
    votes: int  # skips left out
    skips: int
    agreement: Interval | None  # with each other rater's vote on the same pair
    consistency: Interval | None  # with the same rater's earlier vote
    known_right: Interval | None
    seconds: float | None  # median; None where no time was taken
    left: Interval | None  # of the votes for one side
    ties: Interval | None  # "both bad" is one
    drift: float | None  # agreement in the later half of the votes minus in the earlier half
    flags: list[Flag]


def assess_raters(
    votes: Sequence[Vote], known: Mapping[int, Choice], *, min_votes: int = MIN_VOTES, confidence: float = 0.99
) -> list[Assessment]:
    """One assessment for each rater, by name.

    votes       those that count, in the order they came
    known       the right answer by pair id
    confidence  of the intervals; at 0.95 one careful rater in twenty would be flagged for a side
    """
    by_rater: dict[str, list[Vote]] = defaultdict(list)
    on_pair: dict[int, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_rater[vote.rater].append(vote)
        if vote.choice != "skip" and not vote.repeat:
            on_pair[vote.pair_id].append(vote)
    paces = [pace for pace in (_pace(own) for own in by_rater.values()) if pace is not None]
    usual = median(paces) if len(paces) > 1 else None
    return [
        _flagged(_assess(own, on_pair, known, confidence), usual, min_votes, on_pair, own)
        for _, own in sorted(by_rater.items())
    ]


def _assess(
    own: Sequence[Vote], on_pair: Mapping[int, list[Vote]], known: Mapping[int, Choice], confidence: float
) -> Assessment:
    cast = [vote for vote in own if vote.choice != "skip"]
    first = {vote.pair_id: vote.choice for vote in cast if not vote.repeat}
    agreed = _agreements(cast, on_pair)
    again = [float(vote.choice == first[vote.pair_id]) for vote in cast if vote.repeat and vote.pair_id in first]
    right = [float(vote.choice == known[vote.pair_id]) for vote in cast if vote.pair_id in known]
    shown = [vote for vote in cast if vote.simulated or vote.seconds > 0]  # of others it is not known where each stood
    left = [
        float((vote.choice == "first") != vote.shown_swapped) for vote in shown if vote.choice in ("first", "second")
    ]
    ties = [float(vote.choice in ("tie", "both_bad")) for vote in cast]
    half = len(agreed) // 2
    return Assessment(
        rater=own[0].rater,
        simulated=own[0].simulated,
        votes=len(cast),
        skips=len(own) - len(cast),
        agreement=_share(agreed, confidence),
        consistency=_share(again, confidence),
        known_right=_share(right, confidence),
        seconds=_pace(own),
        left=_share(left, confidence),
        ties=_share(ties, confidence),
        drift=fmean(agreed[half:]) - fmean(agreed[:half]) if half else None,
        flags=[],
    )


def _agreements(cast: Sequence[Vote], on_pair: Mapping[int, list[Vote]]) -> list[float]:
    """Of each vote on a pair that others judged too: the share of them who said the same. In the order they came."""
    shares = []
    for vote in cast:
        others = [other.choice for other in on_pair[vote.pair_id] if other.rater_id != vote.rater_id]
        if others and not vote.repeat:
            shares.append(fmean(choice == vote.choice for choice in others))
    return shares


def _share(outcomes: Sequence[float], confidence: float) -> Interval | None:
    if not outcomes:
        return None
    return Interval(fmean(outcomes), *wilson_interval(sum(outcomes), len(outcomes), confidence=confidence))


def _pace(own: Sequence[Vote]) -> float | None:
    taken = [vote.seconds for vote in own if vote.seconds > 0]
    return median(taken) if taken else None


def _flagged(
    found: Assessment, usual: float | None, min_votes: int, on_pair: Mapping[int, list[Vote]], own: Sequence[Vote]
) -> Assessment:
    """With what a person should look at: only what its interval bears out."""
    if found.votes < min_votes:
        return found
    flags = []
    if found.agreement and found.agreement.high < 0.5:
        flags.append(Flag("agreement", f"agrees with others in {_told(found.agreement)} of the pairs both judged"))
    if found.consistency and found.consistency.high < 0.75:
        flags.append(Flag("consistency", f"asked again, gives the same answer in {_told(found.consistency)}"))
    if found.known_right and found.known_right.high < 0.75:
        flags.append(Flag("known", f"right in {_told(found.known_right)} of the pairs whose answer is known"))
    if found.seconds is not None and usual is not None and found.seconds < HASTY * usual:
        flags.append(Flag("speed", f"decides in {found.seconds:.1f} s, where the median rater takes {usual:.1f} s"))
    if found.left and not found.left.low <= 0.5 <= found.left.high:
        flags.append(Flag("side", f"prefers the left answer in {_told(found.left)}; sides are drawn evenly"))
    agreed = _agreements([vote for vote in own if vote.choice != "skip"], on_pair)
    if found.drift is not None and found.drift < 0 and _differ(agreed) < 0.01:
        flags.append(Flag("drift", f"agrees with others {-found.drift:.0%} less in the later half of the votes"))
    return found._replace(flags=flags)


def _told(share: Interval) -> str:
    return f"{share.rate:.0%} ({share.low:.0%} to {share.high:.0%})"


def _differ(outcomes: Sequence[float]) -> float:
    """Two-sided chance that two halves alike differ so much: Hoeffding's bound, for values in [0, 1] of any kind.

    P(|mean_1 - mean_2| >= d) <= 2 exp(-2 d^2 / (1/n_1 + 1/n_2))
    Hoeffding 1963, eq. 2.6, doi:10.1080/01621459.1963.10500830
    """
    half = len(outcomes) // 2
    distance = fmean(outcomes[half:]) - fmean(outcomes[:half])
    return min(1.0, exp(log(2) - 2 * distance * distance / (1 / half + 1 / (len(outcomes) - half))))
