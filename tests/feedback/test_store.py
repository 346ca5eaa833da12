"""Votes: none lost, none doubled, none out of range."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.feedback.ballots import filled, pair, vote
from trivium.errors import DataError
from trivium.feedback.store import Store

# Lost: never


VOTER = """
import sys
from trivium.feedback.store import NewVote, Store
with Store.open(sys.argv[1]) as store:
    rater = store.add_rater("Ann")
    done = {vote.pair_id for vote in store.votes()}
    for pair in store.pairs():
        if pair.id not in done:
            stored = store.add_vote(NewVote(pair.id, rater.id, "first", f"ann/{pair.id}"))
            print(stored.pair_id, flush=True)
"""


def test_a_killed_process_loses_no_acknowledged_vote(store: Store, place: str) -> None:
    filled(store, 2000)
    acknowledged: set[int] = set()
    chance = random.Random(7)
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", VOTER, place], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(chance.randrange(1, 40)):
                acknowledged.add(int(child.stdout.readline()))
            os.kill(child.pid, signal.SIGKILL)
            acknowledged.update(int(line) for line in child.stdout if line.endswith(b"\n"))
    stored = [vote.pair_id for vote in store.votes()]
    assert acknowledged <= set(stored)
    assert len(acknowledged) >= 3
    assert len(stored) == len(set(stored))
    assert len(stored) - len(acknowledged) <= 3  # at most the one in flight at each kill


def test_a_batch_with_one_bad_vote_leaves_no_trace(store: Store) -> None:
    ids, rater = filled(store, 2), store.add_rater("Ann")
    with pytest.raises(DataError, match="pair 99 is unknown; add it before voting"):
        store.add_votes([vote(ids[0], rater.id), vote(99, rater.id)])
    assert store.votes() == []


# Doubled: never


def test_a_retried_vote_is_stored_once(store: Store) -> None:
    (pair_id,), rater = filled(store, 1), store.add_rater("Ann")
    once = store.add_vote(vote(pair_id, rater.id))
    assert store.add_vote(vote(pair_id, rater.id)) == once
    assert store.add_votes([vote(pair_id, rater.id)] * 3) == [once] * 3
    assert store.votes() == [once]


def test_a_rater_votes_once_on_a_pair(store: Store) -> None:
    (pair_id,), rater = filled(store, 1), store.add_rater("Ann")
    store.add_vote(vote(pair_id, rater.id))
    with pytest.raises(
        DataError, match=f"rater {rater.id} has already voted on pair {pair_id}; votes are never changed"
    ):
        store.add_vote(vote(pair_id, rater.id, "second", key="another"))
    assert [stored.choice for stored in store.votes()] == ["first"]


def test_a_rater_votes_once_on_a_pair_within_one_batch_too(store: Store) -> None:
    (pair_id,), rater = filled(store, 1), store.add_rater("Ann")
    with pytest.raises(DataError, match="has already voted on pair"):
        store.add_votes([vote(pair_id, rater.id), vote(pair_id, rater.id, key="another")])
    assert store.votes() == []


def test_a_key_that_comes_back_with_another_vote_is_refused(store: Store) -> None:
    ids, rater = filled(store, 2), store.add_rater("Ann")
    store.add_vote(vote(ids[0], rater.id, key="k"))
    for other in (vote(ids[1], rater.id, key="k"), vote(ids[0], rater.id, "second", key="k")):
        with pytest.raises(DataError, match='idempotency key "k" already made another vote'):
            store.add_vote(other)
    assert len(store.votes()) == 1


def test_the_same_pair_twice_is_one_pair_and_ids_keep_the_order(store: Store) -> None:
    first = store.add_pairs([pair(1), pair(2), pair(1)])
    assert store.add_pairs([pair(2), pair(3), pair(1)]) == [first[1], 3, first[0]]
    assert first[0] == first[2]
    assert len(store.pairs()) == 3


def test_twenty_raters_at_once_lose_and_double_nothing(store: Store) -> None:
    ids = filled(store, 5)
    raters = [store.add_rater(f"rater {number}") for number in range(20)]

    def votes_on_all(rater_id: int) -> None:
        for pair_id in ids:
            store.add_vote(vote(pair_id, rater_id))
            store.add_vote(vote(pair_id, rater_id))

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(votes_on_all, [rater.id for rater in raters]))
    assert Counter((stored.pair_id, stored.rater_id) for stored in store.votes()) == Counter(
        {(pair_id, rater.id): 1 for pair_id in ids for rater in raters}
    )


def test_one_retried_vote_arriving_many_times_at_once_is_stored_once(store: Store) -> None:
    (pair_id,), rater = filled(store, 1), store.add_rater("Ann")
    with ThreadPoolExecutor(8) as threads:
        stored = set(threads.map(store.add_vote, [vote(pair_id, rater.id)] * 24))
    assert list(stored) == store.votes()


def test_five_thousand_votes_are_one_fast_transaction(store: Store) -> None:
    ids, rater = filled(store, 5000), store.add_rater("simulated judge", simulated=True)
    stored = store.add_votes([vote(pair_id, rater.id) for pair_id in ids])
    assert [found.pair_id for found in stored] == ids
    assert store.counts().simulated_votes == 5000


# What is refused


def test_simulated_raters_and_only_they_are_called_simulated(store: Store) -> None:
    for name, simulated in (("Ann", True), ("simulated judge", False), ("Simulated Ann", False)):
        with pytest.raises(DataError, match='simulated raters, and only they, have names beginning with "simulated"'):
            store.add_rater(name, simulated=simulated)
    assert store.add_rater("Ann") == store.add_rater("Ann")
    assert [rater.name for rater in store.raters()] == ["Ann"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"choice": "left"}, 'choice "left" is unknown; choose one of first, second, tie, both_bad, skip'),
        ({"seconds": float("nan")}, "seconds = nan: must be finite and not negative"),
        ({"seconds": -1.0}, "seconds = -1.0: must be finite"),
        ({"idempotency_key": ""}, "idempotency key '': must be 1 to 200 printable characters"),
        ({"rater_id": 9}, "rater 9 is unknown; add it before voting"),
    ],
)
def test_a_vote_out_of_range_is_refused(store: Store, bad: dict[str, object], message: str) -> None:
    (pair_id,), rater = filled(store, 1), store.add_rater("Ann")
    with pytest.raises(DataError) as refused:
        store.add_vote(vote(pair_id, rater.id)._replace(**bad))  # type: ignore[arg-type]
    assert message in str(refused.value)
    assert store.votes() == []


def test_a_pair_without_a_prompt_is_kept_and_learned_from(store: Store) -> None:
    (pair_id,), rater = store.add_pairs([pair()._replace(prompt=())]), store.add_rater("Ann")
    store.add_vote(vote(pair_id, rater.id))
    (learned,) = store.labelled_pairs()
    assert (learned.prompt, learned.first, learned.preference) == ((), pair().first, 1.0)


def test_votes_are_leafed_through_newest_first_by_choice_and_rater(store: Store) -> None:
    ids, ann, bob = filled(store, 5), store.add_rater("Ann"), store.add_rater("Bob")
    store.add_votes(vote(pair_id, ann.id, "tie" if place % 2 else "second") for place, pair_id in enumerate(ids))
    store.add_vote(vote(ids[0], bob.id))
    store.undo(bob.id, "undone")
    total, page = store.find_votes(start=1, count=2)
    assert (total, [(found.rater, found.pair_id) for found, _ in page]) == (6, [("Ann", ids[4]), ("Ann", ids[3])])
    assert all(found.pair_id == pair.id for found, pair in page)
    assert [found.pair_id for found, _ in store.find_votes(["tie"])[1]] == [ids[3], ids[1]]
    assert [found.withdrawn_at is None for found, _ in store.find_votes(["first", "second"], "Bob")[1]] == [False]
    assert store.find_votes(rater="Eve") == (0, [])
