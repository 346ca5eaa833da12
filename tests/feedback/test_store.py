"""Votes: none lost, none doubled, none swapped."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from trivium.errors import ConfigError, DataError, RunError
from trivium.feedback import store as store_module
from trivium.feedback.store import Choice, NewPair, NewVote, Store, choice_of, journal_mode
from trivium.records import Message, Pair

PROMPT = (Message("user", "Where is Ada?"),)


def pair(number: int = 0, round: int = 1) -> NewPair:
    return NewPair(PROMPT, f"In the mill, {number}.", "I do not know.", round, "model-a", "model-b")


def filled(store: Store, pairs: int, round: int = 1) -> list[int]:
    return store.add_pairs([pair(number, round) for number in range(pairs)])


def vote(pair_id: int, rater_id: int, choice: Choice = "first", *, key: str = "", swapped: bool = False) -> NewVote:
    return NewVote(pair_id, rater_id, choice, key or f"{rater_id}/{pair_id}", shown_swapped=swapped, seconds=1.5)


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


def write_at_once(place: str) -> None:
    def writer(name: str) -> None:
        with Store.open(place) as own:  # also races to make the tables
            rater = own.add_rater(name)
            for pair_id in filled(own, 20):
                own.add_vote(vote(pair_id, rater.id))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(writer, ["Ann", "Bob"]))
    with Store.open(place) as both:
        assert Counter(stored.rater for stored in both.votes()) == {"Ann": 20, "Bob": 20}
        assert len(both.pairs()) == 20


def test_two_writers_at_once_each_find_all_they_wrote(place: str) -> None:
    write_at_once(place)


def test_two_writers_at_once_share_a_write_ahead_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "journal_mode", lambda _: "WAL")
    write_at_once(str(tmp_path / "feedback.db"))
    assert pragmas(tmp_path / "feedback.db", "journal_mode") == ["wal"]


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_many_may_open_a_new_store_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(store_module, "journal_mode", lambda _: mode)
    for number in range(5):
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda place: Store.open(place).close(), [tmp_path / f"{number}.db"] * 4))


def test_opening_waits_for_a_writer_before_it_changes_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "feedback.db"
    sqlite3.connect(path).close()
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("CREATE TABLE other (x)")
    writer.execute("BEGIN IMMEDIATE")  # SQLite refuses the switch at once now, whatever its busy_timeout
    monkeypatch.setattr(store_module, "journal_mode", lambda _: "WAL")
    with ThreadPoolExecutor(1) as threads:
        opening = threads.submit(pragmas, path, "journal_mode")
        sleep(0.2)
        waited = not opening.done()
        writer.close()
        assert (waited, opening.result()) == (True, ["wal"])


def pragmas(path: Path, *names: str) -> list[object]:
    with Store.open(path) as store, store._reader.connect() as connection:
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]


def test_one_retried_vote_arriving_many_times_at_once_is_stored_once(store: Store) -> None:
    (pair_id,), rater = filled(store, 1), store.add_rater("Ann")
    with ThreadPoolExecutor(8) as threads:
        stored = set(threads.map(store.add_vote, [vote(pair_id, rater.id)] * 24))
    assert list(stored) == store.votes()


# Swapped: never


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_a_choice_is_about_the_answer_not_its_place(screens: list[tuple[bool, bool]]) -> None:
    for swapped, likes_first in screens:
        clicked = "left" if likes_first != swapped else "right"  # where the liked answer stands
        assert choice_of(clicked, shown_swapped=swapped) == ("first" if likes_first else "second")


def test_the_preference_is_for_the_liked_answer_however_it_was_shown(store: Store) -> None:
    chance = random.Random(3)
    store.add_pairs([NewPair(PROMPT, *chance.sample(["good", "bad"], 2), round=1, source=f"{i}") for i in range(2)])
    store.add_pairs([NewPair(PROMPT, "good", "bad", 1, f"m{i}") for i in range(10)])
    store.add_pairs([NewPair(PROMPT, "bad", "good", 1, f"m{i}") for i in range(10)])
    rater = store.add_rater("Ann")
    while (asked := store.next_pair(rater.id, 1)) is not None:
        swapped = chance.random() < 0.5
        left, _ = asked.shown(swapped=swapped)
        choice = choice_of("left" if left == "good" else "right", shown_swapped=swapped)
        store.add_vote(vote(asked.id, rater.id, choice, swapped=swapped))
    assert {stored.shown_swapped for stored in store.votes()} == {True, False}
    assert {labelled.decided().chosen for labelled in store.labelled_pairs()} == {"good"}


def test_words_other_than_left_and_right_mean_the_same_on_every_screen() -> None:
    for swapped in (False, True):
        assert [choice_of(word, shown_swapped=swapped) for word in ("tie", "both_bad", "skip")] == [
            "tie",
            "both_bad",
            "skip",
        ]


def test_pairs_that_mirror_each_other_keep_their_own_order(store: Store) -> None:
    there = NewPair(PROMPT, "yes", "no", 1)
    back = NewPair(PROMPT, "no", "yes", 1)
    store.add_pairs([there, back])
    assert [(stored.first, stored.second) for stored in store.pairs()] == [("yes", "no"), ("no", "yes")]


# What is stored comes back


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("shared") / "feedback.db") as opened:
        yield opened


def joined(text: str) -> str:
    """Half surrogates that meet become the character they spell, as in every UTF-16."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


any_text = st.text(st.characters(exclude_categories=())).map(joined) | st.sampled_from(
    ["\x00", "\ud800", '"', "\\u0000", "🜁"]
)


@settings(max_examples=40, deadline=None)
@given(
    messages=st.lists(st.builds(Message, st.just("user"), any_text), min_size=1, max_size=3),
    texts=st.tuples(any_text, any_text),
    comment=any_text,
)
def test_any_text_comes_back_as_it_was(
    shared: Store, messages: list[Message], texts: tuple[str, str], comment: str
) -> None:
    new = NewPair(tuple(messages), *texts, round=1)
    (pair_id,) = shared.add_pairs([new])
    stored = next(found for found in shared.pairs() if found.id == pair_id)
    assert (stored.prompt, stored.first, stored.second) == (new.prompt, new.first, new.second)
    assert stored.key == new.key
    rater = shared.add_rater(f"rater {len(shared.raters())}")
    asked = vote(pair_id, rater.id)._replace(comment=comment)
    assert shared.add_vote(asked).comment == comment


def test_a_vote_comes_back_with_all_its_fields(store: Store) -> None:
    (pair_id,), rater = filled(store, 1), store.add_rater("Ann")
    new = NewVote(pair_id, rater.id, "both_bad", "k", shown_swapped=True, seconds=2.25, comment="neither")
    stored = store.add_vote(new)
    assert NewVote(*(getattr(stored, field) for field in NewVote._fields)) == new
    assert (stored.rater, stored.simulated) == ("Ann", False)
    assert stored.created_at.endswith("+00:00")


def test_votes_outlive_the_store(tmp_path: Path) -> None:
    with Store.open(tmp_path / "feedback.db") as store:
        (pair_id,), rater = filled(store, 1), store.add_rater("Ann")
        kept = store.add_vote(vote(pair_id, rater.id))
    with Store.open(f"sqlite:///{tmp_path}/feedback.db") as store:
        assert store.votes() == [kept]


# What the votes say


def test_the_preference_is_the_mean_of_the_votes_that_count(store: Store) -> None:
    ids = filled(store, 4)
    raters = [store.add_rater(name).id for name in ("Ann", "Bob", "Cyd", "Dan")]
    said: dict[int, list[Choice]] = {
        ids[0]: ["first", "first", "second", "skip"],
        ids[1]: ["tie", "both_bad"],
        ids[2]: ["skip", "skip"],
        ids[3]: ["second"],
    }
    store.add_votes(
        [
            vote(pair_id, rater, choice)
            for pair_id, choices in said.items()
            for rater, choice in zip(raters, choices, strict=False)
        ]
    )
    labelled = store.labelled_pairs()
    assert [(found.pair_id, found.preference, found.votes) for found in labelled] == [
        (ids[0], 2 / 3, 3),
        (ids[1], 0.5, 2),
        (ids[3], 0.0, 1),
    ]
    assert labelled[2].decided() == Pair(PROMPT, "I do not know.", "In the mill, 3.", "sampled")
    assert labelled[1].decided().tie


def test_labelled_pairs_are_of_the_asked_rounds(store: Store) -> None:
    rater = store.add_rater("Ann")
    for round in (1, 2, 3):
        (pair_id,) = store.add_pairs([pair(round, round)])
        store.add_vote(vote(pair_id, rater.id))
    assert [labelled.round for labelled in store.labelled_pairs([1, 3])] == [1, 3]
    assert len(store.labelled_pairs()) == len(store.votes()) == 3
    assert [len(store.votes(2)), len(store.pairs(2)), len(store.labelled_pairs([]))] == [1, 1, 0]


def test_simulated_votes_are_marked_and_can_be_left_out(store: Store) -> None:
    ids = filled(store, 2)
    ann, judge = store.add_rater("Ann"), store.add_rater("simulated judge", simulated=True)
    store.add_votes([vote(ids[0], ann.id), vote(ids[0], judge.id, "second"), vote(ids[1], judge.id)])
    assert [(labelled.preference, labelled.simulated) for labelled in store.labelled_pairs()] == [
        (0.5, True),
        (1.0, True),
    ]
    assert [
        (labelled.preference, labelled.simulated) for labelled in store.labelled_pairs(include_simulated=False)
    ] == [(1.0, False)]


def test_counts_add_up(store: Store) -> None:
    ids = filled(store, 3)
    ann, judge = store.add_rater("Ann"), store.add_rater("simulated judge", simulated=True)
    store.add_votes([vote(ids[0], ann.id), vote(ids[1], ann.id, "skip"), vote(ids[0], judge.id)])
    counts = store.counts()
    assert (counts.pairs, counts.raters, counts.simulated_raters, counts.votes, counts.simulated_votes) == (
        3,
        2,
        1,
        3,
        1,
    )
    assert counts.choices == {"first": 2, "second": 0, "tie": 0, "both_bad": 0, "skip": 1}


def test_the_fingerprint_names_the_content_and_nothing_else(tmp_path: Path) -> None:
    prints = []
    for name, order, last in (("a", [0, 1, 2], "tie"), ("b", [2, 0, 1], "tie"), ("c", [0, 1, 2], "first")):
        with Store.open(tmp_path / name) as store:
            empty = store.fingerprint()
            store.add_pairs([pair(number) for number in order])
            rater = store.add_rater("Ann")
            for stored in store.pairs():
                choice: Choice = "first" if stored.first != "In the mill, 2." else last  # type: ignore[assignment]
                store.add_vote(vote(stored.id, rater.id, choice))
            prints.append(store.fingerprint())
            assert store.fingerprint([9]) == empty != prints[-1]
    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 16


# What is asked next


def test_a_rater_is_asked_every_pair_of_the_round_once(store: Store) -> None:
    ids, rater = filled(store, 6), store.add_rater("Ann")
    filled(store, 8, round=2)
    asked = []
    while (found := store.next_pair(rater.id, 1)) is not None:
        assert found == store.next_pair(rater.id, 1)
        store.add_vote(vote(found.id, rater.id, "skip"))
        asked.append(found.id)
    assert sorted(asked) == ids


def test_the_pairs_with_the_fewest_votes_come_first(store: Store) -> None:
    ids = filled(store, 4)
    ann, bob = store.add_rater("Ann"), store.add_rater("Bob")
    store.add_votes([vote(pair_id, ann.id) for pair_id in ids if pair_id != ids[2]])
    found = store.next_pair(bob.id, 1)
    assert found is not None
    assert found.id == ids[2]


def test_raters_do_not_all_start_with_the_same_pair(store: Store) -> None:
    filled(store, 20)
    first = {store.next_pair(store.add_rater(name).id, 1) for name in ("Ann", "Bob", "Cyd", "Dan")}
    assert len(first) > 1


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


def test_a_pair_without_a_prompt_is_refused(store: Store) -> None:
    with pytest.raises(DataError, match=r"answers\.jsonl:3: the prompt is empty"):
        store.add_pairs([pair()._replace(prompt=(), source="answers.jsonl:3")])


def test_an_unknown_rater_is_asked_nothing(store: Store) -> None:
    with pytest.raises(DataError, match="rater 5 is unknown"):
        store.next_pair(5, 1)


def test_what_is_no_store_of_votes_is_refused_by_name(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but longer than its header would be" * 30)
    with pytest.raises(DataError, match=r"notes\.txt: file is not a database; is it a store of votes\?"):
        Store.open(text)
    with pytest.raises(
        RunError, match=r"feedback\.db: unable to open database file; see that it can be reached and written"
    ):
        Store.open(tmp_path / "nowhere" / "feedback.db")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/db", "votes: mysql is not supported"),
        ("sqlite://", "SQLite needs a file"),
        (":memory:", "SQLite needs a file"),
        ("://", "this is no database URL"),
    ],
)
def test_a_place_where_votes_cannot_live_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Store.open(url)


def test_a_server_without_its_driver_or_out_of_reach_is_named_without_its_password() -> None:
    with pytest.raises((RunError, ConfigError)) as refused:
        Store.open("postgresql://ann:secret@/votes?host=/nowhere")
    assert "see that it can be reached" in str(refused.value) or "PostgreSQL needs psycopg" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_another_schema_is_refused(store: Store, place: str) -> None:
    with store._writer.begin() as connection:
        connection.execute(sa.update(store_module._version), {"version": 99})
    with pytest.raises(DataError, match="schema version 99, but this Trivium reads 1; update Trivium"):
        Store.open(place)


# How it is kept


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        ((3, 40, 1), "DELETE"),
        ((3, 44, 5), "DELETE"),
        ((3, 44, 6), "WAL"),
        ((3, 45, 0), "DELETE"),
        ((3, 50, 6), "DELETE"),
        ((3, 50, 7), "WAL"),
        ((3, 51, 0), "DELETE"),
        ((3, 51, 2), "DELETE"),
        ((3, 51, 3), "WAL"),
        ((3, 52, 0), "WAL"),
        ((4, 0, 0), "WAL"),
    ],
)
def test_the_log_is_used_only_where_its_reset_is_safe(version: tuple[int, int, int], mode: str) -> None:
    assert journal_mode(version) == mode


def test_every_sqlite_connection_is_durable_and_checks_its_references(tmp_path: Path) -> None:
    mode = journal_mode(sqlite3.sqlite_version_info).lower()
    assert pragmas(tmp_path / "feedback.db", "synchronous", "foreign_keys", "journal_mode") == [3, 1, mode]


def test_the_tables_can_be_made_in_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in store_module._schema.sorted_tables:
        assert "CREATE TABLE" in str(sa.schema.CreateTable(table).compile(dialect=dialect))


def test_five_thousand_votes_are_one_fast_transaction(store: Store) -> None:
    ids, rater = filled(store, 5000), store.add_rater("simulated judge", simulated=True)
    stored = store.add_votes([vote(pair_id, rater.id) for pair_id in ids])
    assert [found.pair_id for found in stored] == ids
    assert store.counts().simulated_votes == 5000
