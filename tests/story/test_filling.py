"""What `trivium fill` tells of a text with blanks: whole texts, and each blank's fillings, with their probabilities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trivium.errors import CheckpointError
from trivium.model.transformer import Transformer
from trivium.shelf import Opened
from trivium.story.filling import check_learned, fill_with, print_fillings
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
        '  blank 1:  "cat" 70%   "dog" 30%',
        '  blank 2:  "mat" 90%',
    ]
    print_fillings({"text": "The cat sat.", "texts": texts, "blanks": [cat]})
    assert capsys.readouterr().out.splitlines() == ["The cat sat.", '  "cat" 70%   "dog" 30%']


def test_fillings_are_quoted_and_those_of_no_percent_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*pairs: tuple[str, float]) -> str:
        print_fillings({"text": "", "blanks": [{"fillings": [{"text": t, "probability": p} for t, p in pairs]}]})
        return capsys.readouterr().out.splitlines()[-1]

    assert shown((" cat ", 0.99), ("\ndog", 0.006), (" cow", 0.004)) == '  "cat " 99%   "\\ndog" 1%'
    assert shown((" cat", 0.004), (" cow", 0.003)) == '  "cat" 0%'


def test_a_model_whose_vocabulary_had_no_blanks_is_refused(opened: Opened, tmp_path: Path) -> None:
    check_learned(tmp_path, opened)
    rows, ids = opened.model.embed_tokens.weight.data, opened.tokenizer
    rows[[ids.blank_prefix, ids.blank_middle]] = rows.mean(0)  # as `grow` does it
    with pytest.raises(CheckpointError, match=r"has never learned to fill blanks.*trivium pretrain --from"):
        check_learned(tmp_path, opened)


@pytest.mark.parametrize("blanks", [1, 2])
def test_fillings_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str], blanks: int) -> None:
    text, filling = "The \x1b[2Jcat.", {"fillings": [{"text": " \x1b[2Jcat", "probability": 0.7}]}
    print_fillings({"text": text, "texts": [{"text": text, "probability": 0.7}], "blanks": [filling] * blanks})
    told = capsys.readouterr().out
    assert told.count("\ufffd[2Jcat") == 1 + blanks
    assert "\x1b" not in told
