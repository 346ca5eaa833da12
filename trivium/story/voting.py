"""Votes in the terminal: a prompt, two fresh answers, one key; another takes the last vote back. Trains nothing."""

import itertools
import os
import select
import sys
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from trivium.config import Recipe, read_settings, resolve
from trivium.distributed.world import join_world
from trivium.errors import ConfigError, RunError
from trivium.feedback.store import NewPair, NewVote, Rater, Shown, Store, choice_of
from trivium.generate.sampling import stream_seed
from trivium.phases.align.questions import Questions, questions
from trivium.phases.align.sampling import sample_pairs
from trivium.records import Message
from trivium.runs import Run, read_run, votes_of
from trivium.shelf import Opened, is_done, open_model, weights_fingerprint
from trivium.show import printable
from trivium.text.corpus import is_judged, load_dialogues, load_pairs
from trivium.text.schemas import quiet
from trivium.train.interrupt import listen

AHEAD = 6  # pairs that are written at once, while the rater looks at those before
WIDE = 100  # columns from which two answers stand side by side
PATIENCE = 1000  # known prompts in a row, beyond as many as are known, before we believe that no other is left
BARREN = 5  # batches in a row without two different answers

KEYS: dict[str, Shown] = {"1": "left", "2": "right", "t": "tie", "b": "both_bad", "s": "skip"}
KEYS |= {"left": "left", "right": "right", "tie": "tie", "both bad": "both_bad", "skip": "skip"}
KEYS |= {"\x1b[D": "left", "\x1b[C": "right", "\x1bOD": "left", "\x1bOC": "right"}  # arrows
END = "\x04"  # what a terminal sends for the end of the input
LEAVE = ("q", "quit", END)
UNDO = ("u", "undo", "\x7f")  # backspace
TOLD: dict[Shown, str] = {
    "left": "1 is better",
    "right": "2 is better",
    "tie": "a tie",
    "both_bad": "both are bad",
    "skip": "skipped",
}


class Fresh(NamedTuple):
    """A pair nobody has seen yet."""

    pair: NewPair
    ended: tuple[bool, bool]  # whether each answer came to its end by itself
    swapped: bool  # the first answer is shown on the right


class Writer(NamedTuple):
    """Who writes the answers, and for which round."""

    opened: Opened
    recipe: Recipe
    round: int  # whose training will use the votes
    stamp: str  # fingerprint of the model


def vote_in_terminal(run: Path, *, rater: str, count: int) -> None:
    """Ask about `count` pairs, one key each; every vote is durable before the next pair is shown.

    raises  RunError when the run has no model that answers; ConfigError for a count below 1; DataError for a rater's
            name that cannot be
    """
    if count < 1:
        raise ConfigError(f"count = {count}: must be at least 1")
    here = read_run(run)
    source = answering_model(here)
    recipe = resolve(read_settings(here.recipe))
    with (
        listen(),
        Store.open(votes_of(here, recipe.votes.database)) as store,
        join_world(recipe.compute.device) as world,
    ):
        voter = store.add_rater(rater)
        writer = Writer(
            open_model(source, device=world.device), recipe, coming_round(here), weights_fingerprint(source)
        )
        try:
            with closing(fresh_pairs(writer, store, voter, count)) as pairs:
                _ask_about(pairs, store, voter, count)
        finally:
            print(tally(store, voter, here))


def answering_model(run: Run) -> Path:
    """The policy as it is now: the latest aligned model, else instruct; raises RunError when there is neither."""
    rounds = [round.aligned for round in run.rounds() if is_done(round.aligned)]
    if rounds:
        return rounds[-1]
    if not is_done(run.instruct):
        raise RunError(f"{run.path}: has no model yet that answers; make one with `trivium run {run.path}`, then vote")
    return run.instruct


def coming_round(run: Run) -> int:
    """The round whose training will use a vote that is given now: one that has its reward model learns no more."""
    rounds = run.rounds()
    if not rounds:
        return 1
    last = rounds[-1]
    return last.number + 1 if is_done(last.reward) or is_done(last.aligned) else last.number


def learning_prompts(recipe: Recipe) -> Questions:
    """What the policy is asked while it learns; prompts from files in a drawn order."""
    if is_judged(recipe.data):
        return questions(recipe, [], [], held_out=False)
    pairs = list(load_pairs(recipe.data, quiet).train)
    dialogues = [] if pairs else list(load_dialogues(recipe.data, recipe.seed, quiet).train)
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence((recipe.seed, 9))))
    order.shuffle(pairs)
    order.shuffle(dialogues)
    return questions(recipe, pairs, dialogues, held_out=False)


def new_prompts(ask: Questions, known: Collection[tuple[Message, ...]], first: int) -> Iterator[tuple[Message, ...]]:
    """Prompts from the first-th on, each once and none that is known; ends when no other is left."""
    seen, misses = set(known), 0
    for index in itertools.count(first):
        prompt = ask(index).prompt
        misses = misses + 1 if prompt in seen else 0
        if misses > PATIENCE + len(seen):
            return
        if not misses:
            seen.add(prompt)
            yield prompt


def voted_prompts(store: Store, rater: Rater) -> set[tuple[Message, ...]]:
    """The prompts that this rater has voted on, or skipped."""
    done = {vote.pair_id for vote in store.votes() if vote.rater_id == rater.id}
    return {pair.prompt for pair in store.pairs() if pair.id in done}


def fresh_pairs(writer: Writer, store: Store, rater: Rater, count: int) -> Generator[Fresh, None, None]:
    """Up to `count` pairs; the next batch is written while the rater looks at this one."""
    recipe, name = writer.recipe, zlib.crc32(rater.name.encode("utf-8", "surrogatepass"))
    known = voted_prompts(store, rater)
    begun = len(known)  # each session asks anew; one that was left at once asks the same again
    first = stream_seed(recipe.seed, 9, writer.round, name) % 2**20
    prompts = new_prompts(learning_prompts(recipe), known, first)

    def write(batch: int, size: int) -> list[Fresh] | None:
        """A batch of pairs, without those whose answers are equal; None when no prompt is left."""
        asked = list(itertools.islice(prompts, size))
        seed = stream_seed(name, begun, batch)
        sampled = sample_pairs(*writer.opened, asked, recipe, round=writer.round, fingerprint=writer.stamp, seed=seed)
        fresh = [Fresh(pair, ended, is_swapped(pair, recipe.seed, name)) for pair, ended in sampled]
        return fresh if asked else None

    with ThreadPoolExecutor(1) as pool:
        given = barren = 0
        coming = pool.submit(write, 0, min(AHEAD, count))
        for batch in itertools.count(1):
            fresh = coming.result()
            if fresh is None:
                return
            barren = 0 if fresh else barren + 1
            if barren == BARREN:
                raise RunError("votes: the model answers every prompt the same way twice; raise votes.temperature")
            given += len(fresh)
            if given < count:
                coming = pool.submit(write, batch, min(AHEAD, count - given))
            yield from fresh
            if given >= count:
                return


def is_swapped(pair: NewPair, seed: int, rater: int) -> bool:
    """Whether the first answer stands on the right: half of the time, the same whenever this rater meets this pair."""
    return bool(stream_seed(seed, 10, rater, int(pair.key[:15], 16)) & 1)


def _ask_about(pairs: Iterator[Fresh], store: Store, rater: Rater, count: int) -> None:
    """One pair after the other; the last vote can be taken back, and its pair is then asked about again."""
    console = Console(stderr=True, highlight=False)
    console.print(Text("Two answers to each prompt are being written …", style="dim"))
    told, asked = "", list[Fresh]()  # those voted on in this session, the last one last
    coming = list[Fresh]()  # those taken back, and what stood on the screen then
    while True:
        fresh = coming.pop() if coming else next(pairs, None)
        if fresh is None:
            break
        if fresh.pair.prompt in voted_prompts(store, rater):  # in another terminal meanwhile
            continue
        console.clear()
        show_pair(console, fresh, title=f"{len(asked) + 1} of {count}", told=told)
        shown_at = time.monotonic()
        shown = read_choice(console)
        if shown is None:
            return
        if shown == "undo":
            coming.append(fresh)
            told = "there is no vote of this session to take back"
            if asked:
                store.undo(rater.id, f"terminal:{uuid.uuid4()}")
                coming.append(asked.pop())
                told = "taken back"
            continue
        _store_vote(store, rater, fresh, shown, time.monotonic() - shown_at)
        asked.append(fresh)
        told = f"stored: {TOLD[shown]}"
    console.print(Text(told if told else "There is no prompt left that you have not voted on.", style="dim"))


def _store_vote(store: Store, rater: Rater, fresh: Fresh, shown: Shown, seconds: float) -> None:
    (pair_id,) = store.add_pairs([fresh.pair])
    store.add_vote(
        NewVote(
            pair_id,
            rater.id,
            choice_of(shown, shown_swapped=fresh.swapped),
            idempotency_key=f"terminal:{uuid.uuid4()}",
            shown_swapped=fresh.swapped,
            seconds=seconds,
        )
    )


def show_pair(console: Console, fresh: Fresh, *, title: str, told: str = "") -> None:
    """The prompt, and the answers under 1 and 2: side by side where there is room, else one above the other."""
    console.print(Rule(Text.assemble((title, "bold"), (f"   {told}" if told else "", "dim")), style="dim"))
    turns = Table.grid(padding=(0, 3))
    for message in fresh.pair.prompt:
        turns.add_row(Text(message.role, style="cyan"), Text(printable(message.content), style="bold"))
    console.print("", turns, "")
    answers = [(fresh.pair.first, fresh.ended[0]), (fresh.pair.second, fresh.ended[1])]
    left, right = (_answer(*answer) for answer in (answers[::-1] if fresh.swapped else answers))
    if console.width < WIDE:
        console.print(_panel(left, "1"), _panel(right, "2"), "")
    else:
        half = console.options.update_width(console.width // 2)
        height = max(len(console.render_lines(_panel(text, ""), half)) for text in (left, right))
        sides = Table.grid(expand=True)
        sides.add_column(ratio=1)
        sides.add_column(ratio=1)
        sides.add_row(_panel(left, "1", height), _panel(right, "2", height))
        console.print(sides, "")


def _panel(answer: Text, title: str, height: int | None = None) -> Panel:
    return Panel(answer, title=Text(title, style="bold"), height=height, padding=(1, 2), border_style="cyan")


def _answer(text: str, ended: bool) -> Text:
    if not text:
        return Text("says nothing", style="dim italic")
    return Text.assemble(printable(text), ("" if ended else " … goes on", "dim italic"))


def read_choice(console: Console) -> Shown | Literal["undo"] | None:
    """What the rater chose, by where it is shown, or to take the last vote back; None to leave.

    A single key at a terminal, a line elsewhere.
    """
    legend = [
        ("1", "or ←"),
        ("2", "or →"),
        ("t", "tie"),
        ("b", "both bad"),
        ("s", "skip"),
        ("u", "undo"),
        ("q", "leave"),
    ]
    asked = Text("Which is better?   ")
    for key, name in legend:
        asked.append(key, style="bold cyan").append(f" {name}   ", style="dim")
    while True:
        console.print(asked)
        said = read_key(sys.stdin.fileno()) if sys.stdin.isatty() else read_line()
        if said in LEAVE:
            return None
        if said in UNDO:
            return "undo"
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
        f"{run.path} has {whose['yours']:,} votes of yours, {whose['others']:,} of others, "
        f"{whose['simulated']:,} simulated."
    ]
    if whose["yours"] or whose["others"]:
        lines.append(f"Train the next round on all of them:   trivium run {run.path} --round")
        if whose["simulated"]:
            lines.append(f"On people's votes only:   trivium run {run.path} --round --votes.no-simulated")
    return "\n".join(lines)
