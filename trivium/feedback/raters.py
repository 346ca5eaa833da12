"""What the votes of each rater look like: how far they agree with others, how fast, how evenly. Flags, no verdict.

Votes in, numbers out; no store.
"""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

from trivium.feedback.agreement import Agreement, Interval, agreement, wilson_interval
from trivium.feedback.votes import Vote

ENOUGH = 20  # votes before anything is flagged
HASTY = 1.0  # seconds, in the median, in which two answers can hardly be read
DECIDED = ("first", "second")


class RaterStatistics(NamedTuple):
    """One rater. Intervals are of 95 %; None where there is nothing to count."""

    name: str
    simulated: bool
    votes: int  # without those that were skipped
    skipped: int
    ties: float  # share of the votes that prefer neither
    agreement: Interval | None  # with the other raters, on pairs that both decided
    agreement_pairs: int
    seconds: float | None  # median; None for votes that nobody clocked
    left: Interval | None  # share of the decided votes for the left answer
    drift: float | None  # agreement in the second half of the votes minus that in the first
    flags: list[str]


def rater_statistics(votes: Sequence[Vote]) -> list[RaterStatistics]:
    """Each rater who voted, the most active one first.

    votes  in the order they came
    """
    by_rater: dict[int, list[Vote]] = defaultdict(list)
    choices: dict[int, dict[int, str]] = defaultdict(dict)  # pair → rater → choice
    for vote in votes:
        by_rater[vote.rater_id].append(vote)
        if vote.choice in DECIDED:
            choices[vote.pair_id][vote.rater_id] = vote.choice
    found = [_statistics(own, choices) for own in by_rater.values()]
    return sorted(found, key=lambda one: -one.votes)


def team_agreement(votes: Sequence[Vote]) -> Agreement | None:
    """How often two people who both chose an answer chose the same one; simulated raters are left out."""
    return agreement((vote.pair_id, vote.choice) for vote in votes if vote.choice in DECIDED and not vote.simulated)


def _statistics(own: Sequence[Vote], choices: dict[int, dict[int, str]]) -> RaterStatistics:
    cast = [vote for vote in own if vote.choice != "skip"]
    decided = [vote for vote in cast if vote.choice in DECIDED]
    shares = [share for vote in decided if (share := _shared(vote, choices)) is not None]
    agreed = Interval(fmean(shares), *wilson_interval(sum(shares), len(shares))) if shares else None
    timed = [vote.seconds for vote in cast if vote.seconds > 0]
    on_left = sum((vote.choice == "first") != vote.shown_swapped for vote in decided)
    clocked = bool(timed)  # only what stood on a screen has a left side
    left = Interval(on_left / len(decided), *wilson_interval(on_left, len(decided))) if decided and clocked else None
    half = len(shares) // 2
    drift = fmean(shares[half:]) - fmean(shares[:half]) if half >= ENOUGH // 2 else None
    known = RaterStatistics(
        own[0].rater,
        own[0].simulated,
        len(cast),
        len(own) - len(cast),
        1 - len(decided) / len(cast) if cast else 0.0,
        agreed,
        len(shares),
        median(timed) if timed else None,
        left,
        drift,
        [],
    )
    return known._replace(flags=flags_of(known))


def _shared(vote: Vote, choices: dict[int, dict[int, str]]) -> float | None:
    """Share of the others who chose the same; None when nobody else decided this pair."""
    others = [choice for rater, choice in choices[vote.pair_id].items() if rater != vote.rater_id]
    return fmean(choice == vote.choice for choice in others) if others else None


def flags_of(one: RaterStatistics) -> list[str]:
    """What somebody should look at; nothing is ever left out because of it."""
    if one.votes < ENOUGH:
        return []
    told = []
    if one.agreement and one.agreement.high < 0.5:
        told.append("disagrees with the others more often than not")
    elif one.agreement and one.agreement_pairs >= ENOUGH and one.agreement.low <= 0.5:
        told.append("agrees with the others hardly more than a coin would")
    if one.seconds is not None and one.seconds < HASTY:
        told.append("votes faster than two answers can be read")
    if one.left and (one.left.low > 0.5 or one.left.high < 0.5):
        told.append(f"takes the {'left' if one.left.rate > 0.5 else 'right'} answer more often than chance would")
    if one.drift is not None and one.drift < -0.2:
        told.append("agrees less with the others than at first")
    return told
