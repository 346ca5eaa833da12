"""How villagers speak: which word may follow which. Learned once, from the village's own texts, when first asked."""

import re
from functools import cache
from itertools import pairwise

from trivium.worlds.tinyworld.grammar import words
from trivium.worlds.tinyworld.instructions import ALL, task
from trivium.worlds.tinyworld.lexicon import FOODS, JOBS, MEN, PEOPLE, PET_NAMES, PETS, PLACES, THINGS, WOMEN
from trivium.worlds.tinyworld.stories import story

STORIES, TASKS_PER_KIND = 1000, 250  # enough that a fresh text of the village holds hardly any new pair
FLUENT, BROKEN = 0.85, 0.50  # shares of familiar pairs that count as full sense and as none

_EDGE = "."
_LOOKS = tuple(look for thing in THINGS.values() for look in thing.looks)
_CLASSES = {
    word.lower(): name
    for name, table in {
        "NAME": PEOPLE + WOMEN + MEN + PET_NAMES,
        "LOOK": _LOOKS,
        "PLACE": PLACES,
        "JOB": JOBS,
        "THING": (*THINGS, *FOODS, *PETS),
    }.items()
    for word in table
}
_SENTENCE = re.compile(r"[^.!?]+")


def sentences(text: str) -> list[list[str]]:
    """The words of each sentence."""
    return [spoken for part in _SENTENCE.findall(text) if (spoken := words(part))]


def sense(text: str) -> float:
    """From 0, words in a heap, to 1, sentences that a villager could say: by the share of familiar pairs of words."""
    pairs = _pairs(text)
    if not pairs:
        return 0.0
    share = sum(pair in _familiar() for pair in pairs) / len(pairs)
    return max(0.0, min(1.0, (share - BROKEN) / (FLUENT - BROKEN)))


def _pairs(text: str) -> list[tuple[str, str]]:
    """Neighbours within sentences, with the edges; a word that a table holds stands for all of its table."""
    found: list[tuple[str, str]] = []
    for spoken in sentences(text):
        line = [_EDGE, *(_CLASSES.get(word, word) for word in spoken), _EDGE]
        found.extend(pairwise(line))
    return found


@cache
def _familiar() -> frozenset[tuple[str, str]]:
    texts = [story(0, index) for index in range(STORIES)]
    for kind in ALL:
        for index in range(TASKS_PER_KIND):
            texts.extend(message.content for message in task(0, index, kinds=[kind]).dialogue.messages)
    return frozenset(pair for text in texts for pair in _pairs(text))
