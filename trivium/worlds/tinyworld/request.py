"""What an open request is: how it is put, what it asks for, and the sentences from which many hands answer it.

Slots: {name} {other} two people, {thing} {a_thing} {look} a thing, {place} {at} {to} a place, {food} {a_food} something
to eat, {animal} an animal, {hail} a greeting, {he} {him} {his} {He} {His} the person {name}, {gift} what was given,
{event} a feast, {fear} {tune} {fruit} what their names say.
"""

from typing import NamedTuple


class Request(NamedTuple):
    """One sort of open request. An excellent answer takes one sentence from every row of `best`."""

    prompts: tuple[str, ...]
    asked: tuple[str, ...]  # what to mention, wordings apart by "|"
    best: tuple[tuple[str, ...], ...]
    plain: tuple[str, ...]  # true and curt; some leave out a thing that was asked
    half: tuple[str, ...]  # cold, with one asked thing at most: the stuff of poor answers
    words: tuple[int, int] = (8, 30)
    contradictions: tuple[str, ...] = ()
    strangers: bool = False
