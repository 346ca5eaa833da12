"""Linear layers whose weights learn in C++, on processors that multiply tiles (Intel's AMX).

linear.cpp does the work: gradients of weights are a third of a step's products, and PyTorch takes twice as long for one
as for the layer itself, since positions stand in the wrong direction for it. Everything else is PyTorch's, as is all of
it on other processors.

N positions, I inputs, O outputs.
"""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trivium.native.build import is_wanted, open_library

WHOLE = 128  # positions; see `filled_up`
STRIP = 128  # inputs; see `input_gradient`


class WeightGradientStruct(ctypes.Structure):
    """`WeightGradient` of linear.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("positions", "outputs", "inputs", "add")),
        *((name, ctypes.c_void_p) for name in ("gradient", "x", "found")),
    )


@cache
def library() -> ctypes.CDLL | str:
    """The compiled product, or why there is none here."""
    functions: dict[str, list[Any]] = {
        "are_tiles_here": [ctypes.POINTER(ctypes.c_int64)],
        "weight_gradient": [ctypes.POINTER(WeightGradientStruct)],
    }
    return open_library("linear", functions, "-fopenmp")


def has_tiles() -> bool:
    """Whether this processor multiplies tiles, the system lets it, and it is wanted."""
    return is_wanted() and _has_tiles()


# What `torch.compiler.assume_constant_result` sets, which would bring the compiler into every process. Without it
# compiled code is cut in two wherever this is asked.
has_tiles._dynamo_marked_constant = True  # type: ignore[attr-defined]


@cache
def _has_tiles() -> bool:
    found, yes = library(), ctypes.c_int64()
    if not isinstance(found, str):
        found.are_tiles_here(yes)
    return bool(yes.value)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, autocast included; where C++ serves, the weights' gradient is not rounded.

    x        (..., I)
    weight   (O, I)
    bias     (O,)
    returns  (..., O)
    """
    if not _serves(x, weight):
        return F.linear(x, weight, bias)
    y: Tensor = _Linear.apply(x.bfloat16(), weight, bias)  # type: ignore[no-untyped-call]
    return y


def add_weight_gradient(to: Tensor, gradient: Tensor, x: Tensor) -> None:
    """Add gradient^T x to what stands there.

    to           (O, I); float32 where C++ is to serve
    gradient, x  (N, O) and (N, I), of one dtype
    """
    on_cpu, whole = to.device.type == "cpu", all(tensor.is_contiguous() for tensor in (to, gradient, x))
    if on_cpu and whole and (to.dtype, gradient.dtype) == (torch.float32, torch.bfloat16) and has_tiles():
        _call(to, gradient, x, add=True)
    else:
        to += gradient.T @ x


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """gradient^T x, float32.

    gradient, x  (N, O) and (N, I), of one dtype
    returns      (O, I)
    """
    if gradient.device.type == "cpu" and gradient.dtype == torch.bfloat16 and has_tiles():
        return _in_tiles(gradient.contiguous(), x.contiguous())
    return (gradient.T @ x).float()


def input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """gradient weight, for weights of many outputs.

    gradient  (N, O)
    weight    (O, I), likewise
    returns   (N, I), in their dtype
    In strips where there are tiles: of one deep product there, PyTorch's library leaves all to one thread.
    """
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and weight.shape[1] > STRIP and has_tiles():
        return torch.cat([gradient @ strip for strip in weight.split(STRIP, dim=1)], dim=1)
    return gradient @ weight


def filled_up(rows: Tensor) -> Tensor:
    """With zeros, until their number is one of few: for a number that is new, libraries prepare products anew.

    rows     (N, ...)
    returns  (a multiple of `WHOLE`, ...)
    """
    more = -len(rows) % WHOLE
    return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, more)) if more else rows


def _serves(x: Tensor, weight: Tensor) -> bool:
    rounds = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return rounds and torch.is_grad_enabled() and weight.requires_grad and x.device.type == "cpu" and has_tiles()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        narrow = weight.bfloat16()
        ctx.save_for_backward(x, narrow)
        return F.linear(x, narrow, None if bias is None else bias.bfloat16())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, narrow = ctx.saved_tensors
        to_x = gradient @ narrow if ctx.needs_input_grad[0] else None
        slopes = gradient.flatten(0, -2).contiguous()
        to_bias = slopes.sum(0, dtype=torch.float32) if ctx.needs_input_grad[2] else None
        return to_x, _weight_gradient(slopes, x.flatten(0, -2).contiguous()), to_bias


def _in_tiles(gradient: Tensor, x: Tensor) -> Tensor:
    found: Tensor = _shape(gradient, x)
    _call(found, gradient, x, add=False)
    return found


_weight_gradient = torch.library.custom_op("trivium::weight_gradient", _in_tiles, mutates_args=())


@_weight_gradient.register_fake
def _shape(gradient: Tensor, x: Tensor) -> Tensor:
    return torch.empty(gradient.shape[1], x.shape[1])


def _call(to: Tensor, gradient: Tensor, x: Tensor, *, add: bool) -> None:
    found, given = library(), (gradient, x, to)
    assert not isinstance(found, str), found
    assert all(tensor.is_contiguous() for tensor in given)
    assert gradient.dtype == x.dtype == torch.bfloat16, (gradient.dtype, x.dtype)
    shape = len(x), gradient.shape[1], x.shape[1]
    found.weight_gradient(WeightGradientStruct(*shape, add, *(tensor.data_ptr() for tensor in given)))
