"""The little English that templates need: articles, pronouns, lists, capitals."""

import re
from collections.abc import Sequence

from trivium.worlds.tinyworld.lexicon import GIRLS, PLACES, WOMEN

FEMALE = frozenset(GIRLS + WOMEN)


def a(phrase: str) -> str:
    """With its article: `an old key`, `a red kite`."""
    return f"an {phrase}" if phrase[0] in "aeio" or phrase.startswith("um") else f"a {phrase}"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def at(place: str) -> str:
    return PLACES[place].at


def to(place: str) -> str:
    return f"to the {place}" if place != "attic" else "up to the attic"


def pronouns(name: str) -> tuple[str, str, str]:
    """Subject, object and possessive."""
    return ("she", "her", "her") if name in FEMALE else ("he", "him", "his")


def listed(items: Sequence[str]) -> str:
    """`a key`, `a key and a hat`, `a key, a hat and a drum`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def sentence(text: str) -> str:
    return capital(text) + "."


_WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*")


def words(text: str) -> list[str]:
    """Lower-cased words without punctuation."""
    return _WORD.findall(text.lower())
