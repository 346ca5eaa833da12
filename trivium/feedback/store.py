"""Votes in SQL: who preferred which answer, never edited, acknowledged only when durable.

It does not judge (judges.py) and computes no statistics (agreement.py).
"""

import hashlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, ProgrammingError

from trivium.errors import DataError
from trivium.feedback import database, migrations, queries, queue, tables
from trivium.feedback.votes import (
    SIMULATED,
    USUAL_SHARES,
    Answer,
    Choice,
    Comparison,
    Counts,
    LabelledPair,
    NewPair,
    NewQueued,
    NewVote,
    Queued,
    Rater,
    Shares,
    Showing,
    Shown,
    StoredPair,
    Vote,
    check_answer,
    check_name,
    check_pair,
    check_queued,
    check_shares,
    check_vote,
    choice_of,
    label,
)

__all__ = [
    "Answer",
    "Choice",
    "Comparison",
    "Counts",
    "LabelledPair",
    "NewPair",
    "NewQueued",
    "NewVote",
    "Queued",
    "Rater",
    "Shares",
    "Showing",
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
        self._turn = threading.RLock() if database.is_exclusive(engine) else nullcontext()
        self.has_one_writer = engine.dialect.name == "sqlite"
        """whether others who write wait meanwhile"""

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
    def look(cls, path: Path | str) -> Self:
        """The votes in a SQLite file, to read and not to write: nothing is made, changed or left beside it, but that a
        commit that a process died in is undone.

        A file that is not there, or in which no tables are made yet, holds no votes. A server, by URL, is opened.
        raises  RunError when it cannot be read; DataError as `open`
        """
        if isinstance(path, str):
            return cls.open(path)
        if not path.exists():
            return cls._empty(str(path))
        with database.named_errors(str(path)):
            database.roll_back(path)
            store = cls(database.reading_engine(path), name=str(path))
        try:
            with store.read() as connection:
                current = migrations.is_current(connection, store.name)
            if not current:  # it is brought up to date in a copy in memory; the file stays
                store.close()
                with database.named_errors(str(path)):
                    store = cls(database.copy_in_memory(path), name=str(path))
                store._prepare()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _empty(cls, name: str) -> Self:
        store = cls(database.empty_engine(), name=name)
        store._prepare()
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
        return self.write(lambda connection: queries.insert_rater(connection, name, simulated=simulated))

    def add_pairs(self, pairs: Iterable[NewPair]) -> list[int]:
        """Their ids, in order. The same content twice is one pair, with the round and source it came with first."""
        new = list(pairs)
        for pair in new:
            check_pair(pair)
        return self.write(lambda connection: queries.insert_pairs(connection, new))

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
        return self.write(lambda connection: queries.insert_votes(connection, new))

    def raters(self) -> list[Rater]:
        with self.read() as connection:
            return queries.select_raters(connection)

    def pairs(self, round: int | None = None) -> list[StoredPair]:
        with self.read() as connection:
            return queries.select_pairs(connection, *_of_round(round))

    def votes(self, round: int | None = None) -> list[Vote]:
        """All votes that were not withdrawn, or those on one round's pairs, in the order they came."""
        with self.read() as connection:
            return queries.select_votes(connection, queries.counting(), *_of_round(round))

    def history(self) -> list[Vote]:
        """All votes ever cast, in the order they came, withdrawn ones too."""
        with self.read() as connection:
            return queries.select_votes(connection)

    def find_votes(
        self, choices: Sequence[Choice] = (), rater: str = "", *, start: int = 0, count: int | None = None
    ) -> tuple[int, list[tuple[Vote, StoredPair]]]:
        """How many votes have one of the choices and are by that rater, where these are said, withdrawn ones too; and a
        page of them with their pairs, the newest first."""
        with self.read() as connection:
            return queries.find_votes(connection, choices, rater, start=start, count=count)

    def enqueue(self, items: Iterable[NewQueued]) -> list[int]:
        """Pairs to be voted on; their ids, in order. One that is in the queue already stays as it came first."""
        new = list(items)
        for item in new:
            check_queued(item)
        return self.write(lambda connection: queue.enqueue(connection, new))

    def waiting(self, round: int | None = None) -> list[Queued]:
        """The pairs in the queue that nobody has voted on, in the order they came."""
        with self.read() as connection:
            return [entry for entry in queue.select_queue(connection, round) if not entry.votes]

    def count_fresh(self, round: int, most: int) -> int:
        """How many pairs nobody has voted on or looks at now, up to `most`."""
        with self.read() as connection:
            return queue.count_fresh(connection, round=round, most=most)

    def showings(self) -> list[Showing]:
        """Every pair that was ever shown to a rater, in that order: by which policy it was chosen, with what chance."""
        with self.read() as connection:
            return queue.select_showings(connection)

    def queued(self) -> dict[int, Queued]:
        """Every pair that ever was in the queue, by its id."""
        with self.read() as connection:
            return {entry.pair_id: entry for entry in queue.select_queue(connection)}

    def next_showings(
        self, rater_id: int, *, round: int | None = None, count: int = 2, shares: Shares = USUAL_SHARES, seed: int = 0
    ) -> list[Showing]:
        """Up to `count` pairs for this rater to vote on: first those given and not answered, on the same sides, then
        new ones from the queue."""
        check_shares(shares)

        def give(connection: Connection) -> list[Showing]:
            return queue.next_showings(connection, rater_id, round=round, count=count, shares=shares, seed=seed)

        return self.write(give)

    def answer(self, said: Answer) -> Vote:
        """The vote on a showing, once it is durable. A repeated key gives the vote that it made before.

        raises  DataError as add_votes, and when the showing is not this rater's
        """
        check_answer(said)
        return self.write(lambda connection: queue.answer(connection, said))

    def undo(self, rater_id: int, idempotency_key: str, *, vote_id: int | None = None) -> Vote | None:
        """Withdraws the rater's last vote, or that one of the rater's, by a new row, and gives it back; None when there
        is none to withdraw."""
        return self.write(lambda connection: queue.withdraw(connection, rater_id, idempotency_key, vote_id=vote_id))

    def comparisons(self, rounds: Sequence[int] | None = None) -> list[Comparison]:
        """The votes that count, as comparisons of models. Repeats measure the rater and are left out."""
        with self.read() as connection:
            votes = queries.select_votes(connection, queries.counting(), *queries.in_rounds(rounds))
            pairs = {pair.id: pair for pair in queries.select_pairs(connection, *queries.in_rounds(rounds))}
        compared = ((pairs[vote.pair_id], vote) for vote in votes if not vote.repeat)
        return [
            Comparison(
                pair.first_model, pair.second_model, pair.first, pair.second, vote.choice, pair.round, vote.simulated
            )
            for pair, vote in compared
        ]

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
        with self.read() as connection:
            # votes that a round has settled on stay its votes
            valid = [queries.counting()] if among is None else []
            votes = queries.select_votes(connection, *valid, *queries.in_rounds(rounds))
            # after the votes: none may lack its pair
            pairs = queries.select_pairs(connection, *queries.in_rounds(rounds))
        by_pair: dict[int, list[Vote]] = defaultdict(list)
        for vote in votes:
            counts = (include_simulated or not vote.simulated) and (among is None or vote.id in among)
            if counts and vote.choice != "skip" and not vote.repeat:
                by_pair[vote.pair_id].append(vote)
        return [label(pair, by_pair[pair.id]) for pair in pairs if pair.id in by_pair]

    def count_by_rater(self, round: int) -> tuple[Counter[int], int]:
        """How many votes of each person count on the round's pairs, skips left out; and the newest vote's id."""
        with self.read() as connection:
            return queries.count_by_rater(connection, round)

    def cast_by_people(self) -> set[int]:
        """The ids of the votes that people cast, withdrawn ones too."""
        with self.read() as connection:
            return queries.select_cast_by_people(connection)

    def counts(self) -> Counts:
        with self.read() as connection:
            return queries.count(connection)

    def fingerprint(self, rounds: Sequence[int] | None = None) -> str:
        """16 hexadecimal digits that name the votes' content: who chose what in which round. The same in every
        database, whatever the order, the times and the ids."""
        with self.read() as connection:
            rows = queries.select_content(connection, *queries.in_rounds(rounds))
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    def _prepare(self) -> None:
        with self.read() as connection:
            current = migrations.is_current(connection, self.name)
        if not current:
            self.write(lambda connection: migrations.upgrade(connection, self.name))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._turn, database.named_errors(self.name), self._reader.connect() as connection:
            yield connection

    def write(self, work: Callable[[Connection], _T]) -> _T:
        """Do the work in one transaction and commit. Where another writer came between our look and our insert (it can
        in PostgreSQL, not in SQLite), look again."""
        with self._turn, database.named_errors(self.name):
            for _ in range(_ATTEMPTS - 1):
                try:
                    with self._writer.begin() as connection:
                        return work(connection)
                except _OUTRUN:
                    continue
            with self._writer.begin() as connection:
                return work(connection)


def _of_round(round: int | None) -> list[sa.ColumnElement[bool]]:
    return [] if round is None else [tables.pairs.c.round == round]
