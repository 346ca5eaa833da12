"""Two processes do what one does: the same gradients, the same losses, the same models."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("share_of_the_work.py")

RECIPE = """
[data]
text = ["TEXT"]
answers = ["ANSWERS"]
[compute]
compile = false
precision = "float32"
threads = 1
save_seconds = 0.0
[model]
vocab_size = 280
num_layers = 1
width = 16
num_heads = 2
num_kv_heads = 1
mlp_width = 32
context_length = 48
[pretrain]
steps = 4
rows_per_step = 4
microbatch_rows = 2
matrix_learning_rate = 0.0001
[instruct]
steps = 4
rows_per_step = 4
microbatch_rows = 2
matrix_learning_rate = 0.0001
[align]
algorithm = "ppo"
rewards = ["length 6"]
steps = 4
epochs = 2
rows_per_step = 8
microbatch_rows = 2
group = 2
max_new_tokens = 12
matrix_learning_rate = 0.0001
[evaluate]
along_the_way = 2
documents = 4
blanks = 4
instructions = 4
"""


def recipe_in(folder: Path) -> Path:
    text, answers = folder / "text.txt", folder / "answers.jsonl"
    text.write_text("\n<|endoftext|>\n".join(f"The cat number {i} sat on mat {i * i}. It was warm." for i in range(60)))
    rows = [{"prompt": f"What is {i} and one?", "response": f"It is {i + 1}."} for i in range(60)]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.toml"
    path.write_text(RECIPE.replace("TEXT", str(text)).replace("ANSWERS", str(answers)))
    return path


def steps_of(run: Path) -> list[dict[str, Any]]:
    return [line for line in journal_of(run) if "evaluation" not in line]


def evaluations_of(run: Path) -> list[dict[str, float]]:
    return [line["evaluation"] for line in journal_of(run) if "evaluation" in line]


def journal_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]


class Found(NamedTuple):
    """What came of the work."""

    tensors: dict[str, torch.Tensor]
    run: Path
    said: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """One rank, in this process."""
    undo = pytest.MonkeyPatch()
    undo.setattr("trivium.story.opening.join_world", None)  # put back below: the script replaces it
    folder = tmp_path_factory.mktemp("one")
    spec = importlib.util.spec_from_file_location("share_of_the_work", SCRIPT)
    assert spec
    assert spec.loader
    work = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(work)
    work.main(folder / "tensors", ["instruct", str(recipe_in(folder)), "--out", str(folder / "run")])
    undo.undo()
    return Found(load_file(folder / "tensors"), folder / "run", "")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Two ranks, by torchrun."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(free_port()), str(SCRIPT), str(folder / "tensors")]
    command += ["instruct", str(recipe_in(folder)), "--out", str(folder / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, said = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"ranks wait for each other\n{process.communicate()[1][-3000:]}")
    assert process.returncode == 0, said[-4000:]
    return Found(load_file(folder / "tensors"), folder / "run", said)


def test_two_ranks_give_the_gradient_of_one(one: Found, two: Found) -> None:
    names = [name for name in one.tensors if name.startswith("gradient/")]
    assert len(names) == 25
    assert {name for name in two.tensors if name.startswith("gradient/")} == set(names)
    for name in names:
        assert one.tensors[name].abs().max() > 1e-4
        torch.testing.assert_close(two.tensors[name], one.tensors[name], atol=1e-6, rtol=1e-5, msg=name)
    assert one.tensors["items"] == two.tensors["items"] == 47
    torch.testing.assert_close(two.tensors["loss"], one.tensors["loss"], atol=1e-6, rtol=0)


def test_two_ranks_that_hold_the_whole_model_give_the_gradient_of_one_too(one: Found, two: Found) -> None:
    names = [name.removeprefix("held/") for name in one.tensors if name.startswith("held/")]
    assert len(names) == 25
    for name in names:
        for found in (one, two):
            gradient = found.tensors[f"held/{name}"]
            torch.testing.assert_close(gradient, one.tensors[f"gradient/{name}"], atol=1e-6, rtol=1e-5, msg=name)


def test_two_ranks_train_to_the_losses_norms_and_weights_of_one(one: Found, two: Found) -> None:
    """Nearly: updates are made orthogonal in bfloat16, which makes more of a difference in the last place."""
    torch.testing.assert_close(two.tensors["losses"], one.tensors["losses"], atol=5e-4, rtol=0)
    torch.testing.assert_close(two.tensors["norms"], one.tensors["norms"], atol=0, rtol=5e-3)
    for name in one.tensors:
        if name.startswith("weight/"):
            torch.testing.assert_close(two.tensors[name], one.tensors[name], atol=2e-3, rtol=0, msg=name)


def test_phases_on_two_ranks_have_the_losses_of_one(one: Found, two: Found) -> None:
    alone, together = steps_of(one.run), steps_of(two.run)
    assert [(line["phase"], line["step"], line["items"]) for line in together] == [
        (line["phase"], line["step"], line["items"]) for line in alone
    ]
    assert len(alone) == 8 + 4
    assert [line["loss"] for line in together][:8] == pytest.approx([line["loss"] for line in alone][:8], abs=1e-4)


def test_in_phase_three_each_of_two_ranks_writes_its_share_of_what_one_writes(one: Found, two: Found) -> None:
    """The same answers, rewards and advantages, over two rollouts that are learned from twice."""
    alone, together = ([line for line in steps_of(found.run) if line["phase"] == "align-001"] for found in (one, two))
    assert len(alone) == 4
    for mine, theirs in zip(alone, together, strict=True):
        assert theirs["metrics"] == pytest.approx(mine["metrics"], abs=2e-3)
        assert theirs["loss"] == pytest.approx(mine["loss"], abs=2e-3)
        assert theirs["items"] == mine["items"]
    weights = [load_file(found.run / "rounds/001/aligned/model.safetensors") for found in (one, two)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=2e-3, rtol=0, msg=name)


def test_what_two_ranks_measure_along_the_way_is_what_one_measures(one: Found, two: Found) -> None:
    alone, together = evaluations_of(one.run), evaluations_of(two.run)
    assert len(alone) == 7  # twice in each phase, and phase III before its first step
    for mine, theirs in zip(alone, together, strict=True):
        assert theirs == pytest.approx(mine, abs=1e-4)


def test_models_made_on_two_ranks_are_whole(one: Found, two: Found) -> None:
    for name in ("base", "instruct"):
        alone, together = (load_file(found.run / name / "model.safetensors") for found in (one, two))
        assert together.keys() == alone.keys()
        for key in alone:
            torch.testing.assert_close(together[key], alone[key], atol=2e-3, rtol=0, msg=key)


def test_a_run_on_two_ranks_leaves_the_same_recipe_and_no_checkpoints(one: Found, two: Found) -> None:
    here = str(one.run.parent)
    recipes = [(found.run / "recipe.toml").read_text().replace(str(found.run.parent), here) for found in (one, two)]
    assert recipes[0] == recipes[1]
    assert not any((two.run / ".state").glob("*/*"))


def test_only_the_first_rank_speaks(two: Found) -> None:
    assert two.said.count("I. Pretrain") == 1
