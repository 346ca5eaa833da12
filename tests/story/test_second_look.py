"""The dial looks again at the steps it has chosen, and a run that stops just then goes on the same."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.story.conftest import TINY, digest
from trivium import cli, plan
from trivium.story.teller import Teller

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


def journal(run: Path) -> list[tuple[int, float, float]]:
    """Every step: its number, loss and share of the learning rate."""
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["learning_rate"]) for line in lines if "loss" in line]


def test_the_steps_of_the_last_look_are_taken_and_written_down(pretrain: Callable[[str], Path]) -> None:
    run = pretrain("run")
    steps = journal(run)
    assert [step for step, _, _ in steps] == list(range(1, LAST + 1))
    rates = [rate for _, _, rate in steps]
    assert rates[-1] == pytest.approx(rates[34] / (LAST - 34))  # from the last look on straight to zero
    written = tomllib.loads((run / "recipe.toml").read_text())["pretrain"]
    assert written["steps"] == LAST
    assert written["aims"] == [[19, 33], [32, 40], [34, 38]]
    assert json.loads((run / "plan.json").read_text())["look"] is None


@pytest.mark.parametrize("number", range(len(plan.LOOKS)))
def test_a_run_that_stops_before_it_looks_goes_on_as_if_it_had_not(
    number: int, pretrain: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Teller._look_again

    def killed(teller: Teller, look: plan.Look, seconds: list[float]) -> None:
        if look.number == number:
            raise RuntimeError("killed")
        looks(teller, look, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(Teller, "_look_again", killed)
        with pytest.raises(RuntimeError, match="killed"):
            pretrain("stopped")
    stopped, whole = pretrain("stopped"), pretrain("whole")
    assert journal(stopped) == journal(whole)
    assert digest(stopped / "base" / "model.safetensors") == digest(whole / "base" / "model.safetensors")


def test_the_recipe_that_was_written_trains_the_same_weights_without_a_look(
    pretrain: Callable[[str], Path], tmp_path: Path
) -> None:
    run, again = pretrain("run"), tmp_path / "again"
    (tmp_path / "copy.toml").write_text((run / "recipe.toml").read_text())
    cli.main(["pretrain", str(tmp_path / "copy.toml"), "--out", str(again)])
    assert journal(again) == journal(run)
    assert digest(again / "base" / "model.safetensors") == digest(run / "base" / "model.safetensors")


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
