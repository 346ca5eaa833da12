"""Phase II: what packing may not change."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from trivium.batch import TokenBatch
from trivium.compute import Compute, prepare
from trivium.config import ComputeConfig, InstructConfig
from trivium.model.transformer import Transformer
from trivium.phases.instruct import dialogue_rows
from trivium.phases.pretrain import next_token_objective
from trivium.records import Dialogue, Message
from trivium.text.dialogue import render
from trivium.text.schemas import quiet
from trivium.text.tokenizer import Tokenizer

ROW = 160
words = st.text("abc !?\n", min_size=1, max_size=12)
exchange = st.tuples(words, words)
asked = st.lists(st.lists(exchange, min_size=1, max_size=2), min_size=1, max_size=6)


def test_answers_of_weight_0_have_no_loss_in_packed_rows(tokenizer: Tokenizer) -> None:
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "a"))
    whole, part = (
        dialogue_rows([Dialogue(turns, "here", only_read=silent)], tokenizer, InstructConfig(), ROW, 0, quiet).row(0)
        for silent in ((), (1,))
    )
    assert part.tokens.tolist() == whole.tokens.tolist()
    first = render(turns, tokenizer, only_read=(3,))
    assert (whole.supervised & ~part.supervised).sum() == first.supervised.sum() > 0


@pytest.fixture(scope="module")
def compute(tmp_path_factory: pytest.TempPathFactory) -> Compute:
    plain = ComputeConfig(device="cpu", precision="float32", compile=False, threads=1)
    return prepare(plain, torch.device("cpu"), tmp_path_factory.mktemp("compiled"))


@settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(talks=asked, loss_on=st.sampled_from(["all", "last"]))
def test_packing_changes_no_loss(
    talks: list[list[tuple[str, str]]],
    loss_on: str,
    small_model: Callable[..., Transformer],
    tokenizer: Tokenizer,
    compute: Compute,
) -> None:
    model = small_model(vocab_size=tokenizer.vocab_size, context_length=ROW)
    chosen = InstructConfig.model_validate({"loss_on": loss_on})
    records = [
        Dialogue(tuple(turn for q, a in talk for turn in (Message("user", q), Message("assistant", a))), f"talk:{i}")
        for i, talk in enumerate(talks)
    ]
    rows = dialogue_rows(records, tokenizer, chosen, ROW, 0, quiet)
    batch: TokenBatch = rows.batch(0, rows.rows_per_epoch(0))
    packed, _ = next_token_objective(compute)(model, batch)
    alone, count = 0.0, 0
    for record in records:
        seen = render(record.messages, tokenizer, loss_on=chosen.loss_on)
        ids = torch.from_numpy(seen.ids.astype(np.int64))[None]
        logits = model(ids, torch.arange(ids.shape[1])[None], torch.zeros_like(ids))[0, :-1]
        learned = torch.from_numpy(seen.supervised[1:])
        targets = torch.from_numpy(seen.ids[1:].astype(np.int64))
        alone += cross_entropy(logits[learned], targets[learned], reduction="sum").item()
        count += int(learned.sum())
    assert batch.count == count
    assert abs(packed.item() - alone) / count < 1e-5


def dialogues(word: str, count: int, weight: float) -> list[Dialogue]:
    asked = [(Message("user", f"Say {word} {n}."), Message("assistant", f"{word} {n}")) for n in range(count)]
    return [Dialogue(messages, "here", weight=weight) for messages in asked]


def test_dialogues_come_as_often_as_the_weight_of_their_source_says(tokenizer: Tokenizer) -> None:
    records = [*dialogues("mat", 8, 2.0), *dialogues("cat", 8, 0.5), *dialogues("sat", 8, 1.0)]
    rows = dialogue_rows(records, tokenizer, InstructConfig(), 96, 0, quiet)
    seen = {"mat": [0, 0], "cat": [0, 0], "sat": [0, 0]}
    for epoch in range(2):
        for index in range(epoch * rows.rows_per_epoch(0), sum(rows.rows_per_epoch(e) for e in range(epoch + 1))):
            text = tokenizer.decode(rows.row(index).tokens.tolist())
            for word in seen:
                seen[word][epoch] += text.count(f"Say {word}")
    assert seen["mat"] == [16, 16]
    assert seen["sat"] == [8, 8]
    assert sum(seen["cat"]) == 8
    assert min(seen["cat"]) > 0
