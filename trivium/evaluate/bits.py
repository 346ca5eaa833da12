"""How well a text is predicted: nats per target, bits per byte. No training."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivium.batch import TokenBatch
from trivium.compute import Compute
from trivium.losses.language_model import bits_per_byte, next_token_loss, positions_at_once
from trivium.model.transformer import Transformer
from trivium.native.linear import filled_up
from trivium.text.packing import PackedRows
from trivium.text.tokenizer import Tokenizer

AT_ONCE = 4096  # positions that are read at once, roughly


class Surprise(NamedTuple):
    """What a model did not expect of some text, summed."""

    nats: float
    targets: int
    bytes: int  # UTF-8 bytes of the targets

    @property
    def nats_per_target(self) -> float:
        return self.nats / self.targets

    @property
    def bits_per_byte(self) -> float:
        return bits_per_byte(self.nats, self.bytes)


@torch.no_grad()
def surprise(model: Transformer, batches: Iterable[TokenBatch], tokenizer: Tokenizer, compute: Compute) -> Surprise:
    """Loss summed over every supervised target, with the bytes that those targets write."""
    byte_table = torch.tensor([len(tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size)])
    nats, targets, size = 0.0, 0, 0
    for batch in batches:
        here = TokenBatch(*(field.to(compute.device) for field in batch))
        with compute.autocast():
            hidden = model.hidden(here.tokens, here.positions, model.document_mask(here.documents))
            nats += nats_of(model, hidden[here.supervised], here.targets[here.supervised])
        targets += int(batch.supervised.sum())
        size += int(byte_table[batch.targets[batch.supervised]].sum())
    return Surprise(nats, targets, size)


def nats_of(model: Transformer, hidden: Tensor, targets: Tensor) -> float:
    """Cross-entropy summed over targets (N,) after what `hidden` (N, D) says; few logits are kept at a time."""
    most = positions_at_once(model.config.vocab_size, on_cpu=hidden.device.type == "cpu")
    at_once = most // 2  # logits are float32 here, and there twice
    rows, wanted = filled_up(hidden), filled_up(targets)
    counted = torch.arange(len(rows), device=hidden.device) < len(targets)
    parts = zip(*(each.split(at_once) for each in (rows, wanted, counted)), strict=True)
    return sum(float(next_token_loss(model.lm_head(seen), *answers)) for seen, *answers in parts)


def document_batches(
    documents: Sequence[NDArray[np.int32]], tokenizer: Tokenizer, *, row_length: int, positions: int = AT_ONCE
) -> Iterable[TokenBatch]:
    """Whole documents in packed rows, each exactly once; a long one is cut into rows.

    documents  ids, the end-of-text token included; the first token of a piece is read and not predicted
    positions  of a batch, or one row
    """

    def fetch(epoch: int, item: int, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        return documents[item][start:stop], np.ones(stop - start, dtype=np.bool_)

    lengths = np.array([len(ids) for ids in documents])
    packed = PackedRows(lengths, fetch, row_length=row_length, seed=0, pad=tokenizer.pad)
    return every_batch(packed, positions=positions)


def every_batch(packed: PackedRows, *, positions: int = AT_ONCE) -> Iterable[TokenBatch]:
    """All rows of the first epoch, the last batch smaller."""
    total, rows = packed.rows_per_epoch(0), max(1, positions // packed.row_length)
    for first in range(0, total, rows):
        chosen = [packed.row(index) for index in range(first, min(first + rows, total))]
        yield TokenBatch(*(torch.from_numpy(np.stack(column)) for column in zip(*chosen, strict=True)))
