"""The opinion of a language model behind an OpenAI-compatible address, as a reward: a mark for each answer.

It is neither a person nor the truth, and is called a language model wherever its marks are shown.
"""

import json
import os
import re
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError

from trivium.errors import RewardError
from trivium.evaluate.tasks import Reply
from trivium.phases.align.questions import Question
from trivium.records import Message

KEY = "TRIVIUM_JUDGE_KEY"  # of the environment: sent as a bearer token, where it is set
AT_ONCE = 8  # requests under way
TRIES = 4
ROOM = 1024  # tokens for an answer, of a model that thinks first too
PASSING = (408, 409, 425, 429)  # of HTTP, beside 500 and more: another try may succeed
LONGEST_PAUSE = 30.0  # seconds between two tries
MOST_UNREAD = 0.5  # of a step's answers may have no mark
BEST = 10
ASK = (
    "Below is a conversation and an assistant's answer. How good is that answer: right, to the point, friendly, well "
    f"said? Reply with one number from 0 (useless) to {BEST} (could not be better), and with nothing else.\n\n"
    "Conversation:\n{asked}\n\nAnswer:\n{said}\n\nMark from 0 to {best}:"
)
THOUGHTS = r".*</think(?:ing)?>|<think(?:ing)?>.*"  # their beginning may stand in the prompt, their end be cut off
NOISE = re.compile(rf"{THOUGHTS}|(?:/|out of)\s*{BEST}\b", re.DOTALL)  # and what a mark is out of
# a few words may lead to it, none follow; with a sign it is none
MARK = re.compile(r"\W*(?:[A-Za-z]+\W+){0,8}(?<![-.\u2212\u2013])(\d+(?:\.\d+)?)\W*")


class Marked(NamedTuple):
    """What became of a step's answers."""

    mark: float  # mean, 0 to 1
    unread: int  # answers without a mark that could be read; they count as the mean of the others
    retries: int  # requests that had to be sent again


class Opinion:
    """A judge that is asked over HTTP."""

    def __init__(self, address: str, model: str, *, timeout: float = 120.0, pause: float = 0.5) -> None:
        """timeout  seconds until an answer is given up
        pause    seconds before the second try; each further one waits twice as long
        """
        self.address, self.model = address.rstrip("/"), model
        self.last = Marked(0.0, 0, 0)
        self._timeout, self._pause = timeout, pause
        self._retries = 0

    def marks(self, asked: Sequence[Question], replies: Sequence[Reply]) -> list[float]:
        """From 0 to 1, one for each answer; equal answers to equal prompts are asked about once.

        raises  RewardError when the address does not answer, or the model gives no marks
        """
        texts = [as_request(question.prompt, reply.text) for question, reply in zip(asked, replies, strict=True)]
        self._retries = 0
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="judge") as pool:
            different = list(dict.fromkeys(texts))
            found = dict(zip(different, pool.map(self._mark, different), strict=True))
        read = [mark for text in texts if (mark := found[text]) is not None]
        unread = len(texts) - len(read)
        if unread > MOST_UNREAD * len(texts):
            raise RewardError(
                f"judge {self.address}: {self.model} gave {unread} of {len(texts)} answers no mark from 0 to {BEST}; "
                "take a model that does what it is asked"
            )
        mean = sum(read) / len(read)
        self.last = Marked(mean, unread, self._retries)
        return [mean if (mark := found[text]) is None else mark for text in texts]

    def _mark(self, text: str) -> float | None:
        """What the model says, coldly, and if that is no mark, once more and warmer; None when neither is one."""
        for temperature in (0.0, 0.7):
            mark = read_mark(self._said(text, temperature))
            if mark is not None:
                return mark
        return None

    def _said(self, text: str, temperature: float) -> str:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": temperature,
            "seed": 0,
            "max_tokens": ROOM,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        url, data = f"{self.address}/chat/completions", json.dumps(body).encode()
        pause, reason = self._pause, ""
        for left in reversed(range(TRIES)):
            try:
                request = urllib.request.Request(url, data, headers)
                with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                    return str(json.load(answer)["choices"][0]["message"]["content"] or "")
            except HTTPError as error:
                reason = f"HTTP {error.code}: {said_with(error)}"
                if error.code < 500 and error.code not in PASSING:
                    raise RewardError(f"judge {self.address}: refused ({reason}); mend align.rewards") from None
                asked_for = error.headers.get("Retry-After", "")
                pause = max(pause, float(asked_for) if asked_for.isdecimal() else 0.0)
            except (OSError, HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
                reason = f"{type(error).__name__}: {error}"
            if left:
                self._retries += 1
                time.sleep(min(pause, LONGEST_PAUSE))
                pause *= 2
        raise RewardError(f"judge {self.address}: no answer in {TRIES} tries ({reason}); start it, then run again")


def said_with(error: HTTPError) -> str:
    """The beginning of a refusal's text, in one line; as much as comes."""
    try:
        return " ".join(error.read(300).decode(errors="replace").split())
    except (OSError, HTTPException) as broken:
        return f"{type(broken).__name__}: {broken}"


def as_request(prompt: Sequence[Message], answer: str) -> str:
    """What the model reads: the conversation, the answer, and what is wanted of it."""
    asked = "\n".join(f"{message.role}: {message.content}" for message in prompt)
    return ASK.format(asked=asked, said=answer, best=BEST)


def read_mark(text: str) -> float | None:
    """`8`, `Mark: 7.5`, `8/10` → 0 to 1; None for what is no number, says several, or is below 0 or beyond the best."""
    found = MARK.fullmatch(NOISE.sub(" ", text))
    return float(found[1]) / BEST if found and float(found[1]) <= BEST else None
