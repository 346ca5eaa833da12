"""Filling blanks: what is proposed, and that proposals are weighed by the probability of the whole text."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from trivium.evaluate import blanks as blank_module
from trivium.evaluate.blanks import (
    Filled,
    Filling,
    Gap,
    apart,
    blank_accuracy,
    common_beginning,
    fill,
    fill_together,
    likely,
    propose,
    weigh,
)
from trivium.generate.engine import Answer
from trivium.model.transformer import Transformer
from trivium.text.blanks import Blank, prompt
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


def weights(model: Transformer, tokenizer: Tokenizer, gap: Gap, proposed: list[str]) -> list[float]:
    return torch.tensor(weigh(model, tokenizer, gap, proposed)).softmax(0).tolist()  # type: ignore[no-any-return]


def test_fillings_weigh_as_much_as_the_texts_they_make_are_probable(model: Transformer, tokenizer: Tokenizer) -> None:
    gap, proposed = Gap("The warm", " sat on the mat."), [" cat", " cat and dog", " dog"]
    nats = [logprob_of(model, tokenizer.encode(gap.before + filling + gap.after)) for filling in proposed]
    before = logprob_of(model, tokenizer.encode(gap.before))
    assert weigh(model, tokenizer, gap, proposed) == pytest.approx([each - before for each in nats], abs=1e-4)


def test_where_nothing_follows_the_text_ends_there(model: Transformer, tokenizer: Tokenizer) -> None:
    proposed = [" cat", " dog"]
    texts = [[*tokenizer.encode(f"The warm{filling}"), tokenizer.end_of_text] for filling in proposed]
    expected = torch.tensor([logprob_of(model, ids) for ids in texts]).softmax(0).tolist()
    assert weights(model, tokenizer, Gap("The warm", ""), proposed) == pytest.approx(expected, abs=1e-4)


def test_where_another_blank_follows_at_once_the_text_does_not_end(model: Transformer, tokenizer: Tokenizer) -> None:
    proposed = [" cat", " dog"]
    texts = [tokenizer.encode(f"The warm{filling}") for filling in proposed]
    expected = torch.tensor([logprob_of(model, ids) for ids in texts]).softmax(0).tolist()
    gap = Gap("The warm", "", last=False)
    assert weights(model, tokenizer, gap, proposed) == pytest.approx(expected, abs=1e-4)


def test_a_blank_at_the_beginning_is_weighed_as_the_beginning_of_a_text(
    model: Transformer, tokenizer: Tokenizer
) -> None:
    proposed = ["The cat", "A dog"]
    texts = [[tokenizer.blank_prefix, *tokenizer.encode(f"{filling} sat.")] for filling in proposed]
    expected = torch.tensor([logprob_of(model, ids) for ids in texts]).softmax(0).tolist()
    assert weights(model, tokenizer, Gap("", " sat."), proposed) == pytest.approx(expected, abs=1e-4)


PIECES = ["The", " sat on the", "."]


def of(words: dict[str, list[str]]) -> Callable[..., list[list[str]]]:
    """Proposals by what stands before."""

    def propose(model: object, tokenizer: object, gaps: Sequence[Gap], *, drawn: int) -> list[list[str]]:
        return [next(found for end, found in words.items() if gap.before.endswith(end)) for gap in gaps]

    return propose


def test_blanks_are_weighed_together_by_the_whole_text(
    model: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blank_module, "propose", of({"The": [" cat", " old dog"], "on the": [" mat", " warm cat"]}))
    monkeypatch.setattr(blank_module, "FURTHER_WORD", 1.0)
    found = fill_together(model, tokenizer, PIECES, [True, True])
    both = [(one, other) for one in (" cat", " old dog") for other in (" mat", " warm cat")]
    nats = [logprob_of(model, tokenizer.encode(f"The{one} sat on the{other}.")) for one, other in both]
    expected = dict(zip(both, torch.tensor(nats).softmax(0).tolist(), strict=True))
    assert {each.fillings: each.probability for each in found} == pytest.approx(expected, abs=1e-4)
    assert found == sorted(found, key=lambda each: -each.probability)


def test_a_filling_that_only_a_later_blank_shows_to_be_wrong_loses(
    model: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {("The", " cat"): -2.0, ("The", " dog"): -1.0, ("The cat sat on the", " mat"): -1.0}

    def weigh(model: object, tokenizer: object, gap: Gap, proposed: Sequence[str]) -> list[float]:
        return [good.get((gap.before, text), -9.0) for text in proposed]

    monkeypatch.setattr(blank_module, "propose", of({"The": [" cat", " dog"], "on the": [" mat"]}))
    monkeypatch.setattr(blank_module, "weigh", weigh)
    assert fill_together(model, tokenizer, PIECES, [True, True])[0].fillings == (" cat", " mat")
    monkeypatch.setattr(blank_module, "WIDTH", 1)
    assert fill_together(model, tokenizer, PIECES, [True, True])[0].fillings == (" dog", " mat")


def test_each_further_word_of_a_filling_halves_it(
    model: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weigh(model: object, tokenizer: object, gap: Gap, proposed: Sequence[str]) -> list[float]:
        return [0.0 for _ in proposed]

    proposed = [" cat", " old dog", " very old dog"]
    monkeypatch.setattr(blank_module, "weigh", weigh)
    monkeypatch.setattr(blank_module, "propose", of({"The": proposed}))
    (found,) = fill(model, tokenizer, [Gap("The", " sat.")])
    assert [filling.text for filling in found] == proposed
    assert [filling.probability for filling in found] == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_a_proposal_that_goes_on_where_another_is_over_is_none() -> None:
    assert apart([" hat", " hat. He ran", " hats", " red hat"], ".") == [" hat", " hats", " red hat"]
    assert apart([" hat", " hat and"], " and coat") == [" hat", " hat and"]
    assert apart([" hat", " hat. He"], "") == [" hat", " hat. He"]


def test_what_one_blank_is_filled_with_is_summed_over_the_others() -> None:
    filled = [Filled((" cat", " mat"), 0.4), Filled((" dog", " mat"), 0.3), Filled((" dog", " rug"), 0.3)]
    assert likely(filled, 0) == [Filling(" dog", pytest.approx(0.6)), Filling(" cat", 0.4)]
    assert likely(filled, 1) == [Filling(" mat", pytest.approx(0.7)), Filling(" rug", 0.3)]


@pytest.mark.parametrize("pieces", [["", "", " sat."], ["The", "", ""], ["warm " * 300, " cat" * 300, ""]])
def test_any_blanks_are_filled_together(model: Transformer, tokenizer: Tokenizer, pieces: list[str]) -> None:
    found = fill_together(model, tokenizer, pieces, [True, True])
    assert sum(each.probability for each in found) == pytest.approx(1)
    assert len({"".join((pieces[0], f[0], pieces[1], f[1])) for f, _ in found}) == len(found) >= 1


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


def test_a_gap_is_written_into_with_and_without_knowing_what_follows(
    model: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(model: object, requests: Sequence[Any], sampling: object, *, stop: Sequence[int]) -> list[Answer]:
        knowing = prompt("The", " sat on the", tokenizer).tolist()
        words = [" cat" if request.prompt == knowing else " mat" for request in requests]
        assert {tuple(request.prompt) for request in requests} == {tuple(knowing), tuple(tokenizer.encode("The"))}
        return [Answer(tokenizer.encode(word), None) for word in words]

    monkeypatch.setattr(blank_module, "generate", write)
    assert {" cat", " mat"} <= set(propose(model, tokenizer, [Gap("The", " sat on the", last=False)])[0])


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
