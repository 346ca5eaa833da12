"""Gradients of weights in tiles against PyTorch's: the same sums, less rounded."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trivium.native import linear as native
from trivium.native.linear import STRIP, add_weight_gradient, has_tiles, input_gradient, linear

only_tiles = pytest.mark.skipif(not has_tiles(), reason="this processor does not multiply tiles")
# positions, outputs, inputs
SIZES = [(0, 16, 16), (1, 16, 16), (33, 48, 80), (256, 128, 32), (300, 30, 1000), (513, 1000, 24), (60, 7, 5)]


@pytest.fixture
def autocast() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("positions", "outputs", "inputs"), SIZES)
def test_the_sum_is_that_of_long_numbers(positions: int, outputs: int, inputs: int) -> None:
    gradient, x = numbers(positions, outputs).bfloat16(), numbers(positions, inputs, seed=1).bfloat16()
    before = numbers(outputs, inputs, seed=2)
    found = before.clone()
    add_weight_gradient(found, gradient, x)
    expected = before.double() + gradient.double().T @ x.double()
    least_digits = 1e-5 if has_tiles() else 2e-2
    torch.testing.assert_close(found.double(), expected, rtol=least_digits, atol=least_digits * positions**0.5)


@pytest.mark.parametrize("inputs", [STRIP // 2, STRIP, 2 * STRIP + 24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_strips_the_product_is_the_same(inputs: int, dtype: torch.dtype) -> None:
    gradient, weight = numbers(40, 640).to(dtype), numbers(640, inputs, seed=1).to(dtype)
    found, expected = input_gradient(gradient, weight), gradient.double() @ weight.double()
    assert found.dtype == dtype
    digits = 1e-5 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(found.double(), expected, rtol=digits, atol=1e-3)


@pytest.mark.usefixtures("autocast")
@pytest.mark.parametrize("shape", [(3, 40, 64), (70, 64)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_layer_gives_and_teaches_what_pytorchs_does(shape: tuple[int, ...], with_bias: bool) -> None:
    x, weight = numbers(*shape).requires_grad_(), numbers(48, 64, seed=1).requires_grad_()
    bias = numbers(48, seed=2).requires_grad_() if with_bias else None
    slopes, learners = numbers(*shape[:-1], 48, seed=3), [x, weight] if bias is None else [x, weight, bias]
    ours, theirs = (
        [(y := layer(x, weight, bias)), *torch.autograd.grad((y * slopes).sum(), learners)]
        for layer in (linear, F.linear)
    )
    assert [each.dtype for each in ours] == [each.dtype for each in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=2e-2, atol=2e-2 * float(other.detach().abs().max()))
    with torch.no_grad():  # what is only read is what is learned from
        assert torch.equal(linear(x, weight, bias), ours[0])


@only_tiles
@pytest.mark.usefixtures("autocast")
def test_weights_that_are_frozen_learn_nothing() -> None:
    x, weight = numbers(5, 32).requires_grad_(), numbers(16, 32)
    linear(x, weight).sum().backward()
    assert x.grad is not None
    assert weight.grad is None


@pytest.mark.usefixtures("autocast")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler does
def test_compiled_it_is_one_piece_and_the_same() -> None:
    def taught(layer: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        x, weight = numbers(64, 32).requires_grad_(), numbers(48, 32, seed=1).requires_grad_()
        return torch.autograd.grad(layer(x, weight).float().square().sum(), (x, weight))

    compiled = torch.compile(linear, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(taught(compiled), taught(linear))


@only_tiles
def test_the_number_of_threads_does_not_show() -> None:
    gradient, x = numbers(700, 900).bfloat16(), numbers(700, 64, seed=1).bfloat16()
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(torch.zeros(900, 64))
        add_weight_gradient(found[-1], gradient, x)
    torch.set_num_threads(before)
    assert torch.equal(*found)


def test_where_it_is_not_wanted_pytorch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVIUM_NATIVE", "0")
    monkeypatch.setattr(native, "_call", lambda *_, **__: pytest.fail("C++ was called"))
    to = torch.zeros(3, 4)
    add_weight_gradient(to, numbers(5, 3).bfloat16(), numbers(5, 4, seed=1).bfloat16())
    assert to.any()
