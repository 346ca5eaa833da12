"""Writing with a model: prompts are read once, answers grow in a preallocated cache, finished rows make room.

B rows being written, S positions of the cache, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trivium.generate.sampling import Sampling, choose, random_stream
from trivium.model.cache import Cache
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer


class Request(NamedTuple):
    prompt: Sequence[int]  # token ids, at least one
    seed: int  # of its random stream


class Answer(NamedTuple):
    tokens: list[int]  # without the prompt and without the stop token
    stop: int | None  # the stop token that ended it; None when it ran out of room

    @property
    def ended(self) -> bool:
        return self.stop is not None


class Rows(NamedTuple):
    """The answers being written, one per row of the cache."""

    request: Tensor  # (B,) int64; whose answer it is
    last: Tensor  # (B,) int64; the token written last
    position: Tensor  # (B,) int64; where that token stands


def generate(
    model: Transformer,
    requests: Sequence[Request],
    sampling: Sampling,
    *,
    stop: Sequence[int],
    batch_rows: int = 128,
) -> list[Answer]:
    """An answer to every request, in the order of the requests.

    stop        token ids that end an answer
    batch_rows  answers written at once
    A prompt that leaves no room for an answer loses its beginning: see `last_of`.
    """
    requests = [request._replace(prompt=last_of(request.prompt, model.config)) for request in requests]
    answers: dict[int, Answer] = {}
    order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt))  # equal lengths waste no room
    for start in range(0, len(order), batch_rows):
        chosen = order[start : start + batch_rows]
        written = _write([requests[i] for i in chosen], model, sampling, stop)
        answers |= dict(zip(chosen, written, strict=True))
    return [answers[i] for i in range(len(requests))]


def last_of(prompt: Sequence[int], config: ModelConfig) -> Sequence[int]:
    """The end of a prompt, as much as leaves a quarter of the context to write in."""
    return prompt[-(config.context_length * 3 // 4) :]


@torch.no_grad()
def _write(requests: list[Request], model: Transformer, sampling: Sampling, stop: Sequence[int]) -> list[Answer]:
    longest = max(len(request.prompt) for request in requests)
    room = min(longest + sampling.max_new_tokens, model.config.context_length)
    uniform = torch.stack([random_stream(request.seed, sampling.max_new_tokens) for request in requests])
    logits, cache, position = read_prompts(model, [request.prompt for request in requests], room)
    device = logits.device
    tokens = torch.full((len(requests), sampling.max_new_tokens), -1, device=device)
    stops = torch.full((len(requests),), -1, device=device)
    rows = Rows(torch.arange(len(requests), device=device), torch.zeros_like(position), position)
    uniform, stop_ids = uniform.to(device), torch.tensor(stop, device=device)
    for step in range(sampling.max_new_tokens):
        new = choose(logits, sampling, uniform[rows.request, step])
        ended = torch.isin(new, stop_ids)
        rows = Rows(rows.request, new, rows.position + 1)
        alive = ~ended & (rows.position < room)
        stops[rows.request[ended]] = new[ended]
        tokens[rows.request[alive], step] = new[alive]
        if not alive.all():
            rows = Rows(*(field[alive] for field in rows))
            cache.keep(alive)
        if not len(rows.request):
            break
        logits = step_rows(model, cache, rows)
    return [
        Answer([t for t in row if t >= 0], end if end >= 0 else None)
        for row, end in zip(tokens.tolist(), stops.tolist(), strict=True)
    ]


def read_prompts(model: Transformer, prompts: Sequence[Sequence[int]], room: int) -> tuple[Tensor, Cache, Tensor]:
    """Read prompts into a fresh cache; equal prompts are read once and copied.

    room     positions of the cache
    returns  logits (B, V) of the first new token, the cache, and (B,) the position of each prompt's last token
    """
    device = model.embed_tokens.weight.device
    different = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
    lengths = torch.tensor([len(prompt) for prompt in different], device=device)
    width = int(lengths.max())
    padded = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in different], device=device)
    positions = torch.arange(width, device=device).expand_as(padded)
    cache = Cache(model.config, len(different), room, dtype=torch.float32, device=device)
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()[None, None]
    cache.filled = width
    hidden = model.hidden(padded, positions, causal, cache)  # padding stands after what is read, and is overwritten
    logits = model.lm_head(hidden[torch.arange(len(different), device=device), lengths - 1])
    place = {prompt: i for i, prompt in enumerate(different)}
    copies = torch.tensor([place[tuple(prompt)] for prompt in prompts], device=device)
    cache.keep(copies)
    return logits[copies], cache, lengths[copies] - 1


def step_rows(model: Transformer, cache: Cache, rows: Rows) -> Tensor:
    """Logits (B, V) after each row's last token, which is written into the cache on the way."""
    cache.filled = int(rows.position.max()) + 1
    positions = rows.position[:, None]
    mask = torch.arange(cache.filled, device=positions.device) <= positions  # (B, S)
    hidden = model.hidden(rows.last[:, None], positions, mask[:, None, None], cache)
    logits: Tensor = model.lm_head(hidden[:, 0])
    return logits


def stream(model: Transformer, request: Request, sampling: Sampling, *, stop: Sequence[int]) -> Iterator[int]:
    """The tokens of one answer as they are written, without the stop token."""
    request = request._replace(prompt=last_of(request.prompt, model.config))
    room = min(len(request.prompt) + sampling.max_new_tokens, model.config.context_length)
    uniform = random_stream(request.seed, sampling.max_new_tokens)
    with torch.no_grad():
        logits, cache, position = read_prompts(model, [request.prompt], room)
    for step in range(sampling.max_new_tokens):
        new = choose(logits, sampling, uniform[step : step + 1].to(logits.device))
        position = position + 1
        if int(new) in stop or int(position) >= room:
            return
        yield int(new)
        with torch.no_grad():
            logits = step_rows(model, cache, Rows(torch.zeros(1, dtype=torch.int64), new, position))
