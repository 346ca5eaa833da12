"""A tiny finished run, made once; studios on copies of it; and Chromium, where there is one.

The run's watch is as good as off: which step of a round so small is the best depends on the processor.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient

from trivium.feedback.people import Person, Role
from trivium.runs import Run
from trivium.studio.entrance import cookie_of, owner_of
from trivium.studio.guard import loopback_names
from trivium.studio.server import build_app
from trivium.studio.studio import Studio, open_studio

TINY = """
[data]
stories = 60
dialogues = 80
[compute]
compile = false
precision = "float32"
threads = 1
[model]
vocab_size = 300
num_layers = 1
width = 16
num_heads = 2
num_kv_heads = 1
mlp_width = 32
context_length = 96
[pretrain]
steps = 30
rows_per_step = 4
microbatch_rows = 4
[instruct]
steps = 30
rows_per_step = 4
microbatch_rows = 4
[votes]
pairs = 24
[reward]
steps = 4
rows_per_step = 8
microbatch_rows = 4
[align]
steps = 4
rows_per_step = 8
microbatch_rows = 4
group = 4
max_new_tokens = 12
gate = false
[watch]
ended = 0
distinct = 0
fall = 1
longer = 99
[evaluate]
along_the_way = 2
documents = 4
blanks = 4
instructions = 4
comparisons = 4
"""
CHROMIUM = "/usr/bin/chromium"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "trivium", *map(str, arguments)]


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Look, do not touch."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    done = subprocess.run(command("run", recipe, "--out", folder), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Run:
    """A finished run of one's own."""
    return Run(Path(shutil.copytree(finished, tmp_path / "tiny")))


class Place(NamedTuple):
    """A studio that is asked without a network."""

    studio: Studio
    app: Any
    come_in: Callable[..., TestClient]  # as somebody of a role; None: as nobody


@pytest.fixture
def place(run: Run) -> Iterator[Place]:
    studio = open_studio(run)
    app = build_app(studio, names=loopback_names(8000), secret="sesame")
    yield Place(studio, app, lambda role=None: entered(studio, app, role))
    studio.close()


def entered(studio: Studio, app: Any, role: Role | None) -> TestClient:
    client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=True)
    if role is not None:
        person = (
            owner_of(studio) if role == "owner" else somebody(studio, role, f"{role} {len(studio.people.people())}")
        )
        client.cookies.set(cookie_of(client.base_url), studio.people.open_session(person.id))  # type: ignore[arg-type]
    return client


def somebody(studio: Studio, role: Role, name: str) -> Person:
    """A person of that role who has used an invitation."""
    return studio.people.accept(studio.people.invite(role, by=owner_of(studio)), name)[0]


class Served(NamedTuple):
    """A studio that is served as `trivium studio` serves it."""

    address: str  # with the owner's secret
    process: subprocess.Popen[str]

    @property
    def origin(self) -> str:
        return self.address.split("/open")[0]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)
        assert self.process.stdout
        self.process.stdout.close()


def serve(run: Run, *flags: str) -> Served:
    process = subprocess.Popen(
        command("studio", run.path, "--no-browser", *flags),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    return Served(process.stdout.readline().strip(), process)


@pytest.fixture(scope="module")  # its event loop is the thread's own, where nobody else can run one
def chromium() -> Iterator[Any]:
    """A browser; whoever asks for it is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}; install the package chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()
