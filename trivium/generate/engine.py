"""Writing with a model: requests in, answers out. When an answer ends, the next request takes its place.

How tokens come about is the decoder's: native.py on the processor, decoder.py anywhere.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch

from trivium.compute import best_dtype
from trivium.generate.decoder import Decoder, Piece, Start, TorchDecoder
from trivium.generate.native import NativeDecoder, native_library
from trivium.generate.sampling import Sampling, random_stream
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer

Precision = Literal["auto", "float32"]
STEPS = 16  # tokens of each row between looks at which answers have ended


class Request(NamedTuple):
    prompt: Sequence[int]  # token ids, at least one
    seed: int  # of its random stream


class Answer(NamedTuple):
    tokens: list[int]  # without the prompt and without the stop token
    stop: int | None  # the stop token that ended it; None when it ran out of room
    logprobs: Sequence[float] = ()  # nats, of each token and of the stop token; at the temperature, before top_k, top_p

    @property
    def ended(self) -> bool:
        return self.stop is not None


def generate(
    model: Transformer,
    requests: Sequence[Request],
    sampling: Sampling,
    *,
    stop: Sequence[int],
    batch_rows: int = 128,
    precision: Precision = "auto",
) -> list[Answer]:
    """An answer to every request, in the order of the requests.

    stop        token ids that end an answer
    batch_rows  answers written at once, at most
    precision   auto: answers that are drawn come from products in bfloat16 if the processor has them, twice as fast;
                greedy ones from float32, so that what is measured with them is exact
    A prompt that leaves no room for an answer loses its beginning: see `last_of`.
    """
    starts = [_start(request, sampling, model.config) for request in requests]
    written = [Piece([], []) for _ in starts]
    if starts and sampling.max_new_tokens:
        decoder = make_decoder(model, starts, sampling, stop, rows=batch_rows, precision=precision)
        for number, piece in _pieces(decoder, starts, stop, steps=STEPS):
            written[number].tokens.extend(piece.tokens)
            written[number].logprobs.extend(piece.logprobs)
    return [_answer(piece, start, stop, model.config) for piece, start in zip(written, starts, strict=True)]


def last_of(prompt: Sequence[int], config: ModelConfig) -> Sequence[int]:
    """The end of a prompt, as much as there is room for."""
    return prompt[-room_for_prompt(config) :]


def room_for_prompt(config: ModelConfig) -> int:
    """How many tokens of a prompt are read: a quarter of the context is left to write in."""
    return config.context_length * 3 // 4


def make_decoder(
    model: Transformer,
    starts: Sequence[Start],
    sampling: Sampling,
    stop: Sequence[int],
    *,
    rows: int,
    precision: Precision,
) -> Decoder:
    """The fastest decoder that this machine has for this model."""
    rows = min(rows, len(starts))
    positions = max(len(start.prompt) + len(start.uniform) for start in starts) - 1
    return fastest(model, sampling, stop, rows=rows, positions=positions, precision=precision)


def fastest(
    model: Transformer, sampling: Sampling, stop: Sequence[int], *, rows: int, positions: int, precision: Precision
) -> Decoder:
    """As `make_decoder`, with room for so many rows and positions."""
    device = model.embed_tokens.weight.device
    library, allowed = native_library(device), precision == "auto" and sampling.temperature > 0
    if isinstance(library, str):
        gpu = device.type == "cuda"
        bfloat16 = allowed and gpu and best_dtype(device) == torch.bfloat16
        return TorchDecoder(model, sampling, stop=stop, rows=rows, positions=positions, bfloat16=bfloat16, fixed=gpu)
    bfloat16 = allowed and bool(library.has_bfloat16())
    return NativeDecoder(model, sampling, stop=stop, rows=rows, positions=positions, bfloat16=bfloat16, library=library)


def _pieces(
    decoder: Decoder, starts: Sequence[Start], stop: Sequence[int], *, steps: int
) -> Iterator[tuple[int, Piece]]:
    """Whose answer goes on, and how, until all are complete."""
    order = sorted(range(len(starts)), key=lambda i: (len(starts[i].prompt), list(starts[i].prompt)))
    waiting = order[::-1]  # equal prompts side by side: they are read once
    free, busy, left = list(range(decoder.rows)), dict[int, int](), [len(start.uniform) for start in starts]
    while waiting or busy:
        fresh = {free.pop(): waiting.pop() for _ in range(min(len(free), len(waiting)))}
        if fresh:
            decoder.read({row: starts[number] for row, number in fresh.items()})
        busy |= fresh
        for (row, number), piece in zip(list(busy.items()), decoder.write(list(busy), steps), strict=True):
            yield number, piece
            left[number] -= len(piece.tokens)
            if not left[number] or piece.tokens[-1] in stop:
                del busy[row]
                free.append(row)


def _start(request: Request, sampling: Sampling, config: ModelConfig) -> Start:
    prompt = last_of(request.prompt, config)
    most = min(sampling.max_new_tokens, config.context_length - len(prompt) + 1)  # the last one only if it is a stop
    return Start(prompt, random_stream(request.seed, most))


def _answer(piece: Piece, start: Start, stop: Sequence[int], config: ModelConfig) -> Answer:
    tokens, logprobs = piece
    if tokens and tokens[-1] in stop:
        return Answer(tokens[:-1], tokens[-1], logprobs)
    room = config.context_length - len(start.prompt)
    return Answer(tokens[:room], None, logprobs[:room])
