"""Where votes are kept: writers at once, the journal, and places where votes cannot live."""

import sqlite3
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep

import pytest

from tests.feedback.ballots import filled, vote
from trivium.errors import ConfigError, DataError, RunError
from trivium.feedback import database
from trivium.feedback.database import journal_mode
from trivium.feedback.store import Store


def pragmas(path: Path, *names: str) -> list[object]:
    with Store.open(path) as store, store._reader.connect() as connection:
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]


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
    monkeypatch.setattr(database, "journal_mode", lambda _: "WAL")
    write_at_once(str(tmp_path / "feedback.db"))
    assert pragmas(tmp_path / "feedback.db", "journal_mode") == ["wal"]


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_many_may_open_a_new_store_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(database, "journal_mode", lambda _: mode)
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
    monkeypatch.setattr(database, "journal_mode", lambda _: "WAL")
    with ThreadPoolExecutor(1) as threads:
        opening = threads.submit(pragmas, path, "journal_mode")
        sleep(0.2)
        waited = not opening.done()
        writer.close()
        assert (waited, opening.result()) == (True, ["wal"])


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


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_looking_leaves_the_file_and_its_folder_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(database, "journal_mode", lambda _: mode)
    path = tmp_path / "the votes?.db"  # a name that means something in a URI
    with Store.open(path) as store:
        (pair_id,), rater = filled(store, 1), store.add_rater("Ann")
        kept = store.add_vote(vote(pair_id, rater.id))
    before = tmp_path.stat().st_mtime_ns, path.read_bytes()
    monkeypatch.setattr(database, "journal_mode", lambda _: "DELETE" if mode == "WAL" else "WAL")
    with Store.look(path) as store:
        assert store.votes() == [kept]
        with pytest.raises(RunError, match="readonly"):
            store.add_rater("Bob")
    assert (tmp_path.stat().st_mtime_ns, path.read_bytes()) == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_looking_sees_what_a_writer_has_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(database, "journal_mode", lambda _: mode)
    with Store.open(tmp_path / "feedback.db") as writer:
        filled(writer, 3)
        with Store.look(tmp_path / "feedback.db") as store:
            assert len(store.pairs()) == 3


def test_where_nobody_has_voted_there_are_no_votes_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()  # as a process leaves it that dies before it has made the tables
    for name in ("none.db", "empty.db"):
        with Store.look(tmp_path / name) as store:
            assert store.counts().votes == len(store.labelled_pairs()) == 0
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("empty.db", 0)]


def test_what_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but longer than its header would be" * 30)
    with pytest.raises(DataError, match=r"notes\.txt: file is not a database"):
        Store.look(tmp_path / "notes.txt")
    with pytest.raises(RunError, match="Is a directory; see that it can be reached"):
        Store.look(tmp_path)


def test_after_a_kill_in_the_middle_of_a_commit_the_votes_can_be_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    with Store.open(path) as store:
        filled(store, 3)
    killed = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.executescript("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; PRAGMA cache_spill = 1")
connection.execute("BEGIN IMMEDIATE")
for number in range(400):
    connection.execute("UPDATE pairs SET first_text = ?", ("lost " * 500 + str(number),))
    connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
    connection.execute("INSERT INTO t VALUES (?)", ("x" * 4000,))
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", killed, str(path)], check=False).returncode == 9
    assert (tmp_path / "feedback.db-journal").exists()
    with Store.look(path) as store:
        assert len(store.pairs()) == 3
        assert not any("lost" in pair.first for pair in store.pairs())
