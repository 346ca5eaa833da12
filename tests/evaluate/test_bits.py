"""Bits per byte against a slow reading of every document by itself."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from trivium.compute import Compute
from trivium.evaluate import bits
from trivium.evaluate.bits import document_batches, surprise
from trivium.model.transformer import Transformer
from trivium.text.tokenizer import Tokenizer

MakeModel = Callable[..., Transformer]
COMPUTE = Compute(torch.device("cpu"), torch.float32, False)
TEXTS = ["The cat sat.", "Ça va? 猫 sat on the mat number 17.", "It", "Was it warm? " * 3, "x"]


def encoded(tokenizer: Tokenizer) -> list[NDArray[np.int32]]:
    return [np.array([*tokenizer.encode(text), tokenizer.end_of_text], dtype=np.int32) for text in TEXTS]


@torch.no_grad()
def slowly(model: Transformer, documents: list[NDArray[np.int32]]) -> float:
    nats = 0.0
    for ids in documents:
        tokens = torch.from_numpy(ids.astype(np.int64))[None]
        logits = model(
            tokens[:, :-1], torch.arange(len(ids) - 1)[None], torch.zeros(1, len(ids) - 1, dtype=torch.int64)
        )
        nats += F.cross_entropy(logits[0], tokens[0, 1:], reduction="sum").item()
    return nats


@pytest.mark.parametrize("row_length", [48, 64, 200])
@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("at_once", [7, 4096])
def test_every_document_is_read_exactly_once_however_it_is_packed(
    row_length: int,
    rows: int,
    at_once: int,
    tokenizer: Tokenizer,
    small_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bits, "positions_at_once", lambda *_, **__: at_once)
    model, documents = small_model(vocab_size=tokenizer.vocab_size), encoded(tokenizer)
    batches = document_batches(documents, tokenizer, row_length=row_length, positions=rows * row_length)
    found = surprise(model, batches, tokenizer, COMPUTE)
    assert found.nats == pytest.approx(slowly(model, documents), rel=1e-5)
    assert found.targets == sum(len(ids) - 1 for ids in documents)
    # the first token of each document is read and not predicted; the end has no bytes
    predicted = sum(
        len(text.encode()) - len(tokenizer.token_bytes(int(ids[0]))) for text, ids in zip(TEXTS, documents, strict=True)
    )
    assert found.bytes == predicted


def test_a_model_that_guesses_evenly_needs_log_v_for_each_token(tokenizer: Tokenizer, small_model: MakeModel) -> None:
    model, documents = small_model(vocab_size=tokenizer.vocab_size, tie_embeddings=False), encoded(tokenizer)
    torch.nn.init.zeros_(model.lm_head.weight)
    found = surprise(model, document_batches(documents, tokenizer, row_length=64), tokenizer, COMPUTE)
    assert found.nats_per_target == pytest.approx(math.log(tokenizer.vocab_size), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(found.targets * math.log2(tokenizer.vocab_size) / found.bytes, rel=1e-5)


def test_a_document_longer_than_a_row_is_cut_and_still_counted_once(
    tokenizer: Tokenizer, small_model: MakeModel
) -> None:
    model = small_model(vocab_size=tokenizer.vocab_size)
    long = np.array([*tokenizer.encode("The cat sat. " * 40), tokenizer.end_of_text], dtype=np.int32)
    pieces = [long[i : i + 32] for i in range(0, len(long), 32)]
    found = surprise(model, document_batches([long], tokenizer, row_length=32), tokenizer, COMPUTE)
    assert found.targets == len(long) - len(pieces)
    assert found.nats == pytest.approx(slowly(model, pieces), rel=1e-5)
