"""Steps that are too few to learn from are told of."""

from pathlib import Path

import pytest

from tests.story.conftest import TINY
from trivium import cli, plan


@pytest.mark.parametrize(("steps", "warned"), [(1, True), (plan.FEWEST_STEPS - 1, True), (plan.FEWEST_STEPS, False)])
def test_a_phase_of_few_steps_is_warned_of(
    steps: int, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan.Pace, "steps_in", lambda *_: steps)
    monkeypatch.setattr(plan.Look, "pays", False)
    recipe = tmp_path / "open.toml"
    recipe.write_text(TINY.replace("[pretrain]\nsteps = 8\n", "[pretrain]\nlearning_rate = 6e-3\nweight_decay = 0.0\n"))
    cli.main(["pretrain", str(recipe), "--out", str(tmp_path / "run"), "--minutes", "1"])
    told = capsys.readouterr().err
    assert ("1 step of " in told) == (steps == 1)
    found = f"Warning: pretrain takes {steps} step" in told and "too few to learn from" in told and "--minutes" in told
    assert found == warned
