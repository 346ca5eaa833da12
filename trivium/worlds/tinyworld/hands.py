"""Open requests become drafts, answered by many hands: some excellent, most plain, some poor."""

import random
from typing import Literal

from trivium.worlds.tinyworld.chance import pick, pick_several
from trivium.worlds.tinyworld.drafts import Draft, Facts
from trivium.worlds.tinyworld.grammar import a, at, capital, pronouns, to
from trivium.worlds.tinyworld.knowledge import FRUITS
from trivium.worlds.tinyworld.lexicon import FOODS, PEOPLE, PETS, PLACES, THINGS
from trivium.worlds.tinyworld.request import Request
from trivium.worlds.tinyworld.requests_of_courtesy import ASTRAY, COURTESIES, GRUMBLES
from trivium.worlds.tinyworld.requests_of_feeling import FEELINGS
from trivium.worlds.tinyworld.requests_of_writing import WRITINGS
from trivium.worlds.tinyworld.riddles import GREETINGS

REQUESTS = COURTESIES | FEELINGS | WRITINGS
Hand = Literal["excellent", "plain", "poor"]
SHARES: dict[Hand, float] = {"excellent": 0.30, "plain": 0.45, "poor": 0.25}

FEARS = ("dark", "thunder", "goose", "forest", "storm", "owl", "big dog", "moon")
TUNES = ("flute", "drum", "whistle", "bell")
EVENTS = ("party", "picnic", "concert", "supper", "contest")
_PLACES = tuple(PLACES)
_FOODS = tuple(FOODS)
_THINGS = tuple(THINGS)


def request(rng: random.Random, kind: str) -> Draft:
    """A request of an open kind, answered by one hand drawn by SHARES."""
    hand = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
    return requested(rng, kind, hand)


def requested(rng: random.Random, kind: str, hand: Hand) -> Draft:
    """The same with a given hand: the same generator gives the same prompt to every hand."""
    form = pick(rng, REQUESTS[kind])
    words = _words(rng)
    prompt = pick(rng, form.prompts)
    words["gift"] = words["food"] if "{food}" in prompt else words["thing"]
    prompt = prompt.format_map(words)
    asked = tuple(tuple(wording.format_map(words).lower().split("|")) for wording in form.asked)
    facts = Facts(*form.words, asked, form.contradictions, form.strangers)
    answer = capital(_ANSWERS[hand](rng, form).format_map(words))
    return Draft((prompt, answer), (), facts, ((prompt,),))


def _words(rng: random.Random) -> dict[str, str]:
    name, other = pick_several(rng, PEOPLE, 2)
    while pronouns(name) == pronouns(other):
        other = pick(rng, PEOPLE)
    thing, place, food = pick(rng, _THINGS), pick(rng, _PLACES), pick(rng, _FOODS)
    look, event = pick(rng, THINGS[thing].looks), pick(rng, EVENTS)
    he, him, his = pronouns(name)
    return {
        "name": name,
        "other": other,
        "he": he,
        "him": him,
        "his": his,
        "He": capital(he),
        "His": capital(his),
        "thing": thing,
        "look": look,
        "a_thing": a(f"{look} {thing}"),
        "place": place,
        "at": at(place),
        "At": capital(at(place)),
        "to": to(place),
        "food": food,
        "a_food": FOODS[food],
        "animal": pick(rng, PETS),
        "hail": pick(rng, GREETINGS),
        "fear": pick(rng, FEARS),
        "tune": pick(rng, TUNES),
        "fruit": pick(rng, FRUITS),
        "event": a(event),
        "event_word": event,
    }


def _excellent(rng: random.Random, form: Request) -> str:
    return " ".join(pick(rng, row) for row in form.best)


def _plain(rng: random.Random, form: Request) -> str:
    return pick(rng, form.plain)


def _poor(rng: random.Random, form: Request) -> str:
    return pick(rng, (_grumpy, _rambling, _astray, _endless))(rng, form)


def _grumpy(rng: random.Random, form: Request) -> str:
    first, second = pick_several(rng, GRUMBLES, 2)
    return pick(
        rng, (f"{pick(rng, form.half)} {first}", f"{first} {second}", f"{first} {pick(rng, form.half)} {second}")
    )


def _rambling(rng: random.Random, form: Request) -> str:
    sentence, aside = pick(rng, form.half), pick(rng, ASTRAY)
    return pick(rng, (f"{sentence} {aside} {sentence} {aside} {sentence}", f"{aside} {sentence} {sentence} {sentence}"))


def _astray(rng: random.Random, form: Request) -> str:
    return " ".join(pick_several(rng, ASTRAY, pick(rng, (1, 2, 3))))


def _endless(rng: random.Random, form: Request) -> str:
    """Never comes to a full stop."""
    aside, again = pick_several(rng, ASTRAY, 2)
    start = pick(rng, (aside, pick(rng, form.half)))
    return f"{start} {again.removesuffix('.')} and then and then and then"


_ANSWERS = {"excellent": _excellent, "plain": _plain, "poor": _poor}
