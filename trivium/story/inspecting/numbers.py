"""What the data is like, in numbers: lengths, shares, repetitions, and what lies on both sides. Shows nothing."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from trivium.config import Recipe
from trivium.errors import DataError
from trivium.phases.align.reward import read_answer
from trivium.records import Dialogue, Document, Pair
from trivium.story.inspecting.data import Data, Record, Rows, some
from trivium.story.inspecting.found import Numbers
from trivium.story.stages import encode_whole
from trivium.text import dialogue as dialogues
from trivium.text.dialogue import Fitted
from trivium.text.packing import PackedRows
from trivium.text.split import Split, dialogue_key, document_key, pair_key
from trivium.text.tokenizer import Tokenizer
from trivium.wording import counted

COUNTED_ROWS = 200  # of each phase, for the share of padding


class Sizes(NamedTuple):
    """Of one sort of records, as the model sees them. N records."""

    lengths: list[int]  # (N,) tokens
    learned: int  # tokens with loss, over all records
    cut: int  # records that context_length shortens, or cuts into pieces
    left_out: int  # records of which nothing fits


def numbers_of(data: Data, rows: Rows, tokenizer: Tokenizer, recipe: Recipe) -> dict[str, Numbers]:
    """raises  DataError when not one token of any dialogue would have loss"""
    documents, asked, pairs = data
    return {
        "documents": _numbers(
            documents,
            document_sizes(some(documents.train), tokenizer, recipe),
            padding(rows.documents),
            repeated(map(document_key, documents.train)),
            overlap(documents, document_key),
        ),
        "dialogues": _numbers(
            asked,
            dialogue_sizes(some(asked.train), tokenizer, recipe),
            padding(rows.dialogues),
            repeated((dialogue_key(dialogue), dialogue.answer) for dialogue in asked.train),
            overlap(asked, dialogue_key),
        ),
        "pairs": _numbers(
            pairs,
            pair_sizes(some(pairs.train), tokenizer, recipe),
            None,  # each answer stands behind its own prompt
            repeated((pair_key(pair), pair.chosen, pair.rejected) for pair in pairs.train),
            overlap(pairs, pair_key),
        ),
    }


def _numbers(records: Split[Record], sizes: Sizes, empty: float | None, again: int, shared: int) -> Numbers:
    lengths = sizes.lengths
    median, p90, p99 = (
        (float(np.quantile(lengths, share, method="lower")) for share in (0.5, 0.9, 0.99)) if lengths else (None,) * 3
    )
    return Numbers(
        train=len(records.train),
        held_out=len(records.held_out),
        tokens=sum(lengths),
        median=median,
        p90=p90,
        p99=p99,
        longest=max(lengths, default=None),
        with_loss=sizes.learned / sum(lengths) if lengths else None,
        padding=empty,
        cut=sizes.cut,
        left_out=sizes.left_out,
        repeated=again,
        held_out_learned=shared,
    )


def document_sizes(records: Sequence[Document], tokenizer: Tokenizer, recipe: Recipe) -> Sizes:
    lengths = [len(ids) for ids in encode_whole(tokenizer, records)]
    pieces = [-(-length // recipe.model.context_length) for length in lengths]
    return Sizes(lengths, sum(lengths) - sum(pieces), sum(number > 1 for number in pieces), 0)


def fit_all(records: Sequence[Dialogue], tokenizer: Tokenizer, recipe: Recipe) -> list[Fitted]:
    length, bad_rows = recipe.model.context_length, recipe.data.bad_rows
    return dialogues.fit_all(records, tokenizer, length, loss_on=recipe.instruct.loss_on, bad_rows=bad_rows)


def dialogue_sizes(records: Sequence[Dialogue], tokenizer: Tokenizer, recipe: Recipe) -> Sizes:
    """raises  DataError when not one token of any dialogue would have loss"""
    fitted = fit_all(records, tokenizer, recipe)
    rendered = [each.rendered for each in fitted if each.rendered is not None]
    left_out = len(fitted) - len(rendered)
    if records and not rendered:
        raise DataError(
            f"{records[0].source}: not one token of {counted(len(records), 'dialogue')} has loss, as none fits "
            f"{recipe.model.context_length} tokens; raise model.context_length"
        )
    learned = sum(int(each.supervised.sum()) for each in rendered)
    cut = sum(each.rendered is not None and each.turns_cut > 0 for each in fitted)
    return Sizes([len(each.ids) for each in rendered], learned, cut, left_out)


def pair_sizes(records: Sequence[Pair], tokenizer: Tokenizer, recipe: Recipe) -> Sizes:
    """Both answers of each pair, each with its prompt."""
    length = recipe.model.context_length
    whole = [
        sum(map(len, read_answer(pair.prompt, answer, tokenizer, 2**30)))
        for pair in records
        for answer in (pair.chosen, pair.rejected)
    ]
    return Sizes([min(size, length) for size in whole], len(whole), sum(size > length for size in whole), 0)


def padding(rows: PackedRows | None) -> float | None:
    """Share of the positions of the first packed rows that hold no token: they are computed for nothing."""
    if rows is None:
        return None
    first = [rows.row(index).documents for index in range(min(COUNTED_ROWS, rows.rows_per_epoch(0)))]
    return float(np.mean(np.stack(first) < 0))


def repeated(keys: Iterable[object]) -> int:
    """How many say again what an earlier one said."""
    return sum(number - 1 for number in Counter(map(hash, keys)).values())  # their texts are not held


def overlap(records: Split[Record], key: Callable[[Record], str]) -> int:
    """How many held-out records have a prompt, or a text, that is also learned from."""
    learned = {hash(key(record)) for record in records.train}
    return sum(hash(key(record)) in learned for record in records.held_out)
