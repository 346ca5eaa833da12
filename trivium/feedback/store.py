"""Votes in SQL: who preferred which answer, never edited, acknowledged only when durable.

It does not judge (judges.py) and computes no statistics (agreement.py).
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, ProgrammingError

from trivium.errors import DataError
from trivium.feedback import database, queries, tables
from trivium.feedback.votes import (
    SIMULATED,
    Choice,
    Counts,
    LabelledPair,
    NewPair,
    NewVote,
    Rater,
    Shown,
    StoredPair,
    Vote,
    check_name,
    check_pair,
    check_vote,
    choice_of,
    label,
)

__all__ = [
    "Choice",
    "Counts",
    "LabelledPair",
    "NewPair",
    "NewVote",
    "Rater",
    "Shown",
    "Store",
    "StoredPair",
    "Vote",
    "choice_of",
]

_ATTEMPTS = 5
_OUTRUN = (IntegrityError, ProgrammingError)  # another writer has just made the row, or the table
_T = TypeVar("_T")


class Store:
    """The votes of one run. Threads may share it; a forked child must open its own."""

    def __init__(self, engine: Engine, *, name: str) -> None:
        self.name = name
        self._reader = engine
        self._writer = engine.execution_options(**{database.WRITES: True})

    @classmethod
    def open(cls, path_or_url: str | Path) -> Self:
        """Open the votes in a SQLite file (made when absent) or, by URL, in PostgreSQL.

        raises  ConfigError when the URL is not one of these; RunError when it cannot be reached; DataError when it is
                no store of votes, or one of a newer Trivium
        """
        url = database.url_of(path_or_url)
        store = cls(database.engine_for(url), name=database.name_of(url))
        try:
            store._prepare()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def look(cls, path: Path) -> Self:
        """The votes in a SQLite file, to read and not to write: nothing is made, changed or left beside it.

        A file that is not there, or in which no tables are made yet, holds no votes.
        raises  RunError when it cannot be read; DataError as `open`
        """
        if not path.exists():
            return cls._empty(str(path))
        with database.named_errors(str(path)):
            store = cls(database.reading_engine(path), name=str(path))
        try:
            if not store._has_tables():
                store.close()
                store = cls._empty(str(path))
            store._check_version()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _empty(cls, name: str) -> Self:
        store = cls(database.empty_engine(), name=name)
        store._write(tables.create)
        return store

    def close(self) -> None:
        self._reader.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add_rater(self, name: str, *, simulated: bool = False) -> Rater:
        """The rater of that name, made when absent. Simulated raters are called so, and nobody else is."""
        check_name("rater", name)
        if name.lower().startswith(SIMULATED) != simulated:
            raise DataError(f'rater "{name}": simulated raters, and only they, have names beginning with "{SIMULATED}"')
        return self._write(lambda connection: queries.insert_rater(connection, name, simulated=simulated))

    def add_pairs(self, pairs: Iterable[NewPair]) -> list[int]:
        """Their ids, in order. The same content twice is one pair, with the round and source it came with first."""
        new = list(pairs)
        for pair in new:
            check_pair(pair)
        return self._write(lambda connection: queries.insert_pairs(connection, new))

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
            check_vote(vote)
        return self._write(lambda connection: queries.insert_votes(connection, new))

    def raters(self) -> list[Rater]:
        with self._read() as connection:
            return queries.select_raters(connection)

    def pairs(self, round: int | None = None) -> list[StoredPair]:
        with self._read() as connection:
            return queries.select_pairs(connection, *([] if round is None else [tables.pairs.c.round == round]))

    def votes(self, round: int | None = None) -> list[Vote]:
        """All votes, or those on one round's pairs, in the order they came."""
        with self._read() as connection:
            return queries.select_votes(connection, *([] if round is None else [tables.pairs.c.round == round]))

    def next_pair(self, rater_id: int, round: int) -> StoredPair | None:
        """A pair of the round this rater has not voted on: among those with the fewest votes, one that differs from
        rater to rater, so that many voting at once do not all meet the same pair. The same until somebody votes."""
        with self._read() as connection:
            queries.require(connection, tables.raters, {rater_id})
            open_pairs = queries.select_open(connection, rater_id, round)
            if not open_pairs:
                return None
            pair_id, _ = min(open_pairs, key=lambda row: (row[1], _shuffled(rater_id, row[0])))
            return queries.select_pairs(connection, tables.pairs.c.id == pair_id)[0]

    def pair(self, number: int) -> StoredPair:
        """raises  DataError when there is no pair of this id"""
        with self._read() as connection:
            found = queries.select_pairs(connection, tables.pairs.c.id == number)
        if not found:
            raise DataError(f"pair {number}: there is none of that id")
        return found[0]

    def open_pairs(self, rater_id: int, round: int) -> list[tuple[int, int]]:
        """(pair id, votes so far) of each pair of the round that this rater has not voted on, as they were added."""
        with self._read() as connection:
            return sorted(queries.select_open(connection, rater_id, round))

    def people_votes(self, round: int) -> dict[int, int]:
        """Votes of people on one round's pairs, by rater; "skip" is none."""
        with self._read() as connection:
            return queries.count_people(connection, round)

    def labelled_pairs(
        self,
        rounds: Sequence[int] | None = None,
        *,
        include_simulated: bool = True,
        among: Collection[int] | None = None,
    ) -> list[LabelledPair]:
        """Every pair with a vote that counts ("skip" does not), in the order they were added.

        among  ids of the votes that count; all do when it is None
        """
        with self._read() as connection:
            votes = queries.select_votes(connection, *queries.in_rounds(rounds))
            # after the votes: none may lack its pair
            pairs = queries.select_pairs(connection, *queries.in_rounds(rounds))
        by_pair: dict[int, list[Vote]] = defaultdict(list)
        for vote in votes:
            counts = (include_simulated or not vote.simulated) and (among is None or vote.id in among)
            if counts and vote.choice != "skip":
                by_pair[vote.pair_id].append(vote)
        return [label(pair, by_pair[pair.id]) for pair in pairs if pair.id in by_pair]

    def counts(self) -> Counts:
        with self._read() as connection:
            return queries.count(connection)

    def fingerprint(self, rounds: Sequence[int] | None = None) -> str:
        """16 hexadecimal digits that name the votes' content: who chose what in which round. The same in every
        database, whatever the order, the times and the ids."""
        with self._read() as connection:
            rows = queries.select_content(connection, *queries.in_rounds(rounds))
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    def _prepare(self) -> None:
        if not self._has_tables():
            self._write(tables.create)
        self._check_version()

    def _has_tables(self) -> bool:
        with self._read() as connection:
            return sa.inspect(connection).has_table(tables.version.name)

    def _check_version(self) -> None:
        with self._read() as connection:
            found = connection.scalar(sa.select(sa.func.max(tables.version.c.version)))
        if found != tables.SCHEMA_VERSION:
            raise DataError(
                f"{self.name}: schema version {found}, but this Trivium reads {tables.SCHEMA_VERSION}; update Trivium"
            )

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with database.named_errors(self.name), self._reader.connect() as connection:
            yield connection

    def _write(self, work: Callable[[Connection], _T]) -> _T:
        """Do the work in one transaction and commit. Where another writer came between our look and our insert (it can
        in PostgreSQL, not in SQLite), look again."""
        with database.named_errors(self.name):
            for _ in range(_ATTEMPTS - 1):
                try:
                    with self._writer.begin() as connection:
                        return work(connection)
                except _OUTRUN:
                    continue
            with self._writer.begin() as connection:
                return work(connection)


def _shuffled(rater_id: int, pair_id: int) -> bytes:
    return hashlib.sha256(f"{rater_id}:{pair_id}".encode()).digest()
