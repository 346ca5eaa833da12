"""A layer of the decoder with its way back written out, for processors: nothing is compiled, and little is Python's.

layer.cpp does what lies between the products: norms, sums with the residual stream and SwiGLU, each in one pass.
Products are torch's, attention and the gradients of weights those of C++ where it serves. The layer as modules
(model/transformer.py) is its reference, and takes its place where there is no compiler or a layer is of another kind.

B rows, T positions, P = B T, D width, M the MLP's, H query heads, K key heads, d head dimension. Narrow: in the
dtype of products, float32 or bfloat16; everything else is float32.
"""

import ctypes
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trivium.native import attention
from trivium.native.build import is_wanted, open_library
from trivium.native.linear import weight_gradient

WHOLE = 16  # what widths must be multiples of: whole vectors on every processor
BLOCK = 32  # positions whose gradients of a norm's weight are summed together: `block` of layer.cpp


class NormStruct(ctypes.Structure):
    """`Norm` of layer.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("bfloat16", "positions", "width")),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("x", "added", "sum", "weight", "normed", "scale")),
    )


class NormBackwardStruct(ctypes.Structure):
    """`NormBackward` of layer.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("bfloat16", "positions", "width")),
        *(
            (name, ctypes.c_void_p)
            for name in ("to_normed", "x", "weight", "scale", "to_sum", "to_x", "narrow", "to_weight")
        ),
    )


class SwigluStruct(ctypes.Structure):
    """`Swiglu` of layer.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("bfloat16", "positions", "width")),
        *((name, ctypes.c_void_p) for name in ("joined", "out", "to_out", "to_joined")),
    )


class NarrowStruct(ctypes.Structure):
    """`Narrow` of layer.cpp, field by field."""

    _fields_ = (("numbers", ctypes.c_int64), ("from_", ctypes.c_void_p), ("to", ctypes.c_void_p))


class Weights(NamedTuple):
    """Of a layer, as its modules hold them."""

    norm: Tensor  # (D,), before attention
    q: Tensor  # (H d, D)
    k: Tensor  # (K d, D), as v
    v: Tensor
    head_norms: Tensor  # (2, d) of queries and of keys; (0, d): they are not normed
    o: Tensor  # (D, H d)
    mlp_norm: Tensor  # (D,)
    gate: Tensor  # (M, D), as up
    up: Tensor
    down: Tensor  # (D, M)


@cache
def library() -> ctypes.CDLL | str:
    """The compiled passes, or why there are none here."""
    functions: dict[str, list[Any]] = {
        "layer_norm": [ctypes.POINTER(NormStruct)],
        "layer_norm_backward": [ctypes.POINTER(NormBackwardStruct)],
        "layer_swiglu": [ctypes.POINTER(SwigluStruct)],
        "layer_narrow": [ctypes.POINTER(NarrowStruct)],
    }
    return open_library("layer", functions, "-fopenmp")


def is_here(device: torch.device) -> bool:
    """Whether layers run in C++ on this device, if their shape fits."""
    return device.type == "cpu" and is_wanted() and not isinstance(library(), str)


def serves(width: int, mlp_width: int, head_dim: int, device: torch.device) -> bool:
    """Whether a layer of such a shape runs here on this device."""
    fits = width % WHOLE == 0 and mlp_width % WHOLE == 0
    return fits and attention.serves(head_dim, device) and is_here(device)


def serves_norm(x: Tensor) -> bool:
    """Whether `normed` serves for x (B, T, D)."""
    return x.dtype == torch.float32 and x.shape[2] % WHOLE == 0 and is_here(x.device)


def run(x: Tensor, rope: Tensor, seen: Tensor, weights: Weights, *, heads: int, eps: float) -> Tensor:
    """What the layer makes of x (B, T, D).

    rope, seen  as attention takes them
    heads       H
    eps         of the norms
    returns     (B, T, D)
    """
    y: Tensor = _Layer.apply(x, rope, seen, heads, eps, _dtype(), *weights)  # type: ignore[no-untyped-call]
    return y


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm of x (B, T, D), narrow (Zhang and Sennrich 2019, eq. 4)."""
    y: Tensor = _Normed.apply(x, weight, eps, _dtype())  # type: ignore[no-untyped-call]
    return y


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rope: Tensor, seen: Tensor, heads: int, eps: float, dtype: torch.dtype, *given: Tensor
    ) -> Tensor:
        w, rows = Weights(*given), x.contiguous().flatten(0, 1)
        to_qkv, to_joined = _narrow(dtype, w.q, w.k, w.v), _narrow(dtype, w.gate, w.up)
        o, down = _narrow(dtype, w.o), _narrow(dtype, w.down)
        _, normed, scale = _norm(rows, None, w.norm, eps, dtype)
        qkv = torch.mm(normed, to_qkv.T).view(*x.shape[:2], len(to_qkv))
        mixed, surprise = attention.forward(qkv, w.head_norms, rope, seen, heads, eps)
        middle, mlp_normed, mlp_scale = _norm(rows, torch.mm(mixed.flatten(0, 1), o.T), w.mlp_norm, eps, dtype)
        joined = torch.mm(mlp_normed, to_joined.T)
        y, _, _ = _norm(middle, torch.mm(_swiglu(joined), down.T), None, eps, dtype)
        ctx.save_for_backward(
            *(rows, normed, scale, qkv, mixed, surprise, middle, mlp_normed, mlp_scale, joined),
            *(rope, seen, w.norm, w.mlp_norm, w.head_norms, to_qkv, o, to_joined, down),
        )
        ctx.heads, ctx.eps, ctx.parts = heads, eps, [len(part) for part in (w.q, w.k, w.v, w.gate)]
        return y.view(x.shape)

    @staticmethod
    def backward(ctx: Any, to_y: Tensor) -> tuple[Tensor | None, ...]:
        rows, normed, scale, qkv, mixed, surprise, middle, mlp_normed, mlp_scale, joined, *rest = ctx.saved_tensors
        rope, seen, norm, mlp_norm, head_norms, qkv_weight, o, joined_weight, down = rest
        to_rows = to_y.contiguous().flatten(0, 1)
        slope = to_rows.to(down.dtype)
        act, to_joined = _swiglu_backward(torch.mm(slope, down), joined)
        to_down = weight_gradient(slope, act)
        to_gates = weight_gradient(to_joined, mlp_normed)
        to_mlp_normed, slope = torch.mm(to_joined, joined_weight), torch.empty_like(mlp_normed)
        to_middle, to_mlp_norm = _norm_backward(to_mlp_normed, middle, mlp_norm, mlp_scale, to_rows, slope)
        to_mixed, mixed_rows = torch.mm(slope, o).view(mixed.shape), mixed.flatten(0, 1)
        to_o = weight_gradient(slope, mixed_rows)
        to_qkv, to_heads = attention.backward(
            to_mixed, qkv, head_norms, rope, seen, mixed, surprise, ctx.heads, ctx.eps
        )
        slope = to_qkv.flatten(0, 1)
        to_products = weight_gradient(slope, normed)
        to_x, to_norm = _norm_backward(torch.mm(slope, qkv_weight), rows, norm, scale, to_middle, None)
        of_heads = *to_products.split(ctx.parts[:3]), to_heads.sum((0, 1))[: len(head_norms)], to_o
        given = to_norm, *of_heads, to_mlp_norm, *to_gates.split(ctx.parts[3]), to_down
        return to_x.view(to_y.shape), None, None, None, None, None, *given


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        rows = x.contiguous().flatten(0, 1)
        _, found, scale = _norm(rows, None, weight, eps, dtype)
        ctx.save_for_backward(rows, weight, scale)
        return found.view(x.shape)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, scale = ctx.saved_tensors
        to_rows, to_weight = _norm_backward(slope.contiguous().flatten(0, 1), rows, weight, scale, None, None)
        return to_rows.view(slope.shape), to_weight, None, None


def _dtype() -> torch.dtype:
    """Of products."""
    found = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    assert found in (torch.float32, torch.bfloat16), found
    return found


def _narrow(dtype: torch.dtype, *parts: Tensor) -> Tensor:
    """Weights one over the other."""
    if dtype == torch.float32:
        return torch.cat(parts) if len(parts) > 1 else parts[0]
    found = torch.empty(sum(map(len, parts)), parts[0].shape[1], dtype=dtype)
    (place,) = _pointers(found)
    for part in parts:
        _library().layer_narrow(NarrowStruct(part.numel(), *_pointers(part), place))
        place += found.element_size() * part.numel()
    return found


def _norm(
    x: Tensor, added: Tensor | None, weight: Tensor | None, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """x and what is added; that normed, narrow (Zhang and Sennrich 2019, eq. 4); and what it was multiplied by (P,).

    x       (P, D)
    added   (P, D) narrow; None: nothing
    weight  (D,); None: only the sum is asked for
    """
    total = x if added is None else torch.empty_like(x)
    normed, scale = x.new_empty(x.shape if weight is not None else 0, dtype=dtype), x.new_empty(len(x))
    pointers = _pointers(x, added, total, weight, normed, scale)
    _library().layer_norm(NormStruct(dtype == torch.bfloat16, *x.shape, eps, *pointers))
    return total, normed, scale


def _norm_backward(
    to_normed: Tensor, x: Tensor, weight: Tensor, scale: Tensor, to_sum: Tensor | None, narrow: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Gradient of what was normed (P, D), and that of the weight (D,).

    to_sum  of what was normed, from elsewhere; it is included
    narrow  where the first of them is written too, narrow
    """
    to_x, to_weight = torch.empty_like(x), x.new_zeros(-(-len(x) // BLOCK), x.shape[1])
    pointers = _pointers(to_normed, x, weight, scale, to_sum, to_x, narrow, to_weight)
    _library().layer_norm_backward(NormBackwardStruct(to_normed.dtype == torch.bfloat16, *x.shape, *pointers))
    return to_x, to_weight.sum(0)


def _swiglu(joined: Tensor) -> Tensor:
    """silu(gate) up of both (P, 2 M): Shazeer 2020, eq. 6."""
    out = joined.new_empty(len(joined), joined.shape[1] // 2)
    _call_swiglu(joined, out, None, None)
    return out


def _swiglu_backward(to_out: Tensor, joined: Tensor) -> tuple[Tensor, Tensor]:
    """What `_swiglu` gave, and the gradient of both."""
    out, to_joined = torch.empty_like(to_out), torch.empty_like(joined)
    _call_swiglu(joined, out, to_out, to_joined)
    return out, to_joined


def _call_swiglu(joined: Tensor, out: Tensor, to_out: Tensor | None, to_joined: Tensor | None) -> None:
    assert to_out is None or to_out.dtype == joined.dtype, (to_out.dtype, joined.dtype)
    pointers = _pointers(joined, out, to_out, to_joined)
    _library().layer_swiglu(SwigluStruct(joined.dtype == torch.bfloat16, *out.shape, *pointers))


def _pointers(*tensors: Tensor | None) -> list[int]:
    """Where they begin; 0 where there is none."""
    assert all(tensor is None or tensor.is_contiguous() for tensor in tensors)
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


def _library() -> ctypes.CDLL:
    found = library()
    assert not isinstance(found, str), found
    return found
