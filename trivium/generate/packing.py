"""A model's weights as decode.cpp reads them: layers stacked, sizes padded with zeros to a multiple of 16.

L layers, H heads, d head dimension, p the same padded, V vocabulary.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from trivium.model.rope import rope_angles
from trivium.model.transformer import Transformer

WHOLE = 16  # all sizes are multiples of this: vectors of 4, 8 or 16 numbers fit


@torch.no_grad()
def pack_model(model: Transformer, *, lanes: int, bfloat16: bool) -> dict[str, Tensor]:
    """The weights as decode.cpp lays them out, by the names of its fields."""
    c, head = model.config, up(model.config.head_dim)

    def stacked(name: str) -> Tensor:
        return torch.stack([layer.get_parameter(name) for layer in model.layers]).float()

    def by_heads(name: str) -> Tensor:  # (L, H p, ...)
        weight = stacked(name).unflatten(1, (-1, c.head_dim))
        return _pad(weight, 2, head).flatten(1, 2)

    projections = [f"self_attn.{name}_proj" for name in "qkv"]
    qkv = torch.cat([by_heads(f"{name}.weight") for name in projections], dim=1)
    out = _pad(stacked("self_attn.o_proj.weight").unflatten(2, (-1, c.head_dim)), 3, head).flatten(2)
    gate_up = torch.cat([_pad(stacked(f"mlp.{name}_proj.weight"), 1, up(c.mlp_width)) for name in ("gate", "up")], 1)
    matrices = {"qkv": qkv, "out": out, "gate_up": gate_up, "down": stacked("mlp.down_proj.weight")}
    matrices["head"] = model.lm_head.weight.float()[None]
    packed = {name: pack(matrix, lanes=lanes, bfloat16=bfloat16) for name, matrix in matrices.items()}
    positions = torch.arange(c.context_length)[None]
    cos, sin = (
        angles[0, 0, :, : c.head_dim // 2].contiguous() for angles in rope_angles(positions, c.head_dim, c.rope_theta)
    )
    packed |= {"embedding": model.embed_tokens.weight.float().contiguous(), "cos": cos, "sin": sin}
    packed["input_norm"] = _pad(stacked("input_layernorm.weight"), 1, up(c.width)).contiguous()
    packed["attention_norm"] = _pad(stacked("post_attention_layernorm.weight"), 1, up(c.width)).contiguous()
    packed["final_norm"] = _pad(model.norm.weight.float(), 0, up(c.width)).contiguous()
    if c.architecture == "qwen3":
        packed |= {f"{name}_norm": stacked(f"self_attn.{name}_norm.weight") for name in "qk"}
    if c.architecture == "qwen2":
        packed["bias"] = torch.cat([by_heads(f"{name}.bias") for name in projections], dim=1).contiguous()
    return packed


def pack(matrices: Tensor, *, lanes: int, bfloat16: bool) -> Tensor:
    """A vector of outputs side by side, so that one load brings the weights of one input (in bfloat16: of two).

    matrices  (L, outputs, inputs)
    returns   (L, outputs / lanes, inputs, lanes) float32, or as many pairs of inputs, as int32
    """
    padded = _pad(_pad(matrices, 1, up(matrices.shape[1])), 2, up(matrices.shape[2])).contiguous()
    numbers = padded.bfloat16().view(torch.int32) if bfloat16 else padded
    packed: Tensor = numbers.unflatten(1, (-1, lanes)).transpose(2, 3).contiguous()
    return packed


def _pad(x: Tensor, dim: int, size: int) -> Tensor:
    """With zeros up to `size`; unchanged, and not copied, if it is as large already."""
    if x.shape[dim] == size:
        return x
    return F.pad(x, (0, 0) * (x.dim() - 1 - dim) + (0, size - x.shape[dim]))


def up(number: int) -> int:
    """To a multiple of WHOLE."""
    return -(-number // WHOLE) * WHOLE
