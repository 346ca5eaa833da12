"""Pairs handed out to raters, their votes taken in, and how far they have come. What a rater sees names no model."""

import threading
import time
from collections import Counter
from contextlib import nullcontext
from typing import Any, NamedTuple

from trivium.feedback.stats import next_goal
from trivium.feedback.store import Answer, Showing, Shown, Store, Vote
from trivium.story.asking import Asker

FRESH = 20.0  # seconds after which votes are counted anew: other programs may have stored some
OFTEN = 2.0  # seconds between looks at how many pairs wait


class Slip(NamedTuple):
    """A vote as it comes from a page."""

    showing: int
    shown: Shown
    seconds: float
    comment: str
    key: str


class Progress(NamedTuple):
    """How many votes of people the coming round has, and what the next number of them is good for."""

    votes: int
    goal: int
    meaning: str
    mine: int


class Ballots:
    """Threads may share it."""

    def __init__(self, store: Store, asker: Asker) -> None:
        self.asker = asker
        self._store = store
        self._looked = 0.0
        self._newest = 0  # vote that was counted
        self._tally: tuple[int, float, Counter[int]] = (0, 0.0, Counter())  # round, counted at, votes by rater
        # where one writes at a time, waiting here is fair, waiting in the database is not
        self._pen = threading.Lock() if store.has_one_writer else nullcontext()
        self._sums = threading.Lock()

    def hand_out(self, rater_id: int, count: int) -> list[dict[str, Any]]:
        """Up to `count` pairs for this rater, those given before first; more are written meanwhile."""
        round = self.asker.round
        with self._pen:
            given = self.asker.hand_out(rater_id, count, round=round)
        with self._sums:
            looks = len(given) < count or time.monotonic() - self._looked > OFTEN
            self._looked = time.monotonic() if looks else self._looked
        if looks:
            self.asker.refill(round=round)
        return [as_ballot(showing) for showing in given]

    def cast(self, slip: Slip, rater_id: int) -> Vote:
        """The vote, once it is durable. The same key again gives the same vote."""
        key, round = f"studio:{rater_id}:{slip.key}", self.asker.round
        with self._pen:
            vote = self._store.answer(Answer(slip.showing, rater_id, slip.shown, key, slip.seconds, slip.comment))
        with self._sums:
            known = self._counted(round)
            if vote.id > self._newest:
                self._newest = vote.id
                known[rater_id] += vote.choice != "skip"
        return vote

    def undo(self, rater_id: int, key: str, vote_id: int | None = None) -> Vote | None:
        """The rater's last vote, or that one of theirs, withdrawn by a new row; None when there is none."""
        with self._pen:
            vote = self._store.undo(rater_id, f"studio:{rater_id}:{key}", vote_id=vote_id)
        with self._sums:
            self._tally = (0, 0.0, Counter())
        return vote

    def progress(self, rater_id: int) -> Progress:
        """Toward enough for a better reward model, in steps that one can reach."""
        round = self.asker.round
        with self._sums:
            cast = self._counted(round)
            votes, mine = cast.total(), cast[rater_id]
        goal = next_goal(votes)
        return Progress(votes, goal.votes, goal.meaning, mine)

    def _counted(self, round: int) -> Counter[int]:
        """Votes of people on the coming round's pairs, by rater."""
        counted, counted_at, cast = self._tally
        if counted != round or time.monotonic() - counted_at > FRESH:
            cast, self._newest = self._store.count_by_rater(round)
            self._tally = (round, time.monotonic(), cast)
        return cast


def as_ballot(showing: Showing) -> dict[str, Any]:
    prompt = [{"role": message.role, "content": message.content} for message in showing.prompt]
    return {
        "id": showing.id,
        "prompt": prompt,
        "left": showing.left,
        "right": showing.right,
        "ended": list(showing.ended),
    }
