"""What everybody in the village knows: opposites, verbs, numbers, days, what is bigger than what. Tables only."""

from typing import NamedTuple

from trivium.worlds.tinyworld.lexicon import each

NUMBERS = each("one two three four five six seven eight nine ten")
DAYS = each("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
FRUITS = each("apples buns cherries eggs nuts pears plums stones")

_OPPOSITES = """
big small | hot cold | old young | fast slow | long short | high low | wet dry | full empty | open closed | day night
happy sad | loud quiet | light dark | near far | up down | left right | early late | soft hard | clean dirty
thick thin | strong weak | rich poor | sweet sour | brave afraid | first last | inside outside | before after | yes no
give take | laugh cry | lost found | summer winter | morning evening | friend enemy | begin end | asleep awake
push pull | come go | always never | more less
"""
OPPOSITES = tuple(
    (pair.split()[0], pair.split()[1]) for line in _OPPOSITES.strip().splitlines() for pair in line.split("|")
)


class Verb(NamedTuple):
    present: str
    past: str
    tail: str


_VERBS = """
bakes baked the bread | carries carried the basket | climbs climbed the hill | cooks cooked the soup
counts counted the sheep | dances danced in the rain | drops dropped the cup | draws drew a horse
drinks drank the milk | eats ate the cake | feeds fed the hens | finds found a coin | gives gave a present
goes went to the mill | grows grew a rose | has had a plan | hears heard the bell | helps helped the farmer
hides hid the key | holds held the rope | jumps jumped over the puddle | knocks knocked at the door
laughs laughed at the goose | likes liked the song | looks looked at the moon | loses lost a mitten
makes made a kite | mends mended the chair | opens opened the box | paints painted the door | plays played the flute
reads read the book | rings rang the bell | runs ran to the river | says said good night | sees saw a fox
sells sold the cheese | sews sewed a coat | shuts shut the gate | sings sang a song | sits sat by the well
sleeps slept in the hay | sweeps swept the floor | takes took the map | tells told a story | throws threw the ball
wakes woke the baby | walks walked to school | washes washed the plates | writes wrote a letter
"""
VERBS = tuple(Verb(*entry.strip().split(" ", 2)) for line in _VERBS.strip().splitlines() for entry in line.split("|"))


class Scale(NamedTuple):
    """Things in order, from `less` to `more`."""

    less: str
    more: str
    items: tuple[str, ...]


def _scale(less: str, more: str, items: str) -> Scale:
    return Scale(less, more, each(items, ", "))


SCALES = (
    _scale("smaller", "bigger", "an ant, a mouse, a hen, a dog, a pony, a cow"),
    _scale("lighter", "heavier", "a feather, a coin, a book, a chair, a cart, a house"),
    _scale("colder", "warmer", "ice, rain, milk, soup, fire"),
    _scale("slower", "faster", "a snail, a duck, a dog, a horse"),
    _scale("shorter", "longer", "a minute, an hour, a day, a week, a year"),
)
SIZES = tuple(item.split()[1] for item in SCALES[0].items)
