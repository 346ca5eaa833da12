"""The queue of pairs: in, shown to raters on sides that stay, answered, taken back.

Each function works within a transaction of its caller's. Which pairs are worth asking about is decided in pairs.py.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trivium.errors import DataError
from trivium.feedback import queries, tables
from trivium.feedback.votes import (
    Answer,
    NewQueued,
    NewVote,
    Purpose,
    Queued,
    Shares,
    Showing,
    StoredPair,
    Vote,
    check_name,
    choice_of,
)

LENT = timedelta(minutes=10)  # a pair that somebody looks at is not fresh for others so long
LATELY = 200  # votes among which a pair to share is looked for first
APART = 5  # pairs that lie at least between a vote and the same pair again
FEW, MANY = 16, 1000  # pairs of the queue that are looked at together, at first and at the most
_UNKNOWN = tables.queue.c.known.is_(None)


def enqueue(connection: Connection, new: Sequence[NewQueued]) -> list[int]:
    """Ids of the pairs, in order; one that is in the queue already stays as it came first."""
    ids = queries.insert_pairs(connection, [item.pair for item in new])
    known = {
        pair_id
        for some in queries.chunks(ids)
        for (pair_id,) in connection.execute(sa.select(tables.queue.c.pair_id).where(tables.queue.c.pair_id.in_(some)))
    }
    rows = {
        pair_id: item._asdict() | {"pair_id": pair_id, "first_ended": item.ended[0], "second_ended": item.ended[1]}
        for pair_id, item in reversed(list(zip(ids, new, strict=True)))
        if pair_id not in known
    }
    for row in rows.values():
        del row["pair"], row["ended"]
    if rows:
        connection.execute(
            sa.insert(tables.queue), [rows[pair_id] for pair_id in dict.fromkeys(ids) if pair_id in rows]
        )
    return ids


def select_queue(connection: Connection, round: int | None = None) -> list[Queued]:
    """In the order they came, each with the number of raters who voted on it."""
    valid = queries.valid_votes()
    voted = sa.func.count(sa.distinct(valid.c.rater_id))
    names = ("policy", "score", "known", "probability", "first_ended", "second_ended")
    entry = [tables.queue.c[name] for name in names]
    query = sa.select(tables.queue.c.pair_id, tables.pairs.c.round, voted, *entry).join_from(tables.queue, tables.pairs)
    query = query.outerjoin(valid, valid.c.pair_id == tables.queue.c.pair_id)
    query = query.group_by(tables.queue.c.id, tables.pairs.c.id).order_by(tables.queue.c.id)
    if round is not None:
        query = query.where(tables.pairs.c.round == round)
    return [
        Queued(pair_id, number, votes, policy, score, known, chance, (first_ended, second_ended))
        for pair_id, number, votes, policy, score, known, chance, first_ended, second_ended in connection.execute(query)
    ]


def count_fresh(connection: Connection, *, round: int, most: int) -> int:
    """Pairs of unknown answer that nobody has voted on or looks at now; `most` when there are more."""
    return sum(1 for _ in islice(_free(connection, round, [_voted_on(), _lent()], _UNKNOWN), most))


def next_showings(
    connection: Connection, rater_id: int, *, round: int | None, count: int, shares: Shares, seed: int
) -> list[Showing]:
    """Up to `count`: first those that the rater was given and has not answered, then new ones."""
    queries.require(connection, tables.raters, {rater_id})
    given = _open_showings(connection, rater_id, round)[:count]
    if len(given) < count:
        mine = tables.showings.c.rater_id == rater_id
        begun = connection.scalar(sa.select(sa.func.count()).select_from(tables.showings).where(mine)) or 0
        for number in range(begun, begun + count - len(given)):
            chosen = _choose(connection, rater_id, round, wanted(draw(seed, rater_id, number), shares))
            if chosen is None:
                break
            pair_id, purpose = chosen
            _show(connection, rater_id, pair_id, purpose, shares=shares, seed=seed)
        given = _open_showings(connection, rater_id, round)[:count]
    return given


def draw(seed: int, rater_id: int, number: int) -> float:
    """In [0, 1): the same for a rater's showing of that number."""
    return int.from_bytes(_digest(seed, "purpose", rater_id, number)[:7], "big") / 2**56


def wanted(drawn: float, shares: Shares) -> list[Purpose]:
    """The purpose that was drawn, and what is taken where the queue has no pair for it."""
    bound = 0.0
    purposes: tuple[Purpose, ...] = ("known", "again", "shared")
    for purpose in purposes:
        if bound <= drawn < bound + getattr(shares, purpose):
            return [purpose, "fresh", "shared"]
        bound += getattr(shares, purpose)
    return ["fresh", "shared"]


def _choose(
    connection: Connection, rater_id: int, round: int | None, purposes: Sequence[Purpose]
) -> tuple[int, Purpose] | None:
    """A pair for the first purpose that has one."""
    for purpose in purposes:
        for pair_id in _LOOKED_UP[purpose](connection, rater_id, round):
            return pair_id, purpose
    return None


def _free(
    connection: Connection,
    round: int | None,
    taken: Sequence[sa.Select[tuple[int]]],
    *where: sa.ColumnElement[bool],
    after: int = 0,
) -> Iterator[int]:
    """The queue's pairs of a round in their order, but for those that are taken.

    A few at a time, looked up by their keys. One query for it all would be read through the whole queue, by PostgreSQL
    until it has counted what the tables hold.
    """
    queue, size = tables.queue, FEW
    while True:
        some = sa.select(queue.c.id, queue.c.pair_id, tables.pairs.c.round).join_from(queue, tables.pairs)
        rows = connection.execute(some.where(queue.c.id > after, *where).order_by(queue.c.id).limit(size)).all()
        if not rows:
            return
        ids = [pair_id for _, pair_id, number in rows if round is None or number == round]
        looked_up = sa.union_all(*(query.where(query.selected_columns.pair_id.in_(ids)) for query in taken))
        gone = set(connection.scalars(looked_up)) if ids else set()
        yield from (pair_id for pair_id in ids if pair_id not in gone)
        after, size = rows[-1][0], min(MANY, 4 * size)


def _found(connection: Connection, *queries: sa.Select[Any]) -> Iterator[int]:
    """The first pair of each query."""
    for query in queries:
        if (pair_id := connection.scalar(query.limit(1))) is not None:
            yield int(pair_id)


def _waiting(round: int | None) -> sa.Select[Any]:
    """The queue's pairs of a round in their order."""
    query = sa.select(tables.queue.c.pair_id).order_by(tables.queue.c.id)
    # asked of each pair on the way: joined, SQLite would take all pairs of the round and sort them
    whose = sa.select(tables.pairs.c.round).where(tables.pairs.c.id == tables.queue.c.pair_id)
    return query if round is None else query.where(whose.correlate(tables.queue).scalar_subquery() == round)


def _voted(*where: sa.ColumnElement[bool]) -> sa.Exists:
    """Whether somebody's vote counts on the pair in the queue."""
    votes = sa.select(tables.votes.c.id).outerjoin_from(tables.votes, tables.withdrawals)
    same = tables.votes.c.pair_id == tables.queue.c.pair_id
    return votes.where(same, queries.counting(), *where).correlate(tables.queue).exists()


def _shown(*where: sa.ColumnElement[bool]) -> sa.Exists:
    showings = tables.showings.c
    found = sa.select(showings.id).where(showings.pair_id == tables.queue.c.pair_id, *where)
    return found.correlate(tables.queue).exists()


def _voted_on(*where: sa.ColumnElement[bool]) -> sa.Select[tuple[int]]:
    """Pairs on which somebody's vote counts."""
    return sa.select(tables.votes.c.pair_id).outerjoin(tables.withdrawals).where(queries.counting(), *where)


def _shown_ever(*where: sa.ColumnElement[bool]) -> sa.Select[tuple[int]]:
    return sa.select(tables.showings.c.pair_id).where(*where)


def _lent() -> sa.Select[tuple[int]]:
    """Pairs that somebody looks at now."""
    recent = (datetime.now(UTC) - LENT).isoformat(timespec="microseconds")
    return _shown_ever(tables.showings.c.shown_at > recent)


def _seen_by(rater_id: int) -> list[sa.Select[tuple[int]]]:
    """Pairs that this rater was shown, or voted on where it was not shown: in the terminal of before, imported."""
    return [_shown_ever(tables.showings.c.rater_id == rater_id), _voted_on(tables.votes.c.rater_id == rater_id)]


def _fresh(connection: Connection, rater_id: int, round: int | None) -> Iterator[int]:
    """Behind the one that was given last; only where there is none are those looked at that somebody left lying."""
    showings = tables.showings
    last = sa.select(sa.func.max(showings.c.id)).where(showings.c.purpose == "fresh").scalar_subquery()
    mark = sa.select(tables.queue.c.id).join_from(tables.queue, showings, tables.queue.c.pair_id == showings.c.pair_id)
    reached = connection.scalar(mark.where(showings.c.id == last)) or 0
    taken = [*_seen_by(rater_id), _voted_on(), _lent()]
    for after in (reached, 0):
        yield from _free(connection, round, taken, _UNKNOWN, after=after)


def _shared(connection: Connection, rater_id: int, round: int | None) -> Iterator[int]:
    """Of those voted on lately, else ever, one that the fewest others voted on; else one that somebody looks at."""
    mine, cast = tables.showings.c.rater_id == rater_id, tables.votes.c.rater_id == rater_id
    unknown = _waiting(round).where(_UNKNOWN, ~_shown(mine), ~_voted(cast))
    voted = unknown.join(tables.votes, tables.votes.c.pair_id == tables.queue.c.pair_id).outerjoin(tables.withdrawals)
    voted = voted.where(queries.counting()).group_by(tables.queue.c.id, tables.queue.c.pair_id)
    fewest = sa.func.count(sa.distinct(tables.votes.c.rater_id))
    voted = voted.order_by(None).order_by(fewest, tables.queue.c.id)
    newest = connection.scalar(sa.select(sa.func.max(tables.votes.c.id))) or 0
    yield from _found(connection, voted.where(tables.votes.c.id > newest - LATELY), voted)
    yield from _free(connection, round, _seen_by(rater_id), _UNKNOWN)


def _again(connection: Connection, rater_id: int, round: int | None) -> Iterator[int]:
    """The oldest that this rater voted on and was not asked again about; the last few are not taken."""
    mine = (tables.votes.c.rater_id == rater_id, queries.counting())
    own = sa.select(tables.votes.c.id).outerjoin_from(tables.votes, tables.withdrawals).where(*mine)
    late = connection.scalar(own.order_by(tables.votes.c.id.desc()).offset(APART - 1).limit(1))
    if late is None:
        return
    old = _waiting(round).join(tables.votes, tables.votes.c.pair_id == tables.queue.c.pair_id)
    old = old.outerjoin(tables.withdrawals).where(*mine, tables.votes.c.repeat == 0, tables.votes.c.id < late)
    repeated = _shown(tables.showings.c.rater_id == rater_id, tables.showings.c.repeat > 0)
    yield from _found(connection, old.where(~repeated).order_by(None).order_by(tables.votes.c.id))


def _known(connection: Connection, rater_id: int, round: int | None) -> Iterator[int]:
    yield from _free(connection, round, _seen_by(rater_id), ~_UNKNOWN)


_LOOKED_UP: dict[Purpose, Callable[[Connection, int, int | None], Iterator[int]]] = {
    "fresh": _fresh,
    "shared": _shared,
    "again": _again,
    "known": _known,
}


def chance_of(purpose: Purpose, shares: Shares) -> float:
    """With which a showing is drawn for a purpose."""
    return 1 - sum(shares) if purpose == "fresh" else float(getattr(shares, purpose))


def _show(connection: Connection, rater_id: int, pair_id: int, purpose: Purpose, *, shares: Shares, seed: int) -> None:
    repeat = int(purpose == "again")
    before = sa.select(tables.votes.c.shown_swapped).where(
        tables.votes.c.rater_id == rater_id, tables.votes.c.pair_id == pair_id, tables.votes.c.repeat == repeat - 1
    )
    known = connection.scalar(before.limit(1)) if repeat else None
    # asked again, the sides are exchanged: whoever always says left is found out
    swapped = bool(_digest(seed, "sides", rater_id, pair_id)[0] & 1) if known is None else not known
    row = {"pair_id": pair_id, "rater_id": rater_id, "repeat": repeat, "purpose": purpose, "shown_swapped": swapped}
    chance = {"probability": chance_of(purpose, shares), "shown_at": _now()}
    connection.execute(sa.insert(tables.showings), row | chance)


def _digest(seed: int, what: str, rater_id: int, number: int) -> bytes:
    return hashlib.sha256(f"{seed}:{what}:{rater_id}:{number}".encode()).digest()


def select_showings(connection: Connection, *where: sa.ColumnElement[bool]) -> list[Showing]:
    """In the order they were given."""
    chosen = [tables.queue.c[name] for name in ("policy", "probability", "first_ended", "second_ended")]
    query = sa.select(tables.showings, tables.pairs, *chosen).join_from(tables.showings, tables.pairs)
    query = query.join(tables.queue, tables.queue.c.pair_id == tables.pairs.c.id).where(*where)
    columns = len(tables.showings.c)
    found = []
    for row in connection.execute(query.order_by(tables.showings.c.id)):
        number, pair_id, rater_id, repeat, purpose, swapped, shown_at, chance = row[:columns]
        pair, (policy, probability, *ended) = StoredPair(*row[columns:-4]), row[-4:]
        sides = pair.shown(swapped=swapped)
        found.append(
            Showing(
                number, pair_id, rater_id, repeat, purpose, swapped, shown_at, pair.prompt, *sides,
                ended=(ended[swapped], ended[not swapped]), policy=policy, probability=probability, drawn=chance,
            )
        )  # fmt: skip
    return found


def _open_showings(connection: Connection, rater_id: int, round: int | None) -> list[Showing]:
    votes, showings = tables.votes.c, tables.showings.c
    same = (votes.pair_id == showings.pair_id, votes.rater_id == showings.rater_id, votes.repeat == showings.repeat)
    cast = sa.select(votes.id).outerjoin_from(tables.votes, tables.withdrawals).where(*same, queries.counting())
    rounds = [] if round is None else [tables.pairs.c.round == round]
    answered = cast.correlate(tables.showings).exists()
    return select_showings(connection, showings.rater_id == rater_id, ~answered, *rounds)


def require_showing(connection: Connection, showing_id: int, rater_id: int) -> Showing:
    """raises  DataError when this rater was given no such showing"""
    found = select_showings(connection, tables.showings.c.id == showing_id, tables.showings.c.rater_id == rater_id)
    if not found:
        raise DataError(f"showing {showing_id}: was not given to rater {rater_id}; ask for the next pair")
    return found[0]


def answer(connection: Connection, said: Answer) -> Vote:
    """The vote, by content: where the answers stood is what the store kept, not what the asker says."""
    shown = require_showing(connection, said.showing_id, said.rater_id)
    choice = choice_of(said.shown, shown_swapped=shown.shown_swapped)
    vote = NewVote(
        shown.pair_id,
        said.rater_id,
        choice,
        said.idempotency_key,
        shown.shown_swapped,
        said.seconds,
        said.comment,
        shown.repeat,
    )
    return queries.insert_votes(connection, [vote])[0]


def withdraw(connection: Connection, rater_id: int, key: str, *, vote_id: int | None) -> Vote | None:
    """A new row by which a vote of the rater's counts no more: the last one, or the one that is named. None when there
    is none. The same key again adds none.

    raises  DataError when the rater is unknown, or the key made another rater's withdrawal
    """
    check_name("idempotency key", key)
    queries.require(connection, tables.raters, {rater_id})
    made = queries.select_votes(connection, tables.withdrawals.c.idempotency_key == key)
    if made:
        if made[0].rater_id != rater_id:
            raise DataError(f'idempotency key "{key}" already made another withdrawal; use a fresh key')
        return made[0]
    valid = queries.valid_votes()
    own = sa.select(sa.func.max(valid.c.id)).where(valid.c.rater_id == rater_id)
    last = connection.scalar(own if vote_id is None else own.where(valid.c.id == vote_id))
    if last is None:
        return None
    connection.execute(sa.insert(tables.withdrawals), {"vote_id": last, "created_at": _now(), "idempotency_key": key})
    return queries.select_votes(connection, tables.votes.c.id == last)[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
