"""Attention under a mask, and the masks themselves. Chosen per device behind one function.

B batch, T queries, S keys, H query heads, K key heads, d head dimension.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCKS = 4  # of queries at most, each with the keys up to its end; fewer than BLOCK queries are not worth a block
BLOCK = 128


def document_mask(documents: Tensor) -> Tensor:
    """Each position sees itself and what came before it in its own document.

    documents  (B, T) int64
    returns    (B, 1, T, T) float32; 0 where the query (third axis) may look at the key (fourth), else -infinity
    """
    return additive(_seen(documents))


def branch_mask(trees: Tensor, branches: Tensor) -> Tensor:
    """Each position sees itself and what came before it in its own branch and in the prompt they grow from.

    trees, branches  (B, T) int64; branch 0 is the prompt
    returns          (B, 1, T, T) float32, as `document_mask`
    """
    seen = (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
    return additive(_seen(trees) & seen[:, None])


def additive(seen: Tensor) -> Tensor:
    """What is added to attention scores: 0 where True, else -infinity. It is read in one pass where bool takes two."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, float("-inf"))


def _seen(documents: Tensor) -> Tensor:
    length = documents.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    return ((documents[:, :, None] == documents[:, None, :]) & causal)[:, None]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v. Vaswani et al. 2017, eq. 1, arXiv:1706.03762.

    q        (B, H, T, d)
    k, v     (B, K, S, d); K divides H
    mask     (B, 1, T, S) float32; at least one 0 in every row, and if T = S none above the diagonal
    returns  (B, H, T, d)
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype), enable_gqa=q.shape[1] != k.shape[1])
    groups, length = q.shape[1] // k.shape[1], q.shape[2]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if length != k.shape[2]:
        return _attend(q, k, v, mask)
    block = max(BLOCK, -(-length // BLOCKS))
    mixed: list[Tensor] = []
    for first in range(0, length, block):
        end = min(first + block, length)
        mixed.append(_attend(q[:, :, first:end], k[:, :, :end], v[:, :, :end], mask[:, :, first:end, :end]))
    return torch.cat(mixed, dim=2)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    # Written out, because the compiler fuses scale, mask and softmax into one pass here, and not into the library's
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5 + mask  # (B, H, T, S)
    mixed: Tensor = scores.softmax(-1).to(v.dtype) @ v
    return mixed
