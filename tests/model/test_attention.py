"""Attention by blocks, the way of a GPU, gives what attention under a written-out mask gives."""

import pytest
import torch
from torch import Tensor

from trivium.model.attention import (
    attend,
    attend_blocks,
    block_mask,
    branch_mask,
    branch_ranges,
    branch_rule,
    document_mask,
    document_ranges,
    document_rule,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:flex_attention called without torch.compile"
)  # here it is the reference

ROWS, LENGTH = 2, 300  # three blocks, the last not full
DOCUMENTS = torch.stack(
    [torch.arange(LENGTH) // 140, (torch.arange(LENGTH) // 60).where(torch.arange(LENGTH) < 290, -1)]
)
BRANCHES = (torch.arange(LENGTH) % 140 // 35).expand(ROWS, -1)


def drawn(heads: int, generator: torch.Generator) -> Tensor:
    return torch.randn(ROWS, heads, LENGTH, 16, generator=generator)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_blocks_of_documents_and_branches_give_what_the_written_out_mask_gives(kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (drawn(heads, generator) for heads in (4, kv_heads, kv_heads))
    by_document = block_mask(DOCUMENTS, document_rule(DOCUMENTS))
    by_branch = block_mask(DOCUMENTS, branch_rule(DOCUMENTS, BRANCHES))
    for blocks, mask in ((by_document, document_mask(DOCUMENTS)), (by_branch, branch_mask(DOCUMENTS, BRANCHES))):
        torch.testing.assert_close(attend_blocks(q, k, v, blocks), attend(q, k, v, mask), atol=1e-5, rtol=0)
        torch.testing.assert_close(attend(q, k, v, blocks), attend_blocks(q, k, v, blocks), atol=0, rtol=0)


def test_blocks_with_nothing_to_see_are_passed_by_and_nothing_is_as_large_as_the_square_of_the_length() -> None:
    documents = (torch.arange(1024) // 128).expand(1, -1)
    blocks = block_mask(documents, document_rule(documents))
    assert blocks.sparsity() == pytest.approx(100 * (1 - 8 / 64))  # each document sees its own block alone
    held = [t for t in blocks.as_tuple() if isinstance(t, Tensor)]
    assert held
    assert max(t.numel() for t in held) < 1024


def seen_by(ranges: Tensor) -> Tensor:
    """(B, T, T) which keys each position sees, of ranges."""
    key = torch.arange(ranges.shape[1])
    first, end, own = (ranges[..., i, None] for i in range(3))
    return ((key >= first) & (key < end)) | ((key >= own) & (key <= key[:, None]))


def test_ranges_show_what_the_masks_show() -> None:
    documents = torch.tensor([[3, 3, 0, 0, 0, 7, -1, -1]])
    assert torch.equal(seen_by(document_ranges(documents)), document_mask(documents)[:, 0] == 0)
    trees = torch.tensor([[0] * 7 + [1] * 4 + [-1, -2]])
    branches = torch.tensor([[0, 0, 1, 1, 2, 3, 3, 0, 1, 1, 2, 0, 0]])
    assert torch.equal(seen_by(branch_ranges(trees, branches)), branch_mask(trees, branches)[:, 0] == 0)
