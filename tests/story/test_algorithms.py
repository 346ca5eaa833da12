"""Each algorithm of phase III from the command line; killed in the midst, it goes on to the same bits."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.story.test_rounds import preferences, written_recipe
from trivium.lineage import read_lineage
from trivium.publish import file_fingerprint, verify
from trivium.runs import Run
from trivium.shelf import open_model
from trivium.story.measure import measure_best_of, prepare_exam
from trivium.story.opening import look_into

ALGORITHMS = {
    "rloo": ["--align.redraws", "1", "--align.overlong", "skip", "--align.entropy", "0.01"],
    "rejection": ["--align.weigh", "answers"],
    "ppo": ["--align.epochs", "2", "--align.minibatches", "2", "--align.microbatch-rows", "4", "--align.steps", "8"],
    "dpo": ["--align.pair-loss", "squared"],
    "online-dpo": ["--align.per-token"],
}


def begun(finished: Path, folder: Path) -> Run:
    """The finished run before its policy was aligned."""
    shutil.copytree(finished, folder)
    run = Run(folder)
    shutil.rmtree(run.round(1).aligned)
    run.measures.unlink()
    return run


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_that_is_killed_goes_on_to_the_same_bits(
    name: str, finished: Path, stable: Any, tmp_path: Path
) -> None:
    command = ["--align.algorithm", name, *ALGORITHMS[name]]
    whole, killed = begun(finished, tmp_path / "whole"), begun(finished, tmp_path / "killed")
    stable.finish("align", whole.path, *command, folder=whole.path)
    ended = stable.kill("align", killed.path, *command, folder=killed.path, after=["align-001", 3])
    assert ended.code == -9, ended.said[-3000:]
    stable.finish("align", killed.path, *command, folder=killed.path)
    models = [run.round(1).aligned for run in (whole, killed)]
    verify(models[0])
    assert len({file_fingerprint(model, "model.safetensors") for model in models}) == 1
    assert lines_of(whole) == lines_of(killed)


def lines_of(run: Run) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in run.journal.read_text().splitlines()]
    kept = [line for line in found if line["phase"] == "align-001"]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in kept]


def test_dpo_needs_votes_and_no_reward_model(recipe: Path, stable: Any, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    stable.finish("run", recipe, "--out", run.path, "--align.algorithm", "dpo", folder=run.path)
    verify(run.round(1).aligned)
    assert not run.round(1).reward.exists()
    found = [json.loads(line) for line in run.journal.read_text().splitlines()]
    measured = [line["evaluation"] for line in found if line["phase"] == "align-001" and "evaluation" in line]
    assert {"accuracy", "win_rate", "kl", "entropy", "length", "ended", "distinct"} <= measured[-1].keys()


def test_dpo_on_pairs_from_a_file_starts_at_what_imitated_them(recipe: Path, stable: Any, tmp_path: Path) -> None:
    """Which is its reference too: the first loss is log 2."""
    run = Run(tmp_path / "run")
    files = written_recipe(recipe, tmp_path, pairs=preferences(40))
    stable.finish("run", files, "--out", run.path, "--align.algorithm", "dpo", folder=run.path)
    first = next(line for line in lines_of(run) if "loss" in line)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert read_lineage(run.round(1).aligned).parent == file_fingerprint(run.round(1).imitator, "model.safetensors")


def test_every_step_says_what_its_answers_were_like(finished: Path) -> None:
    lines = [line for line in lines_of(Run(finished)) if "metrics" in line]
    told = {"reward", "kl", "length", "ended", "distinct", "signal", "entropy", "clipped"}
    assert all(told <= line["metrics"].keys() for line in lines)


def test_the_best_of_as_many_answers_as_come_nearest_to_the_kl_is_measured_beside(finished: Path) -> None:
    with look_into(finished, flags={}) as teller:
        model, tokenizer = open_model(teller.run.instruct)
        exam = prepare_exam(teller, tokenizer)
        given = (teller, teller.run.round(1), model, tokenizer, exam)
        found = measure_best_of(*given, kl=1.0)["best_of"]
        assert measure_best_of(*given, kl=0.0) == {}
    assert found["count"] == 6
    assert found["kl"] == pytest.approx(0.958, abs=1e-3)
    assert found["win_rate_low"] <= found["win_rate"] <= found["win_rate_high"]
