"""Writing for many who come and go: an answer is the one it would have been alone."""

import math
import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.generate.engine import Request, generate
from trivium.generate.sampling import Penalties, Sampling, penalise, restrict
from trivium.generate.spelling import Spelling
from trivium.generate.writer import Order, Token, Writer
from trivium.model.transformer import Transformer

MakeModel = Callable[..., Transformer]
CONTEXT = 48
pytestmark = pytest.mark.usefixtures("decoder")


def orders(count: int, seed: int = 0) -> list[Order]:
    chance = random.Random(seed)
    made = []
    for i in range(count):
        sampling = Sampling(
            temperature=chance.choice([0.0, 0.7, 1.3]),
            top_k=chance.choice([None, 5]),
            top_p=chance.choice([1.0, 0.9]),
            min_p=chance.choice([0.0, 0.1]),
            max_new_tokens=chance.randint(1, 12),
        )
        prompt = [chance.randrange(10, 61) for _ in range(chance.randint(1, 30))]
        made.append(Order(prompt, i, sampling, (4, 9), chance.choice([Penalties(), Penalties(1.2, 0.5, 0.3)]), 3))
    return made


def written(writer: Writer, wanted: list[Order], chance: random.Random) -> list[list[Token]]:
    """Everybody's answer; orders arrive while others are being written."""
    waiting, found, place = list(enumerate(wanted)), {}, {}
    while waiting or not writer.idle:
        while waiting and chance.random() < 0.4:
            number, order = waiting.pop(0)
            place[writer.submit(order)] = number
        for answering, token in writer.step():
            found.setdefault(place[answering], []).append(token)
    return [found[number] for number in range(len(wanted))]


def test_an_answer_does_not_depend_on_who_comes_and_goes_beside_it(small_model: MakeModel) -> None:
    model, chance = small_model(), random.Random(1)
    wanted = orders(14)
    alone = [written(Writer(model, rows=1, precision="float32"), [order], chance)[0] for order in wanted]
    for rows in (1, 3, 8):
        together = written(Writer(model, rows=rows, precision="float32"), wanted, chance)
        for a, b in zip(alone, together, strict=True):
            assert [(t.id, t.end) for t in a] == [(t.id, t.end) for t in b]
            assert [t.logprob for t in a] == pytest.approx([t.logprob for t in b], abs=1e-5)
    assert {answer[-1].end for answer in alone} == {"stop", "length"}


def test_it_writes_what_generate_writes(small_model: MakeModel) -> None:
    model, sampling = small_model(), Sampling(temperature=1.1, max_new_tokens=12)
    wanted = [Order([11, 12, 13 + i], i, sampling, (4,)) for i in range(5)]
    found = written(Writer(model, rows=2, precision="float32"), wanted, random.Random(0))
    expected = generate(model, [Request(o.prompt, o.seed) for o in wanted], sampling, stop=(4,), precision="float32")
    for tokens, answer in zip(found, expected, strict=True):
        assert [t.id for t in tokens if t.end != "stop"] == answer.tokens


@torch.no_grad()
def test_logprobs_are_those_of_the_full_forward_and_the_best_come_first(small_model: MakeModel) -> None:
    """Continuous batching, padding and packing: one row of all texts, each a document, says the same to 1e-5."""
    model, wanted = small_model(), orders(10, seed=5)
    found = written(Writer(model, rows=3, precision="float32"), wanted, random.Random(2))
    texts = [[*order.prompt, *(t.id for t in tokens)] for order, tokens in zip(wanted, found, strict=True)]
    packed = torch.tensor([[id for text in texts for id in text]])
    positions = torch.tensor([[p for text in texts for p in range(len(text))]])
    documents = torch.tensor([[i for i, text in enumerate(texts) for _ in text]])
    logprobs, first = model(packed, positions, documents)[0].log_softmax(-1), 0
    for order, tokens, text in zip(wanted, found, texts, strict=True):
        for place, token in enumerate(tokens, start=first + len(order.prompt) - 1):
            assert token.logprob == pytest.approx(float(logprobs[place, token.id]), abs=1e-5)
            best = logprobs[place].topk(3)
            assert [value for _, value in token.best] == pytest.approx(best.values.tolist(), abs=1e-5)
        first += len(text)


def test_who_is_cancelled_makes_room_at_once(small_model: MakeModel) -> None:
    writer = Writer(small_model(), rows=1)
    first, second, third = (writer.submit(Order([7, 8], i, Sampling(max_new_tokens=20))) for i in range(3))
    assert [answering for answering, _ in writer.step()] == [first]
    writer.cancel(first)
    writer.cancel(second)
    assert [answering for answering, _ in writer.step()] == [third]
    writer.cancel(third)
    assert writer.idle
    assert writer.step() == []


def test_what_does_not_fit_is_refused(small_model: MakeModel) -> None:
    writer = Writer(small_model())
    for prompt, most in (([], 3), ([1] * 40, 9), ([1], 0)):
        with pytest.raises(ValueError, match="must be at most 48"):
            writer.submit(Order(prompt, 0, Sampling(max_new_tokens=most)))
    with pytest.raises(IndexError):
        writer.submit(Order([61], 0, Sampling(max_new_tokens=3)))
    writer.submit(Order([1] * 40, 0, Sampling(max_new_tokens=8)))
    while not writer.idle:
        writer.step()


def test_penalties_by_hand() -> None:
    logits = torch.tensor([2.0, -2.0, 1.0, 3.0])
    prompt, answer = torch.tensor([0, 1]), torch.tensor([2, 2])
    assert penalise(logits, Penalties(repetition=2.0), prompt, answer).tolist() == [1.0, -4.0, 0.5, 3.0]
    assert penalise(logits, Penalties(presence=0.5, frequency=0.25), prompt, answer).tolist() == [2.0, -2.0, 0.0, 3.0]


def test_min_p_by_hand() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    for min_p, kept in ((0.05, 4), (0.2, 3), (0.5, 2), (0.9, 1)):
        assert int(restrict(logits, Sampling(min_p=min_p)).isfinite().sum()) == kept
    assert math.isinf(float(restrict(logits, Sampling(min_p=0.5, temperature=0.5))[0, 1]))


@settings(max_examples=200)
@given(st.text("abé\n", max_size=30), st.lists(st.text("abé\n", min_size=1, max_size=3), max_size=3), st.data())
def test_a_stop_string_ends_the_text_wherever_tokens_are_cut(text: str, stop: list[str], data: st.DataObject) -> None:
    left, given_out, spelling = text.encode(), "", Spelling(stop)
    found = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
    expected = text[: min(found)[1]] if found else text
    while left and not spelling.stopped:
        size = data.draw(st.integers(1, len(left)))
        given_out += spelling.add(left[:size])
        left = left[size:]
        assert expected.startswith(given_out)
    assert given_out + spelling.end() == expected
    assert spelling.stopped == any(s in text for s in stop)
