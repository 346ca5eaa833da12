"""Stories from the village: a plot is cast, then told beat by beat while the facts are kept."""

import random
from typing import NamedTuple

from trivium.worlds.tinyworld.chance import generator, is_held_out, pick
from trivium.worlds.tinyworld.grammar import a, at, capital, pronouns, to
from trivium.worlds.tinyworld.lessons import lesson
from trivium.worlds.tinyworld.lexicon import (
    BOYS,
    FOODS,
    GIRLS,
    JOBS,
    MEN,
    MENDINGS,
    PEOPLE,
    PET_NAMES,
    PLACES,
    SNOW,
    THINGS,
    TREASURES,
    VOICES,
    WEATHERS,
    WOMEN,
    Weather,
)
from trivium.worlds.tinyworld.plot import Plot
from trivium.worlds.tinyworld.plots_of_animals import PLOTS_OF_ANIMALS
from trivium.worlds.tinyworld.plots_of_friends import PLOTS_OF_FRIENDS
from trivium.worlds.tinyworld.plots_of_things import PLOTS_OF_THINGS

PLOTS = PLOTS_OF_THINGS | PLOTS_OF_FRIENDS | PLOTS_OF_ANIMALS
PLOT_NAMES = tuple(PLOTS)
SHORTEST, LONGEST = 70, 170  # words
LESSON_SHARE = 0.3  # of the texts
JOB_NAMES = tuple(JOBS)
FOOD_NAMES = tuple(FOODS)
PLACE_NAMES = tuple(PLACES)
FAIR_WEATHER = ("sunny", "warm")
WINTRY_WEATHER = ("cold", "snowy")
NOTHINGS = (
    "a sleeping cat",
    "an old boot",
    "two surprised hens",
    "a very small frog",
    "half a sandwich",
    "a family of mice",
    "three left gloves",
    "a snail with somewhere to go",
)
CONTESTS = (
    "to see who could carry {a_thing} on one foot the longest",
    "to see who could balance {a_thing} on one finger",
    "to see who could walk around {place} with {a_thing} on the head",
)


class Cast(NamedTuple):
    """Who and what a story is about. Hero and friend never share a pronoun, so each pronoun has one owner."""

    plot: str
    hero: str
    friend: str
    adult: str
    job: str
    look: str
    thing: str
    other_thing: str
    place: str
    spot: str
    other_place: str
    animal: str
    pet: str
    food: str
    weather: Weather
    daytime: str

    @property
    def combination(self) -> tuple[str, str, str]:
        """What is held out together: hero, central thing, central place."""
        return self.hero, self.thing, self.place


class Telling(NamedTuple):
    """A story and what is true at its end: ("holder", thing), ("place", who) and ("mood", who) by name."""

    text: str
    cast: Cast
    facts: dict[tuple[str, str], str]


def story(seed: int, index: int, *, held_out: bool = False) -> str:
    """One story, or a lesson at the school, of SHORTEST to LONGEST words: a pure function of its arguments."""
    rng = generator(seed, index, "held-out text" if held_out else "text")
    if rng.random() >= LESSON_SHARE:
        return telling(seed, index, held_out=held_out).text
    while True:
        text = lesson(rng, held_out=held_out)
        if SHORTEST <= text.count(" ") + 1 <= LONGEST:
            return text


def telling(seed: int, index: int, *, held_out: bool = False) -> Telling:
    """The story together with its cast and the facts that it ends with."""
    rng = generator(seed, index, "held-out story" if held_out else "story")
    while True:
        told = _tell(_cast(rng, held_out=held_out), rng)
        if SHORTEST <= told.text.count(" ") + 1 <= LONGEST:
            return told


def _cast(rng: random.Random, *, held_out: bool) -> Cast:
    name = pick(rng, PLOT_NAMES)
    plot = PLOTS[name]
    hero, thing, place = pick(rng, PEOPLE), pick(rng, plot.things), pick(rng, plot.places)
    while is_held_out(hero, thing, place) != held_out:
        hero, thing, place = pick(rng, PEOPLE), pick(rng, plot.things), pick(rng, plot.places)
    return Cast(
        plot=name,
        hero=hero,
        friend=pick(rng, BOYS if hero in GIRLS else GIRLS),
        adult=pick(rng, pick(rng, (WOMEN, MEN))),
        job=MENDINGS[thing].job if name == "mended" else pick(rng, JOB_NAMES),
        look=pick(rng, THINGS[thing].looks),
        thing=thing,
        other_thing=_other(rng, TREASURES, thing),
        place=place,
        spot=pick(rng, PLACES[place].spots),
        other_place=_other(rng, PLACE_NAMES, place),
        animal=pick(rng, plot.animals),
        pet=pick(rng, PET_NAMES),
        food=pick(rng, FOOD_NAMES),
        weather=_weather(rng, plot, place),
        daytime=pick(rng, ("morning", "morning", "afternoon")),
    )


def _other(rng: random.Random, names: tuple[str, ...], taken: str) -> str:
    name = pick(rng, names)
    while name == taken:
        name = pick(rng, names)
    return name


def _weather(rng: random.Random, plot: Plot, place: str) -> Weather:
    """Winter comes only to stories that happen indoors: what grows and swims outside is described as in summer."""
    if PLACES[place].indoors:
        return pick(rng, (*WEATHERS, SNOW))
    return pick(rng, tuple(weather for weather in WEATHERS if weather.adjective not in WINTRY_WEATHER))


def _tell(cast: Cast, rng: random.Random) -> Telling:
    roles = _roles(cast)
    words = _words(cast, rng)
    facts: dict[tuple[str, str], str] = {}
    lines = []
    for variants, changes, chance in PLOTS[cast.plot].beats:
        if chance < 1 and rng.random() >= chance:
            continue
        for relation, subject, value in changes:
            facts[relation, roles[subject]] = roles.get(value, value)
            if subject == "thing":
                words["holder"] = roles[value]
        lines.append(pick(rng, variants).format_map(words))
    return Telling(" ".join(lines), cast, facts)


def _roles(cast: Cast) -> dict[str, str]:
    """Role in the plot → name in the story."""
    return {
        "A": cast.hero,
        "B": cast.friend,
        "C": cast.adult,
        "pet": cast.pet,
        "thing": cast.thing,
        "thing2": cast.other_thing,
        "food": cast.food,
        "place": cast.place,
        "place2": cast.other_place,
    }


def _words(cast: Cast, rng: random.Random) -> dict[str, str]:
    """What the templates may say."""
    he, him, his = pronouns(cast.hero)
    bhe, bhim, bhis = pronouns(cast.friend)
    thing, place = THINGS[cast.thing], PLACES[cast.place]
    when = f"{a(cast.weather.adjective)} {cast.daytime}"
    words = _roles(cast) | {
        "job": cast.job,
        "does": JOBS[cast.job].does,
        "animal": cast.animal,
        "voice": VOICES.get(cast.animal, ""),
        "he": he,
        "him": him,
        "his": his,
        "himself": "herself" if he == "she" else "himself",
        "bhe": bhe,
        "bhim": bhim,
        "bhis": bhis,
        "look": cast.look,
        "a_thing": a(f"{cast.look} {cast.thing}"),
        "a_thing2": a(cast.other_thing),
        "detail": thing.detail,
        "a_food": FOODS[cast.food],
        "place": f"the {cast.place}",
        "at": place.at,
        "to": to(cast.place),
        "at2": at(cast.other_place),
        "to2": to(cast.other_place),
        "spot": cast.spot,
        "nothing": pick(rng, NOTHINGS),
        "when": f"on {when}",
        "When": pick(rng, (f"One {cast.weather.adjective} {cast.daytime}", f"On {when}")),
        "inside": pick(rng, place.views),
        "view": pick(rng, _views(cast)),
    }
    for key in ("he", "his", "bhe", "bhis", "at", "at2", "spot", "voice"):
        words[key.capitalize()] = capital(words[key])
    if cast.plot == "mended":
        _, words["accident"], words["damage"], words["cure"] = MENDINGS[cast.thing]
    if cast.plot == "contest":
        words["contest"] = pick(rng, CONTESTS).format_map(words | {"a_thing": a(cast.thing)})
    return words


def _views(cast: Cast) -> tuple[str, ...]:
    """What is seen at the place, or of the weather; outside in bad weather, only the weather."""
    place = PLACES[cast.place]
    if cast.weather.adjective in FAIR_WEATHER:
        return place.views + cast.weather.still if not place.indoors else place.views
    return place.views if place.indoors else cast.weather.still
