"""Attention in C++ for processors: norms, rotation, scores, softmax and mixing as one step, forward and backward.

attention.cpp does the work. PyTorch's way (model/attention.py) is its reference, and takes its place where there is no
compiler, or a head has another size.

B rows, T positions, H query heads, K key heads, d head dimension.
"""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from trivium.native.build import is_wanted, open_library

WHOLE = 32  # what a head's dimension must be a multiple of: its halves are whole vectors on every processor
WIDEST = 256
FIELDS = ("qkv", "norms", "rope", "seen", "mixed", "surprise", "to_mixed", "to_qkv", "to_norms")


class AttentionStruct(ctypes.Structure):
    """`Attention` of attention.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("bfloat16", "rows", "length", "heads", "kv_heads", "head_dim")),
        ("norm_eps", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in FIELDS),
    )


@cache
def library() -> ctypes.CDLL | str:
    """The compiled steps, or why there are none here."""
    takes = [ctypes.POINTER(AttentionStruct)]
    return open_library("attention", {"attend_forward": takes, "attend_backward": takes}, "-fopenmp")


def serves(head_dim: int, device: torch.device) -> bool:
    """Whether C++ attends for such heads on this device."""
    fits = device.type == "cpu" and head_dim % WHOLE == 0 and head_dim <= WIDEST
    return fits and is_wanted() and not isinstance(library(), str)


def attend_packed(qkv: Tensor, norms: Tensor, rope: Tensor, seen: Tensor, *, heads: int, eps: float) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of what one product left, queries and keys normed and turned first.

    qkv      (B, T, (H + 2 K) d) float32 or bfloat16
    norms    (2, d) float32, weights of queries and of keys (Zhang and Sennrich 2019); (0, d): they are not normed
    rope     (2, B, T, d / 2) float32, cosines and sines
    seen     (B, T, 3) int32: of the keys, a position sees those from the first number up to the second, and those from
             the third up to itself
    heads    H
    returns  (B, T, H d), in the dtype of qkv
    """
    mixed: Tensor = _AttendPacked.apply(qkv, norms, rope, seen, heads, eps)  # type: ignore[no-untyped-call]
    return mixed


class _AttendPacked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, norms: Tensor, rope: Tensor, seen: Tensor, heads: int, eps: float) -> Tensor:
        mixed: Tensor
        mixed, surprise = _forward(qkv, norms, rope, seen, heads, eps)
        ctx.save_for_backward(qkv, norms, rope, seen, mixed, surprise)
        ctx.heads, ctx.eps = heads, eps
        return mixed

    @staticmethod
    def backward(ctx: Any, to_mixed: Tensor) -> tuple[Tensor | None, ...]:
        to_qkv, to_norms = _backward(to_mixed.contiguous(), *ctx.saved_tensors, ctx.heads, ctx.eps)
        return to_qkv, to_norms.sum((0, 1))[: len(ctx.saved_tensors[1])], None, None, None, None


def forward(qkv: Tensor, norms: Tensor, rope: Tensor, seen: Tensor, heads: int, eps: float) -> tuple[Tensor, Tensor]:
    """What `attend_packed` returns, and what `backward` wants to know beside it."""
    mixed, surprise = _forward_shapes(qkv, norms, rope, seen, heads, eps)
    given = {"qkv": qkv, "norms": norms, "rope": rope, "seen": seen, "mixed": mixed, "surprise": surprise}
    _call("attend_forward", heads, eps, given)
    return mixed, surprise


_forward = torch.library.custom_op("trivium::attend_forward", forward, mutates_args=())


@_forward.register_fake
def _forward_shapes(
    qkv: Tensor, norms: Tensor, rope: Tensor, seen: Tensor, heads: int, eps: float
) -> tuple[Tensor, Tensor]:
    rows, length = qkv.shape[:2]
    return qkv.new_empty(rows, length, heads * norms.shape[1]), rope.new_empty(rows, heads, length)


def backward(
    to_mixed: Tensor,
    qkv: Tensor,
    norms: Tensor,
    rope: Tensor,
    seen: Tensor,
    mixed: Tensor,
    surprise: Tensor,
    heads: int,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Gradients of qkv, and of norms by row and key head, of which the sum is meant: (B, K, 2, d)."""
    to_qkv, to_norms = _backward_shapes(to_mixed, qkv, norms, rope)
    given = {"qkv": qkv, "norms": norms, "rope": rope, "seen": seen, "mixed": mixed, "surprise": surprise}
    given |= {"to_mixed": to_mixed, "to_qkv": to_qkv, "to_norms": to_norms.zero_()}
    _call("attend_backward", heads, eps, given)
    return to_qkv, to_norms


_backward = torch.library.custom_op("trivium::attend_backward", backward, mutates_args=())


@_backward.register_fake
def _backward_shapes(to_mixed: Tensor, qkv: Tensor, norms: Tensor, rope: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    head_dim = norms.shape[1]
    key_heads = _key_heads(qkv, to_mixed.shape[2] // head_dim, head_dim)
    return torch.empty_like(qkv), rope.new_empty(len(qkv), key_heads, 2, head_dim)


def _key_heads(qkv: Tensor, heads: int, head_dim: int) -> int:
    return (qkv.shape[2] // head_dim - heads) // 2


def _call(name: str, heads: int, eps: float, given: dict[str, Tensor]) -> None:
    found, qkv, head_dim = library(), given["qkv"], given["norms"].shape[1]
    assert not isinstance(found, str), found
    assert all(tensor.is_contiguous() for tensor in given.values())
    described = AttentionStruct(
        bfloat16=qkv.dtype == torch.bfloat16,
        rows=qkv.shape[0],
        length=qkv.shape[1],
        heads=heads,
        kv_heads=_key_heads(qkv, heads, head_dim),
        head_dim=head_dim,
        norm_eps=eps,
        **{field: tensor.data_ptr() if tensor.numel() else None for field, tensor in given.items()},
    )
    getattr(found, name)(described)
