"""The rung that will have learned most: by the speed of large products, then by that of real steps."""

from collections.abc import Callable
from typing import Any

import pytest

from trivium.config import resolve
from trivium.model.shape import ModelConfig
from trivium.plan import (
    LADDER,
    LAWS,
    Budget,
    Machine,
    choose_candidates,
    choose_shape,
    fitting_heads,
    multiplied,
    vocabulary,
)
from trivium.plan.ladder import MOST_TRIALS, shapes

MACHINE = Machine("a machine", 2, 8 * 2**30, "float32", 4e11)
HOUR = Budget(3600.0, MACHINE, compiled=False)


def timer(share: Callable[[ModelConfig], float]) -> Any:
    """Steps of a shape reach that share of the speed of large products; remembers who was asked."""
    asked: list[ModelConfig] = []

    def ask(model: ModelConfig, rows: int, whole: int) -> float:
        asked.append(model)
        return MACHINE.matmul_flops * share(model) / multiplied(model).training_flop(1)

    ask.asked = asked  # type: ignore[attr-defined]
    return ask


def width_of(budget: Budget, **more: Any) -> int:
    return int(choose_shape({}, budget, **more)[0]["model"]["width"])


def test_without_trials_the_rung_is_the_smallest_of_the_laws_best() -> None:
    settings, choice = choose_shape({}, HOUR)
    assert choice.trials == []
    law, found = LAWS["text"], {}
    for shape in shapes({}):
        model = resolve({"model": shape}).model
        worked = multiplied(model)
        share = 0.4 * worked.matrix_parameters / (worked.matrix_parameters + 2e5)
        tokens = int(3600 * 4e11 * share / worked.training_flop(1))
        found[model] = law.bits(model.matrix_parameters, law.bytes_in(tokens, model.vocab_size))
    best = resolve(settings).model
    assert choice.bits == pytest.approx(found[best])
    assert next(bits for bits in found.values() if bits <= 1.003 * min(found.values())) == found[best]
    assert (best.num_layers, best.width) in LADDER


def test_the_best_rung_and_its_neighbours_are_tried() -> None:
    ask = timer(lambda model: 0.3)
    settings, choice = choose_shape({}, HOUR, timer=ask)
    place = [width for _, width in LADDER].index(settings["model"]["width"])
    tried = {trial.width for trial in choice.trials}
    assert {width for _, width in LADDER[place - 1 : place + 2]} <= tried
    assert len(choice.trials) <= MOST_TRIALS
    assert len(ask.asked) == 3 * len(choice.trials)


def test_a_slow_moment_does_not_decide() -> None:
    """What is slow when it is tried first, and as fast as it should be later on, is chosen all the same."""
    usual, slow = width_of(HOUR, timer=timer(lambda model: 0.3)), iter([0.01])
    assert width_of(HOUR, timer=timer(lambda model: next(slow, 0.3) if model.width == usual else 0.3)) == usual


def test_a_shape_that_is_slow_here_is_not_chosen() -> None:
    usual = width_of(HOUR, timer=timer(lambda model: 0.3))
    assert width_of(HOUR, timer=timer(lambda model: 0.01 if model.width == usual else 0.3)) != usual


def test_a_shape_that_does_not_even_run_is_not_chosen() -> None:
    usual = width_of(HOUR, timer=timer(lambda model: 0.3))
    assert width_of(HOUR, timer=timer(lambda model: 0.0 if model.width >= usual else 0.3)) < usual


def test_when_there_is_no_time_for_another_trial_the_dial_stops_trying() -> None:
    assert choose_shape({}, HOUR, timer=lambda model, rows, whole: None)[1].trials == []


def test_what_does_not_fit_into_memory_is_not_chosen() -> None:
    usual = width_of(HOUR)
    assert width_of(HOUR, fits=lambda settings: settings["model"]["width"] < usual) < usual
    assert width_of(HOUR, fits=lambda settings: False) == LADDER[0][1]


def test_little_text_makes_a_smaller_model() -> None:
    assert width_of(HOUR._replace(unique=1e6)) < width_of(HOUR)


def test_a_model_that_phase_ii_teaches_too_may_be_larger() -> None:
    short, long = (choose_shape({}, HOUR._replace(seconds=160.0, lifetime=lifetime)) for lifetime in (1.0, 8.0))
    assert long[0]["model"]["width"] > short[0]["model"]["width"]
    assert long[1].tokens < short[1].tokens  # of phase I


def test_said_steps_are_all_that_is_read() -> None:
    choice = choose_shape({"pretrain": {"steps": 10, "rows_per_step": 24}}, HOUR)[1]
    assert choice.tokens == 10 * 24 * 256


def test_for_few_said_steps_a_small_model_is_enough_whatever_the_time() -> None:
    few, more = (choose_shape({"pretrain": {"steps": steps}}, HOUR)[0]["model"] for steps in (10, 10_000))
    assert few["width"] == LADDER[0][1]
    assert more["width"] > few["width"]


@pytest.mark.parametrize(
    ("rung", "millions"), [((12, 768), (90, 130)), ((24, 1024), (320, 370)), ((24, 2048), (1300, 1450))]
)
def test_the_ladder_reaches_the_sizes_of_gpus(rung: tuple[int, int], millions: tuple[int, int]) -> None:
    assert rung in LADDER
    model = resolve({"model": {**next(shapes({"width": rung[1]})), "num_layers": rung[0]}}).model
    assert millions[0] < model.parameters / 1e6 < millions[1]


@pytest.mark.parametrize("law", sorted(LAWS))
def test_rungs_grow(law: str) -> None:
    models = [resolve({"model": shape}).model for shape in shapes({}, law)]
    sizes = [model.matrix_parameters for model in models]
    assert sizes == sorted(set(sizes))
    if law == "tinyworld":  # which has few words
        assert all(model.vocab_size * model.width < model.matrix_parameters / 2 for model in models[2:])
    assert all(model.head_dim in (32, 64, 128) for model in models[2:])
    assert fitting_heads(2048, 1) == 16


def test_a_vocabulary_follows_the_text() -> None:
    assert (vocabulary(128), vocabulary(2048)) == (8192, 32_768)
    assert vocabulary(128, "tinyworld") == 2048
    assert [vocabulary(128, unique=size) for size in (0, 1e5, 2.5e6, 8.2e6, 1e9)] == [1024, 1024, 2048, 8192, 8192]
    assert next(shapes({}, unique=3e6))["vocab_size"] == 2048
    assert next(shapes({"vocab_size": 5000}, unique=3e6))["vocab_size"] == 5000


@pytest.mark.parametrize(
    ("layers", "width", "words", "candidates"),
    [
        (3, 96, 8192, 1024),
        (3, 96, 4096, 1024),
        (3, 96, 2048, 0),
        (6, 384, 8192, 1024),
        (8, 512, 8192, 0),
        (3, 96, 32_768, 0),
        (28, 1024, 151_936, 0),
    ],
)
def test_some_tokens_are_told_apart_where_the_output_matrix_is_heavy(
    layers: int, width: int, words: int, candidates: int
) -> None:
    """And where that was measured: not in the vocabularies of others' weights."""
    shape = next(shapes({"num_layers": layers, "width": width, "vocab_size": words}))
    model = resolve({"model": {**shape, "mlp_width": 3 * width}}).model
    assert choose_candidates(model) == candidates
    assert multiplied(model).vocab_size == (candidates or words)
    assert multiplied(model, 0) == multiplied(model, 10**6) == model


def test_hours_of_a_gpu_end_at_hundreds_of_millions() -> None:
    gpu = Machine("a GPU", 16, 80 * 2**30, "bfloat16", 7e14)
    width = width_of(Budget(3600.0, gpu, compiled=True))
    assert 512 <= width <= 1024
    assert width_of(Budget(48 * 3600.0, gpu, compiled=True)) >= 1024
