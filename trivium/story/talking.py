"""Talking to a model in the terminal: filling blanks, and chat."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from trivium.errors import CheckpointError
from trivium.evaluate.blanks import Gap, fill
from trivium.generate.engine import Request, stream
from trivium.generate.sampling import Sampling, stream_seed
from trivium.records import Message
from trivium.runs import Run
from trivium.shelf import Opened, is_done, open_model
from trivium.show import console_for
from trivium.text import blanks
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


def fill_blanks(folder: Path, text: str, *, best: int) -> dict[str, Any]:
    """The likely fillings of each blank, one blank after the other, each in the text with the best so far.

    returns  {"text": the filled text, "blanks": [{"fillings": [{"text", "probability"}]}]}
    """
    blanks.parse(text)  # before a model is opened for a text that has none
    return fill_with(open_model(latest_model(folder, prefer="base")), text, best=best)


def fill_with(opened: Opened, text: str, *, best: int) -> dict[str, Any]:
    """The same with a model that is open."""
    pieces, spaced = blanks.parse(text), blanks.opening_spaces(text)
    model, tokenizer = opened
    done, found = pieces[0], []
    for number, space in enumerate(spaced, start=1):
        after, rest = pieces[number], "".join(pieces[number:])
        likely = fill(model, tokenizer, [Gap(done, rest)], drawn=DRAWN)[0]
        fillings = ([filling for filling in likely if filling.text.startswith(" ") == space] or likely)[:best]
        found.append({"fillings": [filling._asdict() for filling in fillings]})
        done += fillings[0].text + after
    return {"text": done, "blanks": found}


def print_fillings(found: dict[str, Any]) -> None:
    console = console_for()
    console.print(Text(found["text"], style="bold"))
    for number, blank in enumerate(found["blanks"], start=1):
        likely = "   ".join(f"{f['text'].strip()} {f['probability']:.0%}" for f in blank["fillings"])
        console.print(Text(f"  blank {number}:  {likely}" if len(found["blanks"]) > 1 else f"  {likely}"))


DRAWN = 24  # fillings tried beside the most probable one, to show others too
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
