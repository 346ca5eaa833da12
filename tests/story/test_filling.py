"""What `trivium fill` tells of a text with blanks: whole texts, and each blank's fillings, with their probabilities."""

from collections.abc import Callable
from typing import Any

import pytest

from trivium.model.transformer import Transformer
from trivium.shelf import Opened
from trivium.story.filling import fill_with, print_fillings
from trivium.text.tokenizer import Tokenizer

MakeModel = Callable[..., Transformer]


@pytest.fixture
def opened(tokenizer: Tokenizer, small_model: MakeModel) -> Opened:
    return Opened(small_model(vocab_size=tokenizer.vocab_size, context_length=128), tokenizer)


def test_whole_texts_and_fillings_are_told_the_most_probable_first(opened: Opened) -> None:
    found = fill_with(opened, "The ___ sat on the ___.", best=3)
    assert found["text"] == found["texts"][0]["text"]
    for each in found["texts"]:
        one, other = each["fillings"]
        assert each["text"] == f"The{one} sat on the{other}."
    assert [len(found["texts"]), *(len(blank["fillings"]) for blank in found["blanks"])] == [3, 3, 3]
    for told in (found["texts"], *(blank["fillings"] for blank in found["blanks"])):
        shares = [each["probability"] for each in told]
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1.001


def test_the_blanks_of_a_text_that_are_filled_together_are_printed_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    def likely(*pairs: tuple[str, float]) -> dict[str, Any]:
        return {"fillings": [{"text": text, "probability": share} for text, share in pairs]}

    texts = [{"text": "The cat sat on the mat.", "probability": 0.6}, {"text": "The dog sat.", "probability": 0.05}]
    cat, mat = likely((" cat", 0.7), (" dog", 0.3)), likely((" mat", 0.9))
    print_fillings({"text": "The cat sat on the mat.", "texts": texts, "blanks": [cat, mat]})
    assert capsys.readouterr().out.splitlines() == [
        " 60%  The cat sat on the mat.",
        "  5%  The dog sat.",
        "  blank 1:  cat 70%   dog 30%",
        "  blank 2:  mat 90%",
    ]
    print_fillings({"text": "The cat sat.", "texts": texts, "blanks": [cat]})
    assert capsys.readouterr().out.splitlines() == ["The cat sat.", "  cat 70%   dog 30%"]


@pytest.mark.parametrize("blanks", [1, 2])
def test_fillings_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str], blanks: int) -> None:
    text, filling = "The \x1b[2Jcat.", {"fillings": [{"text": " \x1b[2Jcat", "probability": 0.7}]}
    print_fillings({"text": text, "texts": [{"text": text, "probability": 0.7}], "blanks": [filling] * blanks})
    told = capsys.readouterr().out
    assert told.count("\ufffd[2Jcat") == 1 + blanks
    assert "\x1b" not in told
