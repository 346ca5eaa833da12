"""Formats that a program can check: right answers keep them, others do not."""

from collections.abc import Callable

import pytest

from trivium.evaluate import formats
from trivium.evaluate.formats import CHECKS, TOPICS, items, keeps_formats, sentences
from trivium.evaluate.tasks import Reply
from trivium.model.transformer import Transformer
from trivium.text.tokenizer import Tokenizer

KEPT = {
    "one sentence": "The sea is wide.",
    "two sentences": "It is wide. It is deep!",
    "list of three": "Salt, fish and boats.",
    "one word": "Wide.",
    "at most ten words": "It is wide and deep.",
    "lower case": "it is wide.",
    "upper case": "IT IS WIDE.",
    "no comma": "It is wide.",
    "a question": "Is it deep?",
    "begins with Well": "Well, it is wide.",
}
BROKEN = {
    "one sentence": "The sea is wide. It is deep.",
    "two sentences": "It is wide.",
    "list of three": "Salt and fish.",
    "one word": "It is wide.",
    "at most ten words": "one two three four five six seven eight nine ten eleven",
    "lower case": "It is wide.",
    "upper case": "IT is wide.",
    "no comma": "It is wide, and deep.",
    "a question": "It is deep.",
    "begins with Well": "It is wide.",
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_each_check_knows_right_from_wrong(check: formats.Check) -> None:
    assert check.is_kept(KEPT[check.name])
    assert not check.is_kept(BROKEN[check.name])


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("One", 1), ("One.", 1), ("One. Two", 2), ('He said: "No!" Then he left.', 2), ("3.5 is it.", 1)],
)
def test_sentences_are_counted_by_their_ends(text: str, count: int) -> None:
    assert sentences(text) == count


@pytest.mark.parametrize(
    "text", ["a, b, and c.", "Here are three: a, b, c", "- a\n- b\n- c", "Here they are\n1. a\n2. b\n3. c", "a\nb\nc"]
)
def test_lists_are_counted_however_they_are_written(text: str) -> None:
    assert items(text) == 3


def test_an_answer_that_never_ends_keeps_no_format(
    small_model: Callable[..., Transformer], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [Reply(KEPT[check.name], topic != TOPICS[0], []) for check in CHECKS for topic in TOPICS]
    monkeypatch.setattr(formats, "reply_to", lambda *_: said)
    found = keeps_formats(small_model(), tokenizer)
    assert found.ended == found.share == 1 - 1 / len(TOPICS)
    assert set(found.by_check) == {check.name for check in CHECKS}
