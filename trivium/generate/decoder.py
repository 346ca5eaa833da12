"""What writes answers: a decoder keeps rows of read text and adds tokens to them. Here PyTorch's, the reference.

It does not know requests, nor when an answer is complete: see engine.py.

B rows, S positions of the cache, V vocabulary, N tokens.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from trivium.generate.sampling import Sampling, choose
from trivium.losses.language_model import token_logprobs
from trivium.model.attention import additive, dense_document_mask
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
        """Read prompts into these rows, whatever stood there."""

    def write(self, rows: Sequence[int], steps: int) -> list[Piece]:
        """The next token of each of these rows, and up to `steps` of them while nothing ends.

        A row that is not named, and not read anew before the next call, is over.
        """

    def logits(self, rows: Sequence[int]) -> Tensor:
        """(B, V) after the last token of each of these rows, nothing chosen yet."""

    def take(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """What somebody else has chosen goes on these rows."""


class TorchDecoder:
    """One step at a time, on any device."""

    def __init__(self, model: Transformer, sampling: Sampling, *, rows: int, positions: int) -> None:
        self.model, self.sampling, self.rows = model, sampling, rows
        device = model.embed_tokens.weight.device
        self.cache = Cache(model.config, rows, positions, dtype=torch.float32, device=device)
        self.place = {row: row for row in range(rows)}  # where each row stands in the cache
        self.last = torch.zeros(rows, dtype=torch.int64, device=device)  # the token to be read next
        self.position = torch.zeros_like(self.last)  # where that token stands
        self.written = torch.zeros_like(self.last)
        self.uniform = torch.zeros(rows, sampling.max_new_tokens, device=device)

    @torch.no_grad()
    def read(self, starts: Mapping[int, Start]) -> None:
        at = self._places(list(starts))
        prompts = [tuple(start.prompt) for start in starts.values()]
        fresh = read_prompts(self.model, [prompt[:-1] for prompt in prompts])
        width = fresh.keys.shape[3]
        self.cache.keys[:, at, :, :width], self.cache.values[:, at, :, :width] = fresh.keys, fresh.values
        self.last[at] = torch.tensor([prompt[-1] for prompt in prompts], device=at.device)
        self.position[at] = torch.tensor([len(prompt) - 1 for prompt in prompts], device=at.device)
        self.written[at] = 0
        room = self.sampling.max_new_tokens
        uniform = [F.pad(start.uniform, (0, room - len(start.uniform))) for start in starts.values()]
        self.uniform[at] = torch.stack(uniform).to(at.device)

    @torch.no_grad()
    def write(self, rows: Sequence[int], steps: int = 1) -> list[Piece]:
        if len(rows) <= len(self.last) // 2:
            self._keep(rows)
        logits = step_rows(self.model, self.cache, self.last, self.position)
        at = self._places(rows)
        logits, uniform = logits[at], self.uniform[at, self.written[at]]
        new = choose(logits, self.sampling, uniform)
        logprobs = token_logprobs(logits, new, temperature=self.sampling.temperature or 1.0)
        self.last[at] = new
        self.position[at] += 1
        self.written[at] += 1
        return [Piece([t], [p]) for t, p in zip(new.tolist(), logprobs.tolist(), strict=True)]

    @torch.no_grad()
    def logits(self, rows: Sequence[int]) -> Tensor:
        return step_rows(self.model, self.cache, self.last, self.position)[self._places(rows)]

    def take(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        at = self._places(rows)
        self.last[at] = torch.tensor(tokens, device=at.device)
        self.position[at] += 1

    def _places(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor([self.place[row] for row in rows], device=self.last.device)

    def _keep(self, rows: Sequence[int]) -> None:
        """Give up all but these rows: there is nobody left to take their places."""
        at = self._places(rows)
        self.cache.keep(at)
        self.last, self.position, self.written = self.last[at], self.position[at], self.written[at]
        self.uniform = self.uniform[at]
        self.place = {row: i for i, row in enumerate(rows)}


def read_prompts(model: Transformer, prompts: Sequence[tuple[int, ...]]) -> Cache:
    """Read prompts into a fresh cache as long as the longest; equal prompts are read once and copied."""
    device = model.embed_tokens.weight.device
    different = list(dict.fromkeys(prompts))
    width = max(len(prompt) for prompt in different)
    cache = Cache(model.config, len(different), width, dtype=torch.float32, device=device)
    if width:
        padded = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in different], device=device)
        positions = torch.arange(width, device=device).expand_as(padded)
        causal = dense_document_mask(torch.zeros(1, width, device=device))
        cache.filled = width
        model.hidden(padded, positions, causal, cache)  # padding stands after what is read, and is overwritten
    place = {prompt: i for i, prompt in enumerate(different)}
    cache.keep(torch.tensor([place[prompt] for prompt in prompts], device=device))
    return cache


def step_rows(model: Transformer, cache: Cache, last: Tensor, position: Tensor) -> Tensor:
    """Logits (B, V) after each row's last token, which is written into the cache on the way.

    last, position  (B,) int64; the token, and where it stands
    """
    cache.filled = int(position.max()) + 1
    mask = additive(torch.arange(cache.filled, device=position.device) <= position[:, None])  # (B, S)
    hidden = model.hidden(last[:, None], position[:, None], mask[:, None, None], cache)
    logits: Tensor = model.lm_head(hidden[:, 0])
    return logits
