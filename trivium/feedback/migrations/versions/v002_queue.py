"""The queue, showings and withdrawals; votes that were asked for again; people, invitations and sessions."""

import sqlalchemy as sa
from alembic import op

revision = "002"
down_revision = "001"

NAMES = {"uq": "%(table_name)s_%(column_0_N_name)s_key"}  # SQLite does not name what it was not told to


def upgrade() -> None:
    with op.batch_alter_table("votes", naming_convention=NAMES) as votes:
        votes.drop_constraint("votes_pair_id_rater_id_key", type_="unique")
        votes.add_column(sa.Column("repeat", sa.Integer, nullable=False, server_default="0"))
        votes.add_column(sa.Column("attempt", sa.Integer, nullable=False, server_default="0"))
        votes.create_unique_constraint(
            "votes_pair_id_rater_id_repeat_attempt_key", ["pair_id", "rater_id", "repeat", "attempt"]
        )
    op.execute("UPDATE schema_version SET version = 2")  # a Trivium from before Alembic refuses the store by it
    _voting()
    _people()


def _voting() -> None:
    op.create_table(
        "queue",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("pair_id", sa.Integer, sa.ForeignKey("pairs.id"), nullable=False, unique=True),
        sa.Column("policy", sa.String(20), nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("known", sa.String(8)),
    )
    op.create_table(
        "showings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("pair_id", sa.Integer, sa.ForeignKey("pairs.id"), nullable=False, index=True),
        sa.Column("rater_id", sa.Integer, sa.ForeignKey("raters.id"), nullable=False),
        sa.Column("repeat", sa.Integer, nullable=False),
        sa.Column("purpose", sa.String(10), nullable=False),
        sa.Column("shown_swapped", sa.Boolean, nullable=False),
        sa.Column("shown_at", sa.String(32), nullable=False),
        sa.UniqueConstraint("rater_id", "pair_id", "repeat"),
    )
    op.create_table(
        "withdrawals",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("vote_id", sa.Integer, sa.ForeignKey("votes.id"), nullable=False, unique=True),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("idempotency_key", sa.String(200), nullable=False, unique=True),
    )


def _people() -> None:
    op.create_table(
        "people",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("role", sa.String(10), nullable=False),
        sa.Column("rater_id", sa.Integer, sa.ForeignKey("raters.id"), unique=True),
        sa.Column("password_hash", sa.String(200)),
        sa.Column("created_at", sa.String(32), nullable=False),
    )
    op.create_table(
        "invitations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("role", sa.String(10), nullable=False),
        sa.Column("note", sa.String(200), nullable=False),
        sa.Column("invited_by", sa.Integer, sa.ForeignKey("people.id"), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.Column("ended_at", sa.String(32)),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("person_id", sa.Integer, sa.ForeignKey("people.id"), nullable=False, index=True),
        sa.Column("agent", sa.String(200), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.Column("revoked_at", sa.String(32)),
    )
