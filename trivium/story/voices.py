"""Models as somebody to talk to: which there are of a run, and what each reads when it is spoken to."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from trivium.errors import CheckpointError, did_you_mean
from trivium.generate.engine import last_of
from trivium.generate.writer import Order
from trivium.records import Message
from trivium.runs import Run
from trivium.shelf import Opened, is_done, stands
from trivium.story.manner import Manner
from trivium.text.dialogue import render_prompt
from trivium.text.tokenizer import Tokenizer


class Voice(NamedTuple):
    """A model to talk to."""

    name: str
    title: str
    css: str  # the phase's colour
    folder: Path
    chats: bool  # answers what is asked; base only goes on with a text


def voices_of(run: Run) -> list[Voice]:
    """The published models of a run, base first, the newest last."""
    named = [
        Voice("base", "base", "base", run.base, False),
        Voice("instruct", "instruct", "instruct", run.instruct, True),
    ]
    for round in run.rounds():
        named.append(Voice(f"round-{round.number}", f"round {round.number}", "aligned", round.aligned, True))
    return [voice for voice in named if stands(voice.folder)]


def voice_at(folder: Path) -> Voice:
    """A model folder, or of a run the latest model. A folder that belongs to no run is taken for one that chats."""
    chosen = latest_model(folder)
    run = run_around(chosen)
    known = voices_of(run) if run else []
    name = chosen.resolve().name
    found = (voice for voice in known if voice.folder.resolve() == chosen.resolve())
    return next(found, Voice(name, name, "aligned", chosen, True))


def run_around(folder: Path) -> Run | None:
    """The run that a model belongs to: base and instruct lie in it, later models two folders deeper."""
    above = folder.resolve().parents
    return next((Run(parent) for parent in above[:3] if (parent / "recipe.toml").exists()), None)


def latest_model(folder: Path, *, prefer: str = "") -> Path:
    """The model folder itself; of a run, the preferred stage or else the latest that is done.

    raises  CheckpointError when there is no such folder, or the run has no model yet
    """
    if not folder.exists():
        near = did_you_mean(folder.name, _folders_beside(folder), folder=folder.parent)
        remedy = "; name a run folder or a model folder such as runs/NAME/base, `trivium run` makes one"
        raise CheckpointError(f"{folder}: no such run or model{near or remedy}")
    if (folder / "config.json").exists() or not (folder / "recipe.toml").exists():
        return folder
    run = Run(folder)
    stages = [run.base, run.instruct, *(round.aligned for round in run.rounds())]
    done = [stage for stage in stages if is_done(stage)]
    if not done:
        raise CheckpointError(f"{folder}: has no finished model yet; go on with `trivium run {folder}`")
    return next((stage for stage in done if stage.name == prefer), done[-1])


def _folders_beside(folder: Path) -> list[str]:
    return [each.name for each in folder.parent.iterdir() if each.is_dir()] if folder.parent.is_dir() else []


def prompt_of(voice: Voice, tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """What the model reads: the dialogue, or for base the text that it goes on with."""
    if voice.chats:
        ids: list[int] = render_prompt(messages, tokenizer).tolist()
        return ids
    text = "\n".join(message.content for message in messages)
    return [*tokenizer.opening, *tokenizer.encode(text)] or [tokenizer.end_of_text]


def order_of(
    voice: Voice, opened: Opened, messages: Sequence[Message], manner: Manner, *, seed: int, alternatives: int = 0
) -> Order:
    """What a writer is asked for: of what does not fit the context, the end is read."""
    model, tokenizer = opened
    prompt = list(last_of(prompt_of(voice, tokenizer, messages), model.config))
    stop = (tokenizer.end_of_text, *((tokenizer.turn_end,) if voice.chats else ()))
    sampling = manner.sampling(model.config.context_length - len(prompt))
    return Order(prompt, seed, sampling, stop, manner.penalties, alternatives)


def spelled(id: int, tokenizer: Tokenizer) -> str:
    """A token's text; a control token by name, bytes that are no character by number."""
    data = tokenizer.token_bytes(id)
    return data.decode("utf-8", "backslashreplace") if data else tokenizer.decode([id], keep_special=True)
