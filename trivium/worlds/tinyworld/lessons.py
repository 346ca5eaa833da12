"""Lessons at the village school: a few sentences, and questions about them that the children answer.

Stories teach how the village talks; lessons are dense in what must be looked up a few words earlier.
"""

import random

from trivium.worlds.tinyworld.chance import is_held_out, pick, pick_several
from trivium.worlds.tinyworld.grammar import pronouns
from trivium.worlds.tinyworld.lexicon import MEN, PEOPLE, WOMEN
from trivium.worlds.tinyworld.passages import UNSAID, Person, ask_about, draw_people, tell

OPENINGS = (
    "It was a quiet morning at the school. {teacher} the teacher read to the children.",
    "At the school, {teacher} the teacher drew a house on the wall. Then {he} told the children about it.",
    "The bell had rung, and even the twins sat still. {teacher} the teacher began to tell.",
    "{teacher} the teacher sat down on the table, as always, and told a very short story.",
)
ASKINGS = (
    "Then {he} began to ask.",
    '"Now," said {teacher}, "who was listening?"',
    "The children listened with their chins in their hands. Then came the questions.",
)
SAYINGS = ("said {child}.", "called {child}.", "whispered {child}.", "")
PRAISES = ('"Right," said {teacher}.', '"Good," said {teacher}.', "{teacher} nodded.", "", "", "")
ENDINGS = (
    "Then the bell rang, and nobody wanted to be the first to stand up.",
    '"That is all for today. Tomorrow we count the hens."',
    "{teacher} closed the book. Outside somebody was already laughing.",
    "So the lesson ended, and everybody ran out into the yard.",
)
QUESTIONS = (5, 6, 7)


def lesson(rng: random.Random, *, held_out: bool) -> str:
    """One lesson; the people in it are held out, or none of them is."""
    told = draw_people(rng, counts=(2, 3, 3))
    while not _fits(told, held_out=held_out):
        told = draw_people(rng, counts=(2, 3, 3))
    teacher = pick(rng, pick(rng, (WOMEN, MEN)))
    words = {"teacher": teacher, "he": pronouns(teacher)[0]}
    children = pick_several(rng, [name for name in PEOPLE if name not in {person.name for person in told}], 6)
    lines = [pick(rng, OPENINGS).format_map(words), f'"{tell(rng, told)}"', pick(rng, ASKINGS).format_map(words)]
    asked = dict(_question(rng, told) for _ in range(pick(rng, QUESTIONS)))  # none is asked twice
    for question, answer in asked.items():
        lines.append(f'"{question}" "{_spoken(rng, answer, pick(rng, children))}')
        lines.append(pick(rng, PRAISES).format_map(words))
    lines.append(pick(rng, ENDINGS).format_map(words))
    return " ".join(line for line in lines if line)


def _spoken(rng: random.Random, answer: str, child: str) -> str:
    """The answer with its closing quote, and mostly who gave it."""
    saying = pick(rng, SAYINGS).format(child=child)
    return f'{answer[:-1]}," {saying}' if saying else f'{answer}"'


def _question(rng: random.Random, told: list[Person]) -> tuple[str, str]:
    """Mostly about somebody who was told of; sometimes about nobody, which is worth noticing."""
    if rng.random() < 0.15:
        (stranger,) = draw_people(rng, counts=(1,))
        taken = {(person.name, person.thing, person.place) for person in told}
        if not any(stranger.name == n or stranger.thing == t or stranger.place == p for n, t, p in taken):
            return ask_about(rng, stranger)[0], UNSAID
    question, accepted = ask_about(rng, pick(rng, told))
    return question, accepted[0]


def _fits(told: list[Person], *, held_out: bool) -> bool:
    apart = [is_held_out(*person.combination) for person in told]
    return apart[0] if held_out else not any(apart)
