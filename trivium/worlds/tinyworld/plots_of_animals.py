"""Plots that turn on animals and weather: a storm, a climber, a noise at night, a stray.

Roles: {A} the hero with {he} {him} {his}; {B} the friend with {bhe} {bhim} {bhis}; {C} a grown-up whose trade is {job};
{thing} the central thing, {look} its look; {at} {to} {place} the place, {spot} a corner of it, {at2} {to2} another;
{pet} the {animal} says {voice}; {food} something to eat.
"""

from trivium.worlds.tinyworld.lexicon import OUTDOORS, PETS, PLACES, SHELTERS, VOICES, each
from trivium.worlds.tinyworld.plot import Plot, feels, goes, holds, perhaps, say

STORM = Plot(
    each("blanket candle coat lantern pillow umbrella"),
    SHELTERS,
    PETS,
    (
        say(
            "{A} and {B} were on the road when the sky turned black.",
            "It was a fine afternoon, until one dark cloud looked over the hill and called all its brothers.",
            "{A} and {B} were walking home when the first drop fell. It was as big as a plum.",
        ),
        say(
            "The wind threw leaves and hats about. Then the thunder spoke.",
            "First the rain came down in drops, then in ropes, and then all at once.",
            "There was a flash and a great bang. All the dogs went under all the beds.",
        ),
        say(
            '"Quick, {to}!" cried {A}, and ran as fast as {he} could. {B} came last, with wet socks.',
            '"This way!" called {B}, and they ran {to}. The door was open.',
            "There was only one roof near. They ran {to} and shut the door behind them.",
            then=(goes("A"), goes("B")),
        ),
        say("{inside}"),
        say(
            "{pet} the {animal} was there too, and shook itself, and then everybody was wet again.",
            "In one corner stood {pet} the {animal}, and its ears were shaking.",
            "{pet} the {animal} put its nose under {B}'s arm and would not take it out.",
        ),
        say(
            "Luckily {A} had {a_thing}. {detail}",
            '{Spot} {A} found {a_thing}. "Look," said {A}, "somebody has thought of us."',
            then=(holds("A"),),
        ),
        say(
            "It thundered again. {B} took {A}'s hand and pretended that {bhe} had not.",
            '"I am not afraid," said {B}, "but my knees are." {A} moved closer.',
            '"Thunder is only clouds moving their chairs," said {A}. {B} thought about that.',
            then=(feels("B", "afraid"),),
        ),
        say(
            "They shared {a_food} and sang every song that they knew, the loud ones first.",
            "{B} had {a_food} in {bhis} bag. They ate it slowly, to make it longer than the rain.",
            "{A} told a story about a very small giant. It had no end, so {he} made one up.",
        ),
        say(
            "All at once it was quiet. {A} opened the door. The whole world was dripping and shining.",
            "Then the thunder went off to bother another village, and a blackbird began to sing.",
            "When they looked out, there was a rainbow with one foot in the duck pond.",
            then=(feels("A", "happy"), feels("B", "happy")),
        ),
        say(
            "The air smelled new. {holder} carried the {thing}, and {pet} jumped over the deepest puddle.",
            "They walked home through every single puddle. {holder} carried the {thing}, and {pet} carried nothing.",
            (
                '"Can we have another storm tomorrow?" asked {B}. '
                '{holder} put the {thing} away and said, "Maybe a small one."'
            ),
        ),
    ),
)

CLIMBER = Plot(
    each("bell drum flute spoon whistle"),
    OUTDOORS,
    tuple(VOICES),
    (
        say(
            "{When}, {pet} the {animal} climbed the highest tree {at} and would not come down.",
            "{pet} the {animal} was up on the roof of a cart shed {at}. Nobody knew how, least of all {pet}.",
            "There was a noise {at}. High up in a tree sat {pet}, {A}'s {animal}, and looked at the clouds.",
            then=(goes("pet"), goes("A")),
        ),
        say(
            '"Come down!" called {A}. "{Voice}," said {pet}. That meant no.',
            '{A} called and begged. "{Voice}," said {pet}, and looked the other way.',
        ),
        say(
            "{A} held up a carrot. {pet} held up its nose.",
            "{A} said please. {He} said it in eleven different ways.",
            "{A} pretended to go away. {pet} pretended not to care.",
        ),
        say(
            "{B} brought a ladder, but it was too short by one goat and a half.",
            (
                "{B} climbed halfway up and then remembered that {bhe} did not like to be high up. "
                "Now there were two of them to get down."
            ),
            '"Leave it to me," said {B}, and {bhe} jumped as high as {bhe} could. Only {B}\'s hat went up.',
            then=(goes("B"),),
        ),
        perhaps("{view}"),
        perhaps(
            "{C} the {job} came by with good advice, and then with more advice. None of it worked.",
            "Soon half the village stood there, and each of them knew exactly what to do. None of it worked.",
        ),
        say(
            "Then {A} had an idea. {He} ran home and came back with {a_thing}. {detail}",
            '"Wait," said {A}. At home {he} had {a_thing}. {He} ran to get it.',
            then=(holds("A"),),
        ),
        say(
            "{He} sat down with {his} back to {pet} and began to make a little music with the {thing}.",
            "With the {thing} {he} made a small sound, the one that always meant supper.",
        ),
        say(
            "First one ear came into view. Then came the rest, faster than anybody had expected.",
            (
                "It was quiet. Then there was a rustle and a bump, "
                "and {pet} stood beside {him} as if nothing had happened."
            ),
            '"{Voice}?" said {pet}. And down it came, right into {B}\'s arms.',
            then=(feels("A", "glad"),),
        ),
        say(
            "{A} was glad, and {pet} was hungry. {holder} carried the {thing} home, and the {animal} walked behind.",
            "{A} scolded {pet} for a while. Then {holder} put the {thing} away, and they all had pancakes.",
            "From that day on {holder} never went {to} without the {thing}.",
            '"You could have told me sooner," {A} said. "{Voice}," said {pet}, and tried to eat the {thing}.',
        ),
    ),
)

NOISE = Plot(
    each("blanket candle lantern spoon umbrella"),
    tuple(PLACES),
    each("cat donkey goat goose hedgehog owl pig pony"),
    (
        say(
            "In the middle of the night there was a noise {at}. It went knock, knock, knock.",
            "Something was going bump {at}. It was night, and {A} heard it from {his} bed.",
            "Every night there was a groan {at}, as if a very sad giant lived there.",
        ),
        say(
            "{A} pulled the blanket over {his} ears. The noise came in under it.",
            "{A} was afraid. But {he} was also curious, and that was stronger.",
            then=(feels("A", "afraid"),),
        ),
        say(
            '{He} woke {B} with a small stone on the window. "Are you asleep?" "Yes," said {B}, and came out.',
            "{B} had heard it too. {Bhe} was standing in the street in {bhis} night shirt.",
        ),
        say(
            "{A} took {a_thing}. {detail}",
            "For courage {A} took {a_thing} along. {detail}",
            then=(holds("A"),),
        ),
        say(
            "They went {to} on the tips of their toes. {A} went first, because {he} had the {thing}.",
            "{B} counted their steps. There were ninety, and then they came {to}.",
            "Side by side they crept {to}. An owl asked who they were.",
            then=(goes("A"), goes("B")),
        ),
        perhaps(
            (
                '"Perhaps it is a ghost," whispered {B}. "Ghosts do not knock," '
                '{A} whispered back. "They have no knuckles."'
            ),
            '"You first," said {B}. "No, you," said {A}. In the end they went together.',
            "{B} held on to {A}'s sleeve, and {A} held on to the {thing}.",
        ),
        say(
            "Then something moved {spot}. It had two shining eyes.",
            "Something was breathing {spot}. It was big, or it was small and very near.",
            "Something rustled {spot}, and then it sneezed.",
        ),
        say(
            "It was only {pet} the {animal}, with its head stuck in a bucket!",
            "It was {pet} the {animal}. It had found the oats and could not stop.",
            "It was {pet} the {animal}, and it looked even more frightened than they were.",
            then=(goes("pet"), feels("A", "glad"), feels("B", "glad")),
        ),
        say(
            '"Good evening, ghost," said {A}. They laughed until the windows opened all along the street.',
            "{B} helped {pet} up and scratched it behind the ear. It gave a groan, a happy one.",
            "{C} the {job} came running with a broom and went home again with a smile.",
        ),
        say(
            "{holder} put the {thing} beside {his} bed and slept like a stone. {pet} snored.",
            "After that night nobody was afraid {at} any more. {holder} took the {thing} home and yawned.",
            "They walked home under the stars. {holder} still had the {thing}, but {he} did not need it any more.",
        ),
    ),
)

STRAY = Plot(
    each("blanket coat ribbon rope scarf"),
    OUTDOORS,
    each("dog duck goose lamb pony rabbit"),
    (
        say(
            "{When}, {C} the {job} counted twice, and each time one {animal} was missing. It was {pet}.",
            "{pet} the {animal} had gone for a walk and had not come back. {C} the {job} was very worried.",
        ),
        say(
            '"I will find it," said {A}, and took {a_thing}. {detail}',
            "{A} put on {his} boots and packed {a_thing}. {detail}",
            then=(holds("A"),),
        ),
        say(
            '{B} wanted to help. "I can whistle," said {B}, "and I am good at looking behind things."',
            '"Four eyes are more than two," said {B}, and came along.',
        ),
        say(
            "They went {to2}. They found {nothing}, but no {animal}.",
            "They asked everyone {at2}. Somebody had seen a {animal}, but it was the wrong one.",
        ),
        say(
            "On the path were small footprints. They went left, then right, then around a puddle, and then {to}.",
            (
                '"If I were a {animal}," said {A}, "where would I go?" {He} shut {his} eyes. '
                "Then {he} knew it, and they ran {to}."
            ),
            then=(goes("A"), goes("B"), goes("pet")),
        ),
        perhaps("{view}"),
        say(
            "They called, and something answered. There was {pet}, {spot}, and could not get out.",
            "Somebody was crying {spot}, very softly. It was {pet}!",
            "There was {pet}, {spot}, wet and small and very pleased to see them.",
        ),
        say(
            "{A} put the {thing} around {pet}, and together they pulled. Hey, ho, and out it came.",
            "{pet} was shaking, so {A} laid the {thing} around its neck and talked to it softly.",
            then=(holds("pet"), feels("A", "happy")),
        ),
        perhaps(
            "On the way home {pet} walked so close that it stepped on everybody's feet.",
            "{B} carried {pet} up the steep part, and {pet} ate {bhis} collar.",
        ),
        say(
            "{C} the {job} laughed and cried at once and gave them {a_food}.",
            "The {job} hugged {pet}, then {A}, then {B}, and then, by mistake, the gate.",
        ),
        say(
            "{pet} wears the {look} {thing} to this day, so that everyone can see who was lost and found.",
            'And the {thing}? "Let {pet} keep it," said {A}. "It looks better on a {animal}."',
        ),
    ),
)

PLOTS_OF_ANIMALS = {
    "storm": STORM,
    "climber": CLIMBER,
    "noise": NOISE,
    "stray": STRAY,
}
