"""The decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU. Parameters carry Hugging Face's names.

B batch, T time, D width, H heads, K kv heads, d head dimension, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivium.model.attention import attend, branch_mask, branch_ranges, document_mask, document_ranges
from trivium.model.lora import LowRank, add_adapters, freeze_all_but_adapters
from trivium.model.rope import packed_angles, rope_angles, rotate
from trivium.model.shape import ModelConfig
from trivium.native import layer as native
from trivium.native.attention import attend_packed, serves
from trivium.native.linear import filled_up, linear

if TYPE_CHECKING:
    from trivium.model.attention import Mask

    Rope = Tensor | tuple[Tensor, Tensor]  # angles for attention in C++, and for PyTorch's


class LayerMemory(Protocol):
    """Where a layer's keys and values go while a text is being written: see cache.py."""

    def extend(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]: ...


EMBEDDING_SPREAD = 0.1  # with .2 or the usual .02, looking things up in the context is learned later: docs/log.md


class RMSNorm(nn.RMSNorm):
    """Zhang and Sennrich 2019, eq. 4, arXiv:1910.07467; in the dtype of what it normalises."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.heads, self.head_dim, self.norm_eps = layer, config.num_heads, config.head_dim, config.norm_eps
        queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        bias = config.architecture == "qwen2"
        self.q_proj = nn.Linear(config.width, queries, bias=bias)
        self.k_proj = nn.Linear(config.width, keys, bias=bias)
        self.v_proj = nn.Linear(config.width, keys, bias=bias)
        self.o_proj = nn.Linear(queries, config.width, bias=False)
        normed = config.architecture == "qwen3"
        self.q_norm = RMSNorm(config.head_dim, eps=config.norm_eps) if normed else nn.Identity()
        self.k_norm = RMSNorm(config.head_dim, eps=config.norm_eps) if normed else nn.Identity()

    def forward(self, x: Tensor, rope: Rope, mask: Mask, positions: Tensor, memory: LayerMemory | None) -> Tensor:
        return fused_linear(self.mixed(x, rope, mask, positions, memory), self.o_proj)

    def mixed(self, x: Tensor, rope: Rope, mask: Mask, positions: Tensor, memory: LayerMemory | None) -> Tensor:
        """(B, T, H d) what the heads found, not yet projected."""
        qkv = fused_linear(x, self.q_proj, self.k_proj, self.v_proj)
        if isinstance(rope, Tensor):
            assert isinstance(mask, Tensor)
            return attend_packed(qkv, self.norms(), rope, mask, heads=self.heads, eps=self.norm_eps)
        return self._attend(qkv, rope, mask, positions, memory)

    def _attend(
        self, qkv: Tensor, rope: tuple[Tensor, Tensor], mask: Mask, positions: Tensor, memory: LayerMemory | None
    ) -> Tensor:
        cells = qkv.view(*qkv.shape[:2], -1, self.head_dim).transpose(1, 2)
        q, k, v = cells.split([self.heads, *[(cells.shape[1] - self.heads) // 2] * 2], dim=1)
        q = rotate(self.q_norm(q), *rope)  # (B, H, T, d)
        k = rotate(self.k_norm(k), *rope)  # (B, K, T, d)
        if memory is not None:
            k, v = memory.extend(self.layer, k, v, positions)  # (B, K, S, d)
        return attend(q, k, v.to(q.dtype), mask).transpose(1, 2).flatten(2)  # (B, T, H d)

    def norms(self) -> Tensor:
        """(2, d) weights of queries and of keys; (0, d) where they are not normed."""
        weights: list[Tensor] = [norm.weight for norm in (self.q_norm, self.k_norm) if isinstance(norm, RMSNorm)]
        return torch.stack(weights) if weights else self.q_proj.weight.new_empty(0, self.head_dim)


class SwiGLU(nn.Module):
    """Shazeer 2020, eq. 6, arXiv:2002.05202."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.mlp_width, bias=False)
        self.up_proj = nn.Linear(config.width, config.mlp_width, bias=False)
        self.down_proj = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = fused_linear(x, self.gate_proj, self.up_proj).chunk(2, dim=-1)
        return fused_linear(F.silu(gate) * up, self.down_proj)


def in_cpp(config: ModelConfig, device: torch.device) -> bool:
    """Whether layers of this shape run in C++ on this device, those with adapters apart; those with biases do not."""
    fits = native.serves(config.width, config.mlp_width, config.head_dim, device)
    return fits and config.architecture != "qwen2"


class Block(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.input_layernorm = RMSNorm(config.width, eps=config.norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.width, eps=config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, rope: Rope, mask: Mask, positions: Tensor, memory: LayerMemory | None) -> Tensor:
        if isinstance(rope, Tensor) and self._is_native(x):
            assert isinstance(mask, Tensor)
            return native.run(x, rope, mask, self._weights(), heads=self.self_attn.heads, eps=self.config.norm_eps)
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, positions, memory)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out

    def _is_native(self, x: Tensor) -> bool:
        """Whether C++ does all that is not a product."""
        query = self.self_attn.q_proj
        plain = type(query) is nn.Linear and x.dtype == query.weight.dtype == torch.float32
        return plain and not torch.compiler.is_compiling() and in_cpp(self.config, x.device)

    def _weights(self) -> native.Weights:
        attention, mlp = self.self_attn, self.mlp
        return native.Weights(
            norm=self.input_layernorm.weight,
            q=attention.q_proj.weight,
            k=attention.k_proj.weight,
            v=attention.v_proj.weight,
            head_norms=attention.norms(),
            o=attention.o_proj.weight,
            mlp_norm=self.post_attention_layernorm.weight,
            gate=mlp.gate_proj.weight,
            up=mlp.up_proj.weight,
            down=mlp.down_proj.weight,
        )

    def at(self, places: Tensor, x: Tensor, rope: Rope, mask: Mask, positions: Tensor) -> Tensor:
        """The same at some places of the flattened rows alone, (N, D): of a last layer nothing else is needed."""
        mixed = self.self_attn.mixed(self.input_layernorm(x), rope, mask, positions, None)
        x = x.flatten(0, 1)[places] + fused_linear(mixed.flatten(0, 1)[places], self.self_attn.o_proj)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


def run_layer(
    layer: Block,
    x: Tensor,
    rope: Rope,
    mask: Mask,
    positions: Tensor,
    memory: LayerMemory | None = None,
) -> Tensor:
    """What a layer makes of what it is given: see `Transformer.hidden`."""
    out: Tensor = layer(x, rope, mask, positions, memory)
    return out


class Transformer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.width, eps=config.norm_eps)
        self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: Mask,
        memory: LayerMemory | None = None,
        *,
        run: Callable[..., Tensor] = run_layer,
    ) -> Tensor:
        """What the last layer makes of every position.

        tokens, positions  (B, T) int64
        mask               (B, 1, T, S) float32; 0 where a query may look, else -infinity; or blocks of them, or ranges
        run                `run_layer`, or what it was compiled to: one layer's code serves all
        returns            (B, T, D) float32, or in the dtype of products
        """
        rope = self._rope(positions, mask)
        x: Tensor = self.embed_tokens(tokens)
        for layer in self.layers:
            x = run(layer, x, rope, mask, positions, memory)
        plain = isinstance(rope, Tensor) and not torch.compiler.is_compiling() and native.serves_norm(x)
        out: Tensor = native.normed(x, self.norm.weight, self.config.norm_eps) if plain else self.norm(x)
        return out

    def hidden_at(self, places: Tensor, tokens: Tensor, positions: Tensor, mask: Mask) -> Tensor:
        """What `hidden` makes of some places of the flattened rows, (N, D), without what the others would cost."""
        rope = self._rope(positions, mask)
        x: Tensor = self.embed_tokens(tokens)
        for layer in self.layers[:-1]:
            x = layer(x, rope, mask, positions, None)
        last = self.layers[-1]
        assert isinstance(last, Block)
        out: Tensor = self.norm(last.at(filled_up(places), x, rope, mask, positions))
        return out[: len(places)]

    def _rope(self, positions: Tensor, mask: Mask) -> Rope:
        angles = packed_angles if is_ranges(mask) else rope_angles
        return angles(positions, self.config.head_dim, self.config.rope_theta, self.config.rope_scaling)

    def forward(self, tokens: Tensor, positions: Tensor, documents: Tensor) -> Tensor:
        """Logits of the next token at every position of packed rows.

        tokens, positions, documents  (B, T) int64
        returns                       (B, T, V)
        """
        logits: Tensor = self.lm_head(self.hidden(tokens, positions, self.document_mask(documents)))
        return logits

    def document_mask(self, documents: Tensor) -> Mask:
        """What `hidden` takes as mask, as fits this model and its device, for packed documents (B, T)."""
        make = document_ranges if serves(self.config.head_dim, documents.device) else document_mask
        return make(documents)

    def branch_mask(self, trees: Tensor, branches: Tensor) -> Mask:
        """Likewise, for answers that grow from prompts (B, T)."""
        make = branch_ranges if serves(self.config.head_dim, trees.device) else branch_mask
        return make(trees, branches)


def is_ranges(mask: Mask) -> bool:
    """Whether a mask is for attention in C++."""
    return isinstance(mask, Tensor) and mask.dtype == torch.int32


def read(
    model: Transformer, tokens: Tensor, positions: Tensor, mask: Mask, *, run: Callable[..., Tensor] = run_layer
) -> Tensor:
    """`Transformer.hidden` of a model, to be compiled whole."""
    return model.hidden(tokens, positions, mask, run=run)


def fused_linear(x: Tensor, *layers: nn.Linear) -> Tensor:
    """Linear layers of one input as a single product; kept apart as parameters, as Hugging Face writes them.

    returns  (..., the sum of their outputs), one after the other
    """
    if x.shape[1] == 1:  # one token: to copy the weights would take longer than the products
        return _joined([layer(x) for layer in layers], -1)
    weight = _joined([layer.weight for layer in layers])
    bias = _joined([layer.bias for layer in layers]) if layers[0].bias is not None else None
    joined = linear(x, weight, bias)
    adapted = [layer.addition(x) for layer in layers if isinstance(layer, LowRank)]  # of all layers, or of none
    return joined + _joined(adapted, -1) if adapted else joined


def _joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def adapt(model: Transformer, *, rank: int, alpha: float, seed: int) -> Transformer:
    """Put a low-rank adapter on every linear layer of the decoder, and train nothing else from here on."""
    add_adapters(model.layers, rank=rank, alpha=alpha, seed=seed)
    freeze_all_but_adapters(model)
    return model


@torch.no_grad()
def grow(model: Transformer, *, known: int, tokens: int) -> None:
    """Give rows to tokens that were added to the vocabulary: each the mean of the rows of the tokens known before.

    known   tokens before; rows after them are padding
    tokens  those after; they take rows of the padding first
    So they take little from the probability of the others. Hewitt 2021, "Initializing new word embeddings for
    pretrained language models".
    """

    def grown(weight: Tensor) -> Tensor:
        mean = weight[:known].mean(0).expand(tokens - known, -1)
        return torch.cat([weight[:known], mean, weight[tokens:]])

    embedding, head = grown(model.embed_tokens.weight), grown(model.lm_head.weight)
    model.embed_tokens = nn.Embedding.from_pretrained(embedding, freeze=False)
    model.lm_head = nn.Linear(model.config.width, len(head), bias=False, device=head.device)
    model.lm_head.weight = model.embed_tokens.weight if model.config.tie_embeddings else nn.Parameter(head)
    model.config = model.config.model_copy(update={"vocab_size": len(head)})


def writes_to_stream(name: str) -> bool:
    """Whether a parameter is a matrix whose outputs are added to the residual stream: its neurons are its columns."""
    return name.endswith(("o_proj.weight", "down_proj.weight"))


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> Transformer:
    """Fill a fresh model, the same for the same seed on every machine.

    Matrices start normal with variance 1 / inputs; those that write into the residual stream start at zero, so that
    every layer begins as the identity (Zhang et al. 2019, arXiv:1901.09321; as in modded-nanogpt).
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if writes_to_stream(name) or name.endswith("bias"):
            parameter.zero_()
        elif name.endswith("norm.weight"):
            parameter.fill_(1.0)
        else:
            spread = EMBEDDING_SPREAD if "embed" in name else parameter.shape[-1] ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model
