"""Pairs handed out to raters, their votes taken in. What a rater sees names no model.

Where the answers stand is drawn for each rater and pair, and can be drawn again: nobody has to remember it.
"""

import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Collection
from math import ceil
from typing import Any, NamedTuple

from trivium.feedback.agreement import votes_needed
from trivium.feedback.store import NewVote, Shown, Store, StoredPair, Vote, choice_of
from trivium.generate.sampling import stream_seed
from trivium.story.asking import Asker
from trivium.studio.auth import Person

LENT = 180.0  # seconds in which a pair that somebody looks at is not given to others
REPEATED = 5  # every so many-th pair is one that somebody else has voted on: it tells how far raters agree
FEW = 50
KNOWN = 2000  # from where reinforcement pays in published work: Gao et al. 2022, arXiv:2210.10760


class Slip(NamedTuple):
    """A vote as it comes from a page."""

    pair: int
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

    def __init__(self, store: Store, asker: Asker, seed: int) -> None:
        self.asker = asker
        self._store = store
        self._seed = seed
        self._lent: dict[int, tuple[int, float]] = {}  # pair → rater who looks at it, since when
        self._handed: dict[int, int] = defaultdict(int)  # rater → pairs so far
        self._lock = threading.Lock()
        self._pen = threading.Lock()  # one writes at a time: waiting here is fair, waiting in the database is not

    def hand_out(self, who: Person, count: int, besides: Collection[int]) -> list[dict[str, Any]]:
        """Up to `count` pairs that this person has not voted on and does not hold; more are written meanwhile."""
        now = time.monotonic()
        free = [row for row in self._store.open_pairs(who.rater_id, self.asker.round) if row[0] not in besides]
        with self._lock:
            lent = {pair for pair, (rater, at) in self._lent.items() if rater != who.rater_id and now - at < LENT}
            unseen = [pair for pair, votes in free if not votes and pair not in lent]
            seen = [pair for pair, votes in sorted(free, key=lambda row: (row[1], row[0])) if votes]
            given: list[int] = []
            for _ in range(count):
                again = self._handed[who.rater_id] % REPEATED == REPEATED - 1 or not unseen
                if not (unseen or seen):
                    break
                given.append((seen if again and seen else unseen).pop(0))
                self._handed[who.rater_id] += 1
                self._lent[given[-1]] = (who.rater_id, now)
        self.asker.want(len(unseen))
        return [self.as_ballot(self._store.pair(number), who) for number in given]

    def as_ballot(self, pair: StoredPair, who: Person) -> dict[str, Any]:
        left, right = pair.shown(swapped=self.is_swapped(pair, who))
        prompt = [{"role": message.role, "content": message.content} for message in pair.prompt]
        return {"id": pair.id, "prompt": prompt, "left": left, "right": right}

    def is_swapped(self, pair: StoredPair, who: Person) -> bool:
        """Whether the first answer stands on the right: half of the time, always the same for a rater and a pair."""
        return bool(stream_seed(self._seed, 10, zlib.crc32(who.name.encode()), int(pair.key[:15], 16)) & 1)

    def cast(self, slip: Slip, who: Person) -> Vote:
        """The vote, once it is durable. The same key again gives the same vote."""
        pair = self._store.pair(slip.pair)
        swapped = self.is_swapped(pair, who)
        choice, key = choice_of(slip.shown, shown_swapped=swapped), f"studio:{who.rater_id}:{slip.key}"
        with self._pen:
            vote = self._store.add_vote(
                NewVote(pair.id, who.rater_id, choice, key, swapped, slip.seconds, slip.comment)
            )
        with self._lock:
            self._lent.pop(pair.id, None)
        return vote

    def progress(self, who: Person) -> Progress:
        """Toward enough for a better reward model, in steps that one can reach."""
        cast = self._store.people_votes(self.asker.round)
        votes = sum(cast.values())
        goals = (
            (FEW, "enough to begin a round with"),
            (votes_needed(0.6), "enough to tell 60 % from a coin"),
            (votes_needed(0.55), "enough to tell 55 % from a coin"),
            (KNOWN, "from here on reinforcement paid in published work"),
        )
        goal, meaning = next(
            (one for one in goals if votes < one[0]), (ceil((votes + 1) / 1000) * 1000, "more is better")
        )
        return Progress(votes, goal, meaning, cast.get(who.rater_id, 0))
