"""Phase I: a language is learned from text with words missing, the next one and blanks in the middle. Text → base."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivium.batch import TokenBatch
from trivium.compute import Compute
from trivium.config import Recipe
from trivium.distributed.rows import packed_stream
from trivium.distributed.shard import whole_model
from trivium.distributed.world import World
from trivium.evaluate.bits import document_batches, surprise
from trivium.losses.language_model import in_few_sizes, linear_cross_entropy, logits_gradient
from trivium.model.transformer import Transformer, initialise, read, run_layer
from trivium.native import cross_entropy
from trivium.text import blanks, echoes
from trivium.text.packing import PackedRows
from trivium.text.shards import Shard
from trivium.text.split import evenly
from trivium.text.tokenizer import Tokenizer
from trivium.train.bigrams import begin_with_pairs
from trivium.train.candidates import Candidates, draw, shares_of
from trivium.train.optimizer import build_optimizers
from trivium.train.phase import Metrics, Objective, Phase

SLACK = 8  # tokens kept free in a row for what cutting a blank may add
GLANCE, GLANCED = 48, 512  # held-out documents measured along the way, and tokens of each, from its middle
ECHOED_TOKENS, PAIRED_TOKENS = 1_000_000, 4_000_000  # of which passages are said twice, and pairs are counted, roughly


def build(
    recipe: Recipe,
    model: Transformer,
    tokenizer: Tokenizer,
    shard: Shard,
    held_out: Sequence[NDArray[np.int32]],
    objective: "NextToken",
    compute: Compute,
    world: World,
) -> Phase[TokenBatch]:
    """The phase that turns a fresh model into base.

    shard      the documents to learn from
    held_out   ids of documents to measure on
    objective  from `next_token_objective`; phase II shares it, so that nothing is compiled twice
    """
    settings = recipe.pretrain
    text = packed_stream(text_rows(shard, tokenizer, recipe).row, settings, world)
    echoed = some_text(shard, ECHOED_TOKENS) if settings.echo_steps else None

    def batches(step: int) -> list[TokenBatch]:
        if echoed is not None and step < settings.echo_steps:
            return echo_microbatches(recipe, tokenizer, echoed, step, world)
        return text(step)

    def evaluate() -> dict[str, float]:
        seen = [middle(ids, GLANCED) for ids in evenly(held_out, GLANCE)]
        glance = document_batches(seen, tokenizer, row_length=recipe.model.context_length)
        plain = whole_model(model, world)
        return {"bits_per_byte": surprise(plain, glance, tokenizer, compute).bits_per_byte}

    return Phase(
        name="pretrain",
        model=model,
        objective=among_candidates(objective, settings.candidates, model.config.vocab_size, tokenizer, shard),
        batches=batches,
        evaluate=evaluate,
        optimizers=build_optimizers(model, settings),
        settings=settings,
        evaluations=recipe.evaluate.along_the_way,
        ahead=True,
    )


def middle(ids: NDArray[np.int32], most: int) -> NDArray[np.int32]:
    """So many tokens of a document, or all."""
    start = max(0, len(ids) - most) // 2
    return ids[start : start + most]


def among_candidates(
    objective: "NextToken", count: int, vocab_size: int, tokenizer: Tokenizer, shard: Shard
) -> Objective[TokenBatch]:
    """The objective, of micro-batches that tell so many tokens apart."""
    if not 0 < count < vocab_size:
        return objective
    shares = shares_of(some_text(shard, PAIRED_TOKENS), tokenizer.special, vocab_size)

    def narrowed(model: Transformer, batch: TokenBatch) -> tuple[Tensor, Metrics]:
        return objective(model, batch, draw(batch.targets[batch.supervised], shares, count))

    return narrowed


def fresh(recipe: Recipe, shard: Shard, compute: Compute, world: World) -> Transformer:
    """The model before its first step."""
    model = initialise(Transformer(recipe.model), recipe.seed).to(compute.device)
    if recipe.pretrain.bigrams and not recipe.model.tie_embeddings:
        begin_with_pairs(model, some_text(shard, PAIRED_TOKENS), compute, world, seed=recipe.seed)
    return model


def some_text(shard: Shard, tokens: int) -> NDArray[np.int32]:
    """About so many tokens of documents from all over the shard, one after the other."""
    return np.concatenate(list(shard.some(tokens)))


def echo_microbatches(
    recipe: Recipe, tokenizer: Tokenizer, text: NDArray[np.int32], step: int, world: World
) -> list[TokenBatch]:
    """This rank's share of a step of passages said twice."""
    settings = recipe.pretrain
    whole = echoes.echo_batch(
        text,
        tokenizer.end_of_text,
        settings.rows_per_step,
        recipe.model.context_length,
        seed=recipe.seed,
        step=step,
        steps=settings.echo_steps,
    )
    mine = [field[world.rank :: world.size].split(settings.microbatch_rows) for field in whole]
    return [TokenBatch(*parts) for parts in zip(*mine, strict=True)]


def text_rows(shard: Shard, tokenizer: Tokenizer, recipe: Recipe) -> PackedRows:
    """Packed rows of the shard's documents; in each epoch another share of them is cut into fill-in-the-blank."""
    seed, share = recipe.seed, recipe.pretrain.blanks

    def is_cut(epoch: int) -> NDArray[np.bool_]:
        return _generator(seed, epoch).random(len(shard)) < share

    def slack(epoch: int) -> NDArray[np.int64]:
        return np.where(is_cut(epoch), SLACK, 0)

    cut_in: dict[int, NDArray[np.bool_]] = {}

    def fetch(epoch: int, item: int, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        if epoch not in cut_in:
            cut_in.clear()
            cut_in[epoch] = is_cut(epoch)
        ids = shard.document(item, start, stop)
        if cut_in[epoch][item]:
            generator = _generator(seed, epoch, item, start)
            ids = blanks.cut(ids, tokenizer, generator, max_length=stop - start + SLACK)
        return ids, np.ones(len(ids), dtype=np.bool_)

    return PackedRows(
        shard.lengths,
        fetch,
        row_length=recipe.model.context_length,
        seed=seed,
        pad=tokenizer.pad,
        slack=slack,
        cut=True,
        weights=shard.weights,
    )


def _generator(*parts: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(parts)))


class NextToken(Protocol):
    def __call__(
        self, model: Transformer, batch: TokenBatch, among: Candidates | None = None, /
    ) -> tuple[Tensor, Metrics]: ...


def next_token_objective(compute: Compute) -> NextToken:
    """Cross-entropy of every supervised target of packed rows, compiled where that was asked for.

    On the processor one layer is compiled, and serves all: compiling takes no longer for deep models, and what is
    compiled is as fast. On a GPU the model is compiled whole, so that nothing is launched piece by piece.
    """
    on_gpu = compute.device.type == "cuda"
    by_torch = in_few_sizes(compute.compile(logits_gradient)) if compute.compiled else logits_gradient
    through = compute.compile(read) if on_gpu else partial(read, run=compute.compile(run_layer))

    def objective(model: Transformer, batch: TokenBatch, among: Candidates | None = None, /) -> tuple[Tensor, Metrics]:
        supervised = compute.send(batch.supervised.flatten().nonzero()[:, 0])  # a GPU would be waited for to find them
        here = TokenBatch(*map(compute.send, batch))
        with compute.autocast():
            hidden = through(model, here.tokens, here.positions, model.document_mask(here.documents))
        seen, weight, targets, offsets = hidden.flatten(0, 1), model.lm_head.weight, here.targets.flatten(), None
        if among:
            tokens, offsets = map(compute.send, among)
            weight = weight.index_select(0, tokens)
            targets = torch.searchsorted(tokens, targets).clamp_max_(len(tokens) - 1)  # where nothing counts
        step = cross_entropy.logits_gradient if cross_entropy.serves(len(weight), seen.device) else by_torch
        return linear_cross_entropy(seen.to(compute.dtype), weight, targets, supervised, step, offsets), {}

    return objective
