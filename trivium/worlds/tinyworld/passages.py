"""Questions about a few sentences: who is where, who has what, and what is not told."""

import random
from typing import NamedTuple

from trivium.worlds.tinyworld.chance import pick, pick_several
from trivium.worlds.tinyworld.drafts import Draft, checkable
from trivium.worlds.tinyworld.grammar import a, at, capital, listed, pronouns, sentence, to
from trivium.worlds.tinyworld.lexicon import PEOPLE, PLACES, THINGS

UNSAID = "The story does not say."
MOODS = ("happy", "sad", "tired", "angry", "proud", "afraid", "hungry", "merry")
PORTABLE = tuple(name for name in THINGS if name not in ("chair", "ladder"))
_PLACES = tuple(PLACES)

_TOLD = (
    "{name} was {at} with {a_thing}.",
    "{name} sat {at} with {a_thing}.",
    "{name} found {a_thing} {at}.",
    "{name} had {a_thing} {at}.",
    "{name} took {a_thing} {to}.",
)


class Person(NamedTuple):
    """Someone in a passage: at a place, with a thing, and perhaps in a mood that is told."""

    name: str
    look: str
    thing: str
    place: str
    mood: str  # "" when it is not told

    @property
    def combination(self) -> tuple[str, str, str]:
        return self.name, self.thing, self.place


def draw_people(rng: random.Random, *, moody: bool = False, counts: tuple[int, ...] = (2,)) -> list[Person]:
    """A few people who share nothing; the first is the one to be asked about, and is in a mood if `moody`."""
    count = pick(rng, counts)
    names, things = pick_several(rng, PEOPLE, count), pick_several(rng, PORTABLE, count)
    places = pick_several(rng, _PLACES, count)
    moods = pick_several(rng, MOODS, count)
    told = [moody or rng.random() < 0.25] + [rng.random() < 0.25 for _ in names[1:]]
    return [
        Person(name, pick(rng, THINGS[thing].looks), thing, place, mood if tell else "")
        for name, thing, place, mood, tell in zip(names, things, places, moods, told, strict=True)
    ]


def tell(rng: random.Random, people: list[Person]) -> str:
    """The passage, in an order that does not give away who will be asked about."""
    return " ".join(_tell_one(rng, person) for person in pick_several(rng, people, len(people)))


def _tell_one(rng: random.Random, person: Person) -> str:
    he = capital(pronouns(person.name)[0])
    words = {
        "name": person.name,
        "a_thing": a(f"{person.look} {person.thing}"),
        "at": at(person.place),
        "to": to(person.place),
    }
    told = pick(rng, _TOLD).format_map(words)
    return f"{told} {he} was {person.mood}." if person.mood else told


def _combinations(people: list[Person]) -> tuple[tuple[str, ...], ...]:
    return tuple(person.combination for person in people)


def _where(person: Person) -> tuple[str, tuple[str, ...]]:
    where, he = at(person.place), capital(pronouns(person.name)[0])
    accepted = (f"{person.name} is {where}.", f"{he} is {where}.", sentence(where))
    return f"Where is {person.name}?", accepted


def _has(person: Person) -> tuple[str, tuple[str, ...]]:
    thing, he = f"{person.look} {person.thing}", capital(pronouns(person.name)[0])
    accepted = (
        f"{person.name} has {a(thing)}.",
        f"{he} has {a(thing)}.",
        sentence(a(thing)),
        sentence(a(person.thing)),
    )
    return f"What does {person.name} have?", accepted


def _holder(person: Person) -> tuple[str, tuple[str, ...]]:
    return f"Who has the {person.thing}?", (f"{person.name} has the {person.thing}.", f"{person.name}.")


def _visitor(person: Person) -> tuple[str, tuple[str, ...]]:
    where = at(person.place)
    return f"Who is {where}?", (f"{person.name} is {where}.", f"{person.name}.")


def ask_about(rng: random.Random, person: Person) -> tuple[str, tuple[str, ...]]:
    """A question whose answer the passage tells, and the answers accepted."""
    return pick(rng, (_where, _has, _holder, _visitor))(person)


def _asked(rng: random.Random, passage: str, question: str) -> str:
    """The passage and the question, in one of a few layouts."""
    layout = pick(rng, ("{passage}\n{question}", "{passage} {question}", "Read this: {passage}\n{question}"))
    return layout.format(passage=passage, question=question)


def where(rng: random.Random) -> Draft:
    people = draw_people(rng)
    question, accepted = _where(people[0])
    return checkable((_asked(rng, tell(rng, people), question),), accepted, _combinations(people))


def who(rng: random.Random) -> Draft:
    people = draw_people(rng)
    question, accepted = pick(rng, (_holder, _visitor))(people[0])
    return checkable((_asked(rng, tell(rng, people), question),), accepted, _combinations(people))


def what(rng: random.Random) -> Draft:
    people = draw_people(rng)
    question, accepted = _has(people[0])
    return checkable((_asked(rng, tell(rng, people), question),), accepted, _combinations(people))


def look(rng: random.Random) -> Draft:
    people = draw_people(rng)
    first = people[0]
    question = pick(rng, (f"What is the {first.thing} like?", f"What kind of {first.thing} does {first.name} have?"))
    accepted = (sentence(f"it is {first.look}"), sentence(first.look), sentence(a(f"{first.look} {first.thing}")))
    return checkable((_asked(rng, tell(rng, people), question),), accepted, _combinations(people))


def mood(rng: random.Random) -> Draft:
    people = draw_people(rng, moody=True)
    first = people[0]
    question = pick(rng, (f"How does {first.name} feel?", f"What is the mood of {first.name}?"))
    he = pronouns(first.name)[0]
    accepted = (f"{first.name} is {first.mood}.", sentence(f"{he} is {first.mood}"), sentence(first.mood))
    return checkable((_asked(rng, tell(rng, people), question),), accepted, _combinations(people))


def unsaid(rng: random.Random) -> Draft:
    """A question about somebody or something that the passage leaves out."""
    first, *people = draw_people(rng, counts=(3,))
    question, _ = ask_about(rng, first)
    return checkable((_asked(rng, tell(rng, people), question),), (UNSAID,), _combinations([first, *people]))


def yes_no(rng: random.Random) -> Draft:
    people = draw_people(rng)
    first, other = people[0], people[1]
    asked_of = pick(rng, (first, other))
    place = f"Is {first.name} {at(asked_of.place)}?"
    thing = f"Does {first.name} have {a(asked_of.thing)}?"
    accepted = ("Yes.",) if asked_of is first else ("No.",)
    return checkable((_asked(rng, tell(rng, people), pick(rng, (place, thing))),), accepted, _combinations(people))


def people(rng: random.Random) -> Draft:
    told = draw_people(rng)
    passage = tell(rng, told)
    names = sorted((person.name for person in told), key=passage.index)
    question = pick(rng, ("Who is in the story?", "Name the people in the story.", "Which people are named?"))
    accepted = (f"{listed(names)}.", f"{', '.join(names)}.", f"{listed(names[::-1])}.")
    return checkable((_asked(rng, passage, question),), accepted, _combinations(told))


def things(rng: random.Random) -> Draft:
    told = draw_people(rng, counts=(2,))
    passage = tell(rng, told)
    in_order = sorted(told, key=lambda person: passage.index(person.name))
    full = [a(f"{person.look} {person.thing}") for person in in_order]
    bare = [a(person.thing) for person in in_order]
    question = pick(rng, ("What do they have?", "Name the things in the story.", "Which things are named?"))
    accepted = (sentence(listed(full)), sentence(listed(bare)), sentence(listed(full[::-1])))
    return checkable((_asked(rng, passage, question),), accepted, _combinations(told))


def followup(rng: random.Random) -> Draft:
    """Two questions on one passage: the second begins with "And"."""
    told = draw_people(rng)
    second, first = told[0], told[1]
    ask = pick(rng, (_where, _has, _holder, _visitor))
    question, answers = ask(first)
    again, accepted = ask(second)
    turns = (_asked(rng, tell(rng, told), question), answers[0], f"And {again[0].lower()}{again[1:]}")
    return checkable(turns, accepted, _combinations(told))
