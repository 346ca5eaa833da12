"""The tables that hold votes, and how text is kept in them: any Python string comes back as it was."""

import json
import re
from typing import cast

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from trivium.records import Message

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


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


# A change here needs a migration of its own in migrations/versions/; a test compares the two.
NAMES = {"ix": "ix_%(column_0_label)s", "uq": "%(table_name)s_%(column_0_N_name)s_key"}  # as PostgreSQL names them
schema = sa.MetaData(naming_convention=NAMES)
raters = sa.Table(
    "raters",
    schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("simulated", sa.Boolean, nullable=False),
)
pairs = sa.Table(
    "pairs",
    schema,
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
queue = sa.Table(
    "queue",
    schema,
    sa.Column("id", sa.Integer, primary_key=True),  # their order
    sa.Column("pair_id", sa.ForeignKey("pairs.id"), nullable=False, unique=True),
    sa.Column("policy", sa.String(20), nullable=False),
    sa.Column("score", sa.Float),
    sa.Column("known", sa.String(8)),
    sa.Column("probability", sa.Float),
    sa.Column("first_ended", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("second_ended", sa.Boolean, nullable=False, server_default=sa.true()),
)
showings = sa.Table(
    "showings",
    schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("pair_id", sa.ForeignKey("pairs.id"), nullable=False, index=True),
    sa.Column("rater_id", sa.ForeignKey("raters.id"), nullable=False),
    sa.Column("repeat", sa.Integer, nullable=False),
    sa.Column("purpose", sa.String(10), nullable=False),
    sa.Column("shown_swapped", sa.Boolean, nullable=False),
    sa.Column("shown_at", sa.String(32), nullable=False),  # ISO 8601, UTC
    sa.Column("probability", sa.Float),
    sa.UniqueConstraint("rater_id", "pair_id", "repeat"),
)
votes = sa.Table(
    "votes",
    schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("pair_id", sa.ForeignKey("pairs.id"), nullable=False),
    sa.Column("rater_id", sa.ForeignKey("raters.id"), nullable=False, index=True),
    sa.Column("choice", sa.String(8), nullable=False),
    sa.Column("shown_swapped", sa.Boolean, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("comment", _AnyText, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),  # ISO 8601, UTC
    sa.Column("idempotency_key", sa.String(200), nullable=False, unique=True),
    sa.Column("repeat", sa.Integer, nullable=False, server_default="0"),  # the same rater, asked again
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),  # votes withdrawn before this one
    sa.UniqueConstraint("pair_id", "rater_id", "repeat", "attempt"),
)
withdrawals = sa.Table(
    "withdrawals",
    schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("vote_id", sa.ForeignKey("votes.id"), nullable=False, unique=True),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("idempotency_key", sa.String(200), nullable=False, unique=True),
)
people = sa.Table(
    "people",
    schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("role", sa.String(10), nullable=False),
    sa.Column("rater_id", sa.ForeignKey("raters.id"), unique=True),  # none: a viewer does not vote
    sa.Column("password_hash", sa.String(200)),
    sa.Column("created_at", sa.String(32), nullable=False),
)
invitations = sa.Table(
    "invitations",
    schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("role", sa.String(10), nullable=False),
    sa.Column("note", sa.String(200), nullable=False),
    sa.Column("invited_by", sa.ForeignKey("people.id"), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("expires_at", sa.String(32), nullable=False),
    sa.Column("ended_at", sa.String(32)),  # used, or cancelled
)
sessions = sa.Table(
    "sessions",
    schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("person_id", sa.ForeignKey("people.id"), nullable=False, index=True),
    sa.Column("agent", sa.String(200), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("expires_at", sa.String(32), nullable=False),
    sa.Column("revoked_at", sa.String(32)),
)
