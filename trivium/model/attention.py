"""Attention under a mask, and the masks themselves. Chosen per device behind one function.

B batch, T queries, S keys, H query heads, K key heads, d head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    Mask = Tensor | BlockMask  # what `attend` takes
    Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (row, head, query, key) -> may it look

BLOCKS = 4  # of queries at most, each with the keys up to its end; fewer than BLOCK queries are not worth a block
BLOCK = 128


def document_mask(documents: Tensor) -> Mask:
    """Each position sees itself and what came before it in its own document.

    documents  (B, T) int64
    returns    on the processor (B, 1, T, T) float32; 0 where the query (third axis) may look at the key (fourth), else
               -infinity. On a GPU which blocks hold something to see, and the rule within them: nothing of size T x T
    """
    return block_mask(documents, document_rule(documents)) if documents.is_cuda else dense_document_mask(documents)


def dense_document_mask(documents: Tensor) -> Tensor:
    """`document_mask` as the processor wants it, anywhere."""
    return additive(_seen(documents))


def branch_mask(trees: Tensor, branches: Tensor) -> Mask:
    """Each position sees itself and what came before it in its own branch and in the prompt they grow from.

    trees, branches  (B, T) int64; branch 0 is the prompt
    returns          as `document_mask`
    """
    if trees.is_cuda:
        return block_mask(trees, branch_rule(trees, branches))
    seen = (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
    return additive(_seen(trees) & seen[:, None])


def document_ranges(documents: Tensor) -> Tensor:
    """What `document_mask` shows, as ranges of keys.

    documents  (B, T) int64; each in one piece
    returns    (B, T, 3) int32: see native/attention.py
    """
    first = _beginnings(documents)
    none = torch.zeros_like(first)
    return torch.stack([none, none, first], -1).int()


def branch_ranges(trees: Tensor, branches: Tensor) -> Tensor:
    """What `branch_mask` shows, likewise; each tree in one piece that begins with its prompt, and each branch too."""
    root = _beginnings(trees)
    prompts = (branches == 0).long().cumsum(1)
    prompt_end = root + prompts - prompts.gather(1, root) + 1
    own = torch.maximum(root, _beginnings(branches))
    within = branches == 0  # the prompt is its own only range
    return torch.stack([root, torch.where(within, root, prompt_end), torch.where(within, root, own)], -1).int()


def _beginnings(ids: Tensor) -> Tensor:
    """(B, T) where the run of equal numbers began that each position belongs to."""
    changed = F.pad(ids[:, 1:] != ids[:, :-1], (1, 0))
    return torch.where(changed, torch.arange(ids.shape[1], device=ids.device), 0).cummax(1).values


def document_rule(documents: Tensor) -> Rule:
    """`document_mask` for one query and one key."""
    return lambda row, head, query, key: (query >= key) & (documents[row, query] == documents[row, key])


def branch_rule(trees: Tensor, branches: Tensor) -> Rule:
    """`branch_mask` for one query and one key."""
    same_tree = document_rule(trees)

    def may_look(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        ours = (branches[row, key] == 0) | (branches[row, query] == branches[row, key])
        return same_tree(row, head, query, key) & ours

    return may_look


def block_mask(rows: Tensor, rule: Rule) -> BlockMask:
    """Which blocks of queries and keys have something to see, for FlexAttention; found by compiled code on a GPU.

    rows  (B, T), for its shape and device
    """
    from torch.nn.attention.flex_attention import create_block_mask

    count, length = rows.shape
    make = _compiled(create_block_mask) if rows.is_cuda else create_block_mask
    found: BlockMask = make(rule, count, None, length, length, device=str(rows.device))
    return found


def additive(seen: Tensor) -> Tensor:
    """What is added to attention scores: 0 where True, else -infinity. It is read in one pass where bool takes two."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, float("-inf"))


def _seen(documents: Tensor) -> Tensor:
    length = documents.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    return ((documents[:, :, None] == documents[:, None, :]) & causal)[:, None]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v. Vaswani et al. 2017, eq. 1, arXiv:1706.03762.

    q        (B, H, T, d)
    k, v     (B, K, S, d); K divides H
    mask     (B, 1, T, S) float32; at least one 0 in every row, and if T = S none above the diagonal; or blocks
    returns  (B, H, T, d)
    """
    if not isinstance(mask, Tensor):
        return attend_blocks(q, k, v, mask)
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype), enable_gqa=q.shape[1] != k.shape[1])
    groups, length = q.shape[1] // k.shape[1], q.shape[2]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if length != k.shape[2]:
        return _attend(q, k, v, mask)
    mixed: list[Tensor] = []
    for first, end in _blocks(length):
        mixed.append(_attend(q[:, :, first:end], k[:, :, :end], v[:, :, :end], mask[:, :, first:end, :end]))
    return torch.cat(mixed, dim=2)


def _blocks(length: int) -> list[tuple[int, int]]:
    """First query of each block, and its end."""
    block = max(BLOCK, -(-length // BLOCKS))
    return [(first, min(first + block, length)) for first in range(0, length, block)]


def scores_computed(length: int) -> int:
    """Attention scores of one head in one row on the processor: no block computes those after its end."""
    return sum((end - first) * end for first, end in _blocks(length))


def attend_blocks(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask) -> Tensor:
    """`attend` that passes by the blocks with nothing to see. Dong et al. 2024, arXiv:2412.05496."""
    from torch.nn.attention.flex_attention import flex_attention

    inlined = torch.compiler.is_compiling() or not q.is_cuda  # there whoever compiles the model compiles this too
    flex = cast("Callable[..., Any]", flex_attention)
    mixed: Tensor = (flex if inlined else _compiled(flex))(
        q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1]
    )
    return mixed


@cache
def _compiled(function: Callable[..., object]) -> Callable[..., Any]:
    return torch.compile(function)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    # Written out, because the compiler fuses scale, mask and softmax into one pass here, and not into the library's
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5 + mask  # (B, H, T, S)
    mixed: Tensor = scores.softmax(-1).to(v.dtype) @ v
    return mixed
