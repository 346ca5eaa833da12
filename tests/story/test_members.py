"""A reward of several models: made from pretraining on, or from the votes on and said so, and never lost."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trivium.config import resolve
from trivium.lineage import read_lineage
from trivium.publish import file_fingerprint, publish, verify
from trivium.runs import Run
from trivium.shelf import weights_fingerprint
from trivium.story.members import member_recipe
from trivium.story.rounds import forget_aims

THREE = ("--reward.members", "3", "--reward.combine", "worst", "--reward.member-share", "0.5", "--align.steps", "2")


def words(said: str) -> str:
    return " ".join(said.split())


def test_members_that_differ_from_pretraining_on_are_made_and_a_kill_changes_nothing(
    recipe: Path, stable: Any, facts: Any, tmp_path: Path
) -> None:
    whole, killed = Run(tmp_path / "whole"), Run(tmp_path / "killed")
    ended = stable.finish("run", recipe, "--out", whole.path, *THREE, folder=whole.path)
    assert "3 members that differ from pretraining, their worst counts" in words(ended.said)
    assert "its members alone agree with" in words(ended.said)
    for where in ({"after": ["member-003", 2]}, {"after": ["reward-001-2", 2]}, {"seen": "rounds/001/reward-3"}):
        assert stable.kill("run", recipe, "--out", killed.path, *THREE, folder=killed.path, **where).code == -9, where
    stable.finish("run", recipe, "--out", killed.path, *THREE, folder=killed.path)
    assert facts(killed.path) == facts(whole.path)
    bases = [whole.base, whole.member(2), whole.member(3)]
    rewards = [whole.round(1).member(number) for number in (1, 2, 3)]
    for folders in (bases, rewards):
        for folder in folders:
            verify(folder)
        assert len({weights_fingerprint(folder) for folder in folders}) == 3
    assert [read_lineage(folder).parent for folder in rewards[1:]] == [weights_fingerprint(b) for b in bases[1:]]
    assert len({read_lineage(folder).seed for folder in bases}) == 3
    report = json.loads(whole.round(1).reward_report.read_text())
    assert len(report["members"]) == len(report["levels"]) == 3
    journal = [json.loads(line) for line in whole.journal.read_text().splitlines()]
    assert sum(line["phase"] == "member-002" and "loss" in line for line in journal) == 4, "half of phase I's steps"
    stable.finish("report", whole.path, folder=whole.path)
    page = (whole.path / "report.html").read_text()
    for told in ("Pretrain a member 2", "Reward model, round 1, member 3", "its members alone", "base of member 2"):
        assert told in page, told
    assert not list((whole.path / ".state").iterdir())


def test_a_member_falls_towards_its_own_last_step() -> None:
    taught = resolve({"pretrain": {"steps": 57, "aims": [[48, 60]]}, "reward": {"member_share": 0.5}})
    settings = member_recipe(taught, 2).pretrain
    assert (settings.steps, settings.aims) == (28, ())


def test_a_later_round_begins_without_the_aims_of_an_earlier_one_and_goes_on_with_its_own(tmp_path: Path) -> None:
    run, settled = Run(tmp_path), list[Any]()
    teller: Any = SimpleNamespace(run=run, settle_all=settled.append)
    for number in (1, 2):
        run.round(number).path.mkdir(parents=True)
    forget_aims(teller, run.round(1))
    forget_aims(teller, run.round(2))  # whose first was refused: what was aimed at is its own
    assert not settled
    publish(run.round(1).aligned, lambda fresh: None)
    forget_aims(teller, run.round(2))
    assert settled == [{"align": {"aims": ()}}]
    run.state("align-002").mkdir(parents=True)
    forget_aims(teller, run.round(2))
    assert len(settled) == 1


def test_on_somebodys_weights_the_members_differ_from_the_votes_on_and_it_is_said(
    finished: Path, stable: Any, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    told = ("--from", finished / "instruct", "--votes.pairs", "16", "--reward.steps", "2", "--reward.members", "2")
    ended = stable.finish("reward", "--out", run.path, *told, folder=run.path)
    assert "2 members that differ from the votes on only, as they share one base" in words(ended.said)
    assert not run.member(2).exists()
    models = [file_fingerprint(run.round(1).member(number), "model.safetensors") for number in (1, 2)]
    assert len(set(models)) == 2


def test_reinforcement_that_is_stopped_says_why_and_publishes_what_was_best(
    finished: Path, stable: Any, tmp_path: Path
) -> None:
    """Steps so large that each goes too far: what it began with is kept."""
    run = Run(tmp_path / "run")
    shutil.copytree(finished, run.path)
    shutil.rmtree(run.round(1).aligned)
    told = ("--watch.kl", "0.01", "--watch.patience", "1", "--align.kl", "0", "--align.learning-rate", "0.1")
    assert stable.kill("align", run.path, *told, folder=run.path, after=["align-001", 2]).code == -9
    ended = stable.finish("align", run.path, *told, folder=run.path)
    assert "ended at step 3: it is" in words(ended.said)
    assert "(watch.kl = 0.01) keeping what it began with, the best" in words(ended.said)
    assert weights_fingerprint(run.round(1).aligned) == weights_fingerprint(run.instruct)
    found = json.loads(run.round(1).aligned_report.read_text())
    assert (found["ended"], found["kept"]) == (3, 0)
    assert read_lineage(run.round(1).aligned).metrics["kept_step"] == 0
    stable.finish("report", run.path, folder=run.path)
    assert "reinforcement ended at step 3: it is" in (run.path / "report.html").read_text()
