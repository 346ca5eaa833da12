"""Raters who vote at once while their processes are killed, and who send again what was not acknowledged."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.feedback.ballots import pair
from trivium.feedback.store import NewQueued, Store

RATERS, KILLS, VOTES = 3, 2, 12

# It says what it is about to vote, and then that it is durable; the key follows from the showing, as a client keeps it.
VOTER = """
import sys
from trivium.feedback.store import Answer, Store
place, rater_id, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Store.open(place) as store:
    while sum(vote.rater_id == rater_id for vote in store.votes()) < wanted:
        for showing in store.next_showings(rater_id):
            vote = store.answer(Answer(showing.id, rater_id, "left", f"key {showing.id}"))
            print(showing.id, vote.pair_id, vote.repeat, vote.choice, showing.left, sep="|", flush=True)
"""


def vote_through_kills(place: str, rater_id: int) -> list[str]:
    """The votes that were acknowledged to this rater."""
    chance, acknowledged = random.Random(rater_id), []
    for kill in [True] * KILLS + [False]:
        command = [sys.executable, "-c", VOTER, place, str(rater_id), str(VOTES)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            if kill:
                acknowledged += [child.stdout.readline() for _ in range(chance.randrange(1, 4))]
                os.kill(child.pid, signal.SIGKILL)
            acknowledged += list(child.stdout)
    return [line.rstrip("\n") for line in acknowledged if line.endswith("\n")]


def test_killed_raters_lose_double_and_swap_nothing(store: Store, place: str) -> None:
    store.enqueue(NewQueued(pair(number)) for number in range(40))
    raters = [store.add_rater(f"rater {number}").id for number in range(RATERS)]
    with ThreadPoolExecutor(RATERS) as threads:
        heard = list(threads.map(lambda rater: vote_through_kills(place, rater), raters))
    acknowledged = [line.split("|") for lines in heard for line in lines]
    votes = store.votes()
    by_key, texts = {vote.idempotency_key: vote for vote in votes}, {found.id: found for found in store.pairs()}
    assert all(count >= VOTES for count in Counter(vote.rater_id for vote in votes).values())
    assert len(acknowledged) >= RATERS * (KILLS + 1)
    for showing, pair_id, repeat, choice, left in acknowledged:
        kept = by_key[f"key {showing}"]  # none is lost
        assert (kept.pair_id, kept.repeat, kept.choice) == (int(pair_id), int(repeat), choice)
        assert getattr(texts[kept.pair_id], choice) == left  # none is swapped
    ballots = Counter((vote.pair_id, vote.rater_id, vote.repeat) for vote in store.history())
    assert max(ballots.values()) == 1  # none is doubled
