"""What a plot is: beats in order, each a choice of sentences and the facts that they make true."""

from math import prod
from typing import NamedTuple


class Change(NamedTuple):
    """A fact that a beat makes true: `relation` of `subject` becomes `object`; both are roles of the cast."""

    relation: str  # "holder", "place" or "mood"
    subject: str
    object: str


class Beat(NamedTuple):
    variants: tuple[str, ...]
    then: tuple[Change, ...]
    chance: float  # of being told at all


class Plot(NamedTuple):
    """A shape of story: which things, places and animals it can be about, and its beats."""

    things: tuple[str, ...]
    places: tuple[str, ...]
    animals: tuple[str, ...]
    beats: tuple[Beat, ...]

    @property
    def tellings(self) -> int:
        """How many texts the beats alone allow, before anybody is cast."""
        return prod(len(beat.variants) + (beat.chance < 1) for beat in self.beats)


def say(*variants: str, then: tuple[Change, ...] = ()) -> Beat:
    return Beat(variants, then, 1.0)


def perhaps(*variants: str) -> Beat:
    """A beat that is told every other time; it changes nothing, so nothing is missed without it."""
    return Beat(variants, (), 0.5)


def holds(person: str, thing: str = "thing") -> Change:
    return Change("holder", thing, person)


def goes(person: str, place: str = "place") -> Change:
    return Change("place", person, place)


def feels(person: str, mood: str) -> Change:
    return Change("mood", person, mood)
