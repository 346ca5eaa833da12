"""`trivium serve` as a process, asked by the clients that people use."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from math import exp
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from pydantic import ValidationError

from tests.harness import CHOOSING, QUESTIONS, continued, harness_finds, mats_preferred
from tests.story.speakers import make_run
from trivium.errors import ConfigError
from trivium.generate.engine import Request, generate
from trivium.generate.sampling import Sampling
from trivium.model import hub
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, initialise
from trivium.studio.asking import Asked, Chat, Completion, refusal
from trivium.studio.serving import named
from trivium.text.tokenizer import Tokenizer

SHAPE = {"vocab_size": 300, "num_layers": 1, "width": 32, "num_heads": 2, "num_kv_heads": 2}
MORE = {"head_dim": 16, "mlp_width": 64, "context_length": 128}


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "tiny"
    made.mkdir()
    model = initialise(Transformer(ModelConfig.model_validate({**SHAPE, **MORE})), seed=0)
    hub.save(model, made, stop_tokens=[tokenizer.turn_end, tokenizer.end_of_text], pad_token=tokenizer.pad)
    tokenizer.save(made, context_length=128)
    return made


@pytest.fixture(scope="module")
def endless(tokenizer: Tokenizer, folder: Path) -> Path:
    """A model that writes for many seconds, if it is let."""
    made = folder.parent / "endless"
    made.mkdir()
    shape = ModelConfig.model_validate({**SHAPE, **MORE, "context_length": 20_000})
    hub.save(initialise(Transformer(shape), seed=0), made, stop_tokens=[299], pad_token=tokenizer.pad)
    tokenizer.save(made, context_length=20_000)
    return made


@pytest.fixture(scope="module")
def address(folder: Path, endless: Path) -> Iterator[str]:
    models = [str(folder), str(endless)]
    command = [sys.executable, "-m", "trivium", "serve", *models, "--port", "0", "--api-key", "secret"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0, "it ends in peace"
    process.stdout.close()


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address, api_key="secret", max_retries=0) as found:
        yield found


def test_the_openai_client_streams_a_chat_with_logprobs(client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Was it?"}], "max_tokens": 12, "seed": 3}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    text, logprobs = "", []
    for chunk in client.chat.completions.create(**asked, logprobs=True, top_logprobs=2, stream=True):
        text += chunk.choices[0].delta.content or ""
        logprobs += (chunk.choices[0].logprobs and chunk.choices[0].logprobs.content) or []
    assert text == whole.choices[0].message.content
    assert text
    assert logprobs == whole.choices[0].logprobs.content
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in logprobs)
    assert whole.usage.completion_tokens == len(logprobs)


def test_an_answer_can_be_sent_back_as_it_came(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "Was it?"}]
    first = client.chat.completions.create(model="tiny", messages=messages, max_tokens=8)
    messages += [first.choices[0].message, {"role": "user", "content": "It was!"}]
    second = client.chat.completions.create(model="tiny", messages=messages, max_tokens=8)
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_echoed_logprobs_are_those_of_the_model(client: openai.OpenAI, folder: Path, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("The cat sat on the mat.")
    prompt = {"model": "tiny", "prompt": [ids, ids[:3]], "echo": True, "logprobs": 1, "max_tokens": 0}
    first, second = client.completions.create(**prompt).choices
    tokens = torch.tensor([ids])
    with torch.no_grad():
        logits = hub.load(folder)(tokens, torch.arange(len(ids))[None], torch.zeros_like(tokens))[0]
    expected = logits.log_softmax(-1)[:-1].gather(1, tokens[0, 1:, None])[:, 0].tolist()
    assert first.text == "The cat sat on the mat."
    assert first.logprobs.token_logprobs[0] is None
    assert first.logprobs.token_logprobs[1:] == pytest.approx(expected, abs=1e-5)
    assert second.logprobs.token_logprobs[1:] == pytest.approx(expected[:2], abs=1e-5)


def test_mistakes_are_told_in_openais_form(client: openai.OpenAI) -> None:
    for wrong, param, code in (
        ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
        ({"temperature": -1}, "temperature", "invalid_value"),
        ({"max_tokens": 500}, "prompt", "context_length_exceeded"),
    ):
        with pytest.raises(openai.BadRequestError) as told:
            client.completions.create(model="tiny", prompt="It", **wrong)
        assert (told.value.param, told.value.code) == (param, code)
    with pytest.raises(openai.NotFoundError, match="is not served here; use one of tiny, endless"):
        client.completions.create(model="huge", prompt="It")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="guess").models.list()
    with pytest.raises(openai.PermissionDeniedError):
        client.models.list(extra_headers={"Origin": "http://elsewhere.example"})
    with pytest.raises(openai.APIStatusError, match="not an address of the server"):
        client.models.list(extra_headers={"Host": "elsewhere.example"})
    with pytest.raises(openai.BadRequestError, match="128 answers at once: at most 80 fit") as many:
        client.completions.create(model="tiny", prompt=["It"] * 2, n=64)  # and never will: not worth trying again
    assert (many.value.param, many.value.code) == ("n", "too_many_answers")


def test_who_comes_when_all_places_are_taken_may_come_again(client: openai.OpenAI) -> None:
    asked = {"model": "endless", "prompt": "The cat", "n": 64, "max_tokens": 19_000}
    with client.completions.create(**asked, stream=True) as answer:
        assert next(iter(answer)).choices
        with pytest.raises(openai.RateLimitError, match="waiting") as full:
            client.completions.create(**asked)
        assert full.value.response.headers["Retry-After"] == "2"


@pytest.mark.parametrize(
    ("kind", "said", "param", "told"),
    [
        (Completion, {"prompt": {}}, "prompt", "must be a text, ids of tokens, or a list of up to 256 of either"),
        (Completion, {"prompt": [1, "a"]}, "prompt", "must be a text"),
        (
            Chat,
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content",
            "a text, or",
        ),
        (Chat, {"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "'system', 'user' or 'assistant'"),
        (Chat, {"messages": [], "tool": []}, "messages", "at least 1 item"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(kind: type[Asked], said: dict[str, Any], param: str, told: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        kind.model_validate({"model": "tiny", **said})
    refused = refusal(kind, wrong.value.errors()).body()["error"]
    assert refused["param"] == param
    assert refused["message"].startswith(f"{param}: ")
    assert told in refused["message"]


def test_models_of_several_runs_are_called_by_their_runs_where_names_are_shared(tmp_path: Path) -> None:
    ours, theirs = make_run(tmp_path / "ours"), make_run(tmp_path / "theirs")
    assert list(named([ours])) == ["base", "instruct", "aligned"]
    assert named([ours, theirs / "instruct", ours / "instruct"]) == {
        "base": ours / "base",
        "ours/instruct": ours / "instruct",
        "aligned": ours / "rounds/001/aligned",
        "theirs/instruct": theirs / "instruct",
    }
    assert list(named([ours, theirs]))[-1] == "theirs/aligned"
    again = make_run(tmp_path / "elsewhere/ours")
    with pytest.raises(ConfigError, match="are both called ours/base; rename one folder"):
        named([ours, again])


@pytest.mark.parametrize("stream", [True, False])
def test_who_hangs_up_in_the_middle_frees_the_places(stream: bool, client: openai.OpenAI) -> None:
    """64 answers of 80 places at once: there is room for the next 64 only when nobody writes the first any more."""
    asked = {"model": "endless", "prompt": "The cat", "n": 64, "max_tokens": 19_000}
    for _ in range(2):
        if stream:
            with client.completions.create(**asked, stream=True) as answer:
                assert next(iter(answer)).choices
        else:
            with pytest.raises(openai.APITimeoutError):
                client.with_options(timeout=0.4).completions.create(**asked)
        deadline = time.monotonic() + 20
        while True:
            try:
                client.completions.create(model="endless", prompt="The cat", n=64, max_tokens=1)
                break
            except openai.RateLimitError:
                assert time.monotonic() < deadline, "they are still taken"
                time.sleep(0.2)


TASKS = {
    "choosing": CHOOSING,
    "going_on": 'output_type: loglikelihood\ndoc_to_target: " mat"\n',
    "writing": "output_type: generate_until\ndoc_to_target: '{{written}}'\n"
    "generation_kwargs: {until: ['.'], max_gen_toks: 8}\n",
}


def test_lm_eval_measures_what_the_model_itself_says(
    address: str, folder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = hub.load(folder)
    stop = [tokenizer.turn_end, tokenizer.end_of_text]
    greedy = Sampling(temperature=0, max_new_tokens=8)
    answers = generate(model, [Request(tokenizer.encode(question), 0) for question in QUESTIONS], greedy, stop=stop)
    written = [tokenizer.decode(answer.tokens).partition(".")[0] for answer in answers]
    written[-1] += " or not"  # and so one is wrong
    rows = [{"question": question, "written": text} for question, text in zip(QUESTIONS, written, strict=True)]
    told = f"model=tiny,base_url={address}/completions,tokenizer={folder},tokenizer_backend=huggingface,max_length=128"
    found = harness_finds(tmp_path, ["--model", "local-completions", "--model_args", told], rows, TASKS)
    mats = [continued(model, tokenizer, question, " mat") for question in QUESTIONS]
    assert found["choosing"]["acc,none"] == mats_preferred(model, tokenizer)
    assert found["going_on"]["perplexity,none"] == pytest.approx(exp(-sum(mats) / 4), rel=1e-5)
    assert found["writing"]["exact_match,none"] == 3 / 4
