"""Who may come in: people, invitations that open once, and sessions that can be ended. Secrets are kept as digests.

In people.db of the run folder, apart from the votes: a run can be given away without its keys.
"""

import hashlib
import os
import secrets
import sqlite3
import threading
import time
from pathlib import Path
from typing import NamedTuple

from trivium.errors import DataError, RunError
from trivium.feedback.store import Store
from trivium.feedback.votes import check_name
from trivium.studio.auth import Person, Role

NAME = "people.db"
VALID = 7 * 24 * 3600  # seconds in which an invitation can be used
STAY = 30 * 24 * 3600  # seconds that a session lasts
OWNER = "me"

TABLES = """
CREATE TABLE IF NOT EXISTS people (
  id INTEGER PRIMARY KEY, rater_id INTEGER NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, role TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS invitations (
  id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, role TEXT NOT NULL, note TEXT NOT NULL, until REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS sessions (
  id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, person_id INTEGER NOT NULL REFERENCES people,
  agent TEXT NOT NULL, begun REAL NOT NULL
);
"""


class Invitation(NamedTuple):
    id: int
    role: Role
    note: str
    until: float  # seconds since 1970


class Session(NamedTuple):
    id: int
    name: str
    role: Role
    agent: str  # what the browser calls itself
    begun: float


class People:
    """Threads may share it."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        path = folder / NAME
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
            self._db.executescript(f"PRAGMA synchronous = FULL; {TABLES}")
        except (OSError, sqlite3.Error) as reason:
            raise RunError(f"{path}: cannot be used ({reason}); make it writable, or delete it") from None

    def close(self) -> None:
        self._db.close()

    def owner(self) -> Person:
        """Whoever started the studio."""
        rater = self._store.add_rater(OWNER)
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO people VALUES (NULL, ?, ?, 'owner')", (rater.id, OWNER))
        return Person(rater.id, OWNER, "owner")

    def invite(self, role: Role, note: str) -> str:
        """The secret of an invitation that one person can use."""
        secret = secrets.token_urlsafe(24)
        with self._lock:
            self._db.execute(
                "INSERT INTO invitations VALUES (NULL, ?, ?, ?, ?)", (digest(secret), role, note, time.time() + VALID)
            )
        return secret

    def invitations(self) -> list[Invitation]:
        """Those that can still be used."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, role, note, until FROM invitations WHERE until > ? ORDER BY id", (time.time(),)
            ).fetchall()
        return [Invitation(*row) for row in rows]

    def withdraw(self, invitation: int) -> None:
        with self._lock:
            self._db.execute("DELETE FROM invitations WHERE id = ?", (invitation,))

    def accept(self, secret: str, name: str) -> Person:
        """A new person, by an invitation, which is used up.

        raises  DataError when the invitation is none or used, or when somebody has that name
        """
        name = " ".join(name.split())
        check_name("name", name)
        with self._lock:
            found = self._db.execute(
                "SELECT id, role FROM invitations WHERE digest = ? AND until > ?", (digest(secret), time.time())
            ).fetchone()
            if found is None:
                raise DataError("this invitation was used or is too old; ask the owner for another")
            if any(rater.name.casefold() == name.casefold() for rater in self._store.raters()):
                raise DataError(f'name "{name}": somebody has it already; choose another')
            rater = self._store.add_rater(name)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                used = self._db.execute("DELETE FROM invitations WHERE id = ?", (found[0],)).rowcount
                if not used:
                    raise DataError("this invitation was used just now; ask the owner for another")
                self._db.execute("INSERT INTO people VALUES (NULL, ?, ?, ?)", (rater.id, name, found[1]))
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
        return Person(rater.id, name, found[1])

    def begin_session(self, person: Person, agent: str) -> str:
        """The key of a new session."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            self._db.execute(
                "INSERT INTO sessions SELECT NULL, ?, id, ?, ? FROM people WHERE rater_id = ?",
                (digest(key), agent[:200], time.time(), person.rater_id),
            )
        return key

    def who(self, key: str) -> Person | None:
        """Whose session this is; None when it ended."""
        with self._lock:
            row = self._db.execute(
                "SELECT rater_id, name, role FROM people JOIN sessions ON people.id = person_id"
                " WHERE digest = ? AND begun > ?",
                (digest(key), time.time() - STAY),
            ).fetchone()
        return Person(*row) if row else None

    def sessions(self) -> list[Session]:
        """Those that last, the newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT sessions.id, name, role, agent, begun FROM sessions JOIN people ON people.id = person_id"
                " WHERE begun > ? ORDER BY sessions.id DESC",
                (time.time() - STAY,),
            ).fetchall()
        return [Session(*row) for row in rows]

    def end_session(self, session: int) -> None:
        with self._lock:
            self._db.execute("DELETE FROM sessions WHERE id = ?", (session,))

    def leave(self, key: str) -> None:
        with self._lock:
            self._db.execute("DELETE FROM sessions WHERE digest = ?", (digest(key),))


def digest(secret: str) -> str:
    """Secrets are long and random: a fast digest is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
