"""The models of a run, opened when somebody talks to them: answers token by token, and how likely each token was."""

import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from trivium.config import read_settings, resolve
from trivium.errors import DataError, RunError, did_you_mean
from trivium.generate.engine import Request, last_of, stream
from trivium.generate.sampling import Sampling
from trivium.publish import MANIFEST
from trivium.records import Message
from trivium.runs import Run
from trivium.shelf import Opened, open_model, weights_fingerprint
from trivium.text.dialogue import render_prompt
from trivium.text.tokenizer import Tokenizer

MOST_OPEN = 4  # models in memory
BESIDE = 5  # tokens that might have stood in the place of each


class Voice(NamedTuple):
    """A model of the run."""

    name: str
    title: str
    css: str  # the phase's colour
    folder: Path
    chats: bool  # answers what is asked; base only goes on with a text


def voices_of(run: Run) -> list[Voice]:
    """The published models, base first, the newest last."""
    named = [
        Voice("base", "base", "base", run.base, False),
        Voice("instruct", "instruct", "instruct", run.instruct, True),
    ]
    for round in run.rounds():
        named.append(Voice(f"round-{round.number}", f"round {round.number}", "aligned", round.aligned, True))
    return [voice for voice in named if (voice.folder / MANIFEST).exists()]


class Voices:
    """Opens models and keeps the last few. Threads may share it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._open: OrderedDict[str, Opened] = OrderedDict()  # by the fingerprint of their weights
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

    def open_folder(self, folder: Path) -> Opened:
        key = weights_fingerprint(folder)
        with self._lock:  # one at a time: two who ask for the same model wait for one load
            if key not in self._open:
                wanted = resolve(read_settings(self.run.recipe)).compute.device
                device = "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
                self._open[key] = open_model(folder, device=device)
            self._open.move_to_end(key)
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            return self._open[key]


def prompt_of(voice: Voice, tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """What the model reads: the dialogue, or for base the text that it goes on with."""
    if voice.chats:
        ids: list[int] = render_prompt(messages, tokenizer).tolist()
        return ids
    text = "\n".join(message.content for message in messages)
    return [*tokenizer.opening, *tokenizer.encode(text)] or [tokenizer.end_of_text]


def write(
    voice: Voice, opened: Opened, messages: Sequence[Message], sampling: Sampling, seed: int
) -> Generator[dict[str, Any], None, None]:
    """Pieces of the answer as they are written, then what it was made of.

    yields  {"text": the next piece}, last {"done": whether it ended by itself, "seconds", "tokens": see `read_back`}
    """
    model, tokenizer = opened
    prompt = list(last_of(prompt_of(voice, tokenizer, messages), model.config))
    stop = [tokenizer.end_of_text, *([tokenizer.turn_end] if voice.chats else [])]
    ids: list[int] = []
    shown, begun = "", time.monotonic()
    for token in stream(model, Request(prompt, seed), sampling, stop=stop):
        ids.append(token)
        text = tokenizer.decode(ids)
        if len(text) > len(shown) and not text.endswith("\ufffd"):  # a character still in the making
            yield {"text": text[len(shown) :]}
            shown = text
    if len(rest := tokenizer.decode(ids)) > len(shown):
        yield {"text": rest[len(shown) :]}
    seconds = time.monotonic() - begun
    room = min(sampling.max_new_tokens, model.config.context_length - len(prompt))
    yield {"done": len(ids) < room, "seconds": round(seconds, 3), "tokens": read_back(opened, prompt, ids)}


@torch.no_grad()
def read_back(opened: Opened, prompt: Sequence[int], ids: Sequence[int]) -> list[dict[str, Any]]:
    """How likely each token of an answer was at temperature 1, and what else might have stood there.

    returns  of each token {"text", "probability", "beside": the likeliest [text, probability]}
    """
    if not ids:
        return []
    model, tokenizer = opened
    row = torch.tensor([[*prompt, *ids]], device=model.embed_tokens.weight.device)
    positions = torch.arange(row.shape[1], device=row.device)[None]
    logits = model(row, positions, torch.zeros_like(row))[0, len(prompt) - 1 : -1]  # (N, V)
    probabilities = logits.float().softmax(-1)
    own = probabilities.gather(1, row[0, len(prompt) :, None])[:, 0].tolist()
    likely = probabilities.topk(min(BESIDE, probabilities.shape[-1]))
    beside = zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
    return [
        {
            "text": spelled(id, tokenizer),
            "probability": round(share, 4),
            "beside": [[spelled(other, tokenizer), round(p, 4)] for other, p in zip(*others, strict=True)],
        }
        for id, share, others in zip(ids, own, beside, strict=True)
    ]


def spelled(id: int, tokenizer: Tokenizer) -> str:
    """A token's text; a control token by name, bytes that are no character by number."""
    data = tokenizer.token_bytes(id)
    return data.decode("utf-8", "backslashreplace") if data else tokenizer.decode([id], keep_special=True)


def require_voices(run: Run) -> list[Voice]:
    """raises  RunError when there is no model to talk to yet"""
    found = voices_of(run)
    if not found:
        raise RunError(f"{run.path}: has no model yet; start phase I on the story page")
    return found
