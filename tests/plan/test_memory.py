"""The memory of a step, by hand."""

import pytest

from trivium import plan
from trivium.model.attention import scores_computed
from trivium.model.shape import ModelConfig
from trivium.plan import memory

SHAPE = {
    "num_layers": 2,
    "width": 8,
    "num_heads": 2,
    "num_kv_heads": 2,
    "mlp_width": 24,
    "vocab_size": 50,
    "context_length": 10,
}
MODEL = ModelConfig.model_validate(SHAPE)


@pytest.mark.parametrize(("compiled", "numbers", "scores"), [(False, (10, 8, 20), 5), (True, (6, 3, 12), 4)])
def test_the_memory_of_a_step_is_the_sum_of_its_parts(
    compiled: bool, numbers: tuple[int, int, int], scores: int
) -> None:
    """3 rows of 10 positions in bfloat16, 12 of them predicted; 2 layers of 2 heads."""
    width, mlp_width, logits = numbers
    weights = 20 * MODEL.parameters
    activations = 2 * 30 * (width * 8 * 4 + mlp_width * 24 * 2)
    attention = 3 * 2 * 10 * 10 * (2 * scores + 12)
    by_hand = 1.1 * (weights + activations + attention + logits * 12 * 50)
    assert plan.peak_memory(MODEL, 3, 2, compiled=compiled, targets=12) == int(by_hand)


@pytest.mark.parametrize(("compiled", "numbers"), [(False, (6, 7, 4, 11)), (True, (2, 5, 6, 16))])
@pytest.mark.parametrize("targets", [12, None])
def test_what_is_written_in_cpp_keeps_no_scores_and_of_logits_their_gradient(
    targets: int | None, compiled: bool, numbers: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "serves", lambda head_dim, device: head_dim == 4)
    width, mlp_width, at_work, weights = numbers
    activations = 2 * 30 * (width * 8 * 4 + mlp_width * 24 * 2)
    logits = 2 * 12 * 50 if targets else at_work * 30 * 50
    by_hand = 1.1 * (weights * MODEL.parameters + activations + logits)
    assert plan.peak_memory(MODEL, 3, 2, compiled=compiled, targets=targets) == int(by_hand)


def test_layers_in_cpp_keep_what_they_are_given_and_their_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 rows of 10 positions in bfloat16; 2 layers; logits of all at a time."""
    monkeypatch.setattr(memory, "serves", lambda head_dim, device: True)
    monkeypatch.setattr(memory, "in_cpp", lambda model, device: True)
    activations = 2 * 30 * (3 * 8 * 4 + 6 * 8 * 2 + 3 * 24 * 2)
    by_hand = 1.1 * (12 * MODEL.parameters + activations + 4 * 30 * 50)
    assert plan.peak_memory(MODEL, 3, 2, compiled=False) == int(by_hand)
    assert plan.peak_memory(MODEL, 3, 2, compiled=True) != int(by_hand)
    assert plan.peak_memory(MODEL, 3, 2, compiled=False, layers_in_cpp=False) != int(by_hand)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", SHAPE)
def test_whatever_is_larger_takes_more_memory(name: str, compiled: bool) -> None:
    larger = ModelConfig.model_validate({**SHAPE, name: 2 * SHAPE[name]} | ({"num_heads": 4} if "kv" in name else {}))
    assert plan.peak_memory(larger, 3, 4, compiled=compiled) > plan.peak_memory(MODEL, 3, 4, compiled=compiled)


def test_scores_after_the_end_of_a_block_take_no_memory() -> None:
    assert scores_computed(100) == 100 * 100
    assert scores_computed(256) == 128 * 128 + 128 * 256
    assert scores_computed(1024) == 256 * (256 + 512 + 768 + 1024)


def test_more_rows_wider_numbers_and_more_targets_take_more_memory_and_compiling_saves_some() -> None:
    usual = plan.peak_memory(MODEL, 3, 2, compiled=False, targets=12)
    assert plan.peak_memory(MODEL, 4, 2, compiled=False, targets=12) > usual
    assert plan.peak_memory(MODEL, 3, 4, compiled=False, targets=12) > usual
    assert plan.peak_memory(MODEL, 3, 2, compiled=False, targets=13) > usual
    assert plan.peak_memory(MODEL, 3, 2, compiled=False) == plan.peak_memory(MODEL, 3, 2, compiled=False, targets=30)
    assert plan.peak_memory(MODEL, 3, 2, compiled=True, targets=12) < usual
