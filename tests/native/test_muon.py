"""Muon's step in C++ against PyTorch's: the same weights, and the same momentum."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trivium.native import muon as native
from trivium.train import optimizer
from trivium.train.optimizer import Muon

pytestmark = pytest.mark.skipif(isinstance(native.library(), str), reason="C++ cannot be compiled here")

SHAPES = [(128, 64), (64, 64), (96, 64), (32, 64)]  # neurons, inputs


def parameters(*, columns: bool) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [shape[::-1] if columns else shape for shape in SHAPES]
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def after_steps(columns: bool, neurons: int, **settings: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and momenta after three steps."""
    mine = parameters(columns=columns)
    muon = Muon([{"params": mine, "columns": columns}], lr=0.1, momentum=0.9, neurons=neurons, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for parameter in mine:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        muon.step()
    return [p.detach() for p in mine], [muon.state[p]["momentum"] for p in mine]


@pytest.mark.parametrize("neurons", [0, 32, 64])
@pytest.mark.parametrize("columns", [False, True])
def test_weights_move_as_pytorch_moves_them(columns: bool, neurons: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    move = native.move
    monkeypatch.setattr(native, "move", lambda moved, **more: (asked.append(len(moved)), move(moved, **more)))
    ours, our_momenta = after_steps(columns, neurons)
    assert asked == [len(SHAPES)] * 3  # C++ was at work
    monkeypatch.setenv("TRIVIUM_NATIVE", "0")
    theirs, their_momenta = after_steps(columns, neurons)
    assert len(asked) == 3
    for a, b in zip(our_momenta, their_momenta, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    for mine, other, start in zip(ours, theirs, parameters(columns=columns), strict=True):
        moved, wanted = mine - start, other - start
        assert (moved - wanted).norm() < 0.03 * wanted.norm()  # PyTorch's rounds are in bfloat16 throughout


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("by_column", [False, True])
def test_an_update_is_what_the_iteration_says(bfloat16: bool, by_column: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(32, 96, generator=generator)
    expected = gradient / gradient.norm()
    a, b, c = optimizer.COEFFICIENTS
    for _ in range(5):
        square = expected @ expected.T
        expected = a * expected + (b * square + c * square @ square) @ expected
    turned = gradient.T.contiguous() if by_column else gradient
    weight = torch.zeros_like(turned)
    matrix = native.Matrix(weight, turned, torch.zeros_like(turned), 32, by_column, -1.0)
    assert matrix.fits
    native.move([matrix], momentum=0.0, kept=1.0, rounds=5, coefficients=(a, b, c), bfloat16=bfloat16)
    found = weight.T if by_column else weight
    assert (found - expected).norm() < (0.05 if bfloat16 else 1e-5) * expected.norm()


@pytest.mark.parametrize(("shape", "neurons"), [((48, 64), 16), ((64, 48), 32)])
def test_blocks_of_broken_vectors_are_left_to_pytorch(shape: tuple[int, int], neurons: int) -> None:
    one = torch.zeros(shape)
    assert not native.serves([native.Matrix(one, one, one, neurons, False, 1.0)])
    assert not native.serves([native.Matrix(*[torch.zeros(64, 64).T[:, :32]] * 3, 32, False, 1.0)])


def test_the_number_of_threads_does_not_show() -> None:
    script = (
        "import sys, torch; torch.set_num_threads(int(sys.argv[1]))\n"
        "from tests.native.test_muon import after_steps\n"
        "print([x.double().sum().item().hex() for x in after_steps(False, 32)[0]])"
    )
    seen = {subprocess.check_output([sys.executable, "-c", script, threads]) for threads in ("1", "3")}
    assert len(seen) == 1
