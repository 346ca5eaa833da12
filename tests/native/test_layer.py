"""A layer in C++ against its modules: what it makes of its input, and what each weight learns."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from trivium.model.shape import ModelConfig
from trivium.model.transformer import Block, Transformer, adapt, in_cpp
from trivium.native import layer as native

BFLOAT16, FLOAT32 = torch.bfloat16, torch.float32
SHAPES: dict[str, dict[str, Any]] = {
    "S": {"width": 128, "num_heads": 4, "num_kv_heads": 4, "mlp_width": 384},
    "few key heads": {"width": 96, "num_heads": 3, "num_kv_heads": 1, "mlp_width": 256},
    "narrow heads": {"width": 48, "num_heads": 1, "num_kv_heads": 1, "head_dim": 32, "mlp_width": 16},
    "Llama": {"width": 64, "num_heads": 2, "num_kv_heads": 2, "mlp_width": 192, "architecture": "llama"},
}
ROWS, LENGTH = 3, 44  # no multiple of a block of positions
pytestmark = pytest.mark.skipif(isinstance(native.library(), str), reason="there is no C++ compiler")


class Learned(NamedTuple):
    """What came out, and the gradients of what went in and of each weight."""

    tensors: dict[str, Tensor]

    def distance(self, other: "Learned") -> dict[str, float]:
        """Relative to the other's length."""
        return {
            name: float((mine - other.tensors[name]).norm() / other.tensors[name].norm())
            for name, mine in self.tensors.items()
        }


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model_of(shape: str) -> Transformer:
    """With every weight away from where fresh ones begin: zeros would hide mistakes."""
    model = Transformer(ModelConfig(num_layers=1, vocab_size=32, context_length=LENGTH, **SHAPES[shape]))
    for seed, parameter in enumerate(model.parameters()):
        parameter.data = numbers(*parameter.shape, seed=seed) * parameter.shape[-1] ** -0.5 + (parameter.ndim == 1)
    return model


def learn(model: Transformer, dtype: torch.dtype) -> Learned:
    """What the layer makes of rows of two documents each, and what it learns from drawn slopes."""
    model = copy.deepcopy(model)
    x = numbers(ROWS, LENGTH, model.config.width, seed=90).requires_grad_()
    documents = (torch.arange(LENGTH) >= 17).long().expand(ROWS, LENGTH)
    positions = torch.cat([torch.arange(17), torch.arange(LENGTH - 17)]).expand(ROWS, LENGTH)
    mask = model.document_mask(documents)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == BFLOAT16):
        y = model.layers[0](x, model._rope(positions, mask), mask, positions, None)
    (y * numbers(*y.shape, seed=91)).sum().backward()
    assert x.grad is not None
    weights = {name: p.grad for name, p in model.layers[0].named_parameters() if p.grad is not None}
    return Learned({"y": y.detach(), "x": x.grad, **weights})


@pytest.fixture
def by_modules(monkeypatch: pytest.MonkeyPatch) -> Callable[[Transformer, torch.dtype], Learned]:
    def found(model: Transformer, dtype: torch.dtype) -> Learned:
        with monkeypatch.context() as patch:
            patch.setattr(Block, "_is_native", lambda self, x: False)
            return learn(model, dtype)

    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_in_float32_it_is_the_modules_layer(
    shape: str, by_modules: Callable[[Transformer, torch.dtype], Learned]
) -> None:
    model = model_of(shape)
    mine, theirs = learn(model, FLOAT32), by_modules(model, FLOAT32)
    assert mine.tensors.keys() == theirs.tensors.keys()
    assert all(distance < 2e-6 for distance in mine.distance(theirs).values()), mine.distance(theirs)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_bfloat16_it_rounds_no_more_than_the_modules(
    shape: str, by_modules: Callable[[Transformer, torch.dtype], Learned]
) -> None:
    model = model_of(shape)
    exact = by_modules(model, FLOAT32)
    mine, theirs = (found.distance(exact) for found in (learn(model, BFLOAT16), by_modules(model, BFLOAT16)))
    assert all(mine[name] < 1.25 * theirs[name] + 1e-3 for name in mine), (mine, theirs)


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    model, threads = model_of("S"), torch.get_num_threads()
    found = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(learn(model, BFLOAT16))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(mine, found[1].tensors[name]) for name, mine in found[0].tensors.items())


def test_layers_with_biases_or_odd_widths_are_modules() -> None:
    shapes: tuple[dict[str, Any], ...] = (
        {},
        {"architecture": "qwen2"},
        {"width": 72, "num_heads": 3, "num_kv_heads": 3},
        {"mlp_width": 100},
    )
    found = [in_cpp(ModelConfig(**{**SHAPES["S"], **shape}), torch.device("cpu")) for shape in shapes]
    assert found == [True, False, False, False]


def test_what_it_cannot_do_the_modules_do(monkeypatch: pytest.MonkeyPatch) -> None:
    called, run = [], native.run

    def counted(*given: Any, **named: Any) -> Tensor:
        called.append(given)
        return run(*given, **named)

    monkeypatch.setattr(native, "run", counted)
    learn(model_of("S"), FLOAT32)
    assert len(called) == 1
    learn(adapt(model_of("S"), rank=2, alpha=4.0, seed=0), FLOAT32)
    monkeypatch.setenv("TRIVIUM_NATIVE", "0")
    learn(model_of("S"), FLOAT32)
    assert len(called) == 1


def test_the_last_norm_is_the_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, slope = (numbers(*shape, seed=i) for i, shape in enumerate([(2, 5, 48), (48,), (2, 5, 48)]))
    found = []
    for normed in (native.normed, lambda x, w, eps: torch.nn.functional.rms_norm(x, (48,), w, eps)):
        learners = x.clone().requires_grad_(), weight.clone().requires_grad_()
        found.append([(y := normed(*learners, 1e-6)), *torch.autograd.grad((y * slope).sum(), learners)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
