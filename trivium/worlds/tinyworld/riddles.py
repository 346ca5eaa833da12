"""Questions without a passage, each with one right answer: what villagers know, count, sort and repeat."""

import random

from trivium.worlds.tinyworld.chance import pick, pick_several
from trivium.worlds.tinyworld.drafts import Draft, checkable
from trivium.worlds.tinyworld.grammar import at, capital, listed, sentence
from trivium.worlds.tinyworld.knowledge import DAYS, FRUITS, NUMBERS, OPPOSITES, SCALES, SIZES, VERBS
from trivium.worlds.tinyworld.lexicon import FOODS, JOBS, MEN, PEOPLE, PETS, THINGS, WOMEN

SELF = "I am Trivium, a small language model from the village."
GREETINGS = ("Good morning", "Good evening", "Good day", "Hello", "Hi")
FRAMES = ("{}", "Please tell me. {}", "I have a question. {}", "{} Answer, please.", "Think well. {}")
_JOBS = tuple(JOBS)
_WORDS = tuple(THINGS) + PETS + tuple(FOODS)


def _framed(rng: random.Random, question: str) -> str:
    """A question in one of a few frames, so that what is known meets wordings that were never seen with it."""
    return pick(
        rng, ("{}", "Please tell me. {}", "I have a question. {}", "{} Answer, please.", "Think well. {}")
    ).format(question)


def opposite(rng: random.Random) -> Draft:
    pair = pick(rng, OPPOSITES)
    word, other = pick_several(rng, pair, 2)
    phrasing = pick(
        rng, ("What is the opposite of {}?", "Say the opposite of {}.", "What is not {}, but the opposite?")
    )
    accepted = (sentence(other), f"The opposite of {word} is {other}.")
    return checkable((_framed(rng, phrasing.format(word)),), accepted)


def past(rng: random.Random) -> Draft:
    name, verb = pick(rng, PEOPLE), pick(rng, VERBS)
    phrasing = pick(rng, ("Put this in the past: {}", "Say it as if it was yesterday: {}", "{} Put that in the past."))
    prompt = phrasing.format(f"{name} {verb.present} {verb.tail}.")
    return checkable((prompt,), (f"{name} {verb.past} {verb.tail}.",), ((name, verb.present),))


def blank(rng: random.Random) -> Draft:
    """A sentence with a hole, filled with what everybody knows of a trade."""
    name, job = pick(rng, pick(rng, (WOMEN, MEN))), pick(rng, _JOBS)
    verb, object, where = JOBS[job]
    sentence_, word = pick(
        rng,
        (
            (f"{name} the ___ {verb} {object}.", job),
            (f"{name} the {job} {verb} the ___.", object.removeprefix("the ")),
            (f"{name} the {job} works {at(where).replace(where, '___')}.", where),
        ),
    )
    phrasing = pick(rng, ("Fill in the blank: {}", "Which word is missing? {}", "{} What belongs in the blank?"))
    prompt = phrasing.format(sentence_)
    accepted = (sentence(word), sentence(f"the {word}"), sentence_.replace("___", word))
    return checkable((prompt,), accepted, ((name, job),))


def job(rng: random.Random) -> Draft:
    name, trade = pick(rng, pick(rng, (WOMEN, MEN))), pick(rng, _JOBS)
    does, where = JOBS[trade].does, at(JOBS[trade].where)
    prompt, accepted = pick(
        rng,
        (
            (f"Who {does}?", (f"The {trade}.", f"The {trade} {does}.")),
            (f"{name} {does}. What is {name}?", (f"A {trade}.", f"{name} is a {trade}.")),
            (f"What does {name} the {trade} do?", (f"{name} {does}.", f"The {trade} {does}.")),
            (f"Where does {name} the {trade} work?", (sentence(where), f"The {trade} works {where}.")),
        ),
    )
    return checkable((_framed(rng, prompt),), accepted)


def compare(rng: random.Random) -> Draft:
    scale = pick(rng, SCALES)
    pair = pick_several(rng, scale.items, 2)
    low, high = sorted(pair, key=scale.items.index)
    degree, winner = pick(rng, ((scale.less, low), (scale.more, high)))
    prompt = _framed(rng, f"Which is {degree}, {pair[0]} or {pair[1]}?")
    return checkable((prompt,), (sentence(winner), sentence(f"{winner} is {degree}")))


def sort(rng: random.Random) -> Draft:
    """Three items of a small closed set, in its order."""
    what, order, items = pick(
        rng,
        (
            ("animals from small to big", SIZES, SIZES),
            ("numbers from small to big", NUMBERS, NUMBERS),
            ("days of the week", DAYS, DAYS),
        ),
    )
    given = pick_several(rng, items, 3)
    answer = ", ".join(sorted(given, key=order.index))
    verb = pick(rng, ("Sort these", "Order these", "Please sort the"))
    return checkable((f"{verb} {what}: {', '.join(given)}.",), (f"{answer}.",), (tuple(given),))


def sum_(rng: random.Random) -> Draft:
    """Adding up to ten, or taking away, with things or with bare numbers."""
    first, second = 2 + int(rng.random() * 4), 1 + int(rng.random() * 5)
    name, fruit = pick(rng, PEOPLE), pick(rng, FRUITS)
    one, two, total = NUMBERS[first - 1], NUMBERS[second - 1], NUMBERS[first + second - 1]
    prompt, answer = pick(
        rng,
        (
            (f"{name} has {one} {fruit} and gets {two} more. How many {fruit} does {name} have now?", total),
            (f"There were {total} {fruit}. {name} took {two}. How many {fruit} are left?", one),
            (f"{name} asks: how many are {one} and {two}?", total),
        ),
    )
    return checkable((prompt,), (sentence(answer), sentence(f"{answer} {fruit}")))


def count(rng: random.Random) -> Draft:
    number = 2 + int(rng.random() * 5)
    items = pick_several(rng, _WORDS, number)
    noun = pick(rng, ("words are here", "words are in this list", "words do you see"))
    prompt = f"How many {noun}: {', '.join(items)}?"
    return checkable((prompt,), (sentence(NUMBERS[number - 1]), f"{capital(NUMBERS[number - 1])} words."))


def copy(rng: random.Random) -> Draft:
    word, times = pick(rng, _WORDS), 2 + int(rng.random() * 4)
    phrasing = pick(rng, ("Say {} {} times.", "Please say {} {} times.", "Write the word {} {} times."))
    answer = " ".join([word] * times)
    accepted = (f"{answer}.", ", ".join([word] * times) + ".")
    return checkable((phrasing.format(word, NUMBERS[times - 1]),), accepted, ((word, str(times)),))


def backwards(rng: random.Random) -> Draft:
    given = pick_several(rng, _WORDS, 3)
    phrasing = pick(rng, ("Say these words backwards: {}.", "Start with the last word: {}.", "Turn this around: {}."))
    prompt = phrasing.format(", ".join(given))
    return checkable((prompt,), (f"{', '.join(given[::-1])}.", f"{listed(given[::-1])}."), (tuple(given),))


def next_(rng: random.Random) -> Draft:
    line = pick(rng, (DAYS, NUMBERS))
    place = 1 + int(rng.random() * (len(line) - 2))
    step, answer = pick(rng, (("after", line[place + 1]), ("before", line[place - 1])))
    prompt = _framed(rng, f"What comes {step} {line[place]}?")
    return checkable((prompt,), (sentence(answer), f"{capital(answer)} comes {step} {line[place]}."))


def self_(rng: random.Random) -> Draft:
    greeting, name = pick(rng, GREETINGS), pick(rng, PEOPLE)
    question = pick(rng, ("Who are you?", "What are you?", "Tell me who you are.", "What is your name?"))
    opening = pick(rng, (f"{greeting}!", f"{greeting}, I am {name}.", f"{greeting} from {name}!"))
    return checkable((f"{opening} {question}",), (SELF, "I am Trivium.", "My name is Trivium."))


def name(rng: random.Random) -> Draft:
    """A greeting with a name, and later: what is my name?"""
    greeting, person = pick(rng, GREETINGS), pick(rng, PEOPLE)
    thing = pick(rng, tuple(THINGS))
    opening = pick(rng, (f"{greeting}, I am {person}.", f"{greeting}! My name is {person}.", f"{person} is my name."))
    more = pick(rng, ("", f" I have my {thing} here.", f" I like every {thing}."))
    question = pick(rng, ("What is my name?", "Who am I?", "Do you remember my name?"))
    accepted = (f"Your name is {person}.", f"{person}.", f"You are {person}.")
    return checkable((f"{opening}{more}", f"Hello, {person}!", question), accepted)
