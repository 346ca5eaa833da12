"""Talking to a model in the terminal."""

import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from trivium.errors import CheckpointError
from trivium.generate.engine import Request, stream
from trivium.generate.sampling import Sampling, stream_seed
from trivium.records import Message
from trivium.runs import Run
from trivium.shelf import Opened, is_done, open_model
from trivium.text.dialogue import render_prompt


def latest_model(folder: Path, *, prefer: str = "") -> Path:
    """The model folder itself; of a run, the preferred stage or else the latest that is done."""
    if (folder / "config.json").exists() or not (folder / "recipe.toml").exists():
        return folder
    run = Run(folder)
    stages = [run.base, run.instruct, *(round.aligned for round in run.rounds())]
    done = [stage for stage in stages if is_done(stage)]
    if not done:
        raise CheckpointError(f"{folder}: has no finished model yet; go on with `trivium run {folder}`")
    return next((stage for stage in done if stage.name == prefer), done[-1])


HELP = "An empty line or /exit leaves, /new begins anew, /again answers again."


def chat_with(folder: Path, *, temperature: float, top_p: float, seed: int) -> None:
    """A conversation; each answer is streamed as it is written."""
    chosen = latest_model(folder)
    model, tokenizer = open_model(chosen)
    console = Console(stderr=True, highlight=False)
    console.print(Text(f"{chosen}: {model.config.parameters:,} parameters. {HELP}", style="dim"))
    history: list[Message] = []
    while (line := _ask()) not in ("", "/exit"):
        if line == "/new":
            history = []
            continue
        if line == "/again":
            history, line = history[:-2], history[-2].content if len(history) > 1 else ""
            seed += 1
        if not line:
            continue
        history.append(Message("user", line))
        sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=model.config.context_length)
        answer = _answer(Opened(model, tokenizer), history, sampling, stream_seed(seed, len(history)))
        history.append(Message("assistant", answer))


def _ask() -> str:
    try:
        return input("you  > " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def _answer(opened: Opened, history: list[Message], sampling: Sampling, seed: int) -> str:
    """Print the answer token by token; returns it whole."""
    model, tokenizer = opened
    prompt = render_prompt(history, tokenizer).tolist()
    while len(prompt) >= model.config.context_length - 16 and len(history) > 2:
        del history[:2]  # the oldest exchange no longer fits
        prompt = render_prompt(history, tokenizer).tolist()
    ids: list[int] = []
    shown = ""
    for token in stream(model, Request(prompt, seed), sampling, stop=[tokenizer.turn_end, tokenizer.end_of_text]):
        ids.append(token)
        text = tokenizer.decode(ids)
        if not text.endswith("\ufffd"):  # a character still in the making
            print(text[len(shown) :], end="", flush=True)
            shown = text
    print()
    return shown.strip()
