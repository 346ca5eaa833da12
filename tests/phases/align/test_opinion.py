"""A language model as a judge, behind a real server on loopback: asked, late, broken, or without sense."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from trivium.config import resolve
from trivium.errors import ConfigError, RewardError
from trivium.evaluate.tasks import Reply
from trivium.model.transformer import Transformer
from trivium.phases.align.opinion import KEY, Opinion, read_mark
from trivium.phases.align.questions import Question
from trivium.phases.align.rules import Judge, Rules, read_rules
from trivium.records import Message
from trivium.studio.desk import Desk
from trivium.studio.listening import listen
from trivium.studio.serving import build_api
from trivium.text.tokenizer import Tokenizer

ASKED = Question((Message("user", "Say something kind."),), None)
Answering = Callable[[dict[str, Any]], tuple[int, str]]  # request → status, what the model says


class Server(ThreadingHTTPServer):
    """Answers as it is told, in OpenAI's form, and keeps what it was asked."""

    answering: Answering
    stalled: threading.Event | None = None  # until when a text does not come after its header
    asked: list[tuple[dict[str, Any], str]]

    def handle_error(self, *ignored: object) -> None:
        """Who did not wait for the answer is gone."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((body, self.headers.get("Authorization", "")))
        status, text = self.server.answering(body)
        told = json.dumps({"choices": [{"message": {"content": text}}]} if status == 200 else {"error": text}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        if self.server.stalled:
            self.server.stalled.wait(5)
        self.wfile.write(told)

    def log_message(self, *ignored: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        made.asked, made.answering = [], lambda body: (200, "5")
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def replies(*texts: str) -> list[Reply]:
    return [Reply(text, True, [0]) for text in texts]


def marks(opinion: Opinion, *texts: str) -> list[float]:
    return opinion.marks([ASKED] * len(texts), replies(*texts))


def kind(body: dict[str, Any]) -> tuple[int, str]:
    """Judges kind answers highly."""
    assert "user: Say something kind." in body["messages"][0]["content"]
    return 200, "9/10" if "dear" in body["messages"][0]["content"].partition("Answer:")[2] else "Mark: 2"


@pytest.mark.parametrize(
    ("said", "mark"),
    [
        ("8", 0.8), ("Mark: 7.5.", 0.75), ("8/10", 0.8), ("10 out of 10", 1.0), ("0", 0.0),
        ("<think>3 or 4?</think> 6", 0.6), ("", None), ("good", None), ("11", None), ("between 3 and 5", None),
        ("it3 was", None), ("I would give it a 7", 0.7), ("**9**", 0.9), ("-", None), ("-5", None),
        ("\u22125", None), (".5", None), ("- 5", 0.5), ("I think 3.</think>\n6", 0.6), ("<think>5", None),
        ("<thinking>so 3</thinking>8", 0.8), ("Mark: -5/10", None),
    ],
)  # fmt: skip
def test_a_mark_is_read_or_it_is_none(said: str, mark: float | None) -> None:
    assert read_mark(said) == mark


def test_each_answer_earns_its_mark_and_equal_ones_are_asked_about_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "secret")
    server.answering = kind
    rules = read_rules([f"2 * judge {server.address} some-model", "ended"], Path())
    earned = rules.rewards([ASKED] * 3, replies("my dear", "no", "my dear"))
    assert earned.tolist() == pytest.approx([2.8, 1.4, 2.8])
    assert len(server.asked) == 2
    assert {(body["model"], key) for body, key in server.asked} == {("some-model", "Bearer secret")}
    assert rules.observed() == {"judge_mark": pytest.approx(2 / 3), "judge_unread": 0, "judge_retries": 0}


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(server: Server, status: int) -> None:
    server.answering = lambda body: (status, "busy") if len(server.asked) < 3 else (200, "4")
    opinion = Opinion(server.address, "m", pause=0.01)
    assert marks(opinion, "a") == [0.4]
    assert opinion.last == (0.4, 0, 2)


@pytest.mark.parametrize(("status", "reason"), [(503, "HTTP 503: TimeoutError: "), (200, "TimeoutError: ")])
def test_a_text_that_does_not_come_is_waited_for_anew_and_then_ends_the_run(
    server: Server, status: int, reason: str
) -> None:
    server.answering = lambda body: (status, "5")
    server.stalled = threading.Event()
    with pytest.raises(RewardError, match=rf"no answer in 4 tries \({reason}.*start it"):
        marks(Opinion(server.address, "m", timeout=0.05, pause=0.001), "a")
    server.stalled.set()
    assert len(server.asked) == 4


def test_a_model_that_thinks_has_room_for_it(server: Server) -> None:
    server.answering = lambda body: (200, "<think>hm</think> 7" if body["max_tokens"] >= 1000 else "<think>hm")
    assert marks(Opinion(server.address, "m"), "a") == [0.7]


def test_an_answer_without_a_mark_counts_as_the_mean_of_the_others(server: Server) -> None:
    server.answering = lambda body: (200, "Well." if "vague" in body["messages"][0]["content"] else "6")
    opinion = Opinion(server.address, "m")
    assert marks(opinion, "vague", "a", "b") == pytest.approx([0.6, 0.6, 0.6])
    assert opinion.last.unread == 1
    vague = [body["temperature"] for body, _ in server.asked if "vague" in body["messages"][0]["content"]]
    assert vague == [0.0, 0.7], "once more, and warmer"


def test_a_judge_that_is_not_there_refuses_or_never_answers_ends_the_run(server: Server) -> None:
    absent = Opinion("http://127.0.0.1:9/v1", "m", pause=0.001)
    with pytest.raises(RewardError, match=r"judge http://127.0.0.1:9/v1: no answer in 4 tries .*start it"):
        marks(absent, "a")
    server.answering = lambda body: (404, "no such model")
    with pytest.raises(RewardError, match=r"refused \(HTTP 404: .*no such model.*align.rewards"):
        marks(Opinion(server.address, "m"), "a")
    assert len(server.asked) == 1
    late = threading.Event()
    server.answering = lambda body: (200 if late.wait(5) else 500, "5")
    with pytest.raises(RewardError, match="no answer in 4 tries"):
        marks(Opinion(server.address, "m", timeout=0.05, pause=0.001), "a")
    late.set()


@pytest.fixture
def tiny(tokenizer: Tokenizer, small_model: Callable[..., Transformer]) -> Iterator[str]:
    """A small model of ours, served as `trivium serve` does."""
    desk = Desk(small_model(vocab_size=tokenizer.vocab_size, context_length=1500), tokenizer)
    listening = listen("127.0.0.1", 0)
    app = build_api({"tiny": desk}, hosts={"127.0.0.1"}, api_key=None)
    serving = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    serving.should_exit = True
    thread.join()
    desk.close()
    listening.close()


def test_a_model_that_gives_no_marks_is_no_judge(tiny: str) -> None:
    """Ours answers in OpenAI's form, and does not do what it is asked."""
    judged = Rules(0.0, (), [Judge(1.0, Opinion(tiny, "tiny"))])
    with pytest.raises(RewardError, match="tiny gave 2 of 2 answers no mark from 0 to 10; take a model"):
        judged.rewards([ASKED] * 2, replies("a", "b"))
    with pytest.raises(RewardError, match=r"refused \(HTTP 404"):
        marks(Opinion(tiny, "another"), "a")


@pytest.mark.parametrize("argument", ["", "http://127.0.0.1:1/v1", "ftp://a/v1 m", "http://me:secret@host/v1 m", "m"])
def test_a_judge_needs_an_address_and_a_model(argument: str) -> None:
    with pytest.raises(ConfigError, match="judge takes the address of an OpenAI-compatible server"):
        resolve({"align": {"rewards": [f"judge {argument}"]}})
