"""Shapes are tried out by real steps, in a small share of the time."""

import time

import pytest
import torch

from trivium.compute import Compute
from trivium.model.shape import ModelConfig
from trivium.story import trials
from trivium.story.trials import Trials

COMPUTE = Compute(torch.device("cpu"), torch.float32, True)
SHAPE = {"width": 32, "num_heads": 1, "num_kv_heads": 1, "num_layers": 1, "mlp_width": 64, "context_length": 32}
MODEL = ModelConfig.model_validate({**SHAPE, "vocab_size": 300})
LARGE = ModelConfig(num_layers=24, width=2048, num_heads=16, num_kv_heads=16, head_dim=128, mlp_width=6144)


def test_a_trial_tells_the_speed_of_real_steps_and_takes_its_time() -> None:
    tried = Trials(COMPUTE, minutes=10.0, flops=1e11)
    left, begun = tried.left, time.perf_counter()
    speed = tried(MODEL, 2, 4)
    assert speed is not None
    assert speed > 4 * 32 / (time.perf_counter() - begun)
    assert tried.left < left == pytest.approx(6.0)


def test_several_ranks_are_as_many_times_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "step_times", lambda *_, **__: [9.0, 0.5])
    assert Trials(COMPUTE, 10.0, 1e12, ranks=4)(MODEL, 2, 4) == 4 * 4 * 32 / 0.5


@pytest.mark.parametrize("candidates", [None, 0, 48, 300, 10_000])
def test_as_many_tokens_as_are_said_are_told_apart(candidates: int | None) -> None:
    """More than there are: all."""
    assert Trials(COMPUTE, 10.0, 1e11, candidates=candidates)(MODEL, 2, 4)


def test_a_run_under_a_minute_tries_nothing() -> None:
    assert Trials(COMPUTE, minutes=0.9, flops=1e20)(MODEL, 2, 4) is None


def test_a_shape_that_would_take_too_long_is_not_tried() -> None:
    tried = Trials(COMPUTE, minutes=1.0, flops=1e11)
    assert tried(LARGE, 8, 8) is None
    assert tried.left == pytest.approx(0.6)


def test_a_shape_that_does_not_fit_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> list[float]:
        raise torch.OutOfMemoryError("no room")

    tried = Trials(COMPUTE, minutes=10.0, flops=1e11)
    assert tried(MODEL, 2, 4)
    monkeypatch.setattr(trials, "step_times", full)
    assert tried(MODEL, 2, 4) == 0.0


def test_what_is_timed_again_leaves_time_for_what_was_not_timed_yet() -> None:
    tried = Trials(COMPUTE, minutes=10.0, flops=1e11)
    again = 0
    while tried(MODEL, 2, 4):
        again += 1
    assert again > 1
    assert tried.left > 0
    assert tried(MODEL, 4, 4)
