"""Votes in the terminal: a prompt, two fresh answers, one key; others take the last vote back, write a comment, show
the guidelines. Trains nothing."""

import os
import select
import sys
import time
import uuid
from collections import Counter
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from trivium.config import read_settings, resolve
from trivium.distributed.world import join_world
from trivium.errors import ConfigError, RunError
from trivium.feedback.stats import next_goal
from trivium.feedback.store import Answer, Rater, Showing, Shown, Store
from trivium.runs import Run, read_run, votes_of
from trivium.shelf import open_model
from trivium.show import printable
from trivium.story.asking import Asker
from trivium.story.choosing import answering_model, coming_round
from trivium.story.guidelines import guidelines_of
from trivium.train.interrupt import listen
from trivium.wording import counted

WIDE = 100  # columns from which two answers stand side by side

KEYS: dict[str, Shown] = {"1": "left", "2": "right", "t": "tie", "b": "both_bad", "s": "skip"}
KEYS |= {"left": "left", "right": "right", "tie": "tie", "both bad": "both_bad", "skip": "skip"}
KEYS |= {"\x1b[D": "left", "\x1b[C": "right", "\x1bOD": "left", "\x1bOC": "right"}  # arrows
END = "\x04"  # what a terminal sends for the end of the input
LEAVE = ("q", "quit", END)
UNDO = ("u", "undo", "\x7f")  # backspace
COMMENT = ("c", "comment")
GUIDELINES = ("g", "guidelines")
LEGEND = (
    (("1", "or ←"), ("2", "or →"), ("t", "tie"), ("b", "both bad"), ("s", "skip")),
    (("u", "undo"), ("c", "comment"), ("g", "guidelines"), ("q", "leave")),
)
LONGEST = 2000  # characters of a comment
TOLD: dict[Shown, str] = {
    "left": "1 is better",
    "right": "2 is better",
    "tie": "a tie",
    "both_bad": "both are bad",
    "skip": "skipped",
}


def vote_in_terminal(run: Path, *, rater: str, count: int) -> None:
    """Ask about `count` pairs, one key each; every vote is durable before the next pair is shown.

    raises  RunError when the run has no model that answers; ConfigError for a count below 1; DataError for a rater's
            name that cannot be
    """
    if count < 1:
        raise ConfigError(f"count = {count}: must be at least 1")
    here = read_run(run)
    answering_model(here)
    recipe = resolve(read_settings(here.recipe))
    with (
        listen(),
        Store.open(votes_of(here, recipe.votes.database)) as store,
        join_world(recipe.compute.device) as world,
    ):
        voter = store.add_rater(rater)
        opened = cache(partial(open_model, device=world.device))
        try:
            with closing(Asker(here, store, opened, seed=recipe.seed)) as asker:
                _ask_about(asker, store, voter, count)
        finally:
            print(tally(store, voter, here))


def _ask_about(asker: Asker, store: Store, rater: Rater, count: int) -> None:
    """One pair after the other; the last vote can be taken back, and its pair is then asked about again."""
    console = Console(stderr=True, highlight=False)
    console.print(Text("Two answers to each prompt are being written …", style="dim"))
    told, cast = "", list[int]()  # the votes of this session: the rater may vote elsewhere too
    while len(cast) < count:
        showing = _next_showing(asker, rater)
        if showing is None:
            break
        console.clear()
        show_pair(console, showing, title=f"{len(cast) + 1} of {count}", told=told)
        shown_at = time.monotonic()
        shown, comment = decide(console, asker.run)
        if shown is None:
            return
        if shown == "undo":
            told = _take_back(store, rater, cast)
            continue
        key, seconds = f"terminal:{uuid.uuid4()}", time.monotonic() - shown_at
        cast.append(store.answer(Answer(showing.id, rater.id, shown, key, seconds, comment)).id)
        told = f"stored: {TOLD[shown]}"
    console.print(Text(told if told else "There is no prompt left that you have not voted on.", style="dim"))


def _take_back(store: Store, rater: Rater, cast: list[int]) -> str:
    """The last vote of this session, and what came of it; one that was taken back elsewhere is passed over."""
    while cast:
        if store.undo(rater.id, f"terminal:{uuid.uuid4()}", vote_id=cast.pop()):
            return "taken back"
    return "there is no vote of this session to take back"


def _next_showing(asker: Asker, rater: Rater) -> Showing | None:
    """The next pair, while those after it are being written; None when no prompt is left."""
    while True:
        given = asker.hand_out(rater.id, 1)
        asker.refill()
        if given:
            return given[0]
        asker.wait()
        if asker.trouble:
            raise RunError(f"votes: {asker.trouble}")
        if asker.empty and not (given := asker.hand_out(rater.id, 1)):
            return None


def show_pair(console: Console, showing: Showing, *, title: str, told: str = "") -> None:
    """The prompt, and the answers under 1 and 2: side by side where there is room, else one above the other."""
    console.print(Rule(Text.assemble((title, "bold"), (f"   {told}" if told else "", "dim")), style="dim"))
    turns = Table.grid(padding=(0, 3))
    if not showing.prompt:
        turns.add_row(Text("no prompt: two texts by themselves", style="dim"))
    for message in showing.prompt:
        turns.add_row(Text(message.role, style="cyan"), Text(printable(message.content), style="bold"))
    console.print("", turns, "")
    sides = zip((showing.left, showing.right), showing.ended, strict=True)
    left, right = (_answer(text, ended) for text, ended in sides)
    if console.width < WIDE:
        console.print(_panel(left, "1"), _panel(right, "2"), "")
    else:
        half = console.options.update_width(console.width // 2)
        height = max(len(console.render_lines(_panel(text, ""), half)) for text in (left, right))
        beside = Table.grid(expand=True)
        beside.add_column(ratio=1)
        beside.add_column(ratio=1)
        beside.add_row(_panel(left, "1", height), _panel(right, "2", height))
        console.print(beside, "")


def _panel(answer: Text, title: str, height: int | None = None) -> Panel:
    return Panel(answer, title=Text(title, style="bold"), height=height, padding=(1, 2), border_style="cyan")


def _answer(text: str, ended: bool) -> Text:
    if not text:
        return Text("says nothing", style="dim italic")
    return Text.assemble(printable(text), ("" if ended else " … goes on", "dim italic"))


def decide(console: Console, run: Run) -> tuple[Shown | Literal["undo"] | None, str]:
    """What the rater chose, and the comment that goes with it; the guidelines meanwhile to whoever asks for them."""
    comment = ""
    while True:
        said = read_choice(console)
        if said == "comment":
            console.print(Text("A comment, kept with this vote:"))
            comment = sys.stdin.readline().strip()[:LONGEST]
        elif said == "guidelines":
            console.print(Panel(Text(printable(guidelines_of(run))), title="Guidelines", padding=(1, 2)))
        else:
            return said, comment


def read_choice(console: Console) -> Shown | Literal["undo", "comment", "guidelines"] | None:
    """What the rater chose, by where it is shown, or what else is wanted first; None to leave.

    A single key at a terminal, a line elsewhere.
    """
    asked = Text("Which is better?   ")
    for legend in LEGEND:
        for key, name in legend:
            asked.append(key, style="bold cyan").append(f" {name}   ", style="dim")
        asked.append("\n" + " " * len("Which is better?   "))
    asked.rstrip()
    while True:
        console.print(asked)
        said = read_key(sys.stdin.fileno()) if sys.stdin.isatty() else read_line()
        if said in LEAVE:
            return None
        if said in UNDO:
            return "undo"
        if said in COMMENT:
            return "comment"
        if said in GUIDELINES:
            return "guidelines"
        if said in KEYS:
            return KEYS[said]


def read_line() -> str:
    line = sys.stdin.readline()
    return line.strip().lower() if line else END


def read_key(descriptor: int) -> str:
    """One key of a terminal, without Enter; an arrow is the sequence it sends. What was typed before is forgotten."""
    import termios
    import tty

    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor, termios.TCSAFLUSH)  # a key pressed twice must not vote on a pair still unseen
        key = os.read(descriptor, 1)
        while key.startswith(b"\x1b") and len(key) < 3 and select.select([descriptor], [], [], 0.05)[0]:
            key += os.read(descriptor, 1)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
    text = key.decode("utf-8", "replace") or END
    return text if len(text) > 1 else text.lower()


def tally(store: Store, rater: Rater, run: Run) -> str:
    """How many votes the run has, and what to do with them. Skipped pairs are no votes."""
    votes = [vote for vote in store.votes() if vote.choice != "skip"]
    whose = Counter("simulated" if v.simulated else "yours" if v.rater_id == rater.id else "others" for v in votes)
    lines = [
        f"{run.path} has {counted(whose['yours'], 'vote')} of yours, {whose['others']:,} of others, "
        f"{whose['simulated']:,} simulated."
    ]
    round = coming_round(run)
    cast = store.count_by_rater(round)[0].total()
    goal = next_goal(cast)
    if cast < goal.votes:
        lines.append(f"For round {round} people cast {cast:,} of {goal.votes:,} votes, {goal.meaning}.")
    if whose["yours"] or whose["others"]:
        lines.append(f"Train the next round on all of them:   trivium run {run.path} --round")
        if whose["simulated"]:
            lines.append(f"On people's votes only:   trivium run {run.path} --round --votes.no-simulated")
    return "\n".join(lines)
