"""Writing: whatever the batch, the cache and the order, an answer is the one that the model alone would give."""

import random
from collections.abc import Callable, Sequence

import pytest
import torch

from trivium.evaluate.preference import answer_logprobs
from trivium.evaluate.tasks import as_reply
from trivium.generate.engine import Answer, Request, generate, last_of
from trivium.generate.native import NativeDecoder
from trivium.generate.sampling import Sampling, choose, random_stream
from trivium.model.transformer import Transformer
from trivium.text.branches import pack_answers

MakeModel = Callable[..., Transformer]
Written = tuple[list[int], int | None]
GREEDY = Sampling(temperature=0, max_new_tokens=12)
WARM = Sampling(temperature=1.3, max_new_tokens=12)
STOP = (4, 9)
pytestmark = pytest.mark.usefixtures("decoder")


def prompt(length: int, seed: int = 0) -> list[int]:
    return torch.randint(10, 61, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def write(
    model: Transformer, requests: Sequence[Request], sampling: Sampling, *, stop: Sequence[int], batch_rows: int = 128
) -> list[Written]:
    """What is exact: the tokens, from products in float32."""
    answers = generate(model, requests, sampling, stop=stop, batch_rows=batch_rows, precision="float32")
    return [(answer.tokens, answer.stop) for answer in answers]


@torch.no_grad()
def slowly(model: Transformer, request: Request, sampling: Sampling, stop: Sequence[int] = ()) -> Written:
    """The answer without batch and cache: the whole text is read again for every token."""
    written = list(request.prompt)
    uniform = random_stream(request.seed, sampling.max_new_tokens)
    for step in range(sampling.max_new_tokens):
        tokens = torch.tensor([written])
        logits = model(tokens, torch.arange(len(written))[None], torch.zeros_like(tokens))[:, -1]
        new = int(choose(logits, sampling, uniform[step : step + 1]))
        if new in stop:
            return written[len(request.prompt) :], new
        written.append(new)
    return written[len(request.prompt) :], None


REQUESTS = [Request(prompt(length, seed=length), seed=100 + length) for length in (3, 17, 1, 9, 9, 30, 5)]


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "sampled"])
def test_answers_are_those_of_the_full_forward_token_by_token(sampling: Sampling, small_model: MakeModel) -> None:
    model = small_model()
    expected = [slowly(model, request, sampling, STOP) for request in REQUESTS]
    assert write(model, REQUESTS, sampling, stop=STOP) == expected
    assert len({tuple(tokens) for tokens, _ in expected}) > 4, "answers all alike would prove nothing"
    assert any(end is not None for _, end in expected) or sampling is GREEDY


def test_an_answer_depends_neither_on_its_neighbours_nor_on_the_order(small_model: MakeModel) -> None:
    model, chance = small_model(), random.Random(0)
    alone = [write(model, [request], WARM, stop=STOP)[0] for request in REQUESTS]
    for _ in range(15):
        chosen = chance.sample(range(len(REQUESTS)), chance.randint(1, len(REQUESTS)))
        rows = chance.randint(1, 8)
        found = write(model, [REQUESTS[i] for i in chosen], WARM, stop=STOP, batch_rows=rows)
        assert found == [alone[i] for i in chosen]


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(small_model: MakeModel) -> None:
    model = small_model()
    first, again, other = write(model, [Request(prompt(5), seed) for seed in (1, 1, 2)], WARM, stop=())
    assert first == again
    assert first != other


@pytest.mark.parametrize("batch_rows", [6, 2])
def test_equal_prompts_are_read_once_and_answered_as_if_they_were_alone(
    batch_rows: int, decoder: str, small_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, read = small_model(), []
    requests = [Request(prompt(8), seed) for seed in range(5)] + [Request(prompt(6, seed=3), 9)]
    expected = [write(model, [request], WARM, stop=STOP)[0] for request in requests]
    whole, fresh = Transformer.hidden, NativeDecoder._read_fresh

    def listening(self, tokens, *rest):  # type: ignore[no-untyped-def]
        if tokens.shape[1] > 1:
            read.append(tuple(tokens.shape))
        return whole(self, tokens, *rest)

    def hearing(self, unread):  # type: ignore[no-untyped-def]
        read.extend(len(tokens) for _, tokens in unread.values() if tokens)
        fresh(self, unread)

    monkeypatch.setattr(Transformer, "hidden", listening)
    monkeypatch.setattr(NativeDecoder, "_read_fresh", hearing)
    assert write(model, requests, WARM, stop=STOP, batch_rows=batch_rows) == expected
    if decoder == "native":
        assert read == [5, 7], "the last token of a prompt is the first that a step reads"
    else:
        assert read == [(2, 7)], "even when the next comes to be written later: the cache still holds its prompt"


def test_top_k_of_one_writes_what_greedy_writes(small_model: MakeModel) -> None:
    model = small_model()
    certain = Sampling(temperature=1.0, top_k=1, max_new_tokens=12)
    assert write(model, REQUESTS, certain, stop=STOP) == write(model, REQUESTS, GREEDY, stop=STOP)


def test_a_stop_token_ends_the_answer_and_is_not_part_of_it(small_model: MakeModel) -> None:
    model = small_model()
    free = generate(model, [Request(prompt(5), 0)], GREEDY, stop=())[0]
    third = free.tokens[2]
    cut = generate(model, [Request(prompt(5), 0)], GREEDY, stop=[third])[0]
    where = free.tokens.index(third)
    assert (free.stop, free.ended, len(free.tokens)) == (None, False, 12)
    assert (cut.tokens, cut.stop, cut.ended) == (free.tokens[:where], third, True)
    assert cut.logprobs == free.logprobs[: where + 1], "the stop token was chosen too"


def test_an_answer_may_be_empty(small_model: MakeModel) -> None:
    model = small_model()
    first = generate(model, [Request(prompt(5), 0)], GREEDY, stop=())[0].tokens[0]
    answer = generate(model, [Request(prompt(5), 0)], GREEDY, stop=[first])[0]
    assert (answer.tokens, answer.stop, len(answer.logprobs)) == ([], first, 1)
    assert generate(model, [Request(prompt(5), 0)], Sampling(max_new_tokens=0), stop=()) == [Answer([], None, [])]


def test_no_requests_get_no_answers(small_model: MakeModel) -> None:
    assert generate(small_model(), [], GREEDY, stop=STOP) == []


def test_a_prompt_longer_than_the_context_loses_its_beginning(small_model: MakeModel) -> None:
    model = small_model()  # 48 positions
    long = prompt(200)
    assert last_of(long, model.config) == long[-36:]
    assert last_of(long[:36], model.config) == long[:36]
    short = write(model, [Request(long[-36:], 1)], WARM, stop=STOP)
    assert write(model, [Request(long, 1)], WARM, stop=STOP) == short


def test_an_answer_ends_where_the_context_is_full(small_model: MakeModel) -> None:
    model = small_model()
    endless = Sampling(temperature=0, max_new_tokens=500)
    for length in (1, 20, 36):
        (answer,) = generate(model, [Request(prompt(length), 0)], endless, stop=())
        assert not answer.ended
        assert length + len(answer.tokens) == 48


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_trainers_logprobs_agree_with_the_samplers(temperature: float, small_model: MakeModel) -> None:
    """What the decode path, token by token with its cache, drew from; and what one forward pass says of it."""
    model = small_model()
    requests = [Request(prompt(length, seed=length), length) for length in (12, 5, 9)]
    sampling = Sampling(temperature=temperature, max_new_tokens=15)
    answers = generate(model, requests, sampling, stop=(), precision="float32")

    class Plain:  # a tokenizer that has nothing to say
        def decode(self, tokens: list[int]) -> str:
            return ""

    replies = [as_reply(answer, Plain()) for answer in answers]  # type: ignore[arg-type]
    packed = pack_answers([r.prompt for r in requests], [reply.tokens for reply in replies], 48, pad=6)
    trained = answer_logprobs(model, packed, temperature=temperature)
    sampled = torch.tensor([answer.logprobs for answer in answers])
    torch.testing.assert_close(trained.view(3, 15), sampled, atol=1e-5, rtol=1e-5)


def test_logprobs_of_greedy_answers_are_those_at_temperature_one(small_model: MakeModel) -> None:
    model, request = small_model(), Request(prompt(7), 0)
    greedy = generate(model, [request], GREEDY, stop=())[0]
    certain = generate(model, [request], Sampling(top_k=1, max_new_tokens=12), stop=(), precision="float32")[0]
    assert greedy.logprobs == pytest.approx(certain.logprobs, abs=1e-5), "top_k does not count"


def test_a_token_that_the_model_does_not_know_is_an_error(small_model: MakeModel) -> None:
    for wrong in ([61, 1], [1, 61], [-1, 3]):
        with pytest.raises(IndexError):
            generate(small_model(), [Request(wrong, 0)], GREEDY, stop=())
