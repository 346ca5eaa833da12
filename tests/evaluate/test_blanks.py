"""Filling blanks: what is proposed, and that proposals are weighed by the probability of the whole text."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from trivium.evaluate import blanks as blank_module
from trivium.evaluate.blanks import Filling, Gap, blank_accuracy, common_beginning, fill, propose, weigh
from trivium.generate.engine import Answer
from trivium.model.transformer import Transformer
from trivium.text.blanks import Blank
from trivium.text.tokenizer import Tokenizer

MakeModel = Callable[..., Transformer]


@pytest.fixture
def model(tokenizer: Tokenizer, small_model: MakeModel) -> Transformer:
    return small_model(vocab_size=tokenizer.vocab_size, context_length=128)


@torch.no_grad()
def logprob_of(model: Transformer, ids: list[int]) -> float:
    tokens = torch.tensor([ids])
    logprobs = model(tokens, torch.arange(len(ids))[None], torch.zeros_like(tokens))[0].log_softmax(-1)
    return float(logprobs[:-1].gather(-1, tokens[0, 1:, None]).sum())


def test_fillings_weigh_as_much_as_the_texts_they_make_are_probable(model: Transformer, tokenizer: Tokenizer) -> None:
    gap, proposed = Gap("The warm", " sat on the mat."), [" cat", " cat and dog", " dog"]
    found = {filling.text: filling.probability for filling in weigh(model, tokenizer, gap, proposed)}
    texts = [tokenizer.encode(gap.before + filling + gap.after) for filling in proposed]
    expected = torch.tensor([logprob_of(model, ids) for ids in texts]).softmax(0).tolist()
    assert [found[filling] for filling in proposed] == pytest.approx(expected, abs=1e-4)
    assert sum(found.values()) == pytest.approx(1)


def test_where_nothing_follows_the_text_ends_there(model: Transformer, tokenizer: Tokenizer) -> None:
    found = {f.text: f.probability for f in weigh(model, tokenizer, Gap("The warm", ""), [" cat", " dog"])}
    texts = [[*tokenizer.encode(f"The warm{filling}"), tokenizer.end_of_text] for filling in found]
    expected = torch.tensor([logprob_of(model, ids) for ids in texts]).softmax(0).tolist()
    assert list(found.values()) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("gap", [Gap("", ""), Gap("", " sat."), Gap("warm " * 300, " cat" * 300), Gap("Wär", "me")])
def test_any_gap_has_fillings_the_most_probable_first(model: Transformer, tokenizer: Tokenizer, gap: Gap) -> None:
    (found,) = fill(model, tokenizer, [gap])
    assert found == sorted(found, key=lambda filling: -filling.probability)
    assert len({filling.text for filling in found}) == len(found) >= 1
    assert fill(model, tokenizer, [Gap("A", "B"), gap])[1] == found


def test_every_beginning_of_what_the_model_wrote_is_proposed(
    model: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(model: object, requests: Sequence[Any], sampling: object, *, stop: Sequence[int]) -> list[Answer]:
        return [Answer(tokenizer.encode(" cat sat"), None) for _ in requests]

    monkeypatch.setattr(blank_module, "generate", write)
    ids = tokenizer.encode(" cat sat")
    beginnings = {tokenizer.decode(ids[:n]) for n in range(1, len(ids) + 1)} - {" "}
    assert set(propose(model, tokenizer, [Gap("The", ".")])[0]) == beginnings


def test_a_blank_is_right_when_it_is_filled_with_the_word_that_stood_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def always(model: object, tokenizer: object, gaps: Sequence[Gap]) -> list[list[Filling]]:
        return [[Filling(" cat", 0.6), Filling(" dog", 0.4)] for _ in gaps]

    monkeypatch.setattr(blank_module, "fill", always)
    blanks = [Blank("The", " cat", "."), Blank("The", " dog", "."), Blank("A", " cat", "."), Blank("A", "cat", ".")]
    assert blank_accuracy(None, None, blanks) == 0.5  # type: ignore[arg-type]


def test_what_rows_have_in_common_at_their_beginning() -> None:
    assert common_beginning([[1, 2, 3], [1, 2, 4]]) == 2
    assert common_beginning([[1, 2], [1, 2, 4]]) == 2
    assert common_beginning([[1], [2]]) == 0
    assert common_beginning([[5, 6]]) == 2
