"""Phase II: the base model learns to do what is asked, from dialogues. Base → instruct."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trivium.batch import TokenBatch
from trivium.compute import Compute
from trivium.config import InstructConfig, Recipe
from trivium.distributed.rows import packed_stream
from trivium.distributed.shard import whole_model
from trivium.distributed.world import World
from trivium.errors import DataError
from trivium.evaluate.bits import every_batch, surprise
from trivium.evaluate.tasks import mark
from trivium.model.transformer import Transformer
from trivium.records import Dialogue
from trivium.text import dialogue as dialogues
from trivium.text.packing import PackedRows, RowOf
from trivium.text.schemas import BadRows, quiet
from trivium.text.split import evenly
from trivium.text.tokenizer import Tokenizer
from trivium.train.optimizer import build_optimizers
from trivium.train.phase import Objective, Phase

GLANCE = 100  # held-out dialogues measured along the way


def build(
    recipe: Recipe,
    model: Transformer,
    tokenizer: Tokenizer,
    row: RowOf,
    held_out: Sequence[Dialogue],
    objective: Objective[TokenBatch],
    compute: Compute,
    world: World,
    *,
    name: str = "instruct",
) -> Phase[TokenBatch]:
    """The phase that turns base into instruct.

    row        what is learned, row by row
    objective  next-token loss, shared with phase I so that nothing is compiled twice
    """
    settings = recipe.instruct

    def evaluate() -> dict[str, float]:
        plain = whole_model(model, world)
        accuracy = mark(plain, tokenizer, evenly(checkable(held_out), GLANCE)).exact
        loss = held_out_loss(plain, tokenizer, evenly(held_out, GLANCE), recipe, compute)
        return {"loss": loss, "accuracy": accuracy}

    return Phase(
        name=name,
        model=model,
        objective=objective,
        batches=packed_stream(row, settings, world),
        evaluate=evaluate,
        optimizers=build_optimizers(model, settings),
        settings=settings,
        evaluations=recipe.evaluate.along_the_way,
        ahead=True,
    )


def checkable(held_out: Sequence[Dialogue]) -> list[Dialogue]:
    """The dialogues that have accepted answers; where none has, their own answers are what is expected."""
    return [d for d in held_out if d.accepted] or list(held_out)


def held_out_loss(
    model: Transformer, tokenizer: Tokenizer, held_out: Sequence[Dialogue], recipe: Recipe, compute: Compute
) -> float:
    """Nats per supervised target of dialogues that were kept from training."""
    length, bad_rows = recipe.model.context_length, recipe.data.bad_rows
    packed = dialogue_rows(held_out, tokenizer, recipe.instruct, length, recipe.seed, quiet, bad_rows=bad_rows)
    return surprise(model, every_batch(packed), tokenizer, compute).nats_per_target


def dialogue_rows(
    records: Sequence[Dialogue],
    tokenizer: Tokenizer,
    settings: InstructConfig,
    row_length: int,
    seed: int,
    say: Callable[[str], None],
    *,
    bad_rows: BadRows = "stop",
) -> PackedRows:
    """Rendered dialogues in packed rows. What had to be cut to fit a row, or was skipped, is counted and said.

    raises  DataError when not one dialogue fits, or one cannot be rendered, unless bad_rows = "skip"
    """
    fitted = dialogues.fit_all(records, tokenizer, row_length, loss_on=settings.loss_on, bad_rows=bad_rows)
    rendered = [each.rendered for each in fitted if each.rendered is not None]
    if not rendered:
        fault = next((each.fault for each in fitted if each.fault), None)
        none = DataError(f"{records[0].source}: no dialogue fits {row_length} tokens; raise model.context_length")
        raise fault or none
    for told in (dialogues.told_of_faults(fitted), dialogues.told_of_cuts(fitted, row_length)):
        if told:
            say(told)
    ids = np.concatenate([each.ids for each in rendered])
    supervised = np.concatenate([each.supervised for each in rendered])
    lengths = np.array([len(each.ids) for each in rendered])
    weights = np.array([d.weight for d, each in zip(records, fitted, strict=True) if each.rendered is not None])
    some = weights if (weights != 1).any() else None
    return packed_rows(ids, supervised, lengths, row_length=row_length, seed=seed, pad=tokenizer.pad, weights=some)


def packed_rows(
    ids: NDArray[np.int32],
    supervised: NDArray[np.bool_],
    lengths: NDArray[np.int64],
    *,
    row_length: int,
    seed: int,
    pad: int,
    weights: NDArray[np.float64] | None = None,
) -> PackedRows:
    """Rows of dialogues that lie end to end in `ids` (N,) and `supervised` (N,).

    weights  (dialogues,) how often each is seen in an epoch
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)])

    def fetch(epoch: int, item: int, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        here = slice(offsets[item] + start, offsets[item] + stop)
        return ids[here], supervised[here]

    return PackedRows(lengths, fetch, row_length=row_length, seed=seed + 1, pad=pad, weights=weights)
