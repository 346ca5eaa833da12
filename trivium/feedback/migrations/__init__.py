"""Brings a store's tables to the shape that this Trivium reads, by Alembic's revisions in versions/."""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from trivium.errors import DataError
from trivium.feedback import tables

HEAD = "003"  # the newest revision in versions/
_LOCK = 7_265_118  # any number: whoever upgrades holds it in PostgreSQL; in SQLite a writer is alone anyway


def revision_of(connection: Connection) -> str | None:
    """The revision of the tables; None where there are none."""
    names = sa.inspect(connection).get_table_names()
    if "alembic_version" in names:
        found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return found
    return "001" if "schema_version" in names else None  # made before Alembic kept the number


def is_current(connection: Connection, name: str) -> bool:
    """Whether nothing is to be upgraded. Raises DataError when a newer Trivium made the tables."""
    found = revision_of(connection)
    if found is not None and found > HEAD:
        raise DataError(f"{name}: schema version {found}, but this Trivium reads up to {HEAD}; update Trivium")
    return found == HEAD


def upgrade(connection: Connection, name: str) -> None:
    """Make the tables, or bring them up to date, within the caller's transaction: all of it or nothing.

    raises  DataError when a newer Trivium made them
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    if is_current(connection, name):  # looked at only now that nobody else can upgrade
        return
    from alembic.config import Config  # here: slow to import, and seldom needed
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    before_alembic = revision_of(connection) == "001" and not sa.inspect(connection).has_table("alembic_version")
    with EnvironmentContext(config, script, fn=lambda revision, _: script._upgrade_revs(HEAD, revision)) as environment:
        environment.configure(connection=connection, transactional_ddl=True, target_metadata=tables.schema)
        context = environment.get_context()
        if before_alembic:
            context.stamp(script, "001")
        environment.run_migrations()
