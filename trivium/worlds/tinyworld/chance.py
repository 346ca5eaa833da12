"""Choices derived from (seed, index), never carried; and which combinations are held out."""

import random
import zlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

HELD_OUT_ONE_IN = 10


def generator(seed: int, index: int, purpose: str) -> random.Random:
    """The same numbers on every machine: a string seed goes through SHA-512, never through hash()."""
    return random.Random(f"{seed}:{index}:{purpose}")


def pick(rng: random.Random, options: Sequence[T]) -> T:
    return options[int(rng.random() * len(options))]


def pick_several(rng: random.Random, options: Sequence[T], count: int) -> list[T]:
    """Different options, in random order; `count` is small beside the number of options or equal to it."""
    rest = list(options)
    return [rest.pop(int(rng.random() * len(rest))) for _ in range(count)]


def is_held_out(*combination: str) -> bool:
    """Whether this combination is kept for evaluation: a pure function of its words, one in HELD_OUT_ONE_IN."""
    return zlib.crc32("|".join(combination).encode()) % HELD_OUT_ONE_IN == 0
