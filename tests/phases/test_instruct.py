"""Phase II's rows of dialogues."""

from trivium.config import InstructConfig
from trivium.phases.instruct import dialogue_rows
from trivium.records import Dialogue, Message
from trivium.text.schemas import quiet
from trivium.text.tokenizer import Tokenizer


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
