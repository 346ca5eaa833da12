"""What `trivium plan` says, and that a run would do the same."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

from trivium import plan
from trivium.compute import Compute, prepare
from trivium.config import ComputeConfig, Settings, merge, read_settings, resolve, to_toml
from trivium.errors import ConfigError, RunError
from trivium.model.shape import ModelConfig
from trivium.publish import publish, write_text
from trivium.runs import open_run
from trivium.story import sizing
from trivium.story.collecting import settle_votes
from trivium.story.forecast import (
    Stage,
    flat,
    forecast,
    pairs_to_vote_on,
    print_forecast,
    short,
    size,
)
from trivium.story.opening import begin

MACHINE = plan.Machine("a test machine", 2, 2**34, "bfloat16", 1e11)
ONE_THREAD = {"compute": {"threads": 1, "device": "cpu"}}


def known_trials(
    compute: Compute, minutes: float, flops: float, ranks: int, candidates: int | None
) -> Callable[[ModelConfig, int, int], float]:
    """Steps reach a third of the speed of large products; those of other numbers of rows than 16 a fifth."""
    return lambda model, rows, whole: (
        flops / (3 if rows == 16 else 5) / plan.multiplied(model, candidates).training_flop(1)
    )


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine whose speed does not depend on what else it does; and plans leave nothing behind in this process."""
    monkeypatch.setattr(plan, "measure_machine", lambda compute, ranks=1: MACHINE)
    monkeypatch.setattr(sizing, "Trials", known_trials)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def stages(found: dict[str, Any]) -> dict[str, Stage]:
    return {told["name"]: Stage(**told) for told in found["stages"]}


def test_a_plan_is_what_begin_would_choose() -> None:
    settings, dial = begin(ONE_THREAD, 3.0, Compute(torch.device("cpu"), torch.float32, False))
    found = forecast(None, minutes=3.0, flags=ONE_THREAD)
    recipe = resolve(settings)
    assert found["model"] == {"parameters": recipe.model.parameters, **recipe.model.model_dump(mode="json")}
    assert found["open"] == dial.open
    assert {**found["given"], **found["chosen"]} == dict(flat(settings))


def test_given_and_chosen_have_nothing_in_common() -> None:
    found = forecast(None, minutes=3.0, flags={**ONE_THREAD, "model": {"width": 64}})
    assert found["given"]["model.width"] == 64
    assert "model.num_layers" in found["chosen"]
    assert not found["given"].keys() & found["chosen"].keys()


@pytest.mark.parametrize("minutes", [1.0, 10.0, 60.0])
def test_where_all_is_open_the_stages_fill_the_minutes(minutes: float) -> None:
    told = stages(forecast(None, minutes=minutes, flags=ONE_THREAD))
    assert sum(stage.minutes for stage in told.values()) == pytest.approx(minutes)
    assert not any(stage.settled for name, stage in told.items() if name != "measure")


def test_steps_that_are_given_are_kept_and_cost_their_time() -> None:
    told = stages(forecast(None, minutes=10.0, flags={**ONE_THREAD, "pretrain": {"steps": 7}}))
    assert told["pretrain"].steps == 7
    assert told["pretrain"].settled
    assert told["pretrain"].minutes < 1
    assert told["instruct"].minutes > 4  # what one leaves over, the next ones divide


def test_the_reward_model_sees_the_votes_as_often_as_in_a_run() -> None:
    told = stages(forecast(None, minutes=10.0, flags={**ONE_THREAD, "votes": {"pairs": 320}}))
    assert told["reward"].steps == 17  # 2 passes over 85 % of 320 votes, 32 at a time


def test_twice_the_minutes_are_twice_the_steps_of_the_same_model() -> None:
    flags = {"compute": {**ONE_THREAD["compute"], "compile": False}, "model": {"num_layers": 2, "width": 64}}
    flags["pretrain"] = {"rows_per_step": 16}
    few, many = (stages(forecast(None, minutes=minutes, flags=flags))["pretrain"].steps for minutes in (5.0, 10.0))
    assert few
    assert many == pytest.approx(2 * few, abs=1)


@pytest.mark.parametrize("minutes", [0.1, 2.0, 30.0])
def test_a_plan_and_a_run_ask_for_the_same_number_of_votes(minutes: float) -> None:
    recipe = resolve({})
    dial = plan.Dial(minutes, ["votes.pairs"], MACHINE)
    settled: dict[str, object] = {}
    teller = SimpleNamespace(recipe=recipe, dial=dial, is_open=lambda key: True, settle=settled.__setitem__)
    settle_votes(teller)  # type: ignore[arg-type]
    assert settled == {"votes.pairs": pairs_to_vote_on(recipe, dial)}


def test_a_short_run_asks_about_fewer_pairs() -> None:
    assert [plan.choose_pairs(minutes) for minutes in (0.1, 0.5, 1.0, 2.0, 60.0)] == [100, 125, 500, 2000, 2000]


def test_a_plan_can_be_written_as_json_and_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    found = forecast(None, minutes=3.0, flags=ONE_THREAD)
    assert json.loads(json.dumps(found)) == found
    print_forecast(found)
    told = capsys.readouterr().out
    for part in ("a test machine", "100 GFLOP/s", "parameters", "GiB", "Given", "Chosen by the dial", "~"):
        assert part in told


def test_phase_three_waits_where_nobody_votes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, answers in (("asked", {"response": "a"}), ("pairs", {"chosen": "a", "rejected": "b"})):
        rows = [json.dumps({"prompt": f"p{i}", **answers}) + "\n" for i in range(9)]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    own: Settings = {"data": {"text": ["pydocs"], "answers": [str(tmp_path / "asked.jsonl")]}}
    paired: Settings = {"data": {"pairs": [str(tmp_path / "pairs.jsonl")]}}
    for more, waits in (({}, True), (paired, False)):
        found = forecast(None, minutes=1.0, flags=merge(ONE_THREAD, merge(own, more)))
        print_forecast(found)
        assert found["waits_for_votes"] == waits == ("Phase III waits" in capsys.readouterr().out)
        assert "data.dialogues" not in found["chosen"]  # nobody writes them
    assert not forecast(None, minutes=1.0, flags=ONE_THREAD)["waits_for_votes"]


def test_a_recipe_whose_run_exists_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(tmp_path / "runs" / "mine" / "recipe.toml", to_toml(resolve({})))
    write_text(tmp_path / "mine.toml", "seed = 1\n")
    print_forecast(forecast(tmp_path / "mine.toml", minutes=1.0, flags=ONE_THREAD))
    assert "runs/mine exists" in " ".join(capsys.readouterr().out.split())


def test_a_need_beyond_the_memory_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"rows_per_step": 32_768, "microbatch_rows": 32_768}
    print_forecast(forecast(None, minutes=1.0, flags={**ONE_THREAD, "align": rows}))
    assert "more memory than there is" in capsys.readouterr().out


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    forecast(None, minutes=1.0, flags=ONE_THREAD)
    assert list(tmp_path.iterdir()) == []


def test_minutes_of_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="minutes = 0"):
        forecast(None, minutes=0.0, flags=ONE_THREAD)


def test_of_a_run_it_says_what_is_done_settled_and_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, dial = begin(ONE_THREAD, 3.0, Compute(torch.device("cpu"), torch.float32, False))
    dial.open.remove("pretrain.steps")
    dial.spent = 60.0
    with open_run(tmp_path / "run", create=True) as run:
        write_text(run.recipe, to_toml(resolve(settings)))
        write_text(run.plan, msgspec.json.encode(dial).decode())
        publish(run.base, lambda fresh: (fresh / "model").write_text("x") and None)
        found = forecast(run.path, minutes=None, flags={})  # while the run is held
        with pytest.raises(RunError, match="begun with --minutes 3 for the whole run;"):
            forecast(run.path, minutes=4.0, flags={})
    told = stages(found)
    assert [name for name, stage in told.items() if stage.done] == ["pretrain"]
    assert found["chosen"]["pretrain.steps"] == read_settings(run.recipe)["pretrain"]["steps"]
    assert "instruct.steps" in found["open"]
    assert not [key for key in found["open"] if key.startswith(("pretrain.", "model."))]  # which stand by then
    assert sum(stage.minutes for stage in told.values()) == pytest.approx(2.0)
    print_forecast(found)
    assert "3 minutes, 1m00s of them spent" in capsys.readouterr().out


def test_numbers_for_people_are_short() -> None:
    assert (size(3 * 2**20), size(1.5 * 2**30)) == ("3 MiB", "1.5 GiB")
    assert (short(999), short(12_345), short(2_500_000)) == ("999", "12k", "2.5M")


def test_a_plan_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_into(settings: ComputeConfig, device: torch.device, cache: Path) -> Compute:
        (cache / "code").mkdir(parents=True)
        return prepare(settings, device, cache)

    monkeypatch.setattr("trivium.story.forecast.prepare", compile_into)
    forecast(None, minutes=3.0, flags=ONE_THREAD)
    assert [*tmp_path.iterdir()] == []


def test_one_of_a_thing_is_told_in_the_singular(capsys: pytest.CaptureFixture[str]) -> None:
    print_forecast(forecast(None, minutes=1.0, flags={**ONE_THREAD, "model": {"num_layers": 1}}))
    told = capsys.readouterr().out
    assert "1 minute " in told
    assert "parameters: 1 layer, width" in told
