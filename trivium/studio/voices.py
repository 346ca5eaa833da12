"""The models of a run, opened when somebody talks to them: answers token by token, and how likely each token was."""

import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

from trivium.compute import best_device
from trivium.config import read_settings, resolve
from trivium.errors import DataError, did_you_mean
from trivium.generate.spelling import Spelling
from trivium.generate.writer import Order, Token
from trivium.runs import Run
from trivium.shelf import Opened, open_model, weights_fingerprint
from trivium.story.voices import Voice, spelled, voices_of
from trivium.studio.desk import Desk
from trivium.text.tokenizer import Tokenizer

MOST_OPEN = 4  # models in memory
ROWS = 4  # answers that a model writes at once
BESIDE = 5  # tokens that might have stood in the place of each


class Voices:
    """Opens models and keeps the last few. Threads may share it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._open: OrderedDict[str, _Found] = OrderedDict()  # by the fingerprint of their weights
        self._lock = threading.Lock()

    def named(self, name: str) -> Voice:
        """raises  DataError when there is no such model"""
        known = {voice.name: voice for voice in voices_of(self.run)}
        if name not in known:
            raise DataError(f'model "{name:.60}": there is none of that name{did_you_mean(name, known)}')
        return known[name]

    def open(self, voice: Voice) -> Opened:
        """The model, from memory if it is there."""
        return self.open_folder(voice.folder)

    def desk(self, voice: Voice) -> Desk:
        """Where it is asked to write; it remembers the dialogues of the last few who asked."""
        with self._lock:
            found = self._found(voice.folder)
            if found.desk is None:
                found.desk = Desk(*found.opened, rows=ROWS)
            return found.desk

    def open_folder(self, folder: Path) -> Opened:
        with self._lock:  # one at a time: two who ask for the same model wait for one load
            return self._found(folder).opened

    def close(self) -> None:
        """What is being written is written to its end."""
        with self._lock:
            for found in self._open.values():
                found.leave()
            self._open.clear()

    def _found(self, folder: Path) -> "_Found":
        key = weights_fingerprint(folder)
        if key not in self._open:
            wanted = resolve(read_settings(self.run.recipe)).compute.device
            self._open[key] = _Found(open_model(folder, device=best_device(wanted)))
        self._open.move_to_end(key)
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[1].leave()
        return self._open[key]


@dataclass
class _Found:
    opened: Opened
    desk: Desk | None = None

    def leave(self) -> None:
        if self.desk:
            self.desk.retire()


async def write(desk: Desk, order: Order) -> AsyncGenerator[dict[str, Any], None]:
    """Pieces of the answer as they are written, then what it was made of.

    yields  {"text": the next piece}, last {"done": whether it ended by itself, "seconds", "tokens": see `beside`}
    """
    spelling, begun = Spelling(), time.monotonic()
    tokens, done = list[dict[str, Any]](), False
    async with aclosing(desk.write(order)) as written:
        async for token in written:
            done = token.end == "stop"
            if done:
                break
            tokens.append(beside(token, desk.tokenizer))
            if text := spelling.add(desk.tokenizer.token_bytes(token.id)):
                yield {"text": text}
    if rest := spelling.end():
        yield {"text": rest}
    yield {"done": done, "seconds": round(time.monotonic() - begun, 3), "tokens": tokens}


def beside(token: Token, tokenizer: Tokenizer) -> dict[str, Any]:
    """How likely a token was at temperature 1, and what else might have stood there.

    returns  {"text", "probability", "beside": the likeliest [text, probability]}
    """
    likely = [[spelled(id, tokenizer), round(exp(logprob), 4)] for id, logprob in token.best]
    return {"text": spelled(token.id, tokenizer), "probability": round(exp(token.logprob), 4), "beside": likely}
