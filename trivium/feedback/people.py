"""Who may come in: people and their roles, invitations that open once, sessions that can be ended. No web code.

Of tokens only their SHA-256 is kept: they are random, so nothing slower is needed. Passwords are kept by argon2id.
"""

import hashlib
import secrets
import threading
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trivium.errors import DataError
from trivium.feedback import queries, tables
from trivium.feedback.store import Store
from trivium.feedback.votes import SIMULATED, check_name

if TYPE_CHECKING:
    from argon2 import PasswordHasher

Role = Literal["owner", "rater", "viewer"]
SHORTEST = 10  # characters of a password
LONGEST = 1000  # a longer one only costs time
_HASHING = threading.Lock()  # each takes 64 MiB on purpose: one at a time
_REFUSED = "name or password is wrong; try again, or ask the owner for an invitation"


class Person(NamedTuple):
    id: int
    name: str
    role: Role
    rater_id: int | None  # None: a viewer, who does not vote
    created_at: str  # ISO 8601, UTC, as all times here


class Invitation(NamedTuple):
    id: int
    role: Role
    note: str
    invited_by: int
    created_at: str
    expires_at: str


class Session(NamedTuple):
    id: int
    person_id: int
    agent: str  # what the browser calls itself
    created_at: str
    expires_at: str


class People:
    """The people of a store. Threads may share it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def found(self, name: str, password: str | None = None) -> Person:
        """The first owner. Raises DataError when there is one: others come in by invitation."""

        def make(connection: Connection) -> Person:
            if connection.scalar(sa.select(tables.people.c.id).where(tables.people.c.role == "owner").limit(1)):
                raise DataError("there is an owner already; ask for an invitation")
            return _add_person(connection, name, "owner", hashed)

        hashed = _hash(password)
        return self._store.write(make)

    def invite(self, role: Role, *, by: Person, note: str = "", hours: float = 72) -> str:
        """The token of an invitation for one person, which is shown this once.

        raises  DataError when `by` is no owner, the role is unknown, or hours is not positive
        """
        if by.role != "owner":
            raise DataError(f"{by.name}: only an owner invites others")
        if role not in get_args(Role):
            raise DataError(f'role "{role}" is unknown; choose one of {", ".join(get_args(Role))}')
        if not 0 < hours <= 24 * 365:
            raise DataError(f"hours = {hours}: must be positive, and a year at most")
        if note:
            check_name("note", note)
        token = secrets.token_urlsafe(32)
        row = {"token_hash": _digest(token), "role": role, "note": note, "invited_by": by.id} | _span(hours)
        self._store.write(lambda connection: connection.execute(sa.insert(tables.invitations), row))
        return token

    def accept(self, token: str, name: str, password: str | None = None, *, agent: str = "") -> tuple[Person, str]:
        """A new person, and the token of a session; the invitation is used up, all at once or not at all.

        raises  DataError when the invitation is unknown, used, cancelled or too old, or the name is taken
        """

        def use(connection: Connection) -> tuple[Person, str]:
            table = tables.invitations
            valid = (table.c.token_hash == _digest(token), table.c.ended_at.is_(None), table.c.expires_at > _now())
            role = connection.scalar(sa.select(table.c.role).where(*valid))
            # of two who use it at once one finds the row changed
            ended = connection.execute(sa.update(table).where(*valid).values(ended_at=_now())).rowcount
            if role is None or not ended:
                raise DataError("this invitation was used, was cancelled or is too old; ask the owner for another")
            person = _add_person(connection, name, role, hashed)
            return person, _open_session(connection, person.id, agent)

        hashed = _hash(password)
        return self._store.write(use)

    def sign_in(self, name: str, password: str, *, agent: str = "") -> tuple[Person, str]:
        """The person, and the token of a new session. It takes the same time whatever is wrong, and says the same.

        raises  DataError when name or password is wrong
        """
        table = tables.people
        with self._store.read() as connection:
            row = connection.execute(
                sa.select(table.c.id, table.c.password_hash).where(table.c.name == _named(name))
            ).first()
        right = _verify(row.password_hash if row else None, password)
        if row is None or not right:
            raise DataError(_REFUSED)
        return self._person(row.id), self.open_session(row.id, agent=agent)

    def set_password(self, person_id: int, password: str) -> None:
        """Ends the person's sessions too: whoever changes a password may have lost the old one to somebody."""

        def change(connection: Connection) -> None:
            people = tables.people
            connection.execute(sa.update(people).where(people.c.id == person_id).values(password_hash=hashed))
            _revoke(connection, tables.sessions.c.person_id == person_id)

        self._person(person_id)
        hashed = _hash(password)
        self._store.write(change)

    def open_session(self, person_id: int, *, days: float = 30, agent: str = "") -> str:
        """The token of a new session, which is shown this once."""
        self._person(person_id)
        return self._store.write(lambda connection: _open_session(connection, person_id, agent, days=days))

    def person_of(self, token: str) -> Person | None:
        """Whose session this is; None when it is unknown, too old or revoked."""
        people, sessions = tables.people.c, tables.sessions.c
        query = sa.select(*_PERSON).join_from(tables.people, tables.sessions)
        query = query.where(sessions.token_hash == _digest(token), *_lasting())
        with self._store.read() as connection:
            row = connection.execute(query.order_by(people.id)).first()
        return Person(*row) if row else None

    def session_of(self, token: str) -> int | None:
        """The number of the session that the token opens; None when it opens none."""
        query = sa.select(tables.sessions.c.id).where(tables.sessions.c.token_hash == _digest(token), *_lasting())
        with self._store.read() as connection:
            return connection.scalar(query)

    def sign_out(self, token: str) -> None:
        self._store.write(lambda connection: _revoke(connection, tables.sessions.c.token_hash == _digest(token)))

    def revoke(self, session_id: int) -> None:
        self._store.write(lambda connection: _revoke(connection, tables.sessions.c.id == session_id))

    def shut_out(self, person_id: int) -> None:
        """Ends all of the person's sessions and invitations, and no password opens the door. The votes stay."""

        def shut(connection: Connection) -> None:
            people, invitations = tables.people, tables.invitations
            connection.execute(sa.update(people).where(people.c.id == person_id).values(password_hash=None))
            _revoke(connection, tables.sessions.c.person_id == person_id)
            theirs = (invitations.c.invited_by == person_id, invitations.c.ended_at.is_(None))
            connection.execute(sa.update(invitations).where(*theirs).values(ended_at=_now()))

        self._store.write(shut)

    def cancel(self, invitation_id: int) -> None:
        """The invitation opens nothing any more."""
        table = tables.invitations
        query = sa.update(table).where(table.c.id == invitation_id, table.c.ended_at.is_(None)).values(ended_at=_now())
        self._store.write(lambda connection: connection.execute(query))

    def people(self) -> list[Person]:
        with self._store.read() as connection:
            return [Person(*row) for row in connection.execute(sa.select(*_PERSON).order_by(tables.people.c.id))]

    def welcome(self) -> list[Person]:
        """Those who are in, or can come in by their password."""
        people, sessions = tables.people.c, tables.sessions.c
        inside = people.id.in_(sa.select(sessions.person_id).where(*_lasting()))
        query = sa.select(*_PERSON).where(inside | people.password_hash.is_not(None)).order_by(people.id)
        with self._store.read() as connection:
            return [Person(*row) for row in connection.execute(query)]

    def invitations(self) -> list[Invitation]:
        """Those that can still be used."""
        table = tables.invitations.c
        columns = (table.id, table.role, table.note, table.invited_by, table.created_at, table.expires_at)
        query = sa.select(*columns).where(table.ended_at.is_(None), table.expires_at > _now()).order_by(table.id)
        with self._store.read() as connection:
            return [Invitation(*row) for row in connection.execute(query)]

    def sessions(self, person_id: int | None = None) -> list[Session]:
        """Those that last, of one person or of all."""
        table = tables.sessions.c
        query = sa.select(table.id, table.person_id, table.agent, table.created_at, table.expires_at)
        query = query.where(*_lasting(), *([] if person_id is None else [table.person_id == person_id]))
        with self._store.read() as connection:
            return [Session(*row) for row in connection.execute(query.order_by(table.id))]

    def _person(self, person_id: int) -> Person:
        found = next((person for person in self.people() if person.id == person_id), None)
        if found is None:
            raise DataError(f"person {person_id} is unknown")
        return found


_PERSON = (
    tables.people.c.id,
    tables.people.c.name,
    tables.people.c.role,
    tables.people.c.rater_id,
    tables.people.c.created_at,
)


def _add_person(connection: Connection, name: str, role: Role, password_hash: str | None) -> Person:
    name = _named(name)
    check_name("name", name)
    if name.lower().startswith(SIMULATED):
        raise DataError(f'name "{name}": names beginning with "{SIMULATED}" are for simulated raters')
    taken = {known.casefold() for (known,) in connection.execute(sa.select(tables.people.c.name))}
    taken |= {rater.name.casefold() for rater in queries.select_raters(connection)} if role != "owner" else set()
    if name.casefold() in taken:
        raise DataError(f'name "{name}": somebody has it already; choose another')
    rater_id = None if role == "viewer" else queries.insert_rater(connection, name, simulated=False).id
    row: dict[str, Any] = {"name": name, "role": role, "rater_id": rater_id, "password_hash": password_hash}
    connection.execute(sa.insert(tables.people), row | {"created_at": _now()})
    return Person(*connection.execute(sa.select(*_PERSON).where(tables.people.c.name == name)).one())


def _open_session(connection: Connection, person_id: int, agent: str, *, days: float = 30) -> str:
    token = secrets.token_urlsafe(32)
    readable = "".join(letter for letter in agent if letter.isprintable())[:200]
    row = {"token_hash": _digest(token), "person_id": person_id, "agent": readable} | _span(24 * days)
    connection.execute(sa.insert(tables.sessions), row)
    return token


def _revoke(connection: Connection, which: sa.ColumnElement[bool]) -> None:
    sessions = tables.sessions
    connection.execute(sa.update(sessions).where(which, sessions.c.revoked_at.is_(None)).values(revoked_at=_now()))


def _lasting() -> tuple[sa.ColumnElement[bool], ...]:
    return tables.sessions.c.revoked_at.is_(None), tables.sessions.c.expires_at > _now()


def _named(name: str) -> str:
    return " ".join(name.split())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@cache
def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher  # argon2id, at the cost that RFC 9106 recommends

    return PasswordHasher()


def _hash(password: str | None) -> str | None:
    if password is None:
        return None
    if not SHORTEST <= len(password) <= LONGEST:
        raise DataError(f"password: must have {SHORTEST} to {LONGEST:,} characters")
    with _HASHING:
        return _hasher().hash(password.encode("utf-8", "surrogatepass"))


@cache
def _nobodys() -> str:
    """What is compared where there is no password, so that it takes as long."""
    return _hasher().hash(secrets.token_urlsafe(32))


def _verify(known: str | None, password: str) -> bool:
    from argon2.exceptions import VerifyMismatchError

    try:
        with _HASHING:
            _hasher().verify(known or _nobodys(), password[:LONGEST].encode("utf-8", "surrogatepass"))
    except VerifyMismatchError:
        return False
    return known is not None


def _span(hours: float) -> dict[str, str]:
    now = datetime.now(UTC)
    return {"created_at": _iso(now), "expires_at": _iso(now + timedelta(hours=hours))}


def _now() -> str:
    return _iso(datetime.now(UTC))


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="microseconds")
