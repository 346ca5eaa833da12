"""`torchrun -m trivium pretrain`, with the recipe of a cluster as far as a processor allows: it trains, and goes on."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import tomlkit

from trivium.config import merge, read_settings, resolve

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = """
[compute]
device = "cpu"
precision = "float32"
compile = false
threads = 1
save_seconds = 0.0
[data]
text = ["TEXT"]
[model]
num_layers = 1
width = 16
num_heads = 2
num_kv_heads = 2
mlp_width = 32
vocab_size = 280
context_length = 48
[pretrain]
steps = 16
rows_per_step = 4
microbatch_rows = 2
[evaluate]
along_the_way = 2
documents = 4
"""


@pytest.mark.parametrize("name", ["one_gpu", "cluster"])
def test_a_recipe_for_gpus_says_only_what_differs_from_the_defaults(name: str) -> None:
    said = read_settings(RECIPES / f"{name}.toml")
    default, meant = resolve({}).model_dump(), resolve(said).model_dump()
    for section, settings in said.items():
        for key in settings:
            assert meant[section][key] != default[section][key] or (section, key) == ("pretrain", "microbatch_rows"), (
                key
            )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tiny_cluster(text: Path) -> Path:
    """The recipe of a cluster, with everything that a processor cannot do in seconds made small."""
    small = tomllib.loads(SMALL.replace("TEXT", str(text)))
    path = text.with_name("cluster.toml")
    path.write_text(tomlkit.dumps(merge(read_settings(RECIPES / "cluster.toml"), small)))
    return path


def start(text: Path, run: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(free_port()), "-m", "trivium", "pretrain"]
    command += [str(tiny_cluster(text)), "--out", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> None:
    """torchrun and its ranks, which are in sessions of their own."""
    ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, ranks)):
        os.kill(pid, signal.SIGKILL)
    process.communicate()


def finish(process: subprocess.Popen[str]) -> None:
    try:
        _, said = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        kill(process)
        pytest.fail("ranks wait for each other")
    assert process.returncode == 0, said[-4000:]


def losses(run: Path) -> list[tuple[int, float]]:
    lines = map(json.loads, (run / "journal.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def test_two_ranks_that_are_killed_go_on_to_the_losses_of_two_that_were_not(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n<|endoftext|>\n".join(f"The cat number {i} sat on mat {i * i}. It was warm." for i in range(60)))
    killed = start(text, tmp_path / "killed")
    deadline = time.monotonic() + 60
    state = tmp_path / "killed" / ".state" / "pretrain"
    while not list(state.glob("step-*")):
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    kill(killed)
    assert not (tmp_path / "killed" / "base").exists()
    whole, again = start(text, tmp_path / "whole"), start(text, tmp_path / "killed")
    finish(whole)
    finish(again)
    assert len(losses(tmp_path / "whole")) == 16
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
