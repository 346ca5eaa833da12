"""Stores for the tests: SQLite always; PostgreSQL where it is installed: a server of our own, reached by a socket."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from trivium.feedback.store import Store


def programs() -> Path | None:
    """Where PostgreSQL's server lies: on the path, or where Debian puts it."""
    if found := shutil.which("postgres"):
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: float(path.parent.name))


def somebody_else() -> list[str]:
    """PostgreSQL refuses to run as root: how root starts a command as somebody else."""
    if os.getuid():
        return []
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[sa.URL]:
    """A server of this session's own; it listens on no port."""
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed here")
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        folder = Path(name)
        if not os.getuid():
            shutil.chown(folder, "nobody")
        data, as_user = folder / "data", somebody_else()
        make = [*as_user, binaries / "initdb", "-D", data, "-U", "trivium", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder)
        options = f"-k {folder} -c listen_addresses= -c max_connections=200 -c fsync=off"
        control = [*as_user, binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log"]
        subprocess.run([*control, "-o", options, "start"], check=True, capture_output=True, cwd=folder)
        try:
            yield sa.URL.create("postgresql+psycopg", "trivium", database="postgres", query={"host": str(folder)})
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a fresh store can be opened."""
    if request.param == "sqlite":
        yield str(tmp_path / "feedback.db")
        return
    server: sa.URL = request.getfixturevalue("postgres")
    schema = f"test_{uuid.uuid4().hex}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        yield server.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(False)
        connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    admin.dispose()


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store.open(place) as opened:
        yield opened
