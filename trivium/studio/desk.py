"""A model that writes for many at once, on a thread of its own, so that the event loop never waits. No HTTP."""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import Final, Literal, NamedTuple

import torch

from trivium.generate.writer import Answering, Order, Token, Writer, most_probable
from trivium.model.transformer import Transformer
from trivium.text.tokenizer import Tokenizer

LOOK: Final = "look"  # wakes the thread up, which looks what has changed


class Full(Exception):
    """More wait than may wait."""


class _Wanted(NamedTuple):
    order: Order
    loop: asyncio.AbstractEventLoop
    tokens: "asyncio.Queue[Token | BaseException]"


class Desk:
    """Takes orders; `close` ends its thread, `retire` lets it end when nothing is left to write."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, *, rows: int = 16, most_waiting: int = 64) -> None:
        """most_waiting  answers that may be ordered beyond those at work"""
        self.model, self.tokenizer = model, tokenizer
        self.most = rows + most_waiting
        self._rows, self._writer = rows, Writer(model, rows=rows)
        self._inbox: queue.SimpleQueue[tuple[_Wanted, bool] | Literal["look"] | None] = queue.SimpleQueue()
        self._open = 0
        self._taking, self._retired = threading.Lock(), False
        self._reading = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)
        self._thread.start()

    def make_room(self, count: int) -> None:
        """Raises Full when so many more answers cannot be taken now."""
        if self._retired or self._open + count > self.most:
            raise Full

    async def write(self, order: Order) -> AsyncGenerator[Token, None]:
        """The tokens of an answer as they are written. Closed before its end, nothing more is written."""
        wanted = _Wanted(order, asyncio.get_running_loop(), asyncio.Queue())
        with self._taking:
            if self._retired:
                raise Full
            self._inbox.put((wanted, True))
        self._open += 1
        try:
            while True:
                found = await wanted.tokens.get()
                if isinstance(found, BaseException):
                    raise found
                yield found
                if found.end:
                    return
        finally:
            self._open -= 1
            self._inbox.put((wanted, False))  # its reader has left

    def prompt_logprobs(self, prompt: Sequence[int], alternatives: int) -> list[Token]:
        """What the model thinks of each token of a prompt after the first. Blocks: one at a time."""
        with self._reading, torch.inference_mode():
            device = self.model.embed_tokens.weight.device
            tokens = torch.tensor([prompt], device=device)
            places = torch.arange(len(prompt), device=device)[None]
            logprobs = self.model(tokens, places, torch.zeros_like(tokens))[0].float().log_softmax(-1)
            chosen = logprobs[:-1].gather(1, tokens[0, 1:, None])[:, 0].tolist()
            best = [most_probable(row, alternatives) for row in logprobs[:-1]]
        return [Token(*found, None) for found in zip(prompt[1:], chosen, best, strict=True)]

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join()

    def retire(self) -> None:
        """Take no more orders, and end when those at work are complete."""
        with self._taking:  # whatever was taken is written
            self._retired = True
        self._inbox.put(LOOK)

    def _work(self) -> None:
        at_work: dict[int, tuple[Answering, _Wanted]] = {}  # by identity of what was wanted
        while True:
            while self._writer.idle or not self._inbox.empty():
                if self._retired and self._inbox.empty():
                    return
                if (message := self._inbox.get()) is None:
                    return
                if message == LOOK:
                    continue
                wanted, comes = message
                if not comes:
                    if found := at_work.pop(id(wanted), None):
                        self._writer.cancel(found[0])
                else:
                    try:
                        at_work[id(wanted)] = (self._writer.submit(wanted.order), wanted)
                    except (ValueError, IndexError) as reason:
                        _tell(wanted, reason)
            whose = {id(answering): wanted for answering, wanted in at_work.values()}
            try:
                told = self._writer.step()
            except Exception as reason:  # one fault must not leave the others waiting for ever
                for _, wanted in at_work.values():
                    _tell(wanted, reason)
                at_work.clear()
                self._writer = Writer(self.model, rows=self._rows)  # what the old one remembers may be half of it
                continue
            for answering, token in told:
                _tell(whose[id(answering)], token)


def _tell(wanted: _Wanted, token: Token | BaseException) -> None:
    if not wanted.loop.is_closed():
        wanted.loop.call_soon_threadsafe(wanted.tokens.put_nowait, token)
