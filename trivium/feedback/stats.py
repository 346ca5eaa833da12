"""What the votes of a run come to: `trivium feedback stats`."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trivium.feedback.agreement import Agreement, agreement, ceiling_range, votes_needed
from trivium.feedback.raters import Assessment, assess_raters
from trivium.feedback.store import Store
from trivium.feedback.votes import Vote

ENOUGH = 2000  # comparisons at which reinforcement pays in published work: Gao et al. 2022, arXiv:2210.10760


class RoundStats(NamedTuple):
    round: int
    votes: int  # skips left out
    simulated: int
    pairs: int
    choices: dict[str, int]
    policies: dict[str, int]  # of the pairs voted on that came by the queue


class Goal(NamedTuple):
    """A number of votes, and what it is good for."""

    votes: int
    meaning: str


class Stats(NamedTuple):
    votes: int  # skips left out, withdrawn ones too
    simulated: int
    withdrawn: int
    waiting: int
    rounds: list[RoundStats]
    raters: list[Assessment]
    agreement: Agreement | None  # of people with people; of all where no person voted
    ceiling: tuple[float, float] | None  # what a reward model can reach against single votes
    goal: Goal


def goals() -> list[Goal]:
    return [
        Goal(votes_needed(0.6), "enough to tell a win rate of 60% from a coin"),
        Goal(votes_needed(0.55), "enough to tell a win rate of 55% from a coin"),
        Goal(ENOUGH, "about where reinforcement pays in published work"),
    ]


def next_goal(votes: int) -> Goal:
    """What so many votes have not reached yet; the last one when all are."""
    return next((goal for goal in goals() if votes < goal.votes), goals()[-1])


def summarise(store: Store) -> Stats:
    queued = store.queued()
    history = store.history()
    votes = [vote for vote in history if vote.withdrawn_at is None]
    known = {pair_id: entry.known for pair_id, entry in queued.items() if entry.known is not None}
    cast = [vote for vote in votes if vote.choice != "skip"]
    people = [vote for vote in cast if not vote.simulated and not vote.repeat]
    judged = people or [vote for vote in cast if not vote.repeat]
    found = agreement((vote.pair_id, vote.choice) for vote in judged)
    decided = agreement((vote.pair_id, vote.choice) for vote in judged if vote.choice in ("first", "second"))
    rounds = {pair.id: pair.round for pair in store.pairs()}
    return Stats(
        votes=len(cast),
        simulated=sum(vote.simulated for vote in cast),
        withdrawn=len(history) - len(votes),
        waiting=sum(not entry.votes for entry in queued.values()),
        rounds=_by_round(votes, rounds, {pair_id: entry.policy for pair_id, entry in queued.items()}),
        raters=assess_raters(votes, known),
        agreement=found,
        ceiling=ceiling_range(decided.rate) if decided else None,
        goal=next_goal(len(people)),
    )


def _by_round(votes: Sequence[Vote], rounds: Mapping[int, int], policies: Mapping[int, str]) -> list[RoundStats]:
    grouped: dict[int, list[Vote]] = defaultdict(list)
    for vote in votes:
        grouped[rounds[vote.pair_id]].append(vote)
    found = []
    for number, group in sorted(grouped.items()):
        cast, pairs = [vote for vote in group if vote.choice != "skip"], {vote.pair_id for vote in group}
        choices: Counter[str] = Counter(vote.choice for vote in group)
        chosen = Counter(policies[pair] for pair in pairs if pair in policies)
        simulated = sum(vote.simulated for vote in cast)
        found.append(RoundStats(number, len(cast), simulated, len(pairs), dict(choices), dict(chosen)))
    return found
