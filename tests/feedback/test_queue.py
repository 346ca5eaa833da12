"""The queue: sides that stay, votes that cannot swap them, undo that keeps history, repeats that measure."""

import sqlite3
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.feedback.ballots import filled, pair, vote
from trivium.errors import DataError
from trivium.feedback.store import Answer, NewQueued, Shares, Showing, Shown, Store

FRESH = Shares(shared=0, again=0, known=0)


def queued(store: Store, count: int) -> list[int]:
    return store.enqueue(NewQueued(pair(number)) for number in range(count))


def say(store: Store, showing: Showing, shown: Shown = "left", key: str = "") -> None:
    store.answer(Answer(showing.id, showing.rater_id, shown, key or f"key {showing.id}", 1.5))


def test_a_rater_who_reloads_meets_the_same_pairs_on_the_same_sides(store: Store) -> None:
    queued(store, 6)
    ann = store.add_rater("Ann")
    first = store.next_showings(ann.id, count=3)
    assert store.next_showings(ann.id, count=3) == first
    assert store.next_showings(ann.id, count=3, seed=9) == first
    assert len({showing.pair_id for showing in first}) == 3


def test_sides_are_drawn_evenly_and_a_vote_counts_for_the_text_that_was_seen(store: Store) -> None:
    queued(store, 60)
    ann = store.add_rater("Ann")
    shown = store.next_showings(ann.id, count=60, shares=FRESH)
    assert 15 < sum(showing.shown_swapped for showing in shown) < 45
    for showing in shown[:12]:
        say(store, showing, "left")
    texts = {stored.id: stored for stored in store.pairs()}
    for given, showing in zip(store.votes(), shown, strict=False):
        assert getattr(texts[given.pair_id], given.choice) == showing.left
        assert given.shown_swapped == showing.shown_swapped


def test_a_showing_names_no_model_and_is_its_raters_alone(store: Store) -> None:
    queued(store, 1)
    ann, bob = store.add_rater("Ann"), store.add_rater("Bob")
    (showing,) = store.next_showings(ann.id)
    assert "model-" not in repr(showing)
    with pytest.raises(DataError, match=f"showing {showing.id}: was not given to rater {bob.id}"):
        store.answer(Answer(showing.id, bob.id, "left", "k"))
    assert store.votes() == []


def test_a_retried_answer_is_one_vote_and_another_answer_is_refused(store: Store) -> None:
    queued(store, 1)
    ann = store.add_rater("Ann")
    (showing,) = store.next_showings(ann.id)
    said = Answer(showing.id, ann.id, "right", "k", 2.0, "why not")
    assert store.answer(said) == store.answer(said)
    with pytest.raises(DataError, match="already made another vote"):
        store.answer(said._replace(shown="left"))
    with pytest.raises(DataError, match="has already voted"):
        store.answer(said._replace(idempotency_key="another"))
    with pytest.raises(DataError, match='"up" is no answer'):
        store.answer(said._replace(shown="up"))  # type: ignore[arg-type]
    assert len(store.votes()) == 1


def test_undo_withdraws_the_last_vote_keeps_history_and_asks_again(store: Store) -> None:
    queued(store, 3)
    ann = store.add_rater("Ann")
    first, second = store.next_showings(ann.id, shares=FRESH)
    say(store, first)
    say(store, second, "left", "mistaken")
    before = store.fingerprint()
    undone = store.undo(ann.id, "undo 1")
    assert undone is not None
    assert (undone.pair_id, undone.withdrawn_at is not None) == (second.pair_id, True)
    assert store.undo(ann.id, "undo 1") == undone  # a retry withdraws nothing more
    assert [given.pair_id for given in store.votes()] == [first.pair_id]
    assert (store.counts().votes, len(store.labelled_pairs())) == (1, 1)
    assert store.fingerprint() != before
    assert store.next_showings(ann.id, shares=FRESH)[0] == second
    say(store, second, "left", "again")
    assert store.fingerprint() == before
    assert [(given.attempt, given.withdrawn_at is None) for given in store.history()] == [
        (0, True),
        (0, False),
        (1, True),
    ]


def test_a_settled_round_keeps_the_votes_that_it_settled_on(store: Store) -> None:
    (pair_id,), ann = filled(store, 1), store.add_rater("Ann")
    settled = store.add_vote(vote(pair_id, ann.id))
    store.undo(ann.id, "u")
    assert store.labelled_pairs() == []
    assert [found.pair_id for found in store.labelled_pairs(among={settled.id})] == [pair_id]


def test_undo_goes_back_vote_by_vote_and_only_over_ones_own(store: Store) -> None:
    ids, ann, bob = filled(store, 2), store.add_rater("Ann"), store.add_rater("Bob")
    store.add_votes([vote(ids[0], ann.id), vote(ids[1], ann.id), vote(ids[0], bob.id)])
    undone = [store.undo(ann.id, f"u{number}") for number in range(3)]
    assert [given.pair_id if given else None for given in undone] == [ids[1], ids[0], None]
    assert [given.rater for given in store.votes()] == ["Bob"]
    with pytest.raises(DataError, match='key "u0" already made another withdrawal'):
        store.undo(bob.id, "u0")


def test_a_vote_that_is_named_is_taken_back_once_and_by_its_rater_alone(store: Store) -> None:
    ids, ann, bob = filled(store, 2), store.add_rater("Ann"), store.add_rater("Bob")
    first, _ = store.add_votes([vote(ids[0], ann.id), vote(ids[1], ann.id)])
    assert store.undo(bob.id, "b", vote_id=first.id) is None
    undone = store.undo(ann.id, "a", vote_id=first.id)
    assert undone is not None
    assert undone.id == first.id
    assert store.undo(ann.id, "c", vote_id=first.id) is None
    assert [given.pair_id for given in store.votes()] == [ids[1]]


def test_raters_at_once_are_given_different_fresh_pairs(store: Store) -> None:
    queued(store, 9)
    raters = [store.add_rater(name) for name in ("Ann", "Bob", "Cat")]
    given = [showing.pair_id for rater in raters for showing in store.next_showings(rater.id, count=3, shares=FRESH)]
    assert len(set(given)) == 9
    assert len(store.next_showings(raters[0].id, count=5, shares=FRESH)) == 5  # rather one of another's than none


def test_shares_of_known_shared_and_repeated_pairs_are_kept(store: Store) -> None:
    queued(store, 150)
    store.enqueue(NewQueued(pair(1000 + number), "known", known="first") for number in range(40))
    ann, bob = store.add_rater("Ann"), store.add_rater("Bob")
    for showing in store.next_showings(bob.id, count=60, shares=FRESH):
        say(store, showing)
    shares = Shares(shared=0.2, again=0.2, known=0.2)
    purposes: Counter[str] = Counter()
    sides: dict[int, list[bool]] = {}
    for _ in range(100):
        (showing,) = store.next_showings(ann.id, count=1, shares=shares)
        purposes[showing.purpose] += 1
        sides.setdefault(showing.pair_id, []).append(showing.shown_swapped)
        say(store, showing)
    assert all(10 <= purposes[purpose] <= 30 for purpose in ("shared", "again", "known"))
    twice = [shown for shown in sides.values() if len(shown) == 2]
    assert len(twice) == purposes["again"]
    assert all(first != second for first, second in twice)
    assert len(store.labelled_pairs()) == len({given.pair_id for given in store.votes()})
    label = {found.pair_id: found.votes for found in store.labelled_pairs()}
    assert max(label.values()) == 2  # Ann's and Bob's; what Ann was asked again is not counted


def test_every_pair_says_by_which_policy_it_was_chosen(store: Store) -> None:
    ids = store.enqueue([NewQueued(pair(0)), NewQueued(pair(1), "active", 0.31)])
    store.enqueue([NewQueued(pair(0), "active", 0.5)])  # it stays as it came
    assert [(store.queued()[number].policy, store.queued()[number].score) for number in ids] == [
        ("random", None),
        ("active", 0.31),
    ]
    ann = store.add_rater("Ann")
    say(store, store.next_showings(ann.id)[0])
    assert [entry.pair_id for entry in store.waiting()] == ids[1:]


def test_a_showing_says_how_its_pair_was_chosen_and_with_what_chance(store: Store) -> None:
    store.enqueue([NewQueued(pair(0), "random", 0.1, None, 0.25), NewQueued(pair(1), "active", 0.6, None, 1.0)])
    store.enqueue([NewQueued(pair(2), ended=(False, True))])
    ann = store.add_rater("Ann")
    store.next_showings(ann.id, count=3, shares=FRESH._replace(known=0.2))
    told = [(one.policy, one.probability, one.purpose, one.drawn) for one in store.showings()]
    assert told == [("random", 0.25, "fresh", 0.8), ("active", 1.0, "fresh", 0.8), ("random", None, "fresh", 0.8)]
    last = store.showings()[-1]
    assert last.ended == ((True, False) if last.shown_swapped else (False, True))


def test_pairs_that_somebody_left_lying_are_given_to_others_in_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = queued(store, 4)
    ann, bob = store.add_rater("Ann"), store.add_rater("Bob")
    store.next_showings(ann.id, count=2, shares=FRESH)
    assert store.count_fresh(1, most=9) == 2
    assert store.count_fresh(1, most=1) == 1
    assert [one.pair_id for one in store.next_showings(bob.id, count=2, shares=FRESH)] == ids[2:]
    for showing in store.next_showings(bob.id, count=2, shares=FRESH):
        say(store, showing)
    monkeypatch.setattr("trivium.feedback.queue.LENT", timedelta(0))
    found = store.next_showings(bob.id, count=2, shares=FRESH)
    assert [(one.pair_id, one.purpose) for one in found] == [(ids[0], "fresh"), (ids[1], "fresh")]


def test_a_pair_is_found_without_reading_the_queue(tmp_path: Path) -> None:
    """SQLite's own steps for a fresh pair do not grow with the pairs that wait, nor with those voted on."""
    with Store.open(tmp_path / "feedback.db") as store:
        ann, bob = store.add_rater("Ann"), store.add_rater("Bob")

        def steps(pairs: int) -> int:
            ids, key = queued(store, pairs), f"{pairs}:"
            store.add_votes(vote(pair_id, ann.id, key=f"{key}{pair_id}") for pair_id in ids[len(store.votes()) : -20])
            store.next_showings(ann.id, round=1, count=3, shares=FRESH)
            taken = 0

            def tick() -> int:
                nonlocal taken
                taken += 1
                return 0

            def watch(connection: sqlite3.Connection, *_: object) -> None:
                connection.set_progress_handler(tick, 10)

            sa.event.listen(store._reader, "checkout", watch)
            given = store.next_showings(bob.id, round=1, count=2, shares=FRESH)
            sa.event.remove(store._reader, "checkout", watch)
            for showing in given:
                say(store, showing)
            return taken

        few = steps(60)
        assert steps(1500) < 1.5 * few


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"policy": "best"}, 'policy "best" is unknown'),
        ({"policy": "known"}, "comes with the answer that is right"),
        ({"policy": "known", "known": "tie"}, "must be first or second"),
        ({"score": float("nan")}, "must be finite"),
        ({"probability": 1.5}, r"probability = 1.5: must be in \[0, 1\]"),
    ],
)
def test_what_cannot_wait_in_the_queue_is_refused(store: Store, bad: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        store.enqueue([NewQueued(pair())._replace(**bad)])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="shares must not be negative, nor more than 1 together"):
        store.next_showings(1, shares=Shares(0.5, 0.5, 0.5))
