"""What an answer may earn, as a recipe says it: `model`, `0.5 * exact`, `length 40`. It reads, and scores nothing."""

import re
from math import isfinite
from typing import NamedTuple

from trivium.errors import did_you_mean

# the kinds of reward, and what each asks for after its name
KINDS = {
    "model": "",
    "exact": "",
    "number": "",
    "ended": "",
    "pattern": "a regular expression",
    "length": "a number of tokens above 0",
    "function": "FILE.py:NAME or MODULE:NAME",
    "judge": "the address of an OpenAI-compatible server and the name of a model there, http://HOST/v1 MODEL",
}
ADDRESS = re.compile(r"https?://[^\s@]+ +\S+")  # without a password, for recipes are shown and shared


class Term(NamedTuple):
    """One of the things that an answer may earn."""

    weight: float
    kind: str
    argument: str


def read_term(text: str) -> Term:
    """`0.5 * pattern ^[A-Z]` → weight, kind, argument; raises ValueError naming what cannot be read."""
    head, star, rest = text.partition("*")
    weight = _number(head) if star else None
    kind, _, argument = (text if weight is None else rest).strip().partition(" ")
    argument = argument.strip()
    if kind not in KINDS:
        known = did_you_mean(kind, KINDS) or f"; known are {', '.join(KINDS)}"
        raise ValueError(f'rewards: "{text}" is no reward{known}')
    if not _suits(kind, argument):
        raise ValueError(f'rewards: "{text}": {kind} takes {KINDS[kind] or "nothing after it"}')
    return Term(1.0 if weight is None else weight, kind, argument)


def _suits(kind: str, argument: str) -> bool:
    if kind == "pattern":
        return bool(argument) and _is_pattern(argument)
    if kind == "length":
        return argument.isdecimal() and int(argument) > 0
    if kind == "judge":
        return bool(ADDRESS.fullmatch(argument))
    if kind == "function":
        return all(argument.rpartition(":")[::2])
    return not argument


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None
