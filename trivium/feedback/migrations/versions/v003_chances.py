"""With what chance a pair was chosen and shown, and whether its answers came to their ends by themselves."""

import sqlalchemy as sa
from alembic import op

revision = "003"
down_revision = "002"


def upgrade() -> None:
    op.add_column("queue", sa.Column("probability", sa.Float))
    for name in ("first_ended", "second_ended"):
        op.add_column("queue", sa.Column(name, sa.Boolean, nullable=False, server_default=sa.true()))
    op.add_column("showings", sa.Column("probability", sa.Float))
