"""The dial looks again at the steps it has chosen, and a run that stops just then goes on the same."""

import dataclasses
import json
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.story.conftest import TINY, digest
from trivium import cli, plan
from trivium.story import stages
from trivium.story.teller import Teller
from trivium.train.phase import Measured, Verdict

CHOICES = (30, 36, 33, 40, 38, 37)  # at first, while the learning rate is at its peak, and while it falls
LAST = CHOICES[-1]


@pytest.fixture
def pretrain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Phase I of a recipe that leaves its steps to the dial, whose choices are given; speed decides nothing."""
    recipe = tmp_path / "open.toml"
    recipe.write_text(TINY.replace("[pretrain]\nsteps = 8\n", "[pretrain]\nlearning_rate = 6e-3\nweight_decay = 0.0\n"))
    monkeypatch.setattr(plan.Pace, "steps_in", lambda *_: CHOICES[0])
    monkeypatch.setattr(plan.Look, "steps_by", lambda look, *_: CHOICES[look.number + 1])

    def start(name: str) -> Path:
        cli.main(["pretrain", str(recipe), "--out", str(tmp_path / name), "--minutes", "1"])
        return tmp_path / name

    return start


def told(run: Path) -> list[dict[str, Any]]:
    """The journal, but for what depends on the machine."""
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line.keys() - {"seconds", "tokens_per_second"}} for line in lines]


def journal(run: Path) -> list[tuple[int, float, float]]:
    """Every step: its number, loss and share of the learning rate."""
    return [(line["step"], line["loss"], line["learning_rate"]) for line in told(run) if "loss" in line]


def test_the_steps_of_the_last_look_are_taken_and_written_down(pretrain: Callable[[str], Path]) -> None:
    run = pretrain("run")
    steps = journal(run)
    assert [step for step, _, _ in steps] == list(range(1, LAST + 1))
    rates = [rate for _, _, rate in steps]
    assert rates[-1] == pytest.approx(rates[34] / (LAST - 34))  # from the last look on straight to zero
    written = tomllib.loads((run / "recipe.toml").read_text())["pretrain"]
    assert written["steps"] == LAST
    assert written["aims"] == [[7, 30], [14, 36], [19, 33], [32, 40], [34, 38]]
    assert json.loads((run / "plan.json").read_text())["look"] is None


@pytest.mark.parametrize("number", range(len(plan.LOOKS)))
def test_a_run_that_stops_before_it_looks_goes_on_as_if_it_had_not(
    number: int, pretrain: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Teller._look_again

    def killed(teller: Teller, look: plan.Look, done: int, steps: int) -> None:
        if look.number == number:
            raise RuntimeError("killed")
        looks(teller, look, done, steps)

    with monkeypatch.context() as patch:
        patch.setattr(Teller, "_look_again", killed)
        with pytest.raises(RuntimeError, match="killed"):
            pretrain("stopped")
    stopped, whole = pretrain("stopped"), pretrain("whole")
    assert told(stopped) == told(whole)
    assert digest(stopped / "base" / "model.safetensors") == digest(whole / "base" / "model.safetensors")


def test_the_recipe_that_was_written_trains_the_same_weights_without_a_look(
    pretrain: Callable[[str], Path], tmp_path: Path
) -> None:
    run, again = pretrain("run"), tmp_path / "again"
    (tmp_path / "copy.toml").write_text((run / "recipe.toml").read_text())
    cli.main(["pretrain", str(tmp_path / "copy.toml"), "--out", str(again)])
    assert told(again) == told(run)
    assert digest(again / "base" / "model.safetensors") == digest(run / "base" / "model.safetensors")


def changed(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    """Phase I with other fields, and 24 steps that every look finds right."""
    build = stages.pretrain.build
    monkeypatch.setattr(stages.pretrain, "build", lambda *given: dataclasses.replace(build(*given), **fields))
    monkeypatch.setattr(plan.Pace, "steps_in", lambda *_: 24)
    monkeypatch.setattr(plan.Look, "steps_by", lambda look, *_: look.steps)


def test_steps_that_hang_together_may_leave_nothing_to_look_at(
    pretrain: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 21 of 24 steps, four at a time, all are done."""
    changed(monkeypatch, stride=4)
    run = pretrain("run")
    assert len(journal(run)) == 24
    assert json.loads((run / "plan.json").read_text())["look"] is None


def test_a_phase_that_its_watch_has_ended_is_not_looked_at(
    pretrain: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(seen: Sequence[Measured]) -> Verdict:
        return Verdict(0, 12, "enough" if seen else "")

    def steps_by(look: plan.Look, done: int, *_: object) -> int:
        assert done < 12
        return look.steps

    changed(monkeypatch, watch=watch)
    monkeypatch.setattr(plan.Look, "steps_by", steps_by)
    run = pretrain("run")
    assert len(journal(run)) == 12
    assert tomllib.loads((run / "recipe.toml").read_text())["pretrain"]["steps"] == 24


def test_a_run_that_is_killed_or_stopped_has_its_time_noted(
    pretrain: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it takes the steps that it did for steps that took no time, and chooses as many more."""
    noted = []

    def spent() -> float:
        found: float = json.loads((tmp_path / "run" / "plan.json").read_text())["spent"]
        return found

    def stopped(*_: object) -> None:
        noted.append(spent())  # what a process would leave that is killed here
        raise RuntimeError("stopped")

    monkeypatch.setattr(Teller, "_look_again", stopped)
    with pytest.raises(RuntimeError, match="stopped"):
        pretrain("run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in lines if "seconds" in line]
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["look"]["begun"] + sum(seconds[:-1]) <= noted[0]
    assert noted[0] < spent()
