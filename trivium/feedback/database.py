"""Where votes are kept: a SQLite file, or PostgreSQL by URL; connections whose commits are durable, errors by name."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Literal, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, OperationalError

from trivium.errors import BusyError, ConfigError, DataError

_REMEDY = "see that it can be reached and written, that the disk has room and no other program holds it"
_BUSY_MS = 30_000

WRITES = "trivium_writes"  # execution option of connections that write


def url_of(path_or_url: str | Path) -> sa.URL:
    """SQLite for a path; a URL may name SQLite or PostgreSQL, the latter always through psycopg 3."""
    if isinstance(path_or_url, Path) or "://" not in path_or_url:
        return sa.URL.create("sqlite", database=str(path_or_url))
    try:
        url = sa.make_url(path_or_url)
    except (ArgumentError, ValueError):
        raise ConfigError("votes: this is no database URL; write postgresql://user@host/database") from None
    kind = url.drivername.partition("+")[0]
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise ConfigError(f"votes: {kind} is not supported; give a file for SQLite, or a postgresql:// URL")
    return url.set(drivername="sqlite")


def name_of(url: sa.URL) -> str:
    """What messages call the place: the file, or the URL without its password."""
    return str(url.database) if _is_sqlite(url) else url.render_as_string(hide_password=True)


def _is_sqlite(url: sa.URL) -> bool:
    return url.drivername == "sqlite"


def engine_for(url: sa.URL) -> Engine:
    if not _is_sqlite(url):
        try:
            return sa.create_engine(url, pool_pre_ping=True)
        except ModuleNotFoundError:
            raise ConfigError("votes: PostgreSQL needs psycopg; pip install 'trivium[postgres]'") from None
    if url.database in (None, "", ":memory:"):
        raise ConfigError("votes: SQLite needs a file; votes in memory would be lost")
    engine = sa.create_engine(url)
    sa.event.listen(engine, "connect", _connected)
    sa.event.listen(engine, "begin", _begun)
    return engine


def roll_back(path: Path) -> None:
    """Undo what a process that was killed had half written: until somebody who may write does, nobody can read."""
    if path.with_name(f"{path.name}-journal").exists():
        with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master")  # SQLite does it before it reads


def reading_engine(path: Path) -> Engine:
    """Connections to a SQLite file that can change nothing, and leave nothing beside it.

    A write-ahead log that is not there need not be looked for: nobody has the file open. SQLite would make one to look.
    """
    with path.open("rb") as file:
        logs = file.read(20)[18:19] == b"\x02"  # sqlite.org/fileformat.html: the read version is 2 for WAL
    whole = logs and not path.with_name(f"{path.name}-wal").exists()
    query = {"uri": "true", "mode": "ro", **({"immutable": "1"} if whole else {})}
    engine = sa.create_engine(sa.URL.create("sqlite", database=path.absolute().as_uri(), query=query))
    sa.event.listen(engine, "connect", _connected_to_read)
    sa.event.listen(engine, "begin", _begun)
    return engine


def empty_engine() -> Engine:
    """A database in memory, for what was never written down."""
    return sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)


def copy_in_memory(path: Path) -> Engine:
    """What a SQLite file holds, to be changed without changing the file."""
    engine = empty_engine()
    source = reading_engine(path)
    with source.connect() as held, engine.connect() as copy:
        cast(sqlite3.Connection, held.connection.dbapi_connection).rollback()
        cast(sqlite3.Connection, held.connection.dbapi_connection).backup(
            cast(sqlite3.Connection, copy.connection.dbapi_connection)
        )
    source.dispose()
    return engine


def _connected_to_read(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")


def _connected(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # Python begins nothing by itself: _begun does
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    _choose_journal(connection, journal_mode(sqlite3.sqlite_version_info))
    # With the rollback journal a commit is durable once the journal's removal is flushed too: only EXTRA does that.
    # With the log EXTRA is FULL.
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA foreign_keys = ON")


def journal_mode(version: tuple[int, ...]) -> Literal["WAL", "DELETE"]:
    """The write-ahead log where this SQLite keeps it whole, else the rollback journal.

    Others can lose a commit when one connection resets the log while another writes: sqlite.org/wal.html, "WAL-reset".
    """
    whole = (3, 44, 6) <= version < (3, 45) or (3, 50, 7) <= version < (3, 51) or version >= (3, 51, 3)
    return "WAL" if whole else "DELETE"


def is_exclusive(engine: Engine) -> bool:
    """Whether a reader keeps writers out, and a writer readers, as with SQLite's rollback journal.

    Threads then take turns before they ask: SQLite lets them sleep and try again, some of them for long.
    """
    return engine.dialect.name == "sqlite" and journal_mode(sqlite3.sqlite_version_info) == "DELETE"


def _choose_journal(connection: sqlite3.Connection, mode: str) -> None:
    """Switch where needed. busy_timeout does not cover the switch, which needs the file for itself: wait here."""
    patience = monotonic() + _BUSY_MS / 1000
    while True:
        try:
            (found,) = connection.execute("PRAGMA journal_mode").fetchone()
            if found.upper() != mode:
                connection.execute(f"PRAGMA journal_mode = {mode}")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > patience:
                raise
            sleep(0.01)


def _begun(connection: Connection) -> None:
    # busy_timeout does not cover a reader that turns writer: a writer takes the lock at once
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Turns the database's refusals into one line that names it; IntegrityError passes."""
    try:
        yield
    except OSError as error:
        raise BusyError(f"{name}: {error.strerror}; {_REMEDY}") from error
    except OperationalError as error:
        raise BusyError(f"{name}: {_one_line(error)}; {_REMEDY}") from error
    except IntegrityError:
        raise
    except DatabaseError as error:
        raise DataError(f"{name}: {_one_line(error)}; is it a store of votes?") from error


def _one_line(error: DatabaseError) -> str:
    return " ".join(str(error.orig).split())
