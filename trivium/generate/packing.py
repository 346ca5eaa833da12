"""A model's weights as decode.cpp reads them: layers stacked, matrices packed, sizes padded to a multiple of 16.

L layers, H heads, d head dimension, p the same padded.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from trivium.model.rope import rope_angles
from trivium.model.transformer import Transformer

WHOLE = 16  # all sizes are multiples of this: vectors of 4, 8 or 16 numbers fit


class Matrix(NamedTuple):
    """A matrix of every layer; sizes that are padded one by one, such as heads, are its groups."""

    layers: list[Tensor]  # (outputs, inputs) each
    output_group: int
    input_group: int


class MatrixStruct(ctypes.Structure):
    """`Matrix` of vectors.h, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("source", "target")),
        *((name, ctypes.c_int64) for name in ("outputs", "inputs", "output_group", "input_group")),
    )


def packed_matrices(model: Transformer, library: ctypes.CDLL, *, bfloat16: bool, threads: int) -> dict[str, Tensor]:
    """(L, outputs, inputs) each, padded; the numbers in the order that vectors.h tells."""
    c = model.config

    def named(name: str, output_group: int, input_group: int) -> Matrix:
        weights = [layer.get_parameter(f"{name}_proj.weight") for layer in model.layers]
        return Matrix([weight.detach().float().contiguous() for weight in weights], output_group, input_group)

    groups = {
        "head": [Matrix([model.lm_head.weight.detach().float().contiguous()], c.vocab_size, c.width)],
        "gate_up": [named(f"mlp.{name}", c.mlp_width, c.width) for name in ("gate", "up")],
        "down": [named("mlp.down", c.width, c.mlp_width)],
        "qkv": [named(f"self_attn.{name}", c.head_dim, c.width) for name in "qkv"],
        "out": [named("self_attn.o", c.width, c.head_dim)],
    }
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    packed = {name: _room(matrices, dtype) for name, matrices in groups.items()}
    structs = [struct for name, matrices in groups.items() for struct in _structs(matrices, packed[name])]
    library.pack_matrices((MatrixStruct * len(structs))(*structs), len(structs), bfloat16, threads)
    return packed


def _room(matrices: Sequence[Matrix], dtype: torch.dtype) -> Tensor:
    """For these matrices, one below the other."""
    outputs = sum(_padded(m.layers[0].shape[0], m.output_group) for m in matrices)
    first = matrices[0]
    return torch.empty(len(first.layers), outputs, _padded(first.layers[0].shape[1], first.input_group), dtype=dtype)


def _structs(matrices: Sequence[Matrix], target: Tensor) -> list[MatrixStruct]:
    structs, row = [], 0
    for matrix in matrices:
        for weight, packed in zip(matrix.layers, target, strict=True):
            addresses = weight.data_ptr(), packed[row].data_ptr()
            structs.append(MatrixStruct(*addresses, *weight.shape, matrix.output_group, matrix.input_group))
        row += _padded(matrix.layers[0].shape[0], matrix.output_group)
    return structs


@torch.no_grad()
def other_weights(model: Transformer) -> dict[str, Tensor]:
    """Everything else that decode.cpp reads, in float32, by the names of its fields."""
    c = model.config

    def stacked(name: str, size: int) -> Tensor:  # (L, size)
        return torch.stack([F.pad(layer.get_parameter(name).float(), (0, up(size) - size)) for layer in model.layers])

    def by_heads(name: str) -> Tensor:  # (L, H p)
        biases = torch.stack([layer.get_parameter(name).float() for layer in model.layers])
        return F.pad(biases.unflatten(1, (-1, c.head_dim)), (0, up(c.head_dim) - c.head_dim)).flatten(1)

    found = dict(_turns(c.context_length, c.head_dim, c.rope_theta, c.rope_scaling))
    found["embedding"] = model.embed_tokens.weight.float()
    found["input_norm"] = stacked("input_layernorm.weight", c.width)
    found["attention_norm"] = stacked("post_attention_layernorm.weight", c.width)
    found["final_norm"] = F.pad(model.norm.weight.float(), (0, up(c.width) - c.width))
    if c.architecture == "qwen3":
        found |= {f"{name}_norm": stacked(f"self_attn.{name}_norm.weight", c.head_dim) for name in "qk"}
    if c.architecture == "qwen2":
        found["bias"] = torch.cat([by_heads(f"self_attn.{name}_proj.bias") for name in "qkv"], dim=1)
    return {name: tensor.contiguous() for name, tensor in found.items()}


@cache
def _turns(context_length: int, head_dim: int, theta: float, scaling: tuple[float, ...]) -> dict[str, Tensor]:
    """Cosine and sine of every angle, (context_length, d / 2)."""
    angles = rope_angles(torch.arange(context_length)[None], head_dim, theta, scaling)
    return {name: part[0, 0, :, : head_dim // 2] for name, part in zip(("cos", "sin"), angles, strict=True)}


def _padded(size: int, group: int) -> int:
    return size // group * up(group)


def up(number: int) -> int:
    """To a multiple of WHOLE."""
    return -(-number // WHOLE) * WHOLE
