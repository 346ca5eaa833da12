"""What the dial chooses before anything is trained: rows at once, room in memory, text that is there, rates."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trivium import plan
from trivium.compute import Compute
from trivium.config import PretrainConfig, Recipe, Settings, merge, resolve
from trivium.model.shape import ModelConfig
from trivium.plan import memory
from trivium.story import needs, sizing
from trivium.story.needs import STORY_TOKENS, memory_of
from trivium.story.sizing import choose_before, law_of

COMPUTE = Compute(torch.device("cpu"), torch.float32, False)
PLAIN, COMPILED = {"compute": {"compile": False}}, {"compute": {"compile": True}}
KEPT_SHAPE = {"model": {"num_layers": 4, "width": 128, "mlp_width": 384, "vocab_size": 2048}}


def machine(memory: float = 64.0) -> plan.Machine:
    """memory  GiB"""
    return plan.Machine("a machine", 2, int(memory * 2**30), "float32", 4e11)


def chosen(said: dict[str, Any], *, minutes: float = 10.0, memory: float = 64.0) -> tuple[Recipe, plan.Dial]:
    dial = plan.Dial(minutes, plan.open_keys(said), machine(memory))
    return resolve(choose_before(said, dial, COMPUTE)), dial


@pytest.fixture
def fast_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Steps with so many rows at once are twice as fast as all others."""

    def fast(best: int) -> None:
        def trials(compute: Compute, minutes: float, flops: float, ranks: int, candidates: int | None) -> plan.Timer:
            return lambda model, rows, whole: (
                flops * (0.4 if rows == best else 0.2) / plan.multiplied(model, candidates).training_flop(1)
            )

        monkeypatch.setattr(sizing, "Trials", trials)

    return fast


@pytest.fixture(autouse=True)
def by_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is reckoned as without C++, here as anywhere."""
    monkeypatch.setattr(memory, "serves", lambda head_dim, device: False)
    monkeypatch.setattr(needs, "in_cpp", lambda model, device: False)


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "Trials", lambda *_: lambda model, rows, whole: None)


@pytest.mark.parametrize("best", [4, 8, 16])
def test_the_fastest_number_of_rows_at_once_is_chosen(best: int, fast_with: Callable[[int], None]) -> None:
    fast_with(best)
    recipe, dial = chosen(merge(PLAIN, {"pretrain": {"rows_per_step": 16}}))
    assert recipe.pretrain.microbatch_rows == best
    assert dial.choice
    assert {trial.rows for trial in dial.choice.trials if trial.is_of(recipe.model)} == {4, 8, 16}


def test_rows_at_once_that_were_said_are_kept(fast_with: Callable[[int], None]) -> None:
    fast_with(16)
    assert chosen(merge(PLAIN, {"pretrain": {"microbatch_rows": 2}}))[0].pretrain.microbatch_rows == 2
    short, _ = chosen(merge(PLAIN, {"pretrain": {"microbatch_rows": 16}}), minutes=0.1)  # for which 8 would be enough
    assert (short.pretrain.rows_per_step, short.pretrain.microbatch_rows) == (16, 16)


@pytest.mark.parametrize("compiled", [PLAIN, COMPILED])
def test_rows_at_once_serve_both_phases(compiled: Settings, fast_with: Callable[[int], None]) -> None:
    fast_with(4)
    recipe, _ = chosen(compiled)
    assert recipe.pretrain.microbatch_rows == recipe.instruct.microbatch_rows == 4


def test_what_is_compiled_serves_both_phases(fast_with: Callable[[int], None]) -> None:
    fast_with(16)  # which the 8 rows of phase II cannot be parted into
    larger = {"pretrain": {"rows_per_step": 16}}
    for compute, rows in ((COMPILED, (8, 8)), (PLAIN, (16, 8))):
        recipe, _ = chosen(merge(compute, larger))
        assert (recipe.pretrain.microbatch_rows, recipe.instruct.microbatch_rows) == rows


def test_compiling_gains_nothing_where_layers_are_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = [resolve(each) for each in (PLAIN, COMPILED)]
    assert [sizing.gains_by_compiling(recipe) for recipe in recipes] == [False, True]
    monkeypatch.setattr(needs, "in_cpp", lambda model, device: True)
    assert [sizing.gains_by_compiling(recipe) for recipe in recipes] == [False, False]
    adapted = resolve(merge(COMPILED, {"instruct": {"lora_rank": 4}}))
    assert sizing.gains_by_compiling(adapted)


def test_a_little_faster_is_not_worth_another_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def trials(compute: Compute, minutes: float, flops: float, ranks: int, candidates: int | None) -> plan.Timer:
        return lambda model, rows, whole: (
            flops * (0.202 if rows == 16 else 0.2) / plan.multiplied(model, candidates).training_flop(1)
        )

    monkeypatch.setattr(sizing, "Trials", trials)
    assert chosen(PLAIN)[0].pretrain.microbatch_rows == 8


@pytest.mark.parametrize(("most", "rows"), [(4, 4), (0, 8)])
def test_rows_that_do_not_fit_when_they_are_tried_are_not_chosen(
    most: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where none fits, as many as usual stay."""

    def trials(compute: Compute, minutes: float, flops: float, ranks: int, candidates: int | None) -> plan.Timer:
        return lambda model, rows, whole: (
            0.2 * flops / plan.multiplied(model, candidates).training_flop(1) if rows <= most else 0.0
        )

    monkeypatch.setattr(sizing, "Trials", trials)
    assert chosen(merge(PLAIN, KEPT_SHAPE))[0].pretrain.microbatch_rows == rows


def test_what_said_steps_read_is_known_when_their_rows_are_chosen() -> None:
    recipe, dial = chosen(merge(PLAIN, {"pretrain": {"steps": 20_000}}), minutes=60.0)
    assert dial.choice
    assert recipe.pretrain.rows_per_step > PretrainConfig().rows_per_step
    assert dial.choice.tokens == 20_000 * recipe.pretrain.rows_per_step * recipe.model.context_length


def test_said_steps_read_all_their_text_however_short_the_time_is() -> None:
    recipe, dial = chosen(merge(PLAIN, {"pretrain": {"steps": 100_000}}), minutes=1.0)
    assert dial.choice
    read = plan.LAWS[dial.choice.law].bytes_in(dial.choice.tokens, recipe.model.vocab_size)
    assert dial.choice.read == pytest.approx(read)
    assert dial.choice.tokens == 100_000 * recipe.pretrain.rows_per_step * recipe.model.context_length


@pytest.mark.parametrize("memory", [1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("minutes", [1.0, 60.0, 3000.0])
def test_what_is_chosen_fits_into_memory(memory: float, minutes: float) -> None:
    recipe, dial = chosen(PLAIN, minutes=minutes, memory=memory)
    assert memory_of(recipe, dtype_bytes=4).likely <= 0.9 * dial.machine.memory


def test_little_memory_first_means_fewer_rows_at_once_then_a_smaller_model() -> None:
    roomy, tight, tighter = (chosen(PLAIN, minutes=300.0, memory=memory)[0] for memory in (64.0, 2.0, 0.5))
    assert tight.model == roomy.model
    assert tight.align.microbatch_rows < roomy.align.microbatch_rows
    assert tighter.model.parameters < roomy.model.parameters


def test_sizes_that_were_said_are_kept_though_they_do_not_fit() -> None:
    said = merge(PLAIN, {**KEPT_SHAPE, "align": {"microbatch_rows": 128}})
    recipe, _ = chosen(said, memory=0.5)
    assert (recipe.model.width, recipe.align.microbatch_rows) == (128, 128)
    assert recipe.pretrain.microbatch_rows == 1


def test_a_model_for_little_text_is_smaller_and_the_epochs_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The sheep are asleep.\n" * 40_000)
    little, dial = chosen(merge(PLAIN, {"data": {"text": (str(tmp_path / "a.txt"),)}}), minutes=60.0)
    assert dial.choice
    assert dial.choice.law == "text"
    assert dial.choice.unique == pytest.approx(0.95 * 40_000 * 22, rel=0.01)
    assert dial.choice.epochs > 10
    assert little.pretrain.weight_decay == 1.0
    assert little.model.parameters < chosen(PLAIN, minutes=60.0)[0].model.parameters


def test_tinyworld_writes_what_is_read_or_a_fourth_of_it() -> None:
    for minutes in (1.0, 10.0):
        recipe, dial = chosen(PLAIN, minutes=minutes)
        assert dial.choice
        assert recipe.data.stories == pytest.approx(dial.choice.tokens / STORY_TOKENS, rel=0.01)
    recipe, dial = chosen(merge(KEPT_SHAPE, COMPILED), minutes=6000.0)
    assert dial.choice
    assert recipe.data.stories == pytest.approx(dial.choice.tokens / STORY_TOKENS / 4, rel=0.01)


def test_no_more_of_a_large_file_is_gathered_than_a_run_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "FEWEST_MEGABYTES", 1)
    (tmp_path / "a.txt").write_text("The sheep are asleep.\n" * 400_000)
    said = merge(PLAIN, {"data": {"text": (str(tmp_path / "a.txt"),)}})
    for minutes, more in ((0.01, {}), (0.01, {"file_megabytes": 7.0}), (60.0, {})):
        recipe, dial = chosen(merge(said, {"data": more}), minutes=minutes)
        assert dial.choice
        twice = math.ceil(2 * dial.choice.read / 1e6)
        expected = more.get("file_megabytes", twice if minutes < 1 else 0)
        assert recipe.data.file_megabytes == expected


def test_of_files_an_epoch_counts_and_a_mixture_with_a_world_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "FEWEST_MEGABYTES", 1)
    monkeypatch.setattr(sizing, "AMPLE", 1e-9)
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"The sheep of {name} are asleep.\n" * 400_000)
    a, b = str(tmp_path / "a.txt"), str(tmp_path / "b.txt")
    expected = {
        (a, b): 1.0,
        (f"{a}*0.3", f"{b}*0.3"): 1 / 0.3,  # of which an epoch is one megabyte
        (f"{a}*0.05", f"{b}*0.05"): 0.0,
        (a, b, "pydocs"): 0.0,
    }
    for text, megabytes in expected.items():
        recipe, _ = chosen(merge(PLAIN, {"data": {"text": text}}), minutes=1.0)
        assert recipe.data.file_megabytes == pytest.approx(megabytes), text


def test_each_text_has_its_law() -> None:
    told = {
        ("tinyworld",): "tinyworld",
        ("tinyworld*2",): "tinyworld",
        ("a.txt",): "text",
        ("tinyworld", "pydocs"): "text",
    }
    assert {texts: law_of(resolve({"data": {"text": texts}})) for texts in told} == told


def test_rates_that_were_said_are_kept() -> None:
    said = {"pretrain": {"learning_rate": 0.5}}
    recipe, dial = chosen(merge(PLAIN, said), minutes=6000.0)
    assert recipe.pretrain.learning_rate == 0.5
    assert recipe.pretrain.rows_per_step > 16
    assert not {"pretrain.rows_per_step", "pretrain.microbatch_rows"} & set(dial.open)
    assert chosen(merge(PLAIN, {"pretrain": {"rows_per_step": 24}}))[0].pretrain.rows_per_step == 24


def follow(width: int, tokens: float, *, context: int = 256, epochs: float = 1.0) -> plan.Follow:
    model = ModelConfig(width=width, num_heads=1, num_kv_heads=1, head_dim=32, context_length=context)
    return plan.follow(model, tokens, epochs)


def test_steps_grow_with_all_that_is_read() -> None:
    usual = PretrainConfig()
    assert follow(128, 4e6) == (8, usual.learning_rate, 0.0, usual.momentum, 0)
    assert follow(128, 16e6).rows_per_step == 16
    rows = [follow(128, tokens).rows_per_step for tokens in (1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e14)]
    assert rows == sorted(rows)
    assert rows[0] == 8
    assert rows[-1] * 256 == 2**19
    assert follow(128, 1e10, context=1024).rows_per_step * 1024 == follow(128, 1e10).rows_per_step * 256


def test_embeddings_of_wide_models_follow_more_slowly() -> None:
    assert follow(512, 8e6).learning_rate == pytest.approx(PretrainConfig().learning_rate / 2)
    assert follow(64, 8e6).learning_rate == PretrainConfig().learning_rate


def test_long_runs_remember_their_gradients_longer() -> None:
    assert [follow(128, tokens).momentum for tokens in (1e5, 4e6, 16e6, 1e9, 1e12)] == [0.8, 0.8, 0.9, 0.95, 0.95]


def test_what_is_read_over_and_over_is_learned_with_weight_decay() -> None:
    decays = [follow(128, 4e6, epochs=epochs).weight_decay for epochs in (0.0, 2.1, 5.0, 9.0, 25.0, 100.0)]
    assert decays == [0.0, 0.0, 0.0, 0.2, 1.0, 1.0]
