"""Stores for the tests: SQLite always; PostgreSQL where it is installed: a server of our own, reached by a socket."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.postgres import programs, server
from trivium.feedback.store import Store


@pytest.fixture(scope="session")
def postgres() -> Iterator[sa.URL]:
    """A server of this session's own; it listens on no port."""
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed here")
    with server(binaries, durable=False) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a fresh store can be opened."""
    if request.param == "sqlite":
        yield str(tmp_path / "feedback.db")
        return
    server: sa.URL = request.getfixturevalue("postgres")
    schema = f"test_{uuid.uuid4().hex}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        yield server.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(False)
        connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    admin.dispose()


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store.open(place) as opened:
        yield opened
