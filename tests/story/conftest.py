"""Whole runs for the tests: a tiny recipe, and a process that starts them quickly."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trivium.feedback.store import Store

TINY = """
[data]
stories = 40
dialogues = 60
[compute]
compile = false
precision = "float32"
threads = 1
save_seconds = 0.0
[model]
vocab_size = 300
num_layers = 1
width = 16
num_heads = 2
num_kv_heads = 1
mlp_width = 32
context_length = 96
[pretrain]
steps = 8
rows_per_step = 2
microbatch_rows = 1
candidates = 160
[instruct]
steps = 8
rows_per_step = 2
microbatch_rows = 2
[votes]
pairs = 24
[reward]
steps = 6
rows_per_step = 8
microbatch_rows = 4
[align]
steps = 6
rows_per_step = 8
microbatch_rows = 4
group = 4
max_new_tokens = 8
gate = false
[evaluate]
along_the_way = 2
documents = 4
blanks = 4
instructions = 4
comparisons = 4
"""


class Ended(NamedTuple):
    """How a run ended."""

    killed: bool  # by us, before it was done
    code: int
    said: str


class Stable:
    """Starts runs; see stable.py."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "200"}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("stable.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def start(self, *arguments: str | Path, folder: Path, **order: Any) -> Ended:
        """Run `trivium ARGUMENTS`; with `after` or `seen`, `delay` and `signal`, until it is killed there."""
        said = folder.with_name(f"{folder.name}.said")
        said.write_text("")
        whole = {"arguments": [str(a) for a in arguments], "said": str(said), "folder": str(folder), **order}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(whole) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()), said=said.read_text())

    def finish(self, *arguments: str | Path, folder: Path) -> Ended:
        """Run `trivium ARGUMENTS` to its end, which must be a good one."""
        ended = self.start(*arguments, folder=folder)
        assert ended.code == 0, ended.said[-3000:]
        return ended

    def kill(self, *arguments: str | Path, folder: Path, delay: float = 0.0, **where: Any) -> Ended:
        return self.start(*arguments, folder=folder, delay=delay, signal=int(signal.SIGKILL), **where)

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=70)
        self._process.stdout.close()


@pytest.fixture(scope="package")
def stable() -> Iterator[Stable]:
    made = Stable()
    yield made
    made.close()


@pytest.fixture(scope="package")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="package")
def finished(stable: Stable, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe's run, never interrupted. Look, do not touch."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    stable.finish("run", recipe, "--out", folder, folder=folder)
    return folder


@pytest.fixture(scope="session")
def facts() -> Any:
    return facts_of


def facts_of(run: Path) -> dict[str, Any]:
    """All that a run has come to, but for what the clock says."""
    weights = {str(path.relative_to(run)): digest(path) for path in sorted(run.glob("**/model.safetensors"))}
    journal = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    with Store.open(run / "feedback.db") as store:
        votes = store.fingerprint()
    return {
        **weights,
        "journal": [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in journal],
        "votes": votes,
        "samples": [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()],
        "measures": json.loads((run / "measures.json").read_text()),
        "recipe": (run / "recipe.toml").read_text(),
        "tokenizer": digest(run / "tokenizer" / "tokenizer.json"),
    }


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
