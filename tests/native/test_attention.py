"""Attention in C++ against PyTorch's: the same numbers, and the same gradients."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trivium.model.attention import attend, document_mask
from trivium.model.rope import rope_angles, rotate
from trivium.native import attention

pytestmark = pytest.mark.skipif(isinstance(attention.library(), str), reason="C++ cannot be compiled here")
EPS = 1e-6


def documents_of(rows: int, length: int) -> Tensor:
    """Some documents side by side, of every length."""
    return torch.randint(0, 4, (rows, length)).sort(1).values


def ranges(documents: Tensor) -> Tensor:
    """What `document_mask` shows, as (B, T, 3)."""
    first = torch.searchsorted(documents, documents)
    return torch.stack([torch.zeros_like(first), torch.zeros_like(first), first], -1).int()


def angles(rows: int, length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    return rope_angles(torch.arange(length).expand(rows, length), head_dim, 10_000.0)


def reference(qkv: Tensor, norms: Tensor, mask: Tensor, heads: int) -> Tensor:
    head_dim = norms.shape[1]
    cells = qkv.view(*qkv.shape[:2], -1, head_dim).transpose(1, 2)
    keys = (cells.shape[1] - heads) // 2
    q, k, v = cells.split([heads, keys, keys], 1)
    if len(norms):
        q, k = (F.rms_norm(x, (head_dim,), weight, EPS) for x, weight in zip((q, k), norms, strict=True))
    rope = angles(*qkv.shape[:2], head_dim)
    return attend(rotate(q, *rope), rotate(k, *rope), v, mask).transpose(1, 2).flatten(2)


def packed(qkv: Tensor, norms: Tensor, seen: Tensor, heads: int) -> Tensor:
    half = norms.shape[1] // 2
    rope = torch.stack([x[:, 0, :, :half] for x in angles(*qkv.shape[:2], 2 * half)])
    return attention.attend_packed(qkv, norms, rope, seen, heads=heads, eps=EPS)


def with_gradients(run: Callable[[Tensor, Tensor], Tensor], qkv: Tensor, norms: Tensor) -> list[Tensor]:
    qkv, norms = qkv.clone().requires_grad_(), norms.clone().requires_grad_()
    mixed = run(qkv, norms)
    torch.manual_seed(1)
    (mixed.float() * torch.randn(mixed.shape)).sum().backward()
    return [mixed.detach().float(), *(x.grad.float() for x in (qkv, norms) if x.grad is not None and x.numel())]


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize(
    ("rows", "length", "heads", "kv_heads", "head_dim"), [(2, 77, 4, 2, 32), (1, 160, 2, 2, 64), (3, 5, 3, 1, 32)]
)
def test_values_and_gradients_are_those_of_the_reference(
    rows: int, length: int, heads: int, kv_heads: int, head_dim: int, normed: bool
) -> None:
    torch.manual_seed(0)
    qkv, documents = torch.randn(rows, length, (heads + 2 * kv_heads) * head_dim), documents_of(rows, length)
    norms = torch.rand(2 if normed else 0, head_dim)
    mask, seen = document_mask(documents), ranges(documents)
    expected = with_gradients(lambda q, n: reference(q, n, mask, heads), qkv, norms)
    found = with_gradients(lambda q, n: packed(q, n, seen, heads), qkv, norms)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [96, 77, 50, 5])  # whole tiles, where the processor has them, and less
def test_bfloat16_is_as_near_to_the_truth_as_it_can_be(length: int) -> None:
    torch.manual_seed(0)
    qkv, documents, norms = torch.randn(2, length, 6 * 32).bfloat16(), documents_of(2, length), torch.rand(2, 32)
    expected = with_gradients(lambda q, n: reference(q.float(), n, document_mask(documents), 2), qkv, norms)
    found = with_gradients(lambda q, n: packed(q, n, ranges(documents), 2), qkv, norms)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-2, atol=2e-2)


def test_a_branch_sees_its_prompt_and_itself_and_not_its_neighbour() -> None:
    """A prompt of 20, and two answers of 30 that go on from it."""
    torch.manual_seed(0)
    qkv, norms = torch.randn(1, 80, 6 * 32), torch.rand(2, 32)
    seen, mask = torch.zeros(1, 80, 3, dtype=torch.int32), torch.full((1, 1, 80, 80), float("-inf"))
    for t in range(80):
        own = 0 if t < 20 else 20 if t < 50 else 50
        seen[0, t] = torch.tensor([0, 20 if own else 0, own])
        mask[0, 0, t, own : t + 1] = 0
        if own:
            mask[0, 0, t, :20] = 0
    expected = with_gradients(lambda q, n: reference(q, n, mask, 2), qkv, norms)
    found = with_gradients(lambda q, n: packed(q, n, seen, 2), qkv, norms)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


THREADED = """
import hashlib, sys, torch
from tests.native.test_attention import documents_of, packed, ranges, with_gradients
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
qkv, documents, norms = torch.randn(3, 64, 6 * 32), documents_of(3, 64), torch.rand(2, 32)
qkv = qkv.to(getattr(torch, sys.argv[2]))
found = with_gradients(lambda q, n: packed(q, n, ranges(documents), 2), qkv, norms)
print(hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in found)).hexdigest())
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_number_of_threads_changes_no_bit(dtype: str) -> None:
    """In processes of their own: one that has started threads can no longer be forked, which other tests do."""
    found = {
        subprocess.run([sys.executable, "-c", THREADED, n, dtype], capture_output=True, text=True, check=True).stdout
        for n in ("1", "3")
    }
    assert len(found) == 1
