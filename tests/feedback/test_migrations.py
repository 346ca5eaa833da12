"""Tables of every age: made, brought up to date without loss, refused when they are newer than we are."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations

from tests.feedback.ballots import filled, pair, vote
from trivium.errors import DataError
from trivium.feedback import database, migrations, tables
from trivium.feedback.migrations.versions import v001_votes
from trivium.feedback.store import Store


def made_before_alembic(place: str) -> None:
    """A store as the first Trivium left it, with a vote in it."""
    engine = database.engine_for(database.url_of(place)).execution_options(**{database.WRITES: True})
    with engine.begin() as connection:
        with Operations.context(MigrationContext.configure(connection)):
            v001_votes.upgrade()
        kept = pair(1)
        row = kept._asdict() | {"content_key": kept.key, "first_text": kept.first, "second_text": kept.second}
        connection.execute(sa.insert(tables.pairs), row)
        connection.execute(sa.insert(tables.raters), {"name": "Ann", "simulated": False})
        columns = "pair_id, rater_id, choice, shown_swapped, seconds, comment, created_at, idempotency_key"
        values = """VALUES (1, 1, 'second', true, 2.5, '"neither"', '2025-01-01T00:00:00.000000+00:00', 'k')"""
        connection.exec_driver_sql(f"INSERT INTO votes ({columns}) {values}")
    engine.dispose()


def test_the_revisions_make_exactly_the_tables_that_are_read(store: Store) -> None:
    with store._reader.connect() as connection:
        assert migrations.revision_of(connection) == migrations.HEAD
        found = compare_metadata(MigrationContext.configure(connection), tables.schema)
    assert [change for change in found if "schema_version" not in str(change) and "alembic" not in str(change)] == []


def test_an_old_store_is_brought_up_to_date_when_it_is_opened(place: str) -> None:
    made_before_alembic(place)
    for _ in range(2):
        with Store.open(place) as store:
            (kept,) = store.votes()
            assert (kept.rater, kept.choice, kept.comment, kept.shown_swapped) == ("Ann", "second", "neither", True)
            assert (kept.repeat, kept.attempt, kept.withdrawn_at) == (0, 0, None)
    with Store.open(place) as store:
        (pair_id,) = filled(store, 1)
        assert store.add_vote(vote(pair_id, kept.rater_id)).id > kept.id


def test_looking_at_an_old_store_reads_it_and_leaves_it_old(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    made_before_alembic(str(path))
    before = path.read_bytes()
    with Store.look(path) as store:
        assert [kept.choice for kept in store.votes()] == ["second"]
        assert store.undo(1, "undone") is not None  # in the copy
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_trivium_from_before_alembic_would_refuse_what_we_made(tmp_path: Path) -> None:
    Store.open(tmp_path / "feedback.db").close()
    connection = sqlite3.connect(tmp_path / "feedback.db")
    assert connection.execute("SELECT max(version) FROM schema_version").fetchone() == (2,)  # it reads only 1
    connection.close()


def test_a_newer_store_is_refused(store: Store, place: str) -> None:
    with store._writer.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '999'")
    newer = "schema version 999, but this Trivium reads up to 003; update Trivium"
    with pytest.raises(DataError, match=newer):
        Store.open(place)
    if "://" not in place:
        with pytest.raises(DataError, match=newer):
            Store.look(Path(place))
