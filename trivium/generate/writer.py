"""Writing for many at once, who come and go: each with settings of its own. See engine.py for a batch that is known.

V vocabulary, N tokens.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trivium.generate.decoder import Start
from trivium.generate.engine import Precision, fastest
from trivium.generate.sampling import NO_PENALTIES, Penalties, Sampling, choose, penalise, random_stream
from trivium.model.transformer import Transformer

End = Literal["stop", "length"]


class Order(NamedTuple):
    """What somebody wants to be written."""

    prompt: Sequence[int]  # token ids, at least one; with max_new_tokens of them no more than the context
    seed: int  # of its random stream
    sampling: Sampling
    stop: Sequence[int] = ()  # token ids that end it
    penalties: Penalties = NO_PENALTIES
    alternatives: int = 0  # how many of the most probable tokens are told beside each


class Token(NamedTuple):
    id: int
    logprob: float  # nats, as the model has it: at temperature 1, before anything is left out or penalised
    best: list[tuple[int, float]]  # the most probable tokens, and their log-probabilities
    end: End | None  # why nothing follows; "stop": this is the stop token


class Answering:
    """One order at work; equal only to itself."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.tokens: list[int] = []
        self.uniform = random_stream(order.seed, order.sampling.max_new_tokens)


class Writer:
    """Writes one token of every answer at a step. An order that comes in between begins with the next step.

    A dialogue that goes on is read from where it was left: rows remember what they hold, the longest idle goes first.
    """

    def __init__(
        self, model: Transformer, *, rows: int = 32, positions: int | None = None, precision: Precision = "float32"
    ) -> None:
        """positions  of a prompt and its answer together, at most; none: the model's context
        precision  auto: products in bfloat16 where there are any, for greedy answers too
        """
        self.context_length = model.config.context_length if positions is None else positions
        self.vocab_size = model.config.vocab_size
        room = Sampling(max_new_tokens=self.context_length)
        self._decoder = fastest(model, room, (), rows=rows, positions=self.context_length, precision=precision)
        self._waiting: deque[Answering] = deque()
        self._busy: dict[int, Answering] = {}
        self._free = deque(range(self._decoder.rows))

    def submit(self, order: Order) -> Answering:
        """Put at the end of the queue; raises ValueError when it does not fit the context, or asks for nothing."""
        most = order.sampling.max_new_tokens
        if not order.prompt or most < 1 or len(order.prompt) + most > self.context_length:
            raise ValueError(f"{len(order.prompt)} + {most} tokens: must be at most {self.context_length}, each over 0")
        if not 0 <= min(order.prompt) <= max(order.prompt) < self.vocab_size:
            raise IndexError(f"a prompt holds a token outside of 0 to {self.vocab_size - 1}")
        answering = Answering(order)
        self._waiting.append(answering)
        return answering

    def cancel(self, answering: Answering) -> None:
        """Write no more of it, whether it waits, is at work or is over."""
        if answering in self._waiting:
            self._waiting.remove(answering)
        for row, found in list(self._busy.items()):
            if found is answering:
                self._release(row)

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._busy

    def step(self) -> list[tuple[Answering, Token]]:
        """The next token of each answer at work; nothing when there is none."""
        fresh = {self._free.popleft(): self._waiting.popleft() for _ in range(min(len(self._free), len(self._waiting)))}
        if fresh:
            self._decoder.read({row: Start(found.order.prompt, found.uniform) for row, found in fresh.items()})
        self._busy |= fresh
        if not self._busy:
            return []
        rows = list(self._busy)
        logits = self._decoder.logits(rows).cpu()  # at once: each row is chosen from by itself
        written = [_next(self._busy[row], row_logits) for row, row_logits in zip(rows, logits, strict=True)]
        self._decoder.take(rows, [token.id for token in written])
        told = []
        for row, token in zip(rows, written, strict=True):
            self._busy[row].tokens.append(token.id)
            told.append((self._busy[row], token))
            if token.end:
                self._release(row)
        return told

    def follow(self, orders: Sequence[Order]) -> Iterator[tuple[int, Token]]:
        """The tokens of these orders by their numbers, until all are complete; closed before, none is written further.

        Whatever else is at work goes on meanwhile, and nobody is told of it.
        """
        numbers = {self.submit(order): number for number, order in enumerate(orders)}
        left = set(numbers)
        try:
            while left:
                for answering, token in self.step():
                    if answering in left:
                        if token.end:
                            left.remove(answering)
                        yield numbers[answering], token
        finally:
            for answering in left:
                self.cancel(answering)

    def _release(self, row: int) -> None:
        del self._busy[row]
        self._free.append(row)


def _next(answering: Answering, logits: Tensor) -> Token:
    """Chosen from the logits (V,) of its own row, and from nothing else: neighbours do not count."""
    order, place = answering.order, len(answering.tokens)
    controlled = logits
    if order.penalties != NO_PENALTIES:
        before = (torch.tensor(ids, dtype=torch.int64) for ids in (order.prompt, answering.tokens))
        controlled = penalise(logits, order.penalties, *before)
    chosen = int(choose(controlled[None], order.sampling, answering.uniform[place : place + 1]))
    logprobs = logits.log_softmax(-1)
    end: End | None = "length" if place + 1 == order.sampling.max_new_tokens else None
    return Token(
        chosen,
        float(logprobs[chosen]),
        most_probable(logprobs, order.alternatives),
        "stop" if chosen in order.stop else end,
    )


def most_probable(logprobs: Tensor, count: int) -> list[tuple[int, float]]:
    """Of (V,) log-probabilities, the highest with their tokens."""
    if not count:
        return []
    best = logprobs.topk(min(count, len(logprobs)))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
