"""A PostgreSQL server of one's own, where it is installed: reached by a socket, gone at the end."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa


def programs() -> Path | None:
    """Where PostgreSQL's server lies: on the path, or where Debian puts it."""
    if found := shutil.which("postgres"):
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: float(path.parent.name))


def _somebody_else() -> list[str]:
    """PostgreSQL refuses to run as root: how root starts a command as somebody else."""
    if os.getuid():
        return []
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


@contextmanager
def server(binaries: Path, *, durable: bool) -> Iterator[sa.URL]:
    """Its empty database, until the block ends. It listens on no port.

    durable  a commit waits for the disk, as it does in earnest
    """
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        folder = Path(name)
        if not os.getuid():
            shutil.chown(folder, "nobody")
        data, as_user = folder / "data", _somebody_else()
        where: list[str | Path] = [*as_user, binaries / "initdb", "-D", data]
        make = [*where, "-U", "trivium", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder)
        options = f"-k {folder} -c listen_addresses= -c max_connections=200 -c fsync={'on' if durable else 'off'}"
        control: list[str | Path] = [*as_user, binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log"]
        subprocess.run([*control, "-o", options, "start"], check=True, capture_output=True, cwd=folder)
        try:
            yield sa.URL.create("postgresql+psycopg", "trivium", database="postgres", query={"host": str(folder)})
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder)
