"""Plots that turn on a thing: lost, given, mended, traded, promised, blamed, written, borrowed.

Roles: {A} the hero with {he} {him} {his}; {B} the friend with {bhe} {bhim} {bhis}; {C} a grown-up whose trade is {job};
{thing} the central thing, {look} its look; {at} {to} {place} the place, {spot} a corner of it, {at2} {to2} another;
{pet} the {animal}, {food} something to eat.
"""

from trivium.worlds.tinyworld.lexicon import CARRIED, MENDINGS, OUTDOORS, PETS, PLACES, THIEVES, TREASURES, each
from trivium.worlds.tinyworld.plot import Plot, feels, goes, holds, perhaps, say

ANYWHERE = tuple(PLACES)

LOST = Plot(
    TREASURES,
    ANYWHERE,
    PETS,
    (
        say(
            "{When}, {A} could not find {his} {look} {thing}.",
            "{A} had {a_thing}. {detail} {When}, it was gone.",
            "There was one thing that {A} took everywhere, and that was {a_thing}. {When}, it was not there.",
            (
                "{When}, {A} put {his} hand in {his} pocket. No {thing}! "
                "{He} tried the other pocket. No {thing} there either."
            ),
            then=(feels("A", "sad"),),
        ),
        perhaps(
            "{He} looked under the bed, behind the door and inside both boots.",
            "{He} found a nut, a bit of string and a sleeping beetle, but nothing else.",
            "{He} looked in all the usual places, and then in all the silly ones.",
            "{He} even asked the cat, but the cat only yawned.",
        ),
        say(
            '"Where did you have it last?" asked {B}.',
            '{B} saw {his} long face and stopped. "What is the matter?" {bhe} asked. "My {thing} is lost," said {A}.',
            "{A} told {B}, and {B} put down {bhis} breakfast at once. Some things are more important than toast.",
            '"Two pairs of eyes are better than one," said {B}, and {bhe} came along.',
        ),
        say(
            "First they went {to2}, but there was nothing there except {nothing}.",
            "They searched {at2} and found {nothing}, which was nice, but it was not a {thing}.",
            "Somebody had seen something {at2}. It was only {nothing}.",
        ),
        say(
            "Then {A} remembered. Yesterday {he} had been {at}!",
            '"Think backwards," said {B}. {A} thought past supper and past lunch, all the way back to {place}.',
            '"Wait," said {A} slowly. "Yesterday I was {at}, and I was in a hurry."',
            'Then {B} had an idea. "You always forget things {at}," {bhe} said. It was true.',
            then=(goes("A"), goes("B")),
        ),
        perhaps("{view}"),
        say(
            "And there was the {thing}, {spot}, as if it had only been waiting.",
            "They looked high and low. At last {B} cried out, for there lay the {thing} {spot}.",
            "Something small was lying {spot}. It was the {thing}!",
            "{A} went down on {his} knees, and there it was, {spot}: the {look} {thing}.",
            then=(holds("A"), feels("A", "happy")),
        ),
        perhaps(
            "{A} was so glad that {he} danced once around {B}.",
            '"Hello again," {A} said to the {thing}, and {he} held it with both hands.',
            "{A} laughed out loud, and {B} laughed too, because it is hard not to.",
            '"Do not do that again," {A} told the {thing}, very kindly.',
        ),
        say(
            "That night {holder} went to sleep with the {thing} under the pillow.",
            "On the way home {holder} held the {thing} very tightly, and {B} got the last plum.",
            "Since that day {holder} has tied a string to the {thing}, and the string has not been lost yet.",
        ),
    ),
)

GIFT = Plot(
    CARRIED,
    ANYWHERE,
    PETS,
    (
        say(
            "It was {B}'s birthday, and {A} had no present.",
            "{When}, {A} remembered something terrible. It was {B}'s birthday, and {he} had nothing to give.",
            "{B} had a cold and a red nose and had to stay in bed. {A} wanted to bring {bhim} something.",
        ),
        perhaps(
            "{He} could sing, but not very well. {He} could draw, but only horses.",
            "{He} opened {his} money box. A moth flew out.",
            "{He} thought about it so hard that {his} hat became too small.",
            "{He} had three nuts and a button, and that is not much of a present.",
        ),
        say(
            "So {A} went {to} to think.",
            "{A} walked {to}, because {he} did {his} best thinking there.",
            "In the end {he} went {to}, where {C} the {job} was resting. But {C} had no idea either.",
            then=(goes("A"),),
        ),
        perhaps("{view}"),
        say(
            "There {he} found {a_thing}, {spot}. Nobody in the village had lost one. {detail}",
            (
                'An old woman was sitting there with {a_thing}. "Carry my basket home," '
                'she said, "and it is yours." {A} did.'
            ),
            "There {he} helped a stranger to catch a hen, and got {a_thing} for it. {detail}",
            then=(holds("A"),),
        ),
        say(
            "It was so lovely that {A} wanted to keep it. {He} walked very slowly.",
            "For a moment {A} thought, what if it were mine? Then {he} thought of {B}.",
            'All the way back {he} said to {his} own hands, "It is not for us."',
        ),
        say(
            'Then {he} knocked at the door. "This is for you," said {A}, and gave {B} the {thing}.',
            "{A} put the {thing} into {B}'s hands before {he} could change {his} mind.",
            "At the door {he} held out the {thing}. {B} took it as if it were made of snow.",
            then=(holds("B"), feels("B", "happy"), feels("A", "happy")),
        ),
        perhaps(
            '"For me?" said {B}, and {bhis} ears turned pink.',
            "{B} did not say a word, but {bhe} smiled with {bhis} whole face.",
            '"It is just what I did not know I wanted," said {B}.',
        ),
        say(
            "{A} walked home with empty hands. It was strange how full they felt.",
            "Now {holder} has the {thing}, and {A} may visit it whenever {he} likes.",
            "That night the {thing} lay beside {holder}'s bed, and {A} slept very well too.",
            "Then they shared a bun, and {holder} kept the {thing} on {bhis} knees the whole time.",
        ),
    ),
)

MENDED = Plot(
    tuple(MENDINGS),
    OUTDOORS,
    PETS,
    (
        say(
            "{A} had {a_thing}, and {he} was proud of it. {detail}",
            "Nobody else in the street had {a_thing}. {A} had one, and it was the best in the world. {detail}",
            "In {A}'s house there was {a_thing}. {detail}",
            then=(holds("A"),),
        ),
        say(
            "{When}, {he} carried it {to}. {He} was looking at a cloud when {he} fell over {his} own feet. {accident}",
            "{When}, {he} took it {to} and ran too fast. {accident}",
            "{When}, {A} wanted to show it to everyone {at}. A dog ran between {his} legs. {accident}",
            then=(goes("A"),),
        ),
        say(
            "{damage}",
            "{A} opened one eye, and then the other. {damage}",
            then=(feels("A", "sad"),),
        ),
        perhaps(
            "{A} sat down and cried a little.",
            '"Oh no," said {A} in a very small voice.',
            "{A} tried to mend it with spit and a leaf. It did not help.",
        ),
        say(
            '{B} came by with a bag of turnips. "Show it to {C} the {job}," {bhe} said.',
            '"Why are you crying?" asked {B}. "There is nothing that {C} the {job} cannot mend."',
            '{B} looked at it from all sides. "This is not the end of it," {bhe} said. "We need {C} the {job}."',
        ),
        say(
            '{C} put on two pairs of glasses. "Hmm," said the {job}, and then, "Aha."',
            'They found {C} at work. "I have seen worse," said the {job}. "I once sat on one."',
            "{C} had large hands, but they were as careful as two mice.",
            then=(holds("C"),),
        ),
        say(
            "With {cure} and a good deal of humming, the {thing} was made whole.",
            "It took {cure}, and one whole pot of tea.",
            "The {job} worked with {cure} until the lamps were lit.",
        ),
        say(
            '"How can I pay you?" asked {A}. "With a song," said the {job}. So {A} sang, and {B} held {bhis} ears.',
            "{A} had no money, so {he} swept the floor, and {B} washed the window.",
            '"What does it cost?" asked {A}. "One of those turnips," said the {job}.',
        ),
        say(
            "Then the {job} gave the {thing} back to {A}.",
            '"Here you are," said {C}, and put the {thing} into {A}\'s arms.',
            then=(holds("A"), feels("A", "happy")),
        ),
        say(
            "You can still see where it broke. {holder} says that this is the best part of it.",
            "{holder} carried the {thing} home, one step at a time, and looked at no clouds at all.",
            "It was not quite as it had been before. It was a little better, because now it had a story.",
        ),
    ),
)

TRADE = Plot(
    TREASURES,
    OUTDOORS,
    PETS,
    (
        say(
            "{A} wanted {a_thing} more than anything else. {C} the {job} had one.",
            "{C} the {job} had {a_thing}. {detail} {A} dreamed of it every night.",
            then=(holds("C"),),
        ),
        say(
            '"I will give it to you," said {C}, "if you bring me {a_food}." But {A} had only {a_thing2}.',
            'The {job} did not want money. "Bring me {a_food}," the {job} said. All that {A} had was {a_thing2}.',
            then=(holds("A", "thing2"), holds("B", "food")),
        ),
        say(
            "{When}, {A} set out with the {thing2} in {his} bag.",
            "So, {when}, {A} took the {thing2} and walked {to}.",
            then=(goes("A"),),
        ),
        perhaps("{view}", "A goose followed {him} for a while, just to see what would happen."),
        say(
            "{At}, {he} met {B}, who was carrying {a_food}.",
            "There sat {B} {at} with {a_food}, looking bored.",
            "{At}, {B} came the other way with {a_food} and a long face.",
        ),
        say(
            '"I have eaten nothing else for three days," said {B}. "Is that a {thing2}? I need a {thing2}!"',
            '"What a fine {thing2}!" cried {B}. "Would you trade?"',
            "{B} looked at the {thing2}, and {A} looked at the {food}. Then they both began to smile.",
        ),
        say(
            "So {B} took the {thing2}, and {A} took the {food}.",
            "They traded on the spot and shook hands like two mayors.",
            then=(holds("B", "thing2"), holds("A", "food")),
        ),
        say(
            "{A} ran all the way to the {job} and only sniffed at the {food} twice.",
            "The {food} smelled wonderful. {A} was hungry, but a plan is a plan.",
            "{A} carried the {food} with great care, past two hungry dogs.",
        ),
        say(
            '"Well, well," said {C}. The {job} took the {food} and gave {A} the {thing}.',
            "The {job} kept the promise. {C} got the {food}, and {A} got the {thing} at last.",
            then=(holds("C", "food"), holds("A"), feels("A", "happy")),
        ),
        say(
            "So {holder} had the {thing}, {B} had the {thing2}, and {C} had supper. Nobody wanted to trade back.",
            '"A good day," said {holder}, and put the {thing} on the shelf above {his} bed. {B} thought so too.',
            "In the evening {holder} sat on the step with the {thing}. Far away {B} was busy with the {thing2}.",
            "Three people were happy that night, and {holder} took the {thing} to bed.",
        ),
    ),
)

PROMISE = Plot(
    CARRIED,
    ANYWHERE,
    PETS,
    (
        say(
            (
                'One morning {C} the {job} gave {A} {a_thing}. "Please take it to {B}, '
                '{at}," said the {job}. "Before dark!"'
            ),
            (
                '"Can you bring this {thing} to {B}?" asked {C} the {job} one morning. '
                '"You will find {bhim} {at}. Be there before dark."'
            ),
            then=(holds("A"), goes("B")),
        ),
        perhaps(
            '"I promise," said {A}.',
            "{A} promised, and a promise was a promise.",
            '"You can count on me," said {A}, and stood up very straight.',
        ),
        say(
            "It was a long way, but the {thing} was good company. {detail}",
            "The {thing} was heavier than it looked. {detail}",
            "{A} looked at the {thing} as {he} walked. {detail}",
        ),
        say(
            '{At2} some children were playing. "Stay with us!" they called. {A} wanted to, very much.',
            "{At2} there was music, and {his} feet began to dance all by themselves.",
            "{At2} someone was giving away pancakes. They smelled of butter and sunshine.",
        ),
        say(
            '"I cannot," said {A}, "I have promised."',
            "{A} looked at the {thing}. Then {he} sighed and walked on.",
            "{He} took three steps back. Then {he} took four steps forward.",
        ),
        say(
            "The sun was low when it began to rain. {A} put the {thing} under {his} coat and ran.",
            "Then the path was under water, so {he} took off {his} shoes and held the {thing} over {his} head.",
            "A goose stood in the way and hissed. {A} bowed, and the goose was so surprised that it stepped aside.",
        ),
        say(
            "The first star was coming out when {he} came {to}. There was {B}, waiting.",
            '{A} came {to} just as the last light went. "Here I am!" {he} called to {B}.',
            then=(goes("A"),),
        ),
        say(
            "{He} gave {B} the {thing}, and then {he} sat down on the ground, all at once.",
            '"This is for you, from the {job}," said {A}, and put the {thing} into {B}\'s hands.',
            then=(holds("B"), feels("A", "proud")),
        ),
        say(
            '"Did you come all this way for me?" asked {B}.',
            '"I knew it," said {B}. "They said it was too far, and I said, you do not know {A}."',
            "{B} looked at {A}'s tired feet and put the kettle on.",
        ),
        say(
            "So {holder} had the {thing}, and {A} had a bowl of soup and a warm feeling that was not only the soup.",
            "{holder} held the {thing} up to the light. {A} was already asleep with {his} head on the table.",
            "{A} was tired and proud. Some days are long so that they can end well.",
        ),
    ),
)

BLAME = Plot(
    each("bell brush button coin comb feather key marble mitten ribbon ring shell spoon whistle"),
    ANYWHERE,
    THIEVES,
    (
        say(
            "{A} put {his} {look} {thing} on the wall and turned around for one moment. Then it was gone.",
            "{When}, {A}'s {look} {thing} was gone. {detail}",
            "{A} had left {a_thing} on the window sill. {When}, the window sill was empty.",
            then=(feels("A", "angry"),),
        ),
        say(
            'Only {B} had been near. "You took it!" cried {A}.',
            '"It was {B}," {A} thought. "{Bhe} always looks at my {thing}."',
            '{A} went straight to {B}. "Give it back!" {he} said, without even a good morning.',
        ),
        say(
            '"I did not," said {B}, and {bhis} lip began to shake.',
            "{B} said nothing. {Bhe} only looked at {bhis} shoes and went away.",
            '"I took nothing," said {B} quietly, "and I thought you were my friend."',
            then=(feels("B", "sad"),),
        ),
        say(
            "{A} went {to}, all alone and very angry. {He} kicked a stone. It hurt.",
            "Then {A} stamped off {to}. Being angry was hard work.",
            then=(goes("A"),),
        ),
        perhaps("{view}"),
        say(
            "There sat {pet} the {animal}, {spot}, with something between its feet. It was the {thing}!",
            (
                "Something moved {spot}. It was {pet} the {animal}, "
                "and it was sitting on the {thing} like a hen on an egg."
            ),
            "And who was there, {spot}? {pet} the {animal}, with the {thing} in its mouth.",
            then=(holds("A"), feels("A", "sorry")),
        ),
        say(
            "{A} took the {thing}. {He} should have been glad, but {he} felt cold inside.",
            "Now {A} had the {thing} again. But the thing in {his} stomach was not joy.",
            "{A} turned as red as a beet, from {his} chin up to {his} ears.",
        ),
        say(
            '{He} ran to {B}. "I was wrong," said {A}. "It was {pet}. I am sorry."',
            '"It was not you," {he} said at {B}\'s door, "and I was not fair. I am very sorry."',
            '{A} practised the words all the way. At {B}\'s door only one of them was left. It was "sorry".',
        ),
        say(
            "{B} thought about it. Then {bhe} moved over on the bench to make room.",
            '"Sorry is a good word," said {B}. "Would you like some {food}?"',
            '{B} looked at {him} for a long time. "All right," {bhe} said. "But you must also say sorry to my shoes."',
            then=(feels("B", "happy"), feels("A", "happy")),
        ),
        say(
            "So {holder} had the {thing} again, and a friend again, and the friend was worth more.",
            "Later {holder} let {B} hold the {thing} for the whole afternoon. {pet} got nothing.",
            "{holder} still has the {thing}. {pet} the {animal} still looks at it, now and then.",
        ),
    ),
)

PLOTS_OF_THINGS = {
    "lost": LOST,
    "gift": GIFT,
    "mended": MENDED,
    "trade": TRADE,
    "promise": PROMISE,
    "blame": BLAME,
}
