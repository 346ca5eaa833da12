"""Votes in SQL: who preferred which answer, never edited, acknowledged only when durable.

It does not decide what to ask next (pairs.py), does not judge (judges.py) and computes no statistics (agreement.py).

A vote names an answer by content, "first" or "second" as the pair is stored, never by its place on a screen: where the
answers stood is only recorded (`shown_swapped`), and `choice_of` is the one place that translates.
"""

import hashlib
import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar, cast, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, OperationalError, ProgrammingError

from trivium.errors import ConfigError, DataError, RunError
from trivium.records import Message, Pair

Choice = Literal["first", "second", "tie", "both_bad", "skip"]
Shown = Literal["left", "right", "tie", "both_bad", "skip"]

SCHEMA_VERSION = 1
SIMULATED = "simulated"  # the first word of every simulated rater's name, and of no other's

_WORTH_OF_FIRST: dict[str, float] = {"first": 1.0, "second": 0.0, "tie": 0.5, "both_bad": 0.5}
_REMEDY = "see that it can be reached and written, that the disk has room and no other program holds it"
_BUSY_MS = 30_000
_CHUNK = 500  # keys in one IN (...): far below every database's limit on parameters
_ATTEMPTS = 5
_OUTRUN = (IntegrityError, ProgrammingError)  # another writer has just made the row, or the table
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_T = TypeVar("_T")


class _AnyText(sa.types.TypeDecorator[str]):
    """Any Python string, kept as a JSON string: PostgreSQL refuses NUL, and UTF-8 holds no half of a surrogate pair.

    Two halves that meet come back as the one character they spell.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else _json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else cast(str, json.loads(value))


class _Messages(sa.types.TypeDecorator[tuple[Message, ...]]):
    """A prompt, as JSON: [[role, content], ...]."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: tuple[Message, ...] | None, dialect: Dialect) -> str | None:
        return None if value is None else _json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[Message, ...] | None:
        return None if value is None else tuple(Message(*turn) for turn in json.loads(value))


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _LONE_SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


_schema = sa.MetaData()
_version = sa.Table("schema_version", _schema, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
_raters = sa.Table(
    "raters",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("simulated", sa.Boolean, nullable=False),
)
_pairs = sa.Table(
    "pairs",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("content_key", sa.String(64), nullable=False, unique=True),
    sa.Column("round", sa.Integer, nullable=False, index=True),
    sa.Column("prompt", _Messages, nullable=False),
    sa.Column("first_text", _AnyText, nullable=False),
    sa.Column("second_text", _AnyText, nullable=False),
    sa.Column("first_model", sa.String(200), nullable=False),
    sa.Column("second_model", sa.String(200), nullable=False),
    sa.Column("source", sa.Text, nullable=False),
)
_votes = sa.Table(
    "votes",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("pair_id", sa.ForeignKey("pairs.id"), nullable=False),
    sa.Column("rater_id", sa.ForeignKey("raters.id"), nullable=False, index=True),
    sa.Column("choice", sa.String(8), nullable=False),
    sa.Column("shown_swapped", sa.Boolean, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("comment", _AnyText, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),  # ISO 8601, UTC
    sa.Column("idempotency_key", sa.String(200), nullable=False, unique=True),
    sa.UniqueConstraint("pair_id", "rater_id"),
)


class Rater(NamedTuple):
    id: int
    name: str
    simulated: bool


class NewPair(NamedTuple):
    """Two answers to one prompt. Their order is kept: it is what "first" and "second" mean in every vote on them."""

    prompt: tuple[Message, ...]
    first: str
    second: str
    round: int
    first_model: str = ""  # fingerprint of the model that wrote it; empty when unknown
    second_model: str = ""
    source: str = "sampled"  # or "file:line"

    @property
    def key(self) -> str:
        """SHA-256 of the prompt, the answers and the models, in this order."""
        content = [self.prompt, self.first, self.second, self.first_model, self.second_model]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


class StoredPair(NamedTuple):
    id: int
    key: str  # content key: the same in every database
    round: int
    prompt: tuple[Message, ...]
    first: str
    second: str
    first_model: str
    second_model: str
    source: str

    def shown(self, *, swapped: bool) -> tuple[str, str]:
        """The answers as (left, right) on a screen."""
        return (self.second, self.first) if swapped else (self.first, self.second)


class NewVote(NamedTuple):
    pair_id: int
    rater_id: int
    choice: Choice
    idempotency_key: str  # made once by the asker, sent again with every retry
    shown_swapped: bool = False  # the first answer stood on the right
    seconds: float = 0.0  # taken to decide
    comment: str = ""


class Vote(NamedTuple):
    id: int
    pair_id: int
    rater_id: int
    choice: Choice
    shown_swapped: bool
    seconds: float
    comment: str
    created_at: str  # ISO 8601, UTC
    idempotency_key: str
    rater: str
    simulated: bool


class LabelledPair(NamedTuple):
    """A pair and the mean of its votes."""

    prompt: tuple[Message, ...]
    first: str
    second: str
    preference: float  # in [0, 1]: 1 when all chose the first; a tie and "both bad" count one half
    votes: int  # those that count: not "skip"
    simulated: bool  # at least one of them was simulated
    round: int
    source: str
    pair_id: int

    def decided(self) -> Pair:
        """By majority, as a record; the strength of the preference is dropped."""
        answers = (self.first, self.second) if self.preference >= 0.5 else (self.second, self.first)
        return Pair(self.prompt, *answers, source=self.source, tie=self.preference == 0.5)


class Counts(NamedTuple):
    pairs: int
    raters: int
    simulated_raters: int
    votes: int
    simulated_votes: int
    choices: dict[str, int]


def choice_of(shown: Shown, *, shown_swapped: bool) -> Choice:
    """What was chosen, by content: the left answer is the first unless the answers were swapped."""
    if shown == "left":
        return "second" if shown_swapped else "first"
    if shown == "right":
        return "first" if shown_swapped else "second"
    return shown


def journal_mode(version: tuple[int, ...]) -> Literal["WAL", "DELETE"]:
    """The write-ahead log where this SQLite keeps it whole, else the rollback journal.

    Others can lose a commit when one connection resets the log while another writes: sqlite.org/wal.html, "WAL-reset".
    """
    whole = (3, 44, 6) <= version < (3, 45) or (3, 50, 7) <= version < (3, 51) or version >= (3, 51, 3)
    return "WAL" if whole else "DELETE"


class Store:
    """The votes of one run. Threads may share it; a forked child must open its own."""

    def __init__(self, engine: Engine, *, name: str) -> None:
        self.name = name
        self._reader = engine
        self._writer = engine.execution_options(trivium_writes=True)

    @classmethod
    def open(cls, path_or_url: str | Path) -> Self:
        """Open the votes in a SQLite file (made when absent) or, by URL, in PostgreSQL.

        raises  ConfigError when the URL is not one of these; RunError when it cannot be reached; DataError when it is
                no store of votes, or one of a newer Trivium
        """
        url = _url(path_or_url)
        name = str(url.database) if _is_sqlite(url) else url.render_as_string(hide_password=True)
        store = cls(_engine(url), name=name)
        try:
            store._prepare()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        self._reader.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add_rater(self, name: str, *, simulated: bool = False) -> Rater:
        """The rater of that name, made when absent. Simulated raters are called so, and nobody else is."""
        _check_name("rater", name)
        if name.lower().startswith(SIMULATED) != simulated:
            raise DataError(f'rater "{name}": simulated raters, and only they, have names beginning with "{SIMULATED}"')
        return self._write(lambda connection: _insert_rater(connection, name, simulated))

    def add_pairs(self, pairs: Iterable[NewPair]) -> list[int]:
        """Their ids, in order. The same content twice is one pair, with the round and source it came with first."""
        new = list(pairs)
        for pair in new:
            _check_pair(pair)
        return self._write(lambda connection: _insert_pairs(connection, new))

    def add_vote(self, vote: NewVote) -> Vote:
        """The vote as stored, once it is durable. See add_votes."""
        return self.add_votes([vote])[0]

    def add_votes(self, votes: Iterable[NewVote]) -> list[Vote]:
        """The votes as stored, in order, all of them or none; returns once they are durable.

        A repeated idempotency key gives the vote that it made before.
        raises  DataError when a rater votes on a pair again under another key, when a key comes back with another
                vote, when pair or rater is unknown, or a field is out of range
        """
        new = list(votes)
        for vote in new:
            _check_vote(vote)
        return self._write(lambda connection: _insert_votes(connection, new))

    def raters(self) -> list[Rater]:
        with self._read() as connection:
            return [Rater(*row) for row in connection.execute(sa.select(_raters).order_by(_raters.c.id))]

    def pairs(self, round: int | None = None) -> list[StoredPair]:
        with self._read() as connection:
            return _select_pairs(connection, *([] if round is None else [_pairs.c.round == round]))

    def votes(self, round: int | None = None) -> list[Vote]:
        """All votes, or those on one round's pairs, in the order they came."""
        with self._read() as connection:
            return _select_votes(connection, *([] if round is None else [_pairs.c.round == round]))

    def next_pair(self, rater_id: int, round: int) -> StoredPair | None:
        """A pair of the round this rater has not voted on: among those with the fewest votes, one that differs from
        rater to rater, so that many voting at once do not all meet the same pair. The same until somebody votes."""
        with self._read() as connection:
            _require(connection, _raters, {rater_id})
            own = _votes.alias()
            done = sa.select(own.c.pair_id).where(own.c.rater_id == rater_id)
            counted = sa.select(_pairs.c.id, sa.func.count(_votes.c.id)).select_from(_pairs.outerjoin(_votes))
            asked = counted.where(_pairs.c.round == round, _pairs.c.id.not_in(done)).group_by(_pairs.c.id)
            open_pairs = connection.execute(asked).all()
            if not open_pairs:
                return None
            pair_id, _ = min(open_pairs, key=lambda row: (row[1], _shuffled(rater_id, row[0])))
            return _select_pairs(connection, _pairs.c.id == pair_id)[0]

    def labelled_pairs(
        self, rounds: Sequence[int] | None = None, *, include_simulated: bool = True
    ) -> list[LabelledPair]:
        """Every pair with a vote that counts ("skip" does not), in the order they were added."""
        with self._read() as connection:
            votes = _select_votes(connection, *_in_rounds(rounds))
            pairs = _select_pairs(connection, *_in_rounds(rounds))  # after the votes: none may lack its pair
        by_pair: dict[int, list[Vote]] = defaultdict(list)
        for vote in votes:
            if vote.choice != "skip" and (include_simulated or not vote.simulated):
                by_pair[vote.pair_id].append(vote)
        return [_label(pair, by_pair[pair.id]) for pair in pairs if pair.id in by_pair]

    def counts(self) -> Counts:
        with self._read() as connection:
            raters = [simulated for (simulated,) in connection.execute(sa.select(_raters.c.simulated))]
            pairs = connection.scalar(sa.select(sa.func.count()).select_from(_pairs)) or 0
            votes = connection.execute(
                sa.select(_votes.c.choice, _raters.c.simulated, sa.func.count())
                .join_from(_votes, _raters)
                .group_by(_votes.c.choice, _raters.c.simulated)
            ).all()
        choices = Counter(dict.fromkeys(get_args(Choice), 0))
        for choice, _, number in votes:
            choices[choice] += number
        simulated_votes = sum(number for _, simulated, number in votes if simulated)
        return Counts(pairs, len(raters), sum(raters), choices.total(), simulated_votes, dict(choices))

    def fingerprint(self, rounds: Sequence[int] | None = None) -> str:
        """16 hexadecimal digits that name the votes' content: who chose what in which round. The same in every
        database, whatever the order, the times and the ids."""
        query = (
            sa.select(_pairs.c.content_key, _pairs.c.round, _raters.c.name, _raters.c.simulated, _votes.c.choice)
            .join_from(_votes, _pairs)
            .join(_raters)
            .where(*_in_rounds(rounds))
        )
        with self._read() as connection:
            rows = sorted(list(row) for row in connection.execute(query))  # here: databases sort text differently
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    def _prepare(self) -> None:
        with self._read() as connection:
            made = sa.inspect(connection).has_table(_version.name)
        if not made:
            self._write(_create)
        with self._read() as connection:
            found = connection.scalar(sa.select(sa.func.max(_version.c.version)))
        if found != SCHEMA_VERSION:
            raise DataError(
                f"{self.name}: schema version {found}, but this Trivium reads {SCHEMA_VERSION}; update Trivium"
            )

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._named_errors(), self._reader.connect() as connection:
            yield connection

    def _write(self, work: Callable[[Connection], _T]) -> _T:
        """Do the work in one transaction and commit. Where another writer came between our look and our insert (it can
        in PostgreSQL, not in SQLite), look again."""
        with self._named_errors():
            for _ in range(_ATTEMPTS - 1):
                try:
                    with self._writer.begin() as connection:
                        return work(connection)
                except _OUTRUN:
                    continue
            with self._writer.begin() as connection:
                return work(connection)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise RunError(f"{self.name}: {_one_line(error)}; {_REMEDY}") from error
        except IntegrityError:
            raise
        except DatabaseError as error:
            raise DataError(f"{self.name}: {_one_line(error)}; is it a store of votes?") from error


def _url(path_or_url: str | Path) -> sa.URL:
    """SQLite for a path; a URL may name SQLite or PostgreSQL, the latter always through psycopg 3."""
    if isinstance(path_or_url, Path) or "://" not in path_or_url:
        return sa.URL.create("sqlite", database=str(path_or_url))
    try:
        url = sa.make_url(path_or_url)
    except (ArgumentError, ValueError):
        raise ConfigError("votes: this is no database URL; write postgresql://user:password@host/database") from None
    kind = url.drivername.partition("+")[0]
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise ConfigError(f"votes: {kind} is not supported; give a file for SQLite, or a postgresql:// URL")
    return url.set(drivername="sqlite")


def _is_sqlite(url: sa.URL) -> bool:
    return url.drivername == "sqlite"


def _engine(url: sa.URL) -> Engine:
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


def _connected(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # Python begins nothing by itself: _begun does
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    _choose_journal(connection, journal_mode(sqlite3.sqlite_version_info))
    # With the rollback journal a commit is durable once the journal's removal is flushed too: only EXTRA does that.
    # With the log EXTRA is FULL.
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA foreign_keys = ON")


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
    writes = connection.get_execution_options().get("trivium_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _create(connection: Connection) -> None:
    _schema.create_all(connection)
    if connection.scalar(sa.select(_version.c.version)) is None:
        connection.execute(sa.insert(_version), {"version": SCHEMA_VERSION})


def _insert_rater(connection: Connection, name: str, simulated: bool) -> Rater:
    query = sa.select(_raters).where(_raters.c.name == name)
    if connection.execute(query).first() is None:
        connection.execute(sa.insert(_raters), {"name": name, "simulated": simulated})
    return Rater(*connection.execute(query).one())


def _insert_pairs(connection: Connection, new: Sequence[NewPair]) -> list[int]:
    by_key = {pair.key: pair for pair in reversed(new)}  # of equals the first stays
    keys = list(dict.fromkeys(pair.key for pair in new))
    known = _ids_by_key(connection, keys)
    rows = [_pair_row(key, by_key[key]) for key in keys if key not in known]
    if rows:
        connection.execute(sa.insert(_pairs), rows)
        known = _ids_by_key(connection, keys)
    return [known[pair.key] for pair in new]


def _pair_row(key: str, pair: NewPair) -> dict[str, Any]:
    row = pair._asdict()
    return row | {"content_key": key, "first_text": row.pop("first"), "second_text": row.pop("second")}


def _ids_by_key(connection: Connection, keys: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in _chunks(keys):
        query = sa.select(_pairs.c.content_key, _pairs.c.id).where(_pairs.c.content_key.in_(some))
        found.update((key, number) for key, number in connection.execute(query))
    return found


def _insert_votes(connection: Connection, new: Sequence[NewVote]) -> list[Vote]:
    _require(connection, _raters, {vote.rater_id for vote in new})
    _require(connection, _pairs, {vote.pair_id for vote in new})
    # ballots before keys: a twin that PostgreSQL commits between the two looks is then found by its key, not refused
    taken = _voted(connection, new)
    keys = list(dict.fromkeys(vote.idempotency_key for vote in new))
    made = {key: (vote.pair_id, vote.rater_id, vote.choice) for key, vote in _votes_by_key(connection, keys).items()}
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    rows = []
    for vote in new:
        content, ballot = (vote.pair_id, vote.rater_id, vote.choice), (vote.pair_id, vote.rater_id)
        if vote.idempotency_key in made:
            if made[vote.idempotency_key] != content:
                raise DataError(f'idempotency key "{vote.idempotency_key}" already made another vote; use a fresh key')
            continue
        if ballot in taken:
            raise DataError(f"rater {vote.rater_id} has already voted on pair {vote.pair_id}; votes are never changed")
        made[vote.idempotency_key] = content
        taken.add(ballot)
        rows.append({**vote._asdict(), "created_at": now})
    if rows:
        connection.execute(sa.insert(_votes), rows)
    stored = _votes_by_key(connection, keys)
    return [stored[vote.idempotency_key] for vote in new]


def _voted(connection: Connection, new: Sequence[NewVote]) -> set[tuple[int, int]]:
    """Which (pair, rater) of these have a vote already."""
    pairs_of: dict[int, set[int]] = defaultdict(set)
    for vote in new:
        pairs_of[vote.rater_id].add(vote.pair_id)
    found: set[tuple[int, int]] = set()
    for rater_id, pair_ids in pairs_of.items():
        for some in _chunks(sorted(pair_ids)):
            query = sa.select(_votes.c.pair_id).where(_votes.c.rater_id == rater_id, _votes.c.pair_id.in_(some))
            found.update((pair_id, rater_id) for (pair_id,) in connection.execute(query))
    return found


def _votes_by_key(connection: Connection, keys: Sequence[str]) -> dict[str, Vote]:
    found = [vote for some in _chunks(keys) for vote in _select_votes(connection, _votes.c.idempotency_key.in_(some))]
    return {vote.idempotency_key: vote for vote in found}


def _require(connection: Connection, table: sa.Table, ids: set[int]) -> None:
    known = {
        number
        for some in _chunks(sorted(ids))
        for (number,) in connection.execute(sa.select(table.c.id).where(table.c.id.in_(some)))
    }
    if ids - known:
        raise DataError(f"{table.name.removesuffix('s')} {min(ids - known)} is unknown; add it before voting")


def _select_pairs(connection: Connection, *where: sa.ColumnElement[bool]) -> list[StoredPair]:
    query = sa.select(_pairs).where(*where).order_by(_pairs.c.id)
    return [StoredPair(*row) for row in connection.execute(query)]


def _select_votes(connection: Connection, *where: sa.ColumnElement[bool]) -> list[Vote]:
    query = sa.select(_votes, _raters.c.name, _raters.c.simulated).join_from(_votes, _raters).join(_pairs)
    return [Vote(*row) for row in connection.execute(query.where(*where).order_by(_votes.c.id))]


def _in_rounds(rounds: Sequence[int] | None) -> list[sa.ColumnElement[bool]]:
    return [] if rounds is None else [_pairs.c.round.in_(list(rounds))]


def _label(pair: StoredPair, votes: Sequence[Vote]) -> LabelledPair:
    preference = sum(_WORTH_OF_FIRST[vote.choice] for vote in votes) / len(votes)
    simulated = any(vote.simulated for vote in votes)
    return LabelledPair(
        pair.prompt, pair.first, pair.second, preference, len(votes), simulated, pair.round, pair.source, pair.id
    )


def _check_pair(pair: NewPair) -> None:
    if not pair.prompt:
        raise DataError(f"{pair.source}: the prompt is empty; a pair needs at least one message")
    for field in ("first_model", "second_model", "source"):
        if value := getattr(pair, field):
            _check_name(f"{pair.source}: {field}", value)


def _check_vote(vote: NewVote) -> None:
    _check_name("idempotency key", vote.idempotency_key)
    if vote.choice not in get_args(Choice):
        raise DataError(f'choice "{vote.choice}" is unknown; choose one of {", ".join(get_args(Choice))}')
    if not (isfinite(vote.seconds) and vote.seconds >= 0):
        raise DataError(f"seconds = {vote.seconds}: must be finite and not negative")


def _check_name(what: str, name: str) -> None:
    if not (name.isprintable() and 0 < len(name) <= 200):
        raise DataError(f"{what} {name!r:.60}: must be 1 to 200 printable characters")


def _chunks(keys: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))


def _shuffled(rater_id: int, pair_id: int) -> bytes:
    return hashlib.sha256(f"{rater_id}:{pair_id}".encode()).digest()


def _one_line(error: DatabaseError) -> str:
    return " ".join(str(error.orig).split())
