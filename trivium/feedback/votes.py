"""What a vote is: raters, pairs, votes as plain values, and what each may say. Knows nothing of databases.

A vote names an answer by content, "first" or "second" as the pair is stored, never by its place on a screen: where the
answers stood is only recorded (`shown_swapped`), and `choice_of` is the one place that translates.
"""

import hashlib
import json
from collections.abc import Sequence
from math import isfinite
from typing import Literal, NamedTuple, get_args

from trivium.errors import DataError
from trivium.records import Message, Pair

Choice = Literal["first", "second", "tie", "both_bad", "skip"]
Shown = Literal["left", "right", "tie", "both_bad", "skip"]
Policy = Literal["random", "active", "comparison", "known", "given"]  # how a pair was chosen to be voted on
Purpose = Literal["fresh", "shared", "again", "known"]  # why a rater is shown a pair

IMPORTED = "imported"  # the rater that votes from files of other tools are filed under
SIMULATED = "simulated"  # the first word of every simulated rater's name, and of no other's

_WORTH_OF_FIRST: dict[str, float] = {"first": 1.0, "second": 0.0, "tie": 0.5, "both_bad": 0.5}


class Rater(NamedTuple):
    id: int
    name: str
    simulated: bool


class NewPair(NamedTuple):
    """Two answers to one prompt. Their order is kept: it is what "first" and "second" mean in every vote on them."""

    prompt: tuple[Message, ...]
    first: str
    second: str
    round: int
    first_model: str = ""  # fingerprint of the model that wrote it; empty when unknown
    second_model: str = ""
    source: str = "sampled"  # or "file:line"

    @property
    def key(self) -> str:
        """SHA-256 of the prompt, the answers and the models, in this order."""
        content = [self.prompt, self.first, self.second, self.first_model, self.second_model]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


class StoredPair(NamedTuple):
    id: int
    key: str  # content key: the same in every database
    round: int
    prompt: tuple[Message, ...]
    first: str
    second: str
    first_model: str
    second_model: str
    source: str

    def shown(self, *, swapped: bool) -> tuple[str, str]:
        """The answers as (left, right) on a screen."""
        return (self.second, self.first) if swapped else (self.first, self.second)


class NewVote(NamedTuple):
    pair_id: int
    rater_id: int
    choice: Choice
    idempotency_key: str  # made once by the asker, sent again with every retry
    shown_swapped: bool = False  # the first answer stood on the right
    seconds: float = 0.0  # taken to decide
    comment: str = ""
    repeat: int = 0  # how often this rater was asked about the pair before; those after the first only measure


class Vote(NamedTuple):
    id: int
    pair_id: int
    rater_id: int
    choice: Choice
    shown_swapped: bool
    seconds: float
    comment: str
    created_at: str  # ISO 8601, UTC
    idempotency_key: str
    repeat: int
    attempt: int  # votes of this rater on this asking that were withdrawn before
    rater: str
    simulated: bool
    withdrawn_at: str | None  # ISO 8601, UTC; None: it counts


class NewQueued(NamedTuple):
    """A pair to be voted on."""

    pair: NewPair
    policy: Policy = "random"
    score: float | None = None  # how uncertain the reward models are, nats
    known: Choice | None = None  # the answer that is right, where it is known
    probability: float | None = None  # of being chosen by the policy, where it drew
    ended: tuple[bool, bool] = (True, True)  # whether each answer came to its end by itself


class Queued(NamedTuple):
    """A pair in the queue, and how many raters have voted on it."""

    pair_id: int
    round: int
    votes: int
    policy: Policy
    score: float | None
    known: Choice | None
    probability: float | None
    ended: tuple[bool, bool]


class Shares(NamedTuple):
    """Of the pairs that a rater is shown: how many are asked for measuring. The rest is fresh."""

    shared: float = 0.1  # others have voted on it: agreement
    again: float = 0.05  # the same rater has, with the sides exchanged: consistency
    known: float = 0.05  # the right answer is known


USUAL_SHARES = Shares()


class Showing(NamedTuple):
    """A pair as one rater sees it. It names no model."""

    id: int
    pair_id: int
    rater_id: int
    repeat: int
    purpose: Purpose
    shown_swapped: bool
    shown_at: str  # ISO 8601, UTC
    prompt: tuple[Message, ...]
    left: str
    right: str
    ended: tuple[bool, bool]  # left, right
    policy: Policy  # by which the pair was chosen
    probability: float | None  # with which that policy chose the pair; None where nothing was drawn
    drawn: float | None  # chance that a showing is for this purpose; None of those given before it was kept


class Answer(NamedTuple):
    """What a rater says about a showing, by where the answers stood."""

    showing_id: int
    rater_id: int
    shown: Shown
    idempotency_key: str  # made once by the asker, sent again with every retry
    seconds: float = 0.0
    comment: str = ""


class Comparison(NamedTuple):
    """A vote between two models, each known by its fingerprint."""

    first_model: str
    second_model: str
    first: str
    second: str
    choice: Choice
    round: int
    simulated: bool


class LabelledPair(NamedTuple):
    """A pair and the mean of its votes."""

    prompt: tuple[Message, ...]
    first: str
    second: str
    preference: float  # in [0, 1]: 1 when all chose the first; a tie and "both bad" count one half
    votes: int  # those that count: not "skip"
    simulated: bool  # at least one of them was simulated
    round: int
    source: str
    pair_id: int

    def decided(self) -> Pair:
        """By majority, as a record; the strength of the preference is dropped."""
        answers = (self.first, self.second) if self.preference >= 0.5 else (self.second, self.first)
        return Pair(self.prompt, *answers, source=self.source, tie=self.preference == 0.5)


class Counts(NamedTuple):
    pairs: int
    raters: int
    simulated_raters: int
    votes: int
    simulated_votes: int
    choices: dict[str, int]


def choice_of(shown: Shown, *, shown_swapped: bool) -> Choice:
    """What was chosen, by content: the left answer is the first unless the answers were swapped."""
    if shown == "left":
        return "second" if shown_swapped else "first"
    if shown == "right":
        return "first" if shown_swapped else "second"
    return shown


def label(pair: StoredPair, votes: Sequence[Vote]) -> LabelledPair:
    """The pair and what its votes say on average."""
    preference = sum(_WORTH_OF_FIRST[vote.choice] for vote in votes) / len(votes)
    simulated = any(vote.simulated for vote in votes)
    return LabelledPair(
        pair.prompt, pair.first, pair.second, preference, len(votes), simulated, pair.round, pair.source, pair.id
    )


def check_pair(pair: NewPair) -> None:
    for field in ("first_model", "second_model", "source"):
        if value := getattr(pair, field):
            check_name(f"{pair.source}: {field}", value)


def check_queued(queued: NewQueued) -> None:
    check_pair(queued.pair)
    if queued.policy not in get_args(Policy):
        raise DataError(f'policy "{queued.policy}" is unknown; choose one of {", ".join(get_args(Policy))}')
    if (queued.policy == "known") != (queued.known is not None):
        raise DataError(f'{queued.pair.source}: policy "known", and no other, comes with the answer that is right')
    if queued.known is not None and queued.known not in ("first", "second"):
        raise DataError(f'{queued.pair.source}: known = "{queued.known}": must be first or second')
    if queued.score is not None and not isfinite(queued.score):
        raise DataError(f"{queued.pair.source}: score = {queued.score}: must be finite")
    if queued.probability is not None and not 0 <= queued.probability <= 1:
        raise DataError(f"{queued.pair.source}: probability = {queued.probability}: must be in [0, 1]")


def check_answer(answer: Answer) -> None:
    if answer.shown not in get_args(Shown):
        raise DataError(f'"{answer.shown}" is no answer; choose one of {", ".join(get_args(Shown))}')
    choice = choice_of(answer.shown, shown_swapped=False)
    check_vote(NewVote(0, answer.rater_id, choice, answer.idempotency_key, seconds=answer.seconds))


def check_shares(shares: Shares) -> None:
    if min(shares) < 0 or sum(shares) > 1:
        raise DataError(f"{shares}: shares must not be negative, nor more than 1 together")


def check_vote(vote: NewVote) -> None:
    check_name("idempotency key", vote.idempotency_key)
    if vote.choice not in get_args(Choice):
        raise DataError(f'choice "{vote.choice}" is unknown; choose one of {", ".join(get_args(Choice))}')
    if not (isfinite(vote.seconds) and vote.seconds >= 0):
        raise DataError(f"seconds = {vote.seconds}: must be finite and not negative")


def check_name(what: str, name: str) -> None:
    if not (name.isprintable() and 0 < len(name) <= 200):
        raise DataError(f"{what} {name!r:.60}: must be 1 to 200 printable characters")
