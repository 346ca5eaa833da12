"""Phases I and II as streams of batches: what is read, what is learned, and in which order."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trivium.batch import TokenBatch
from trivium.compute import Compute
from trivium.config import InstructConfig, Recipe, resolve
from trivium.distributed.world import World, alone
from trivium.errors import DataError
from trivium.model.transformer import Transformer
from trivium.phases import instruct, pretrain
from trivium.phases.pretrain import next_token_objective, text_rows
from trivium.records import Dialogue, Message
from trivium.text.shards import Shard, write
from trivium.text.tokenizer import Tokenizer

MakeModel = Callable[..., Transformer]
COMPUTE = Compute(torch.device("cpu"), torch.float32, False)
TEXTS = [f"The cat number {i} sat on the warm mat of {i * i}." for i in range(200)]


@pytest.fixture
def shard(tokenizer: Tokenizer, tmp_path: Path) -> Shard:
    return write(TEXTS, tokenizer, tmp_path, key="test")


def recipe(**pretrain_settings: float) -> Recipe:
    settings = {"rows_per_step": 4, "microbatch_rows": 2, **pretrain_settings}
    return resolve(
        {"model": {"context_length": 48}, "pretrain": settings, "instruct": {"rows_per_step": 4, "microbatch_rows": 2}}
    )


def phase(shard: Shard, tokenizer: Tokenizer, model: Transformer, world: World, **settings: float):  # type: ignore[no-untyped-def]
    return pretrain.build(
        recipe(**settings), model, tokenizer, shard, [], next_token_objective(COMPUTE), COMPUTE, world
    )


def rows(batches: list[TokenBatch]) -> list[tuple[int, ...]]:
    return [tuple(row.tolist()) for batch in batches for row in batch.tokens]


def test_the_batches_of_a_step_are_the_same_whenever_they_are_asked_for(
    shard: Shard, tokenizer: Tokenizer, small_model: MakeModel
) -> None:
    first = phase(shard, tokenizer, small_model(), alone())
    later = phase(shard, tokenizer, small_model(), alone())
    expected = [rows(first.batches(step)) for step in range(30)]
    for step in (29, 3, 17, 3, 0):
        assert rows(later.batches(step)) == expected[step]
    assert len({row for step in expected for row in step}) > 100


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_rows_of_a_step_and_leave_none_out(
    ranks: int, shard: Shard, tokenizer: Tokenizer, small_model: MakeModel
) -> None:
    whole = phase(shard, tokenizer, small_model(), alone())
    worlds = [World(rank, ranks, torch.device("cpu")) for rank in range(ranks)]
    parts = [phase(shard, tokenizer, small_model(), world) for world in worlds]
    for step in (0, 7):
        shared = [row for part in parts for row in rows(part.batches(step))]
        assert sorted(shared) == sorted(rows(whole.batches(step)))


def test_of_a_long_document_its_middle_is_measured_along_the_way(
    shard: Shard, tokenizer: Tokenizer, small_model: MakeModel
) -> None:
    objective, model = next_token_objective(COMPUTE), small_model(vocab_size=tokenizer.vocab_size)
    long = shard.document(0).repeat(100)[: 3 * pretrain.GLANCED]
    documents = [long, long[pretrain.GLANCED : 2 * pretrain.GLANCED], long[: pretrain.GLANCED]]
    whole, middle, start = (
        pretrain.build(recipe(), model, tokenizer, shard, [each], objective, COMPUTE, alone()).evaluate()
        for each in documents
    )
    assert whole == middle != start


def test_a_micro_batch_teaches_its_own_tokens_and_as_many_others_as_were_asked_for(
    shard: Shard, tokenizer: Tokenizer, small_model: MakeModel
) -> None:
    """Every token learns when none is left out; the loss is about the same."""
    model = small_model(vocab_size=tokenizer.vocab_size, tie_embeddings=False)
    losses, learned = [], []
    for candidates in (96, 96, 0):
        taught = phase(shard, tokenizer, model, alone(), candidates=candidates)
        batch = taught.batches(0)[0]
        loss, _ = taught.objective(model, batch)
        (gradient,) = torch.autograd.grad(loss, model.lm_head.weight)
        losses.append(loss.item())
        learned.append(set(gradient.abs().sum(1).nonzero()[:, 0].tolist()))
    own = {*batch.targets[batch.supervised].tolist(), *tokenizer.special}
    assert losses[0] == losses[1] == pytest.approx(losses[2], rel=0.05)
    assert learned[0] == learned[1]
    assert own < learned[0]
    assert len(learned[0]) == 96 < len(learned[2]) == tokenizer.vocab_size


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_asked_share_of_documents_is_cut_into_blanks(share: float, shard: Shard, tokenizer: Tokenizer) -> None:
    packed = text_rows(shard, tokenizer, recipe(blanks=share))
    tokens = np.concatenate([packed.row(i).tokens for i in range(packed.rows_per_epoch(0))])
    cut = int((tokens == tokenizer.blank_middle).sum())
    assert cut == int((tokens == tokenizer.blank_prefix).sum()) == int((tokens == tokenizer.blank_suffix).sum())
    assert abs(cut / len(TEXTS) - share) < 0.11
    assert int((tokens == tokenizer.end_of_text).sum()) == len(TEXTS), "each document once, with its end"


def test_rows_hold_blanks_in_both_orders_each_half_of_the_time(shard: Shard, tokenizer: Tokenizer) -> None:
    packed = text_rows(shard, tokenizer, recipe(blanks=1.0))
    tokens = np.concatenate([packed.row(i).tokens for i in range(packed.rows_per_epoch(0))])
    second = tokens[np.flatnonzero(tokens == tokenizer.blank_prefix) + 1]
    assert abs((second == tokenizer.blank_suffix).mean() - 0.5) < 0.11


def test_a_document_longer_than_a_row_is_cut_piece_by_piece_and_loses_nothing(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    long = " ".join(TEXTS[:20])
    packed = text_rows(write([long], tokenizer, tmp_path, key="long"), tokenizer, recipe(blanks=1.0))
    found = [tokenizer.decode(packed.row(i).tokens, keep_special=True) for i in range(packed.rows_per_epoch(0))]
    marks = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
    assert len(found) > 5
    for row in found:  # each holds a whole blank with what surrounds it: nothing of it is in another row
        assert len({row.count(mark) for mark in marks}) == 1
        assert row.count("<|fim_prefix|>") >= 1
    pieces = [piece for row in found for piece in row.split("<|fim_prefix|>")[1:]]
    sizes = [len(re.sub(r"<\|\w+\|>", "", piece)) for piece in pieces]
    assert sum(sizes) == len(long)


def test_another_epoch_cuts_other_documents_in_another_order(shard: Shard, tokenizer: Tokenizer) -> None:
    packed = text_rows(shard, tokenizer, recipe(blanks=0.5))
    count = packed.rows_per_epoch(0)
    first = {tuple(packed.row(i).tokens) for i in range(count)}
    second = {tuple(packed.row(count + i).tokens) for i in range(packed.rows_per_epoch(1))}
    assert len(first & second) < count / 10


def test_every_target_is_the_next_token_of_the_same_document(shard: Shard, tokenizer: Tokenizer) -> None:
    packed = text_rows(shard, tokenizer, recipe(blanks=0.0))
    batch = packed.batch(0, 8)
    tokens, documents = batch.tokens, batch.documents
    same = documents[:, 1:] == documents[:, :-1]
    inside = same & (documents[:, 1:] >= 0)
    assert torch.equal(batch.supervised[:, :-1], inside)
    assert torch.equal(batch.targets[:, :-1][inside], tokens[:, 1:][inside])
    assert not batch.supervised[documents < 0].any()


def dialogue(number: int, *, words: int = 1) -> Dialogue:
    turns = (Message("user", f"What is {number}?"), Message("assistant", f"It is {number}." * words))
    return Dialogue(turns, f"here:{number}")


def test_only_answers_and_their_end_are_learned_in_phase_two(tokenizer: Tokenizer) -> None:
    packed = instruct.dialogue_rows([dialogue(i) for i in range(30)], tokenizer, InstructConfig(), 48, 0, print)
    seen = []
    for index in range(packed.rows_per_epoch(0)):
        row = packed.row(index)
        learned = tokenizer.decode(row.targets[row.supervised], keep_special=True)
        seen += [text for text in learned.split("<|im_end|>") if text]
    assert sorted(seen) == sorted(f"It is {i}." for i in range(30))


def test_what_does_not_fit_is_counted_and_said(tokenizer: Tokenizer) -> None:
    said: list[str] = []
    instruct.dialogue_rows([dialogue(1), dialogue(2, words=90)], tokenizer, InstructConfig(), 48, 0, said.append)
    assert said == ["1 of 2 dialogues is longer than 48 tokens: 1 left out, as nothing of them to learn fits"]


def test_when_no_dialogue_fits_the_remedy_is_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"here:2: no dialogue fits 48 tokens; raise model.context_length"):
        instruct.dialogue_rows([dialogue(2, words=90)], tokenizer, InstructConfig(), 48, 0, print)


def test_instructions_without_accepted_answers_are_measured_by_their_own() -> None:
    plain, marked = dialogue(1), dialogue(2)._replace(accepted=("two",))
    assert instruct.checkable([plain, marked]) == [marked]
    assert instruct.checkable([plain]) == [plain]
