"""The queue of pairs: in, shown to raters on sides that stay, answered, taken back.

Each function works within a transaction of its caller's. Which pairs are worth asking about is decided in pairs.py.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

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
APART = 5  # pairs that lie at least between a vote and the same pair again


def enqueue(connection: Connection, new: Sequence[NewQueued]) -> list[int]:
    """Ids of the pairs, in order; one that is in the queue already stays as it came first."""
    ids = queries.insert_pairs(connection, [item.pair for item in new])
    known = {pair_id for (pair_id,) in connection.execute(sa.select(tables.queue.c.pair_id))}
    rows = {
        pair_id: {"pair_id": pair_id, "policy": item.policy, "score": item.score, "known": item.known}
        for pair_id, item in reversed(list(zip(ids, new, strict=True)))
        if pair_id not in known
    }
    if rows:
        connection.execute(
            sa.insert(tables.queue), [rows[pair_id] for pair_id in dict.fromkeys(ids) if pair_id in rows]
        )
    return ids


def select_queue(connection: Connection, round: int | None = None) -> list[Queued]:
    """In the order they came, each with the number of raters who voted on it."""
    valid = queries.valid_votes()
    voted = sa.func.count(sa.distinct(valid.c.rater_id))
    entry = (tables.queue.c.pair_id, tables.pairs.c.round, tables.queue.c.policy, tables.queue.c.score)
    query = sa.select(*entry, tables.queue.c.known, voted).join_from(tables.queue, tables.pairs)
    query = query.outerjoin(valid, valid.c.pair_id == tables.queue.c.pair_id)
    query = query.group_by(tables.queue.c.id, tables.pairs.c.id).order_by(tables.queue.c.id)
    if round is not None:
        query = query.where(tables.pairs.c.round == round)
    return [Queued(*row) for row in connection.execute(query)]


class _Asked(NamedTuple):
    """What is known when the next pair for a rater is chosen."""

    queue: list[Queued]
    times: Counter[int]  # pair → how often this rater was shown it
    voted: list[int]  # pairs this rater voted on, the last one last
    lent: set[int]  # pairs that others look at now
    number: int  # how many showings this rater had


def next_showings(
    connection: Connection, rater_id: int, *, round: int | None, count: int, shares: Shares, seed: int
) -> list[Showing]:
    """Up to `count`: first those that the rater was given and has not answered, then new ones."""
    queries.require(connection, tables.raters, {rater_id})
    given = _open_showings(connection, rater_id, round)[:count]
    if len(given) < count:
        asked = _asked(connection, rater_id, round)
        for number in range(asked.number, asked.number + count - len(given)):
            chosen = choose(asked, draw(seed, rater_id, number), shares)
            if chosen is None:
                break
            pair_id, purpose = chosen
            _show(connection, rater_id, pair_id, purpose, repeat=asked.times[pair_id], seed=seed)
            asked.times[pair_id] += 1
        given = _open_showings(connection, rater_id, round)[:count]
    return given


def draw(seed: int, rater_id: int, number: int) -> float:
    """In [0, 1): the same for a rater's showing of that number."""
    return int.from_bytes(_digest(seed, "purpose", rater_id, number)[:7], "big") / 2**56


def choose(asked: _Asked, drawn: float, shares: Shares) -> tuple[int, Purpose] | None:
    """A pair, and why it is shown. Where the drawn purpose has none a fresh one is taken, then a shared one."""
    unseen = [entry for entry in asked.queue if not asked.times[entry.pair_id]]
    unknown = [entry for entry in unseen if entry.known is None]
    seen_by_others = sorted((entry for entry in unknown if entry.votes), key=lambda entry: entry.votes)
    old = [pair for pair in asked.voted[:-APART] if asked.times[pair] == 1]
    found: dict[Purpose, list[int]] = {
        "known": [entry.pair_id for entry in unseen if entry.known is not None],
        "again": old,
        "shared": [entry.pair_id for entry in seen_by_others],
        "fresh": [entry.pair_id for entry in unknown if not entry.votes and entry.pair_id not in asked.lent],
    }
    found["shared"] += [entry.pair_id for entry in unknown if not entry.votes and entry.pair_id in asked.lent]
    bound = 0.0
    wanted: list[Purpose] = []
    drawing: tuple[tuple[Purpose, float], ...]
    drawing = (("known", shares.known), ("again", shares.again), ("shared", shares.shared))
    for drawn_purpose, share in drawing:
        if bound <= drawn < bound + share:
            wanted.append(drawn_purpose)
        bound += share
    wanted += ["fresh", "shared"]
    for purpose in wanted:
        if found[purpose]:
            return found[purpose][0], purpose
    return None


def _asked(connection: Connection, rater_id: int, round: int | None) -> _Asked:
    entries = select_queue(connection, round)
    here = {entry.pair_id for entry in entries}
    showings = tables.showings.c
    times = Counter(
        pair_id for (pair_id,) in connection.execute(sa.select(showings.pair_id).where(showings.rater_id == rater_id))
    )
    number = times.total()
    valid = queries.valid_votes()
    own = sa.select(valid.c.pair_id).where(valid.c.rater_id == rater_id).order_by(valid.c.id)
    voted = [pair_id for (pair_id,) in connection.execute(own)]
    for pair_id in set(voted):  # voted on without being shown here: in the terminal of before, or imported
        times[pair_id] = max(times[pair_id], 1)
    recent = (datetime.now(UTC) - LENT).isoformat(timespec="microseconds")
    others = sa.select(showings.pair_id).where(showings.rater_id != rater_id, showings.shown_at > recent)
    lent = {pair_id for (pair_id,) in connection.execute(others)}
    return _Asked(entries, times, [pair_id for pair_id in voted if pair_id in here], lent, number)


def _show(connection: Connection, rater_id: int, pair_id: int, purpose: Purpose, *, repeat: int, seed: int) -> None:
    before = sa.select(tables.votes.c.shown_swapped).where(
        tables.votes.c.rater_id == rater_id, tables.votes.c.pair_id == pair_id, tables.votes.c.repeat == repeat - 1
    )
    known = connection.scalar(before.limit(1)) if repeat else None
    # asked again, the sides are exchanged: whoever always says left is found out
    swapped = bool(_digest(seed, "sides", rater_id, pair_id)[0] & 1) if known is None else not known
    row = {"pair_id": pair_id, "rater_id": rater_id, "repeat": repeat, "purpose": purpose, "shown_swapped": swapped}
    connection.execute(sa.insert(tables.showings), row | {"shown_at": _now()})


def _digest(seed: int, what: str, rater_id: int, number: int) -> bytes:
    return hashlib.sha256(f"{seed}:{what}:{rater_id}:{number}".encode()).digest()


def _select_showings(connection: Connection, *where: sa.ColumnElement[bool]) -> list[Showing]:
    """In the order they were given."""
    query = sa.select(tables.showings, tables.pairs).join_from(tables.showings, tables.pairs).where(*where)
    columns = len(tables.showings.c)
    found = []
    for row in connection.execute(query.order_by(tables.showings.c.id)):
        number, pair_id, rater_id, repeat, purpose, swapped, shown_at = row[:columns]
        pair = StoredPair(*row[columns:])
        sides = pair.shown(swapped=swapped)
        found.append(Showing(number, pair_id, rater_id, repeat, purpose, swapped, shown_at, pair.prompt, *sides))
    return found


def _open_showings(connection: Connection, rater_id: int, round: int | None) -> list[Showing]:
    valid, showings = queries.valid_votes(), tables.showings.c
    answered = sa.exists().where(
        valid.c.pair_id == showings.pair_id, valid.c.rater_id == showings.rater_id, valid.c.repeat == showings.repeat
    )
    rounds = [] if round is None else [tables.pairs.c.round == round]
    return _select_showings(connection, showings.rater_id == rater_id, ~answered, *rounds)


def require_showing(connection: Connection, showing_id: int, rater_id: int) -> Showing:
    """raises  DataError when this rater was given no such showing"""
    found = _select_showings(connection, tables.showings.c.id == showing_id, tables.showings.c.rater_id == rater_id)
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


def withdraw_last(connection: Connection, rater_id: int, key: str) -> Vote | None:
    """A new row by which the rater's last vote counts no more; None when there is none. The same key again adds none.

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
    last = connection.scalar(sa.select(sa.func.max(valid.c.id)).where(valid.c.rater_id == rater_id))
    if last is None:
        return None
    connection.execute(sa.insert(tables.withdrawals), {"vote_id": last, "created_at": _now(), "idempotency_key": key})
    return queries.select_votes(connection, tables.votes.c.id == last)[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
