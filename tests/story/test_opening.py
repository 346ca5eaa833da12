"""Beginning and going on: the dial fills what is left open and nothing else; what was said stays said."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trivium import plan
from trivium.compute import Compute
from trivium.config import resolve, to_toml
from trivium.errors import ConfigError, RunError
from trivium.native import layer
from trivium.publish import write_text
from trivium.runs import Run
from trivium.story import opening, sizing
from trivium.story.opening import begin, check_ranks, go_on, name_of, read_dial

MACHINE = plan.Machine(name="a machine", cores=2, memory=8 * 2**30, precision="float32", matmul_flops=1e11)
COMPUTE = Compute(torch.device("cpu"), torch.float32, False)


@pytest.fixture(autouse=True, scope="module")
def _machine_of_known_speed() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "measure_machine", lambda compute, ranks=1: MACHINE)
        patch.setattr(opening, "compiling_obstacle", lambda device: "")
        patch.setattr(sizing, "Trials", lambda *_: lambda model, rows, whole: None)  # no time to try any
        yield


shapes = st.fixed_dictionaries(
    {},
    optional={
        "num_layers": st.integers(1, 20),
        "width": st.sampled_from([32, 48, 64, 80, 96, 112, 144, 192, 256, 320]),
        "mlp_width": st.integers(32, 900),
        "vocab_size": st.integers(300, 9000),
        "context_length": st.sampled_from([64, 128, 512]),
        "tie_embeddings": st.booleans(),
    },
)


@given(shapes, st.floats(0.05, 500))
def test_explicit_sizes_win_and_the_rest_fits_them(shape: dict[str, Any], minutes: float) -> None:
    settings, _ = begin({"model": shape}, minutes, COMPUTE)
    model = resolve(settings).model.model_dump()
    assert {name: model[name] for name in shape} == shape


@pytest.mark.parametrize(
    "shape",
    [{"num_kv_heads": 2}, {"num_kv_heads": 3}, {"num_heads": 3}, {"num_heads": 5}, {"num_heads": 8}, {"head_dim": 16}],
)
def test_heads_that_were_said_win_too(shape: dict[str, int]) -> None:
    model = resolve(begin({"model": shape}, 1.0, COMPUTE)[0]).model.model_dump()
    assert {name: model[name] for name in shape} == shape


@given(st.sets(st.sampled_from(["pretrain.steps", "instruct.steps", "reward.steps", "align.steps", "votes.pairs"])))
def test_only_what_was_not_said_stays_open_for_the_dial(said: set[str]) -> None:
    given_settings: dict[str, Any] = {}
    for key in said:
        given_settings = plan.set_key(given_settings, key, 17)
    settings, dial = begin(given_settings, 5.0, COMPUTE)
    assert dial is not None
    assert not said & set(dial.open)
    assert {"pretrain.steps", "instruct.steps", "reward.steps", "align.steps", "votes.pairs"} - said <= set(dial.open)
    assert all(plan.get_key(settings, key) == 17 for key in said)


def test_said_amounts_of_data_and_questions_win() -> None:
    said = {"data": {"stories": 77}, "evaluate": {"blanks": 3}, "compute": {"compile": True}}
    settings, _ = begin(said, 0.5, COMPUTE)
    assert settings["data"]["stories"] == 77
    assert settings["evaluate"]["blanks"] == 3
    assert settings["compute"]["compile"] is True
    assert settings["data"]["dialogues"] >= 2000


def test_more_time_never_makes_a_smaller_model() -> None:
    sizes = [
        resolve(begin({}, minutes, COMPUTE)[0]).model.parameters for minutes in (0.1, 0.5, 1, 3, 10, 30, 100, 1000)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 10 * sizes[0]


@pytest.fixture
def no_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVIUM_NATIVE", "0")


@pytest.mark.usefixtures("no_cpp")
def test_compiling_waits_until_it_pays() -> None:
    assert [begin({}, minutes, COMPUTE)[0]["compute"]["compile"] for minutes in (1, 10)] == [False, True]
    few, many = ({phase: {"steps": steps} for phase in ("pretrain", "instruct")} for steps in (5, 10**6))
    assert [begin(said, 10.0, COMPUTE)[0]["compute"]["compile"] for said in (few, many)] == [False, True]
    first = {"pretrain": few["pretrain"]}  # phase II takes what time there is
    compiled = [begin(first, 10.0, COMPUTE, through=end)[0]["compute"]["compile"] for end in ("pretrain", "instruct")]
    assert compiled == [False, True]
    assert begin({**few, "compute": {"compile": True}}, 10.0, COMPUTE)[0]["compute"]["compile"]


def test_where_layers_are_cpp_nothing_is_compiled_unless_it_is_said() -> None:
    if not layer.is_here(COMPUTE.device):
        pytest.skip("there is no C++ compiler")
    adapted, odd = {"instruct": {"lora_rank": 4}}, {"model": {"width": 72, "num_heads": 3}}  # heads of 24
    compiled = [begin(said, 10.0, COMPUTE)[0]["compute"]["compile"] for said in ({}, adapted, odd)]
    assert compiled == [False, True, True]
    assert begin({"compute": {"compile": True}}, 1.0, COMPUTE)[0]["compute"]["compile"]


@pytest.mark.usefixtures("no_cpp")
def test_without_a_compiler_the_dial_does_not_ask_for_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "compiling_obstacle", lambda device: "there is no compiler; install it")
    assert begin({}, 10.0, COMPUTE)[0]["compute"]["compile"] is False
    assert begin({"compute": {"compile": False}}, 10.0, COMPUTE)[0]["compute"]["compile"] is False
    with pytest.raises(ConfigError, match="compile = true: there is no compiler; install it, or set it to false"):
        begin({"compute": {"compile": True}}, 10.0, COMPUTE)


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_minutes_that_are_no_time_are_refused(minutes: float) -> None:
    with pytest.raises(ConfigError, match="minutes"):
        begin({}, minutes, COMPUTE)


@given(st.floats(0, 1000), st.floats(0.1, 100))
def test_the_stages_divide_the_time_that_is_left(spent: float, minutes: float) -> None:
    dial = plan.Dial(minutes=minutes, open=[], machine=MACHINE, spent=spent)
    for stage in plan.SHARES:
        dial.spent += dial.seconds_for(stage)
    assert dial.spent == pytest.approx(max(spent, 60 * minutes))


def test_the_gate_is_lenient_in_short_runs_alone_and_where_nobody_said_otherwise(tmp_path: Path) -> None:
    for said, minutes, gate, lenient in (
        ({}, 10, False, True),
        ({}, 20, True, False),
        ({"align": {"gate": False}}, 10, False, False),
        ({"align": {"gate": True}}, 10, True, False),
    ):
        settings, dial = begin(said, minutes, COMPUTE)
        assert (resolve(settings).align.gate, dial.lenient) == (gate, lenient)
    run = begun(tmp_path, {})
    _, dial = go_on(run, {"align": {"gate": False}}, None, new_round=True)
    assert dial is not None
    assert not dial.lenient, "now somebody said it"


def begun(folder: Path, said: dict[str, Any], minutes: float = 10.0, *, dial: bool = True) -> Run:
    settings, made = begin(said, minutes, COMPUTE)
    run = Run(folder)
    run.recipe.write_text(to_toml(resolve(settings)))
    if dial:
        run.plan.write_bytes(msgspec.json.encode(made))
    return run


def test_a_run_goes_on_with_the_settings_it_was_begun_with(tmp_path: Path) -> None:
    said = {"pretrain": {"steps": 5}, "seed": 3}
    run = begun(tmp_path, said)
    settings, dial = go_on(run, said, 10.0, new_round=False)
    assert settings == tomllib.loads(run.recipe.read_text())
    assert dial == msgspec.json.decode(run.plan.read_bytes(), type=plan.Dial)
    assert go_on(run, {}, None, new_round=False) == (settings, dial)


@pytest.mark.parametrize(
    ("said", "minutes", "told"),
    [
        ({"pretrain": {"steps": 6}}, None, "was begun with pretrain.steps = 5, not 6; choose another --out"),
        ({"seed": 4}, None, "was begun with seed = 3, not 4"),
        ({"reward": {"smoothing": 0.2}}, None, "was begun with reward.smoothing = 0.05, not 0.2"),
        ({}, 3.0, "was begun with --minutes 10 for the whole run; drop --minutes"),
    ],
)
def test_a_run_is_not_changed_on_its_way(
    said: dict[str, Any], minutes: float | None, told: str, tmp_path: Path
) -> None:
    run = begun(tmp_path, {"pretrain": {"steps": 5}, "seed": 3})
    with pytest.raises(RunError) as caught:
        go_on(run, said, minutes, new_round=False)
    assert told in str(caught.value)


def test_a_new_round_may_change_what_comes_later_and_nothing_before(tmp_path: Path) -> None:
    run = begun(tmp_path, {"pretrain": {"steps": 5}})
    settings, _ = go_on(run, {"align": {"kl": 0.5}, "votes": {"pairs": 30}}, None, new_round=True)
    assert (settings["align"]["kl"], settings["votes"]["pairs"], settings["pretrain"]["steps"]) == (0.5, 30, 5)
    with pytest.raises(RunError, match=r"was begun with pretrain.steps = 5, not 6"):
        go_on(run, {"pretrain": {"steps": 6}}, None, new_round=True)


@pytest.mark.parametrize("new_round", [False, True])
def test_what_the_dial_has_not_decided_yet_may_still_be_said(new_round: bool, tmp_path: Path) -> None:
    run = begun(tmp_path, {"pretrain": {"steps": 5}})
    settings, dial = go_on(run, {"align": {"steps": 7}}, None, new_round=new_round)
    assert dial is not None
    assert settings["align"]["steps"] == 7
    assert "align.steps" not in dial.open
    assert "instruct.steps" in dial.open


def test_steps_that_are_said_for_a_round_are_not_looked_at_again(tmp_path: Path) -> None:
    run = begun(tmp_path, {})
    dial = read_dial(run)
    assert dial is not None
    dial.look = plan.Look("align", steps=60, begun=0.0, end=60.0)
    write_text(run.plan, msgspec.json.encode(dial).decode())
    for said, looks in (({"kl": 0.3}, True), ({"steps": 7}, False)):
        _, found = go_on(run, {"align": said}, None, new_round=True)
        assert found is not None
        assert (found.look is not None) == looks


def test_a_copied_run_without_its_plan_goes_on(tmp_path: Path) -> None:
    run = begun(tmp_path, {}, dial=False)
    assert go_on(run, {}, None, new_round=False)[1] is None


def test_a_run_is_named_after_its_recipe() -> None:
    assert [name_of(path) for path in (None, Path("a/My_Text.toml"))] == ["tinyworld", "my_text"]


DIALLED = """
[data]
stories = 40
dialogues = 60
[compute]
precision = "float32"
threads = 1
[model]
width = 32
num_layers = 1
vocab_size = 300
context_length = 64
[pretrain]
rows_per_step = 2
microbatch_rows = 2
[instruct]
rows_per_step = 2
microbatch_rows = 2
[votes]
pairs = 16
[align]
gate = false
rows_per_step = 8
microbatch_rows = 8
group = 4
max_new_tokens = 4
[evaluate]
along_the_way = 1
documents = 2
blanks = 2
instructions = 2
comparisons = 2
"""


def test_what_the_dial_chose_stands_in_the_recipe_which_trains_the_same_weights_elsewhere(
    stable: Any, facts: Any, tmp_path: Path
) -> None:
    """The steps are chosen by the clock; once chosen they are settings like all others, also after a kill."""
    (tmp_path / "dialled.toml").write_text(DIALLED)
    run, again = tmp_path / "run", tmp_path / "again"
    command = ("run", tmp_path / "dialled.toml", "--minutes", "0.03", "--out", run)
    stable.kill(*command, folder=run, after=["reward-001", 1])  # no steps of phase II are looked at again
    chosen = tomllib.loads((run / "recipe.toml").read_text())["instruct"]["steps"]
    stable.finish(*command, folder=run)
    recipe = tomllib.loads((run / "recipe.toml").read_text())
    assert recipe["instruct"]["steps"] == chosen
    still_open = msgspec.json.decode((run / "plan.json").read_bytes(), type=plan.Dial).open
    assert still_open == ["reward.steps", "reward.warmup_steps"]  # which follow the votes of every round
    lines = [msgspec.json.decode(line) for line in (run / "journal.jsonl").read_bytes().splitlines()]
    for phase, section in (("pretrain", "pretrain"), ("instruct", "instruct"), ("align-001", "align")):
        assert max(line["step"] for line in lines if line["phase"] == phase) == recipe[section]["steps"]

    (tmp_path / "copy.toml").write_text((run / "recipe.toml").read_text())
    stable.finish("run", tmp_path / "copy.toml", "--out", again, folder=again)
    assert facts(again) == facts(run)


def test_the_dial_chooses_rows_that_ranks_can_share_and_what_was_said_is_refused_before_anything_is_trained() -> None:
    phases = ("pretrain", "instruct")
    for ranks in (1, 2, 3, 16):
        settings, _ = begin({"instruct": {"rows_per_step": 48}}, 30.0, COMPUTE, ranks=ranks)
        assert resolve(settings).pretrain.rows_per_step % ranks == 0
        check_ranks(resolve(settings), ranks, phases)
    whole = resolve({"pretrain": {"rows_per_step": 48}, "instruct": {"rows_per_step": 8}})
    check_ranks(whole, 16, phases[:1])
    with pytest.raises(ConfigError, match=r"instruct\.rows_per_step = 8: must divide among 16 ranks; try 16"):
        check_ranks(whole, 16, phases)
    with pytest.raises(ConfigError, match=r"pretrain\.rows_per_step = 48: must divide among 7 ranks; try 56"):
        check_ranks(whole, 7, phases)
