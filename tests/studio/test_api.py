"""OpenAI's API without a network: what is asked counts, what is not known is refused, and everything in their form."""

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from fastapi.testclient import TestClient

from trivium.generate.writer import Token
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, initialise
from trivium.studio.desk import Desk
from trivium.studio.listening import address, listen
from trivium.studio.serving import build_api
from trivium.text.tokenizer import Tokenizer

SHAPE = {"vocab_size": 300, "num_layers": 1, "width": 32, "num_heads": 2, "num_kv_heads": 2}
MORE = {"head_dim": 16, "mlp_width": 64, "context_length": 128}
HOSTS = {"127.0.0.1", "::1", "models.example.org"}
TEXT = {"model": "one", "prompt": "The cat", "max_tokens": 20, "seed": 3}
CHAT = {"model": "one", "messages": [{"role": "user", "content": "Was it?"}], "max_tokens": 20, "seed": 3}
ASKED = {"/v1/completions": TEXT, "/v1/chat/completions": CHAT}
AS_JSON = {"Content-Type": "application/json"}
both = pytest.mark.parametrize("path", ASKED)


@pytest.fixture(scope="module")
def desks(tokenizer: Tokenizer) -> Iterator[dict[str, Desk]]:
    shape = ModelConfig.model_validate({**SHAPE, **MORE})
    made = {
        name: Desk(initialise(Transformer(shape), seed=seed), tokenizer, rows=2, most_waiting=6)
        for seed, name in enumerate(("one", "two"))
    }
    yield made
    for desk in made.values():
        desk.close()


@pytest.fixture
def client(desks: dict[str, Desk]) -> TestClient:
    app = build_api(desks, hosts=HOSTS, api_key=None)
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=True)


def texts(client: TestClient, path: str, **change: Any) -> list[str]:
    """Of all choices, in order."""
    answer = client.post(path, json={**ASKED[path], **change})
    assert answer.status_code == 200, answer.text
    choices = answer.json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(len(choices)))
    return [choice["text"] if "text" in choice else choice["message"]["content"] for choice in choices]


def streamed(client: TestClient, path: str, **change: Any) -> list[dict[str, Any]]:
    answer = client.post(path, json={**ASKED[path], **change, "stream": True})
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@both
def test_an_answer_is_a_function_of_the_seed_and_its_number(path: str, client: TestClient) -> None:
    (one,), (again,), (other,) = (texts(client, path, seed=seed) for seed in (3, 3, 4))
    assert one == again != other
    four = texts(client, path, n=4)
    assert four[0] == one
    assert len(set(four)) == 4
    assert texts(client, path, n=4) == four


@both
def test_several_streamed_answers_are_those_that_come_whole(path: str, client: TestClient) -> None:
    found = ["", "", ""]
    ends = []
    for chunk in streamed(client, path, n=3):
        (choice,) = chunk["choices"]
        found[choice["index"]] += choice["text"] if "text" in choice else choice["delta"].get("content", "")
        ends += [choice["index"]] if choice["finish_reason"] else []
    assert found == texts(client, path, n=3)
    assert sorted(ends) == [0, 1, 2]


@both
def test_usage_counts_the_prompt_once_and_every_answer(path: str, client: TestClient) -> None:
    usage = client.post(path, json={**ASKED[path], "n": 3}).json()["usage"]
    alone = client.post(path, json=ASKED[path]).json()["usage"]
    assert usage["prompt_tokens"] == alone["prompt_tokens"] > 0
    assert usage["completion_tokens"] > alone["completion_tokens"]
    *_, last = streamed(client, path, n=3, stream_options={"include_usage": True})
    assert (last["usage"], last["choices"]) == (usage, [])


@both
def test_every_model_answers_by_its_name(path: str, client: TestClient) -> None:
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["one", "two"]
    assert client.get("/v1/models/two").json()["id"] == "two"
    assert client.get("/health").json() == {"status": "ok", "models": ["one", "two"]}
    assert texts(client, path) != texts(client, path, model="two")
    assert client.post(path, json={**ASKED[path], "model": "two"}).json()["model"] == "two"


@both
def test_a_stop_text_ends_an_answer_wherever_its_tokens_are_cut(
    path: str, client: TestClient, desks: dict[str, Desk]
) -> None:
    (whole,) = texts(client, path)
    tokenizer = desks["one"].tokenizer
    begins = [i for i in range(1, len(whole) - 4) if len(tokenizer.encode(whole[i : i + 4])) > 1]
    assert len(begins) > 3, "they reach over several tokens"
    for begin in begins[:6]:
        stop = whole[begin : begin + 4]
        answer = client.post(path, json={**ASKED[path], "stop": [stop, "never said"]}).json()["choices"][0]
        assert (answer.get("text") or answer.get("message", {}).get("content", "")) == whole[: whole.index(stop)]
        assert answer["finish_reason"] == "stop"
        chunks = [chunk["choices"][0] for chunk in streamed(client, path, stop=stop)]
        told = "".join(choice["text"] if "text" in choice else choice["delta"]["content"] for choice in chunks)
        assert told == whole[: whole.index(stop)], "nothing of it was given out before it was certain"


def test_logprobs_spell_the_answer_in_both_forms(client: TestClient) -> None:
    choice = client.post("/v1/completions", json={**TEXT, "logprobs": 3}).json()["choices"][0]
    told = choice["logprobs"]
    assert "".join(told["tokens"]) == choice["text"]
    assert told["text_offset"] == [len("".join(told["tokens"][:i])) for i in range(len(told["tokens"]))]
    for token, logprob, best in zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True):
        assert len(best) <= 3
        assert logprob <= max(best.values()) + 1e-6
        assert best.get(token, logprob) == logprob or "\ufffd" in token  # several halves of characters look alike
    choice = client.post("/v1/chat/completions", json={**CHAT, "logprobs": True, "top_logprobs": 3}).json()["choices"][
        0
    ]
    content = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in content) == choice["message"]["content"]
    assert (
        bytes(b for token in content for b in token["bytes"]).decode(errors="replace") == choice["message"]["content"]
    )
    chunks = streamed(client, "/v1/chat/completions", logprobs=True, top_logprobs=3)
    again = [token for chunk in chunks for token in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert again == content


@pytest.mark.parametrize("stream", [False, True])
def test_an_echoed_prompt_is_computed_once_for_all_of_its_answers(
    stream: bool, client: TestClient, desks: dict[str, Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    compute = desks["one"].prompt_logprobs

    def counted(prompt: Sequence[int], alternatives: int) -> list[Token]:
        computed.append(desks["one"].tokenizer.decode(prompt))
        return compute(prompt, alternatives)

    monkeypatch.setattr(desks["one"], "prompt_logprobs", counted)
    change = {"prompt": ["The cat", "A mat"], "n": 3, "max_tokens": 2, "echo": True, "logprobs": 2}
    if stream:
        told = [chunk["choices"][0] for chunk in streamed(client, "/v1/completions", **change)]
        told = sorted((choice for choice in told if choice["text"] in change["prompt"]), key=lambda one: one["index"])
    else:
        told = client.post("/v1/completions", json={**TEXT, **change}).json()["choices"]
    assert sorted(computed) == ["A mat", "The cat"]
    assert len(told) == 6
    for prompt, three in (("The cat", told[:3]), ("A mat", told[3:])):
        count = len(desks["one"].tokenizer.encode(prompt))
        read = [choice["logprobs"]["token_logprobs"][:count] for choice in three]
        assert read[0][0] is None
        assert len(read[0]) == count > 1
        assert read == [[None, *(found.logprob for found in compute(desks["one"].tokenizer.encode(prompt), 0))]] * 3


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"temprature": 1}, 400, "temprature", "unsupported_parameter"),
        ({"tools": []}, 400, "tools", "unsupported_parameter"),
        ({"temperature": "hot"}, 400, "temperature", "invalid_value"),
        ({"n": 0}, 400, "n", "invalid_value"),
        ({"model": "three"}, 404, "model", "model_not_found"),
        ({"max_tokens": 1000}, 400, ..., "context_length_exceeded"),
        ({"n": 9}, 400, "n", "too_many_answers"),
    ],
)
@both
def test_what_cannot_be_done_is_refused_in_openais_form(
    path: str, change: dict[str, Any], status: int, param: object, code: str, client: TestClient
) -> None:
    answer = client.post(path, json={**ASKED[path], **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert error["type"] == ("rate_limit_error" if status == 429 else "invalid_request_error")
    if param is not ...:
        assert error["param"] == param
    if "temprature" in change:
        assert "did you mean temperature?" in error["message"]
    assert "traceback" not in answer.text.lower()


@pytest.mark.parametrize("body", [b"{", b"[]", b"3", b"", b"\xff", b'{"model": "one"}', b'{"n": NaN}', b"[" * 100_000])
@both
def test_a_body_that_is_no_request_is_refused_in_openais_form(path: str, body: bytes, client: TestClient) -> None:
    answer = client.post(path, content=body, headers=AS_JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_other_paths_methods_and_forms_are_refused_in_openais_form(client: TestClient) -> None:
    for status, answer in (
        (404, client.get("/v1/embeddings")),
        (405, client.get("/v1/completions")),
        (415, client.post("/v1/completions", content="prompt=It", headers={"Content-Type": "text/plain"})),
        (413, client.post("/v1/completions", json={**TEXT, "prompt": "x" * 5_000_000})),
        (413, client.post("/v1/completions", content=iter([b"x" * 3_000_000] * 2), headers=AS_JSON)),
        (403, client.post("/v1/completions", json=TEXT, headers={"Origin": "http://127.0.0.1:8000"})),
    ):
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "[::1]:8000", "[::1]", "models.example.org", "Models.Example.org:80"]
)
def test_the_server_answers_to_its_own_names(host: str, client: TestClient) -> None:
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["elsewhere.example", "127.0.0.1.elsewhere.example", "[::2]:8000", "[", ""])
def test_the_server_does_not_answer_to_others(host: str, client: TestClient) -> None:
    answer = client.get("/health", headers={"Host": host})
    assert answer.status_code == 421
    assert "not an address of the server" in answer.json()["error"]["message"]


def test_an_address_stands_in_brackets_where_it_has_colons() -> None:
    assert [address(host, 80) for host in ("127.0.0.1", "::1", "a.example")] == [
        "127.0.0.1:80",
        "[::1]:80",
        "a.example:80",
    ]


def test_who_calls_before_the_app_is_up_waits() -> None:
    with closing(listen("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname(), timeout=5):
        pass


def test_after_a_fault_the_next_answer_is_whole(
    tokenizer: Tokenizer, desks: dict[str, Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that was not read to its end is read again, and its place is free."""
    desk = Desk(desks["one"].model, tokenizer, rows=1)
    client = TestClient(build_api({"one": desk}, hosts=HOSTS, api_key=None), base_url="http://127.0.0.1")

    def full(*_: object) -> None:
        raise MemoryError("no room")

    try:
        expected = texts(client, "/v1/completions")
        decoder = type(desk._writer._decoder)
        with monkeypatch.context() as patched:
            patched.setattr(decoder, "_read_prompts" if hasattr(decoder, "_read_prompts") else "_read", full)
            with pytest.raises(MemoryError):
                client.post("/v1/completions", json=TEXT)
        assert texts(client, "/v1/completions") == expected
    finally:
        desk.close()


def test_what_was_taken_is_written_when_a_desk_retires(tokenizer: Tokenizer, desks: dict[str, Desk]) -> None:
    desk = Desk(desks["one"].model, tokenizer, rows=1, most_waiting=6)
    client = TestClient(build_api({"one": desk}, hosts=HOSTS, api_key=None), base_url="http://127.0.0.1")
    expected = texts(client, "/v1/completions", n=3)
    assert len(expected) == 3
    desk.retire()
    desk._thread.join(timeout=10)
    assert not desk._thread.is_alive()
    assert client.post("/v1/completions", json=TEXT).status_code == 429
