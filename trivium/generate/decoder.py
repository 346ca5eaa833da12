"""What writes answers: a decoder keeps rows of read text and adds tokens to them. Here PyTorch's, the reference.

It does not know requests, nor when an answer is complete: see engine.py.

B rows, S positions of the cache, V vocabulary, N tokens.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from trivium.generate.sampling import Sampling, choose
from trivium.generate.step import FixedStep, step_rows
from trivium.generate.texts import Texts
from trivium.losses.language_model import token_logprobs
from trivium.model.attention import additive
from trivium.model.cache import Cache
from trivium.model.transformer import Transformer


class Start(NamedTuple):
    """An answer that begins."""

    prompt: Sequence[int]  # token ids, at least one
    uniform: Tensor  # (N,) float32; its random stream, of as many numbers as it may have tokens


class Piece(NamedTuple):
    """What was added to an answer."""

    tokens: list[int]  # at least one; a stop token can only be the last
    logprobs: list[float]  # of each, nats: see Answer


class Decoder(Protocol):
    rows: int  # answers it can hold at once, numbered from 0

    def read(self, starts: Mapping[int, Start]) -> None:
        """Read prompts into these rows, whatever stood there; a beginning that some row holds is not read again."""

    def write(self, rows: Sequence[int], steps: int) -> list[Piece]:
        """The next token of each of these rows, and up to `steps` of them while nothing ends.

        A row that is not named, and not read anew before the next call, is over.
        """

    def logits(self, rows: Sequence[int]) -> Tensor:
        """(B, V) after the last token of each of these rows, nothing chosen yet."""

    def take(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """What somebody else has chosen goes on these rows."""


class TorchDecoder:
    """Steps of all rows at once, on any device."""

    def __init__(
        self,
        model: Transformer,
        sampling: Sampling,
        *,
        stop: Sequence[int] = (),
        rows: int,
        positions: int,
        bfloat16: bool = False,
        fixed: bool = False,
    ) -> None:
        """fixed  shapes that never change, and several steps without a look at what they wrote: for a GPU"""
        self.model = copy.deepcopy(model).to(torch.bfloat16) if bfloat16 else model
        self.sampling, self.rows, self.positions = sampling, rows, positions
        weight = self.model.embed_tokens.weight
        self.cache = Cache(model.config, rows, positions, dtype=weight.dtype, device=weight.device)
        self.texts = Texts(rows, positions)
        self.fixed = FixedStep(self.model, self.cache, rows) if fixed else None
        self.stop = frozenset(stop)
        self.place = {row: row for row in range(rows)}  # where each row stands in the cache
        self.standing = dict.fromkeys(range(rows), 0)  # where the last token of each row stands
        self.left = dict.fromkeys(range(rows), 0)  # tokens that may be written yet
        self.last = torch.zeros(rows, dtype=torch.int64, device=weight.device)  # the token to be read next
        self.position = torch.zeros_like(self.last)  # where that token stands
        self.written = torch.zeros_like(self.last)
        self.uniform = torch.zeros(rows, sampling.max_new_tokens, device=weight.device)

    @torch.no_grad()
    def read(self, starts: Mapping[int, Start]) -> None:
        prompts = {row: start.prompt for row, start in starts.items()}
        reading = self.texts.begin(prompts)
        for source, row, length in reading.before:
            self.cache.copy(self.place[source], self.place[row], length)
        self._read({row: tokens for row, tokens in reading.unread.items() if tokens}, prompts)
        for source, row, length in reading.after:
            self.cache.copy(self.place[source], self.place[row], length)
        at = self._places(list(starts))
        self.last[at] = torch.tensor([prompt[-1] for prompt in prompts.values()], device=at.device)
        self.position[at] = torch.tensor([len(prompt) - 1 for prompt in prompts.values()], device=at.device)
        self.written[at] = 0
        room = self.sampling.max_new_tokens
        uniform = [F.pad(start.uniform, (0, room - len(start.uniform))) for start in starts.values()]
        self.uniform[at] = torch.stack(uniform).to(at.device)
        for row, start in starts.items():
            self.standing[row], self.left[row] = len(start.prompt) - 1, len(start.uniform)

    def _read(self, unread: Mapping[int, Sequence[int]], prompts: Mapping[int, Sequence[int]]) -> None:
        """The ends of prompts, into rows that hold their beginnings; padding stands behind, and is overwritten."""
        if not unread:
            return
        at, width = self._places(list(unread)), max(map(len, unread.values()))
        padded = torch.tensor([[*tokens, *[0] * (width - len(tokens))] for tokens in unread.values()], device=at.device)
        first = [len(prompts[row]) - 1 - len(tokens) for row, tokens in unread.items()]
        positions = torch.tensor(first, device=at.device)[:, None] + torch.arange(width, device=at.device)
        positions.clamp_(max=self.positions - 1)
        memory = self.cache.rows(at, max(len(prompts[row]) for row in unread) - 1)
        seen = torch.arange(memory.filled, device=at.device) <= positions[:, :, None]  # (B, T, S)
        self.model.hidden(padded, positions, additive(seen)[:, None], memory)

    @torch.no_grad()
    def write(self, rows: Sequence[int], steps: int = 1) -> list[Piece]:
        if self.fixed is None and len(rows) <= len(self.last) // 2:
            self._keep(rows)
        at = self._places(rows)
        steps = min(steps, max(self.left[row] for row in rows)) if self.fixed else 1
        found = [self._write_step(rows, at) for _ in range(steps)]
        tokens, logprobs = (torch.stack(each, dim=1).tolist() for each in zip(*found, strict=True))
        return [self._piece(*written) for written in zip(rows, tokens, logprobs, strict=True)]

    def _write_step(self, rows: Sequence[int], at: Tensor) -> tuple[Tensor, Tensor]:
        """The next token of these rows, and its log-probability; (B,) each. Waits for nothing if shapes are fixed."""
        logits = self._step(rows)[at]
        drawn = self.written[at].clamp(max=self.uniform.shape[1] - 1)  # beyond its end an answer is thrown away
        new = choose(logits, self.sampling, self.uniform[at, drawn])
        self._put(rows, at, new)
        self.written[at] += 1
        return new, token_logprobs(logits, new, temperature=self.sampling.temperature or 1.0)

    def _piece(self, row: int, tokens: list[int], logprobs: list[float]) -> Piece:
        ends = [place for place, token in enumerate(tokens, start=1) if token in self.stop]
        count = min([*ends[:1], len(tokens), self.left[row]])
        self.left[row] -= count
        return Piece(tokens[:count], logprobs[:count])

    @torch.no_grad()
    def logits(self, rows: Sequence[int]) -> Tensor:
        return self._step(rows)[self._places(rows)]

    def take(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        at = self._places(rows)
        self._put(rows, at, torch.tensor(tokens, device=at.device))
        for row, token in zip(rows, tokens, strict=True):
            self.texts.add(row, token)

    def _step(self, rows: Sequence[int]) -> Tensor:
        """(B, V) of all rows; those of interest are named."""
        if self.fixed:
            return self.fixed(self.last, self.position, max(self.standing[row] for row in rows))
        self.cache.filled = int(self.position.max()) + 1
        return step_rows(self.model, self.cache, self.last, self.position)

    def _put(self, rows: Sequence[int], at: Tensor, tokens: Tensor) -> None:
        self.last[at] = tokens
        self.position[at] = (self.position[at] + 1).clamp(max=self.positions - 1)
        for row in rows:
            self.standing[row] += 1

    def _places(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor([self.place[row] for row in rows], device=self.last.device)

    def _keep(self, rows: Sequence[int]) -> None:
        """Give up all but these rows: there is nobody left to take their places."""
        at = self._places(rows)
        self.cache.keep(at)
        self.last, self.position, self.written = self.last[at], self.position[at], self.written[at]
        self.uniform = self.uniform[at]
        self.place = {row: i for i, row in enumerate(rows)}
