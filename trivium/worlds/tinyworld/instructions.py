"""Instructions and their answers: one table of kinds, and tasks drawn from it."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from trivium.records import Dialogue, Message
from trivium.worlds.tinyworld import passages, riddles
from trivium.worlds.tinyworld.chance import generator, is_held_out
from trivium.worlds.tinyworld.drafts import Draft, Facts
from trivium.worlds.tinyworld.hands import request


class Kind(NamedTuple):
    """A sort of instruction: who drafts it, how often it is drawn, and whether its answer can be checked."""

    draft: Callable[[random.Random], Draft]
    weight: float
    checkable: bool


class Task(NamedTuple):
    """A dialogue that ends with the demonstrated answer, and the facts by which any answer is judged."""

    dialogue: Dialogue
    facts: Facts


KINDS: dict[str, Kind] = {
    "where": Kind(passages.where, 4, True),
    "who": Kind(passages.who, 4, True),
    "what": Kind(passages.what, 4, True),
    "look": Kind(passages.look, 2, True),
    "mood": Kind(passages.mood, 2, True),
    "unsaid": Kind(passages.unsaid, 3, True),
    "yes_no": Kind(passages.yes_no, 3, True),
    "people": Kind(passages.people, 2, True),
    "things": Kind(passages.things, 2, True),
    "followup": Kind(passages.followup, 2, True),
    "opposite": Kind(riddles.opposite, 4, True),
    "past": Kind(riddles.past, 4, True),
    "blank": Kind(riddles.blank, 4, True),
    "job": Kind(riddles.job, 4, True),
    "compare": Kind(riddles.compare, 4, True),
    "sort": Kind(riddles.sort, 3, True),
    "sum": Kind(riddles.sum_, 2, True),
    "count": Kind(riddles.count, 2, True),
    "copy": Kind(riddles.copy, 2, True),
    "backwards": Kind(riddles.backwards, 2, True),
    "next": Kind(riddles.next_, 2, True),
    "self": Kind(riddles.self_, 2, True),
    "name": Kind(riddles.name, 2, True),
    "greeting": Kind(partial(request, kind="greeting"), 3, False),
    "goodbye": Kind(partial(request, kind="goodbye"), 2, False),
    "thanks": Kind(partial(request, kind="thanks"), 2, False),
    "comfort": Kind(partial(request, kind="comfort"), 5, False),
    "rejoice": Kind(partial(request, kind="rejoice"), 3, False),
    "advice": Kind(partial(request, kind="advice"), 3, False),
    "praise": Kind(partial(request, kind="praise"), 3, False),
    "note": Kind(partial(request, kind="note"), 3, False),
    "invitation": Kind(partial(request, kind="invitation"), 3, False),
    "story": Kind(partial(request, kind="story"), 3, False),
    "continuation": Kind(partial(request, kind="continuation"), 3, False),
    "talk": Kind(partial(request, kind="talk"), 2, False),
}
ALL = tuple(KINDS)
CHECKABLE = tuple(name for name, kind in KINDS.items() if kind.checkable)
OPEN = tuple(name for name, kind in KINDS.items() if not kind.checkable)
ALIGN_OPEN_SHARE = 0.65


def task(seed: int, index: int, *, held_out: bool = False, kinds: Sequence[str] = ALL) -> Task:
    """One task of the kinds named, drawn by their weights: a pure function of its arguments."""
    rng = generator(seed, index, "held-out task" if held_out else "task")
    return _task(rng, kinds, source=f"tinyworld:task:{seed}:{index}", held_out=held_out)


def prompts(seed: int, index: int, *, held_out: bool = False) -> Task:
    """One task of the mixture that alignment practises on: ALIGN_OPEN_SHARE of it is open."""
    rng = generator(seed, index, "held-out prompt" if held_out else "prompt")
    kinds = OPEN if rng.random() < ALIGN_OPEN_SHARE else CHECKABLE
    return _task(rng, kinds, source=f"tinyworld:prompt:{seed}:{index}", held_out=held_out)


def _task(rng: random.Random, kinds: Sequence[str], *, source: str, held_out: bool) -> Task:
    kind = rng.choices(kinds, [KINDS[name].weight for name in kinds])[0]
    draft = KINDS[kind].draft(rng)
    while not _fits(draft, held_out=held_out):
        draft = KINDS[kind].draft(rng)
    messages = tuple(Message("assistant" if turn % 2 else "user", content) for turn, content in enumerate(draft.turns))
    return Task(Dialogue(messages, source, draft.accepted, kind), draft.facts)


def _fits(draft: Draft, *, held_out: bool) -> bool:
    """Training sees no held-out combination at all; a held-out task asks about one."""
    if held_out:
        return is_held_out(*draft.combinations[0])
    return not any(is_held_out(*combination) for combination in draft.combinations)
