"""Attention under a mask, and the masks themselves. Chosen per device behind one function.

B batch, T queries, S keys, H query heads, K key heads, d head dimension.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def document_mask(documents: Tensor) -> Tensor:
    """Each position sees itself and what came before it in its own document.

    documents  (B, T) int64
    returns    (B, 1, T, T) bool; True where the query (third axis) may look at the key (fourth)
    """
    length = documents.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    return ((documents[:, :, None] == documents[:, None, :]) & causal)[:, None]


def branch_mask(trees: Tensor, branches: Tensor) -> Tensor:
    """Each position sees itself and what came before it in its own branch and in the prompt they grow from.

    trees, branches  (B, T) int64; branch 0 is the prompt
    returns          (B, 1, T, T) bool, as `document_mask`
    """
    seen = (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
    return document_mask(trees) & seen[:, None]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, where the mask allows it. Vaswani et al. 2017, eq. 1, arXiv:1706.03762.

    q        (B, H, T, d)
    k, v     (B, K, S, d); K divides H
    mask     (B, 1, T, S) bool; at least one True in every row
    returns  (B, H, T, d)
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    # Written out, because the compiler fuses scale, mask and softmax into one pass here, and not into the library's
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5  # (B, H, T, S)
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    mixed: Tensor = weights.to(v.dtype) @ v
    return mixed
