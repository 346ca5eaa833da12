"""Votes in and out of the tables, each function within a transaction of its caller's."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trivium.errors import DataError
from trivium.feedback import tables
from trivium.feedback.votes import Choice, Counts, NewPair, NewVote, Rater, StoredPair, Vote

_CHUNK = 500  # keys in one IN (...): far below every database's limit on parameters
_T = TypeVar("_T")


def insert_rater(connection: Connection, name: str, *, simulated: bool) -> Rater:
    """The rater of that name, made when absent."""
    query = sa.select(tables.raters).where(tables.raters.c.name == name)
    if connection.execute(query).first() is None:
        connection.execute(sa.insert(tables.raters), {"name": name, "simulated": simulated})
    return Rater(*connection.execute(query).one())


def insert_pairs(connection: Connection, new: Sequence[NewPair]) -> list[int]:
    """Their ids, in order; those whose content is known are not stored again."""
    by_key = {pair.key: pair for pair in reversed(new)}  # of equals the first stays
    keys = list(dict.fromkeys(pair.key for pair in new))
    known = _ids_by_key(connection, keys)
    rows = [_pair_row(key, by_key[key]) for key in keys if key not in known]
    if rows:
        connection.execute(sa.insert(tables.pairs), rows)
        known = _ids_by_key(connection, keys)
    return [known[pair.key] for pair in new]


def _pair_row(key: str, pair: NewPair) -> dict[str, Any]:
    row = pair._asdict()
    return row | {"content_key": key, "first_text": row.pop("first"), "second_text": row.pop("second")}


def _ids_by_key(connection: Connection, keys: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in chunks(keys):
        query = sa.select(tables.pairs.c.content_key, tables.pairs.c.id).where(tables.pairs.c.content_key.in_(some))
        found.update((key, number) for key, number in connection.execute(query))
    return found


class Restored(NamedTuple):
    """A vote as it was cast elsewhere, with the times that it had there."""

    vote: NewVote
    created_at: str = ""  # empty: now
    withdrawn_at: str | None = None


def insert_votes(connection: Connection, new: Sequence[NewVote]) -> list[Vote]:
    """The votes as stored; those whose idempotency key is known are not stored again."""
    return restore_votes(connection, [Restored(vote) for vote in new])


def restore_votes(connection: Connection, came: Sequence[Restored]) -> list[Vote]:
    """The same with the votes' own times, in the order they came: a withdrawn one makes room for the next."""
    new = [one.vote for one in came]
    require(connection, tables.raters, {vote.rater_id for vote in new})
    require(connection, tables.pairs, {vote.pair_id for vote in new})
    # ballots before keys: a twin that PostgreSQL commits between the two looks is then found by its key, not refused
    ballots = list(_ballots(connection, new))
    taken = {ballot for ballot, withdrawn in ballots if not withdrawn}
    attempts = Counter(ballot for ballot, withdrawn in ballots if withdrawn)
    keys = list(dict.fromkeys(vote.idempotency_key for vote in new))
    made = {key: _content(vote) for key, vote in _votes_by_key(connection, keys).items()}
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    rows, gone = [], {}
    for vote, created_at, withdrawn_at in came:
        key, content, ballot = vote.idempotency_key, _content(vote), (vote.pair_id, vote.rater_id, vote.repeat)
        if key in made:
            if made[key] != content:
                raise DataError(f'idempotency key "{key}" already made another vote; use a fresh key')
            continue
        if ballot in taken:
            raise DataError(f"rater {vote.rater_id} has already voted on pair {vote.pair_id}; votes are never changed")
        made[key] = content
        rows.append({**vote._asdict(), "created_at": created_at or now, "attempt": attempts[ballot]})
        if withdrawn_at:
            gone[key] = withdrawn_at
            attempts[ballot] += 1
        else:
            taken.add(ballot)
    if rows:
        connection.execute(sa.insert(tables.votes), rows)
    stored = _votes_by_key(connection, keys)
    if gone:
        withdrawn = [(stored[key].id, at, f"import:{key}"[:200]) for key, at in gone.items()]
        columns = ("vote_id", "created_at", "idempotency_key")
        connection.execute(sa.insert(tables.withdrawals), [dict(zip(columns, row, strict=True)) for row in withdrawn])
        stored = _votes_by_key(connection, keys)
    return [stored[vote.idempotency_key] for vote in new]


def _content(vote: NewVote | Vote) -> tuple[int, int, int, str]:
    return vote.pair_id, vote.rater_id, vote.repeat, vote.choice


def _ballots(connection: Connection, new: Sequence[NewVote]) -> Iterator[tuple[tuple[int, int, int], bool]]:
    """(pair, rater, repeat) of the votes on these pairs by these raters, and whether each was withdrawn."""
    pairs_of: dict[int, set[int]] = defaultdict(set)
    for vote in new:
        pairs_of[vote.rater_id].add(vote.pair_id)
    columns = (tables.votes.c.pair_id, tables.votes.c.repeat, tables.withdrawals.c.id.is_not(None))
    for rater_id, pair_ids in pairs_of.items():
        own = sa.select(*columns).outerjoin_from(tables.votes, tables.withdrawals)
        own = own.where(tables.votes.c.rater_id == rater_id)
        for some in chunks(sorted(pair_ids)):
            for pair_id, repeat, withdrawn in connection.execute(own.where(tables.votes.c.pair_id.in_(some))):
                yield (pair_id, rater_id, repeat), withdrawn


def known_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of the idempotency keys that have made a vote."""
    return set(_votes_by_key(connection, keys))


def _votes_by_key(connection: Connection, keys: Sequence[str]) -> dict[str, Vote]:
    found: dict[str, Vote] = {}
    for some in chunks(keys):
        votes = select_votes(connection, tables.votes.c.idempotency_key.in_(some))
        found.update((vote.idempotency_key, vote) for vote in votes)
    return found


def require(connection: Connection, table: sa.Table, ids: set[int]) -> None:
    """raises  DataError when one of the ids is not in the table"""
    known = {
        number
        for some in chunks(sorted(ids))
        for (number,) in connection.execute(sa.select(table.c.id).where(table.c.id.in_(some)))
    }
    if ids - known:
        raise DataError(f"{table.name.removesuffix('s')} {min(ids - known)} is unknown; add it before voting")


def select_raters(connection: Connection) -> list[Rater]:
    return [Rater(*row) for row in connection.execute(sa.select(tables.raters).order_by(tables.raters.c.id))]


def select_pairs(connection: Connection, *where: sa.ColumnElement[bool]) -> list[StoredPair]:
    """In the order they were added."""
    query = sa.select(tables.pairs).where(*where).order_by(tables.pairs.c.id)
    return [StoredPair(*row) for row in connection.execute(query)]


def select_votes(connection: Connection, *where: sa.ColumnElement[bool]) -> list[Vote]:
    """In the order they came; withdrawn ones too, unless `counting` is among the conditions."""
    query = sa.select(tables.votes, tables.raters.c.name, tables.raters.c.simulated, tables.withdrawals.c.created_at)
    query = query.join_from(tables.votes, tables.raters).join(tables.pairs).outerjoin(tables.withdrawals)
    return [Vote(*row) for row in connection.execute(query.where(*where).order_by(tables.votes.c.id))]


def find_votes(
    connection: Connection, choices: Sequence[str], rater: str, *, start: int = 0, count: int | None = None
) -> tuple[int, list[tuple[Vote, StoredPair]]]:
    """How many votes there are with one of the choices and by that rater, where these are said, withdrawn ones too;
    and of them a page with their pairs, the newest first."""
    votes, raters = tables.votes, tables.raters
    where: list[sa.ColumnElement[bool]] = [votes.c.choice.in_(list(choices))] if choices else []
    where += [raters.c.name == rater] if rater else []
    counted = sa.select(sa.func.count(votes.c.id)).join_from(votes, raters).where(*where)
    query = sa.select(votes, raters.c.name, raters.c.simulated, tables.withdrawals.c.created_at, tables.pairs)
    query = query.join_from(votes, raters).join(tables.pairs).outerjoin(tables.withdrawals).where(*where)
    rows = connection.execute(query.order_by(votes.c.id.desc()).offset(start).limit(count))
    parted = len(votes.c) + 3
    found = [(Vote(*row[:parted]), StoredPair(*row[parted:])) for row in rows]
    return connection.scalar(counted) or 0, found


def counting() -> sa.ColumnElement[bool]:
    """The votes that were not withdrawn, where withdrawals are joined to votes."""
    return tables.withdrawals.c.id.is_(None)


def valid_votes() -> sa.Subquery:
    """The votes that were not withdrawn, as a table."""
    query = sa.select(tables.votes).outerjoin_from(tables.votes, tables.withdrawals).where(counting())
    return query.subquery("valid_votes")


def select_content(connection: Connection, *where: sa.ColumnElement[bool]) -> list[list[object]]:
    """Who chose what in which round, in an order that is the same in every database."""
    pairs, raters = tables.pairs.c, tables.raters.c
    query = sa.select(pairs.content_key, pairs.round, raters.name, raters.simulated, tables.votes.c.choice)
    query = query.join_from(tables.votes, tables.pairs).join(tables.raters)
    query = query.outerjoin(tables.withdrawals).where(counting(), tables.votes.c.repeat == 0, *where)
    return sorted(list(row) for row in connection.execute(query))  # here: databases sort text differently


def count(connection: Connection) -> Counts:
    raters = [simulated for (simulated,) in connection.execute(sa.select(tables.raters.c.simulated))]
    pairs = connection.scalar(sa.select(sa.func.count()).select_from(tables.pairs)) or 0
    votes = connection.execute(
        sa.select(tables.votes.c.choice, tables.raters.c.simulated, sa.func.count())
        .join_from(tables.votes, tables.raters)
        .outerjoin(tables.withdrawals)
        .where(counting())
        .group_by(tables.votes.c.choice, tables.raters.c.simulated)
    ).all()
    choices = Counter(dict.fromkeys(get_args(Choice), 0))
    for choice, _, number in votes:
        choices[choice] += number
    simulated_votes = sum(number for _, simulated, number in votes if simulated)
    return Counts(pairs, len(raters), sum(raters), choices.total(), simulated_votes, dict(choices))


def count_by_rater(connection: Connection, round: int) -> tuple[Counter[int], int]:
    """Votes of people on a round's pairs, without skips, by rater; and the newest vote's id, 0 where there is none."""
    newest = connection.scalar(sa.select(sa.func.max(tables.votes.c.id))) or 0
    query = sa.select(tables.votes.c.rater_id, sa.func.count()).join_from(tables.votes, tables.raters)
    query = query.join(tables.pairs).outerjoin(tables.withdrawals).group_by(tables.votes.c.rater_id)
    query = query.where(
        counting(), tables.pairs.c.round == round, tables.votes.c.choice != "skip", ~tables.raters.c.simulated
    )
    cast: Counter[int] = Counter()
    for rater_id, votes in connection.execute(query):
        cast[rater_id] = votes
    return cast, newest


def select_cast_by_people(connection: Connection) -> set[int]:
    query = sa.select(tables.votes.c.id).join_from(tables.votes, tables.raters).where(~tables.raters.c.simulated)
    return set(connection.scalars(query))


def in_rounds(rounds: Sequence[int] | None) -> list[sa.ColumnElement[bool]]:
    return [] if rounds is None else [tables.pairs.c.round.in_(list(rounds))]


def chunks(keys: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))
