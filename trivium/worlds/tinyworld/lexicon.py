"""The village's word tables: who lives there, what they own, where they go. Tables only; no choices are made here."""

from typing import NamedTuple


def each(text: str, between: str | None = None) -> tuple[str, ...]:
    """A table of words from one line of text."""
    return tuple(text.split(between))


GIRLS = each("Ada Clara Dora Edda Elsa Greta Hedda Ida Ivy Lena Luna Maja Mira Nell Olive Rosa Ruth Tilda Wanda Zora")
BOYS = each("Anton Ben Bruno Emil Felix Finn Hugo Jasper Jonas Karl Leo Max Noah Oskar Otto Rufus Sam Theo Tom Viktor")
PEOPLE = GIRLS + BOYS
WOMEN = each("Agnes Berta Cora Frida Helga Marta Nora Petra")
MEN = each("Albert Conrad Gustav Henry Ludwig Martin Paul Walter")
PET_NAMES = each("Acorn Biscuit Button Clover Dumpling Marble Moss Nutmeg Pepper Pickle Pudding Soot Turnip")


class Thing(NamedTuple):
    """Something to hold, lose and give; `detail` is one sentence that goes with it."""

    looks: tuple[str, ...]
    detail: str


def _thing(looks: str, detail: str) -> Thing:
    return Thing(each(looks), detail)


THINGS = {
    "ball": _thing("red striped blue", "It bounced higher than the roof of the hen house."),
    "basket": _thing("round brown deep", "It smelled of apples, even when it was empty."),
    "bell": _thing("silver little brass", "It had a voice like a very small star."),
    "blanket": _thing("soft blue woolly", "It had been washed so often that it felt like a cloud."),
    "boat": _thing("little wooden blue", "It was just large enough for one brave beetle."),
    "book": _thing("thick old green", "It was about a snail who went to sea."),
    "bowl": _thing("yellow deep blue", "Soup tasted better in it, and nobody knew why."),
    "box": _thing("wooden small square", "Nobody had ever found out what was inside."),
    "brush": _thing("broad old soft", "It had painted every door in the street."),
    "bucket": _thing("tin green wooden", "It had one small hole that sang when the water ran out."),
    "button": _thing("gold big round", "It came from the coat of a king, or so people said."),
    "candle": _thing("white thick little", "It burned with a flame as straight as a soldier."),
    "chair": _thing("small red old", "It said a soft hello whenever somebody sat down."),
    "clock": _thing("tall old brass", "It was always seven minutes late, but very polite about it."),
    "coat": _thing("long green woolly", "It had nine pockets, and one of them was a secret."),
    "coin": _thing("old silver shiny", "It had a fish on one side and a moon on the other."),
    "comb": _thing("wooden silver yellow", "It had lost only one of its teeth."),
    "cup": _thing("blue white yellow", "It had a picture of a goose on the side."),
    "doll": _thing("little soft wooden", "It had button eyes and looked a bit surprised."),
    "drum": _thing("round little red", "It made the hens march in a line."),
    "feather": _thing("white long blue", "It had belonged to a very proud goose."),
    "flute": _thing("wooden thin silver", "It knew only three songs, but it knew them well."),
    "hat": _thing("tall straw blue", "It had a cherry on top that looked real."),
    "hammer": _thing("small old iron", "It had built half the village, one nail at a time."),
    "jug": _thing("brown round white", "It poured milk without spilling a drop."),
    "kettle": _thing("copper old shiny", "It whistled when the water was hot, and sometimes for fun."),
    "key": _thing("brass iron little", "It opened nothing that anyone knew of, but it was a fine key."),
    "kite": _thing("red yellow paper", "It had a long tail with seven bows."),
    "ladder": _thing("short wooden old", "It had ten steps, and the sixth one squeaked."),
    "lantern": _thing("green small old", "Its light was as yellow as butter."),
    "map": _thing("old paper large", "It showed every path in the village and one that was not there."),
    "marble": _thing("green glass blue", "There was a tiny storm inside it."),
    "mitten": _thing("red woolly striped", "Its brother had been lost last winter."),
    "pencil": _thing("yellow short red", "It wrote best when nobody was in a hurry."),
    "pillow": _thing("soft white large", "It was filled with feathers and good dreams."),
    "ribbon": _thing("blue silk long", "It was the colour of the sky before breakfast."),
    "ring": _thing("silver thin gold", "It was too big for every finger except the thumb."),
    "rope": _thing("long strong thick", "It knew eleven knots by heart."),
    "scarf": _thing("long striped green", "It went around the neck four times."),
    "shell": _thing("pink white large", "The sea was still talking inside it."),
    "spoon": _thing("wooden silver big", "It had stirred a hundred soups."),
    "stone": _thing("smooth white round", "It was always a little warm, as if it had a secret."),
    "umbrella": _thing("yellow big striped", "There was room under it for two people and a dog."),
    "whistle": _thing("tin wooden little", "It could be heard across two fields."),
}
TREASURES = each(
    "bell book button coin comb cup doll feather flute hat key map marble mitten pencil ribbon ring scarf shell "
    "spoon stone whistle"
)
TOYS = each("ball boat doll drum flute kite marble whistle")
CARRIED = tuple(name for name in THINGS if name not in ("chair", "clock", "ladder"))


class Mending(NamedTuple):
    """How a broken thing is made whole: by whom, after what accident, with what."""

    job: str
    accident: str
    damage: str
    cure: str


_WOOD = Mending(
    "carpenter", "Crack! went the wood.", "It had split right down the middle.", "glue and four small nails"
)
_CLAY = Mending(
    "potter", "Clink! went the pieces.", "There were three of them where one had been.", "a little wet clay"
)
_CLOTH = Mending("tailor", "Rip! went the cloth.", "There was a hole as big as a cabbage.", "a needle and blue thread")
_METAL = Mending("smith", "Clang! went the stones.", "There was a deep dent in one side.", "a hot fire and a hammer")
MENDINGS = {
    **dict.fromkeys(("box", "chair", "ladder", "boat", "drum"), _WOOD),
    **dict.fromkeys(("bowl", "cup", "jug"), _CLAY),
    **dict.fromkeys(("blanket", "coat", "pillow", "scarf", "kite"), _CLOTH),
    **dict.fromkeys(("bell", "bucket", "kettle", "lantern"), _METAL),
    "clock": Mending("clockmaker", "Ping! went a spring.", "It ticked once and then no more.", "the smallest screw"),
}


class Place(NamedTuple):
    """Somewhere to be: how one is `at` it, what is seen there, and where small things hide."""

    at: str
    indoors: bool
    views: tuple[str, ...]
    spots: tuple[str, ...]


def _place(at: str, views: str, spots: str, *, indoors: bool = False) -> Place:
    return Place(at, indoors, each(views, " | "), each(spots, " | "))


PLACES = {
    "attic": _place(
        "in the attic",
        "Dust danced in a thin line of light. | Old coats hung there like people who had forgotten to leave.",
        "under an old coat | behind the trunk | on a dusty shelf",
        indoors=True,
    ),
    "bakery": _place(
        "at the bakery",
        "The whole room smelled of warm bread. | Rolls stood in rows like little brown pillows.",
        "behind the oven | under the bread shelf | between two rolls",
        indoors=True,
    ),
    "barn": _place(
        "in the barn",
        "The hay was deep and smelled of summer. | Somewhere above, a pigeon was talking to itself.",
        "under the hay | behind the milk cans | on a beam",
        indoors=True,
    ),
    "bridge": _place(
        "on the bridge",
        "The water below was telling a long story. | Two ducks sailed under it like small ships.",
        "under a loose board | beside the railing | between two planks",
    ),
    "forest": _place(
        "in the forest",
        "The trees whispered and the moss was soft. | Light fell through the leaves like green water.",
        "inside a hollow tree | under a fern | on a mossy stone",
    ),
    "forge": _place(
        "at the forge",
        "Sparks jumped up and went out again. | The fire hummed to itself.",
        "behind the coal box | under the bench | beside the big hammer",
        indoors=True,
    ),
    "garden": _place(
        "in the garden",
        "The beans were climbing as fast as they could. | A bee was counting the roses.",
        "under a cabbage | among the beans | behind the watering can",
    ),
    "hill": _place(
        "on the hill",
        "From there the houses looked like toys. | The grass bowed politely to everyone.",
        "under the thorn bush | between two stones | in the tall grass",
    ),
    "inn": _place(
        "at the inn",
        "Someone was laughing, and someone was frying onions. | A fat cat slept on the warmest chair.",
        "under the long table | behind a barrel | on the window sill",
        indoors=True,
    ),
    "kitchen": _place(
        "in the kitchen",
        "A pot was bubbling on the stove. | It smelled of cinnamon and clean plates.",
        "behind the flour jar | under the table | beside the stove",
        indoors=True,
    ),
    "lake": _place(
        "by the lake",
        "The water was so still that it held a second sky. | A heron stood there and thought.",
        "under the old jetty | among the reeds | behind a wet stone",
    ),
    "market": _place(
        "at the market",
        "There were towers of cheese and hills of apples. | Everybody was shouting about turnips.",
        "under the cheese table | behind the apple cart | between two pumpkins",
    ),
    "meadow": _place(
        "in the meadow",
        "The grass was full of clover and grasshoppers. | A white butterfly did not know where to land.",
        "under a clover leaf | beside a molehill | among the daisies",
    ),
    "mill": _place(
        "at the mill",
        "Everything there was white with flour, even the spider. | The great wheel went round and round.",
        "behind the flour sacks | under the stairs | beside the great wheel",
        indoors=True,
    ),
    "orchard": _place(
        "in the orchard",
        "The apples were so ripe that they nearly sang. | A wasp was having a pear for lunch.",
        "under the oldest tree | behind the ladder | under the wheelbarrow",
    ),
    "pond": _place(
        "by the pond",
        "Four frogs sat in a row and said nothing. | Rings ran over the water and were gone.",
        "among the reeds | under a lily leaf | beside the duck house",
    ),
    "river": _place(
        "by the river",
        "The river was in a hurry, as always. | Small fish turned like silver needles.",
        "under the willow | between the roots | behind a grey rock",
    ),
    "school": _place(
        "at the school",
        "The chalk squeaked and the stove hummed. | Someone had drawn a very round horse on the board.",
        "under a desk | behind the stove | on the window sill",
        indoors=True,
    ),
    "square": _place(
        "in the square",
        "The fountain was telling its only joke. | Pigeons walked about like important people.",
        "under the bench | behind the fountain | beside the notice board",
    ),
    "stable": _place(
        "in the stable",
        "It was warm and smelled of horses. | A pony looked over its door and blinked.",
        "under the straw | behind a saddle | beside the oats",
        indoors=True,
    ),
    "tower": _place(
        "in the tower",
        "The big bell hung there like a sleeping giant. | The stairs went round until they were dizzy.",
        "under the big bell | on the last step | behind a bat",
        indoors=True,
    ),
    "well": _place(
        "by the well",
        "It was deep, and it answered when you called. | Someone had left a row of pebbles there.",
        "beside the bucket | behind the mossy wall | under the little roof",
    ),
}
OUTDOORS = tuple(name for name, place in PLACES.items() if not place.indoors)
SHELTERS = each("barn forge inn mill stable tower")


class Job(NamedTuple):
    """A trade: `does` is what everybody knows of it, in the present; `where` is its place."""

    verb: str
    object: str
    where: str

    @property
    def does(self) -> str:
        return f"{self.verb} {self.object}"


def _job(verb: str, object: str, where: str) -> Job:
    return Job(verb, object, where)


JOBS = {
    "baker": _job("bakes", "the bread", "bakery"),
    "beekeeper": _job("keeps", "the bees", "meadow"),
    "carpenter": _job("builds", "the tables", "square"),
    "clockmaker": _job("winds", "the clocks", "tower"),
    "cobbler": _job("mends", "the shoes", "square"),
    "cook": _job("cooks", "the soup", "kitchen"),
    "doctor": _job("heals", "the sick", "square"),
    "farmer": _job("milks", "the cows", "barn"),
    "fisher": _job("catches", "the fish", "lake"),
    "gardener": _job("grows", "the roses", "garden"),
    "miller": _job("grinds", "the corn", "mill"),
    "painter": _job("paints", "the doors", "square"),
    "potter": _job("shapes", "the bowls", "market"),
    "shepherd": _job("minds", "the sheep", "hill"),
    "smith": _job("hammers", "the iron", "forge"),
    "tailor": _job("sews", "the coats", "market"),
    "teacher": _job("teaches", "the children", "school"),
    "weaver": _job("weaves", "the blankets", "market"),
}

FOODS = {
    "bread": "a loaf of bread",
    "cake": "a plum cake",
    "cheese": "a round cheese",
    "honey": "a jar of honey",
    "jam": "a jar of jam",
    "pie": "an apple pie",
    "pudding": "a rice pudding",
    "soup": "a pot of soup",
    "stew": "a pot of stew",
    "tart": "a cherry tart",
}

PETS = each("cat dog donkey duck goat goose hen lamb pig pony rabbit")
THIEVES = each("cat crow duck goose hen magpie squirrel")
VOICES = {"cat": "meow", "goat": "meh", "hen": "cluck", "goose": "honk"}


class Weather(NamedTuple):
    """What the sky does all day: `still` comes later in the same story."""

    adjective: str
    still: tuple[str, ...]


WEATHERS = (
    Weather("sunny", ("The sun was still smiling over the roofs.", "The sun lay on everything like butter.")),
    Weather("windy", ("The wind pulled at every hat in the street.", "The wind was still singing in the chimneys.")),
    Weather("rainy", ("The rain was still drumming on the roofs.", "Small rivers of rain ran down the street.")),
    Weather("foggy", ("The fog was as thick as porridge.", "In the fog every tree looked like an uncle.")),
    Weather("cold", ("Their breath made little clouds in the cold.", "The puddles wore thin hats of ice.")),
    Weather("warm", ("It was so warm that the dogs lay down in the shade.", "The warm air smelled of hay.")),
)
SNOW = Weather("snowy", ("The snow was still falling in fat flakes.", "Snow lay on every gate like sugar."))
