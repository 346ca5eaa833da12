"""The decoder: what it sees, what it must not see, and how it begins."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trivium.model.attention import BLOCK, attend, branch_mask, document_mask
from trivium.model.cache import Cache
from trivium.model.heads import add_reward_head
from trivium.model.rope import rope_angles, rotate
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, initialise
from trivium.text.branches import pack_answers

MakeModel = Callable[..., Transformer]
LENGTHS = (7, 1, 12, 4)


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(61, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def read(model: Transformer, ids: Tensor) -> Tensor:
    """Logits of rows that hold one document each."""
    return model(ids, torch.arange(ids.shape[1]).expand_as(ids), torch.zeros_like(ids))


@torch.no_grad()
def test_packing_changes_no_logits(small_model: MakeModel) -> None:
    model, row = small_model(), tokens(1, sum(LENGTHS))
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    documents = torch.cat([torch.full((length,), i) for i, length in enumerate(LENGTHS)])[None]
    packed = model(row, positions, documents)[0].split(LENGTHS)
    for alone, together in zip(row[0].split(LENGTHS), packed, strict=True):
        torch.testing.assert_close(together, read(model, alone[None])[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_positions_matter_only_by_their_distance(small_model: MakeModel) -> None:
    model, ids = small_model(), tokens(2, 10)
    moved = model(ids, torch.arange(100, 110).expand_as(ids), torch.zeros_like(ids))
    torch.testing.assert_close(moved, read(model, ids), atol=1e-4, rtol=1e-4)
    stretched = model(ids, 2 * torch.arange(10).expand_as(ids), torch.zeros_like(ids))
    assert not torch.allclose(stretched, read(model, ids), atol=1e-2)


@torch.no_grad()
def test_padding_and_everything_later_is_not_seen(small_model: MakeModel) -> None:
    model, ids = small_model(), tokens(2, 20)
    other = ids.clone()
    other[:, 12:] = tokens(2, 8, seed=9)
    seen, changed = read(model, ids), read(model, other)
    assert torch.equal(seen[:, :12], changed[:, :12])
    assert not torch.equal(seen[:, 12:], changed[:, 12:])


@torch.no_grad()
def test_every_earlier_token_is_seen(small_model: MakeModel) -> None:
    model, ids = small_model(), tokens(1, 12)
    for place in range(12):
        other = ids.clone()
        other[0, place] = (ids[0, place] + 1) % 61
        changed = (read(model, other) != read(model, ids)).any(-1)[0]
        assert changed.tolist() == [position >= place for position in range(12)]


@torch.no_grad()
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_reading_token_by_token_into_a_cache_gives_the_logits_of_the_whole(
    kv_heads: int, small_model: MakeModel
) -> None:
    model, ids = small_model(num_kv_heads=kv_heads), tokens(2, 15)
    cache = Cache(model.config, 2, 15, dtype=torch.float32, device=torch.device("cpu"))
    found = []
    for place in range(15):
        cache.filled = place + 1
        mask = torch.zeros(2, 1, 1, place + 1)
        found.append(model.lm_head(model.hidden(ids[:, place : place + 1], torch.full((2, 1), place), mask, cache)))
    torch.testing.assert_close(torch.cat(found, 1), read(model, ids), atol=1e-5, rtol=1e-5)


def test_a_cache_keeps_the_rows_it_is_told_to(small_model: MakeModel) -> None:
    cache = Cache(small_model().config, 3, 4, dtype=torch.float32, device=torch.device("cpu"))
    cache.keys.copy_(torch.arange(3.0)[None, :, None, None, None].expand_as(cache.keys))
    cache.keep(torch.tensor([2, 0, 0]))
    assert cache.keys[0, :, 0, 0, 0].tolist() == [2, 0, 0]
    cache.keep(torch.tensor([True, False, True]))
    assert cache.keys[1, :, 1, 3, 0].tolist() == [2, 0]


@pytest.mark.parametrize("length", [6, 2 * BLOCK, 4 * BLOCK + 50])  # whole, and in blocks of queries
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_is_torchs_own(kv_heads: int, length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, length, 8, generator=generator, requires_grad=True)
    k, v = (torch.randn(2, kv_heads, length, 8, generator=generator, requires_grad=True) for _ in range(2))
    mask = document_mask(torch.randint(3, (2, length), generator=generator).cumsum(1))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    found = attend(q, k, v, mask)
    torch.testing.assert_close(found, expected)
    toward = torch.randn(found.shape, generator=generator)
    gradients = (torch.autograd.grad(mixed, (q, k, v), toward) for mixed in (found, expected))
    torch.testing.assert_close(*gradients)


def test_the_mask_of_a_packed_row_by_hand() -> None:
    mask = document_mask(torch.tensor([[0, 0, 1, -1]]))
    assert mask.exp().tolist() == [[[[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]]]


def test_the_mask_of_a_prompt_with_two_answers_by_hand() -> None:
    """A prompt of two tokens, answers of two and of one; then a prompt and an answer of one each, and padding."""
    trees, branches = torch.tensor([[0, 0, 0, 0, 0, 3, 3, -1]]), torch.tensor([[0, 0, 1, 1, 2, 0, 1, 0]])
    assert branch_mask(trees, branches).exp().tolist() == [
        [
            [
                [1, 0, 0, 0, 0, 0, 0, 0],
                [1, 1, 0, 0, 0, 0, 0, 0],
                [1, 1, 1, 0, 0, 0, 0, 0],
                [1, 1, 1, 1, 0, 0, 0, 0],
                [1, 1, 0, 0, 1, 0, 0, 0],
                [0, 0, 0, 0, 0, 1, 0, 0],
                [0, 0, 0, 0, 0, 1, 1, 0],
                [0, 0, 0, 0, 0, 0, 0, 1],
            ]
        ]
    ]


def test_without_branches_the_mask_is_that_of_documents() -> None:
    documents = torch.tensor([[0, 0, 1, 1, 1, -1], [4, 4, 4, 4, 7, 7]])
    assert torch.equal(branch_mask(documents, torch.zeros_like(documents)), document_mask(documents))


def test_turning_keeps_lengths_and_position_zero_turns_nothing() -> None:
    x = torch.randn(1, 1, 3, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, *rope_angles(torch.tensor([[0, 1, 500]]), 8, 10_000.0))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    # the pair (i, i + d/2) turns by position * theta^(-2i/d); here i = 0, one radian
    expected = x[0, 0, 1, 0] * torch.cos(torch.tensor(1.0)) - x[0, 0, 1, 4] * torch.sin(torch.tensor(1.0))
    torch.testing.assert_close(turned[0, 0, 1, 0], expected)


def test_a_model_begins_the_same_for_the_same_seed_only(small_model: MakeModel) -> None:
    shape = small_model().config

    def begun(seed: int) -> list[Tensor]:
        torch.manual_seed(torch.randint(1 << 30, ()).item())  # whatever torch's own generator says
        return [p.detach() for p in initialise(Transformer(shape), seed).parameters()]

    assert all(map(torch.equal, begun(1), begun(1)))
    assert not all(map(torch.equal, begun(1), begun(2)))


def test_a_model_begins_with_layers_that_pass_everything_on(small_model: MakeModel) -> None:
    model = initialise(Transformer(small_model().config), 0)
    ids = tokens(1, 6)
    with torch.no_grad():
        expected = model.lm_head(model.norm(model.embed_tokens(ids)))
    torch.testing.assert_close(read(model, ids), expected)


def test_the_number_of_parameters_is_counted_right(small_model: MakeModel) -> None:
    for shape in (
        {},
        {"tie_embeddings": False},
        {"architecture": "qwen2"},
        {"architecture": "llama", "num_kv_heads": 1},
    ):
        model = small_model(**shape)
        assert model.config.parameters == sum(p.numel() for p in model.parameters())


def test_a_layer_that_sees_two_documents_learns_from_each_alone(small_model: MakeModel) -> None:
    """Gradients too do not cross from one packed document into another."""
    model = small_model()
    row, documents = tokens(1, 8), torch.tensor([[0] * 4 + [1] * 4])
    rows = row.clone()
    embedded = model.embed_tokens(rows).detach().requires_grad_()
    model.embed_tokens.forward = lambda ids: embedded  # type: ignore[method-assign]
    model(rows, torch.arange(4).repeat(2)[None], documents)[0, 4:].sum().backward()
    assert embedded.grad is not None
    assert embedded.grad[0, :4].abs().max() == 0
    assert embedded.grad[0, 4:].abs().min() > 0


@torch.no_grad()
def test_a_reward_does_not_depend_on_the_padding_after_it_and_is_read_at_the_last_token(small_model: MakeModel) -> None:
    model = add_reward_head(small_model(), seed=1)
    rows = [row[:length].tolist() for row, length in zip(tokens(3, 16), (16, 9, 3), strict=True)]
    whole = pack_answers([row[:2] for row in rows], [row[2:] for row in rows], 16, 6)
    assert whole.tokens.shape == (2, 16)  # nine and three share a row
    found = model(whole)
    for row, reward in zip(rows, found, strict=True):
        ids = torch.tensor([row])  # nothing after it
        mask = document_mask(torch.zeros_like(ids))
        last = model.trunk.hidden(ids, torch.arange(len(row))[None], mask)[:, -1]
        torch.testing.assert_close(reward, model.score(last)[0, 0], atol=1e-5, rtol=1e-5)
    assert found.dtype == torch.float32


def test_the_reward_head_starts_with_the_published_spread(small_model: MakeModel) -> None:
    model = add_reward_head(small_model(width=512, head_dim=8), seed=1)
    assert model.score.weight.std().item() == pytest.approx(513**-0.5, rel=0.1)
    assert torch.equal(model.score.weight, add_reward_head(small_model(width=512), seed=1).score.weight)


def test_a_shape_that_does_not_fit_is_refused_with_both_values() -> None:
    for given, told in (
        ({"width": 130, "num_heads": 4}, "num_heads = 4: must divide width = 130; try 2 or 5"),
        ({"num_heads": 4, "num_kv_heads": 3}, "num_kv_heads = 3: must divide num_heads = 4"),
        ({"head_dim": 7}, "head_dim = 7: must be even"),
    ):
        with pytest.raises(ValueError, match=told):
            ModelConfig.model_validate(given)


def test_what_is_read_at_some_places_is_what_is_read_at_all_of_them(small_model: MakeModel) -> None:
    """Values and gradients, several times the same place, and in the order asked for."""
    model = small_model()
    tokens = torch.randint(61, (2, 11), generator=torch.Generator().manual_seed(0))
    positions, documents = torch.arange(11).expand(2, 11), torch.zeros(2, 11, dtype=torch.int64)
    places, mask = torch.tensor([21, 3, 3, 12, 0]), model.document_mask(documents)
    some = model.hidden_at(places, tokens, positions, mask)
    all_of_them = model.hidden(tokens, positions, mask).flatten(0, 1)[places]
    torch.testing.assert_close(some, all_of_them)
    parameters = [p for p in model.parameters() if p is not model.lm_head.weight]
    found = (torch.autograd.grad(x.square().sum(), parameters) for x in (some, all_of_them))
    torch.testing.assert_close(*found)
