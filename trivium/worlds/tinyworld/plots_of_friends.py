"""Plots that turn on people: a newcomer, a supper, a contest, a skill, a quarrel.

Roles: {A} the hero with {he} {him} {his}; {B} the friend with {bhe} {bhim} {bhis}; {C} a grown-up whose trade is {job};
{thing} the central thing, {look} its look; {at} {to} {place} the place, {spot} a corner of it, {at2} {to2} another;
{pet} the {animal} says {voice}; {food} something to eat.
"""

from trivium.worlds.tinyworld.lexicon import CARRIED, OUTDOORS, PETS, PLACES, TOYS, each
from trivium.worlds.tinyworld.plot import Plot, feels, goes, holds, perhaps, say

ANYWHERE = tuple(PLACES)

NEWCOMER = Plot(
    TOYS,
    OUTDOORS,
    PETS,
    (
        say(
            "A new family moved into the old house, and with them came {B}, who did not say a word.",
            "{B} was new in the village. {Bhe} knew nobody, and nobody knew {bhim}.",
            "{When}, a cart stopped in front of the empty house. On top of all the boxes sat {B}.",
            then=(feels("B", "shy"),),
        ),
        say(
            "{B} had {a_thing}. {detail}",
            "In {bhis} arms {bhe} held {a_thing}, as if somebody might take it away.",
            "All {bhe} had from home was {a_thing}. {detail}",
            then=(holds("B"),),
        ),
        say(
            "Every day {bhe} sat {at}, a little way from the others, and looked at {bhis} feet.",
            "The children played {at}. {B} stood behind a tree and watched with one eye.",
            "{Bhe} went {to}, because nobody was there. But that day somebody was.",
            then=(goes("B"), goes("A")),
        ),
        perhaps("{view}"),
        say(
            '{A} saw {bhim} there. "Do you want to play?" asked {A}. {B} shook {bhis} head.',
            '"Hello," said {A}. {B} opened {bhis} mouth, but no word came out.',
            "{A} waved. {B} looked behind {bhim} to see who was meant.",
        ),
        say(
            "So {A} did not ask again. {He} just sat down too, and said nothing, in a friendly way.",
            "{A} thought about that. Then {he} put half a bun on the grass between them.",
            "{A} was not good at waiting, but now {he} waited. {He} counted ants, up to ninety.",
        ),
        say(
            "After a while {pet} the {animal} came by, took one look at them and sat down in the middle.",
            "Then {pet} the {animal} walked up and sneezed, right on {A}'s foot. {B} began to laugh.",
            "Then the wind took {A}'s hat and put it on {pet} the {animal}. It fitted. {B} laughed out loud.",
        ),
        say(
            '"I am {B}," said {B} at last. "This is my {thing}. You can try it."',
            "{B} held out the {thing}. It was easier than words.",
            '"Do you want to hold my {thing}?" {B} whispered.',
            then=(holds("A"), feels("B", "happy")),
        ),
        say(
            "{A} tried the {thing} and did everything wrong. {B} showed {him} how, and talked and talked.",
            '{A} held it upside down. "Not like that!" cried {B}, and then {bhe} could not stop talking.',
            "They took turns until the lamps were lit. {B} knew a hundred stories, and {bhe} told nearly all of them.",
        ),
        say(
            'In the evening {A} gave the {thing} back. "Tomorrow?" asked {B}. "Tomorrow," said {A}.',
            "Then {A} gave the {thing} back, and they walked home the long way. {B} was not new any more.",
            then=(holds("B"), feels("A", "happy")),
        ),
    ),
)

SUPPER = Plot(
    each("basket bowl box bucket cup jug kettle spoon"),
    ANYWHERE,
    PETS,
    (
        say(
            (
                "{When}, {A} got {a_food} all for {himself}. "
                "{He} put it beside {his} {look} {thing} and went {to} to eat in peace."
            ),
            "{C} the {job} gave {A} {a_food}. {He} took it, and {his} {look} {thing} too, and went {to}.",
            then=(holds("A", "food"), holds("A"), goes("A")),
        ),
        perhaps("{view}"),
        say(
            (
                "{He} had just sat down when {B} came along. {B} looked at the {food}. "
                "{Bhis} stomach made a noise like a door."
            ),
            '"What a lovely smell," said {B}, who just happened to be passing for the third time.',
            'There sat {B} with an empty bag. "I have had no lunch," said {B}, "and no breakfast worth the name."',
            then=(goes("B"),),
        ),
        perhaps(
            "{A} looked at the {food}. It seemed to grow smaller.",
            '"Mine," said a little voice in {A}\'s head. But it was not a very nice voice.',
            "{A} sighed, but only on the inside.",
        ),
        say(
            '"Sit down," {he} said. "Half is plenty." So they shared.',
            "Then {A} gave {B} the bigger half, by mistake, and found that {he} did not mind.",
            '"There is enough for two," said {A}, and moved over.',
        ),
        say(
            "Then came {pet} the {animal} and said nothing, very loudly. It got a bite too.",
            "Then {pet} the {animal} came, and then two sparrows, and then an ant with a large family.",
            "Next came {C} the {job}, tired from work, with {pet} the {animal}. They made room.",
        ),
        say(
            "Soon the {food} was gone. There was not a crumb left in the {thing}.",
            "They ate until nothing was left but the smell.",
            "The {food} was gone much too soon, but the talking went on.",
            then=(feels("A", "full"),),
        ),
        say(
            '"Wait here," said {B}, and ran off. {Bhe} came back with pears in both hands.',
            "{B} turned out {bhis} pockets. There were nine cherries and a piece of cheese.",
            "{B} jumped up and played a tune on a leaf. Even {pet} tapped one foot.",
        ),
        say(
            '"Before, I had {a_food}," said {A}. "Now I have a party."',
            '"It tastes better with noise," said {A}, and {B} made some more.',
            "{A} thought that half of something could be more than all of it. Numbers are strange.",
        ),
        say(
            "When the stars came out, {holder} carried the {thing} home. It was empty, but {he} was not.",
            "{holder} washed the {thing} in the rain barrel, and {B} dried it with {bhis} hat.",
        ),
    ),
)

CONTEST = Plot(
    each("ball basket book bucket drum hat jug pillow rope spoon umbrella"),
    OUTDOORS,
    PETS,
    (
        say(
            "There was a contest {at}, {contest}. The first prize was {a_food}.",
            "{When}, {C} the {job} put up a sign. There would be a contest {at}, {contest}. The prize was {a_food}.",
        ),
        say(
            "{A} practised every day with {a_thing}. {detail}",
            "{A} had {a_thing} and a great wish to win. {He} practised until the hens ran away when they saw {him}.",
            then=(holds("A"),),
        ),
        say(
            "{B} practised too. {Bhe} was smaller, but {bhe} never gave up.",
            '"I am going to win," said {B}. "No, I am," said {A}. They were friends, so they shook hands on it.',
            "{B} only wanted to win the prize, because {bhe} was always hungry.",
        ),
        say(
            "The whole village came {to}. {view}",
            "Then the day came. Half the village was {at}, and the other half was on the way. {view}",
            "On the great day everybody came {to}, and some people stood on boxes.",
            then=(goes("A"), goes("B")),
        ),
        say(
            "{B} went first, and it went very well until a bee sat down on {bhis} nose.",
            "{B} began. One, two, three, and then {bhe} had to sneeze.",
            "{B} was very good, until {bhe} began to laugh and could not stop.",
            '{B} did well, until somebody in the crowd shouted "Soup!" {Bhe} looked around.',
        ),
        say(
            "{A} was next. {His} knees were like jam.",
            "Then came {A}. {His} heart was beating like a drum.",
            "Now it was {A}'s turn. {He} held {his} breath and the {thing}.",
        ),
        say(
            (
                "At that moment {pet} the {animal} walked right into the contest, "
                "took the {thing} and marched off with it, step by step."
            ),
            (
                "Just then {pet} the {animal} came through the crowd, "
                "pulled the {thing} out of {A}'s hands and trotted all around {place}."
            ),
            then=(holds("pet"),),
        ),
        perhaps(
            "Everybody held their breath. Then everybody cheered.",
            "Nobody had ever seen anything like it. {C} the {job} dropped the bell.",
            '"Well," said {C} the {job}, "rules are rules."',
        ),
        say(
            "So {pet} won the first prize. The {animal} ate the {food}, and then it ate the sign.",
            '"The first prize goes to {pet}," said {C} the {job}, and {pet} ate the {food} before anyone could argue.',
            "The winner was {pet}. It bowed, or perhaps it was only looking for clover.",
            then=(holds("A"), feels("A", "merry")),
        ),
        say(
            "What a contest! {holder} took the {thing} home on one finger, and {B} led {pet} like a king.",
            (
                "{A} and {B} laughed so much that they had to sit down. "
                "{holder} took the {thing} home, and it smelled of {animal}."
            ),
            (
                '"Next year," said {A} to {B}, "we will practise with {pet}." '
                "Then {holder} picked up the {thing} and they went home."
            ),
        ),
    ),
)

LEARNING = Plot(
    each("brush bucket drum flute hammer kite ladder pencil rope spoon whistle"),
    ANYWHERE,
    PETS,
    (
        say(
            "{A} wanted to be like {C} the {job}, who {does} and is never in a hurry.",
            '{C} the {job} could do anything. "Can you teach me?" asked {A}.',
            '"I want to learn something real," {A} told {C} the {job}.',
        ),
        say(
            '"Good," said {C}, and gave {him} {a_thing}. "Start with this."',
            "The {job} looked {him} up and down and handed {him} {a_thing}. {detail}",
            then=(holds("A"),),
        ),
        say(
            "{When}, {A} took the {thing} {to} to practise where nobody could see.",
            "{A} carried it {to}, because there {he} would not bother anyone.",
            then=(goes("A"),),
        ),
        say(
            "The first try went so badly that {pet} the {animal} left.",
            "{His} first try made {pet} the {animal} fall over. {He} said sorry.",
            "On the first day everything went wrong, and on the second day the rest went wrong.",
        ),
        say(
            "The second try was no better, only longer.",
            '"I will never learn it," said {A}, and put the {thing} down {spot}.',
            "{A} was so angry that {he} shouted at a tree stump.",
            then=(feels("A", "angry"),),
        ),
        say(
            (
                '{B} sat down beside {him}. "How many times did you fall before you could walk?" '
                "{bhe} asked. {A} did not know."
            ),
            '"I think it was a little less bad than yesterday," said {B}, who had been listening all the time.',
            '{B} brought {him} {a_food}. "Nobody can learn on an empty stomach," {bhe} said.',
            then=(goes("B"),),
        ),
        say(
            "So {he} picked up the {thing} and tried again. And again. And once more.",
            "{A} tried slowly this time, as slowly as the moon.",
            "The next day {he} tried only one small thing, and that one small thing went right.",
        ),
        say(
            "At the end of the week something happened. {His} hands knew it before {he} did.",
            "And then, all at once, it was easy. {A} nearly dropped the {thing}.",
            "On Friday {pet} the {animal} came by, lay down beside {him} and stayed.",
        ),
        say(
            '"Well," said {C}, "I could not do it better myself." That was not true, but it was kind.',
            'The {job} listened and watched and nodded. "Keep the {thing}," said {C}. "It is yours now."',
            then=(feels("A", "proud"),),
        ),
        say(
            '{holder} carried the {thing} home like a crown, and {B} walked in front and shouted, "Make way!"',
            '"Now teach me," said {B}. {holder} held out the {thing} and said, "Start with this."',
            "That night {holder} was too proud to sleep, and the {thing} lay beside {him} and shone a little.",
        ),
    ),
)

SECRET = Plot(
    CARRIED,
    ANYWHERE,
    PETS,
    (
        say(
            "{A} and {B} had quarrelled, and nobody could remember why.",
            (
                "{When}, {A} said something silly to {B}, and {B} said something silly back. "
                "Then they did not speak any more."
            ),
            then=(feels("A", "lonely"), feels("B", "lonely")),
        ),
        say(
            "{A} stayed {at} all day. {B} stayed {at2}. It was very quiet in the village.",
            "{A} went {to}, so {B} went {to2}. They had never been so far apart.",
            then=(goes("A"), goes("B", "place2")),
        ),
        perhaps("{view}"),
        say(
            "{A} had {a_thing}, but it was no fun alone.",
            "{A} played with {his} {look} {thing} for a while. Then {he} put it down {spot} and sighed.",
            then=(holds("A"),),
        ),
        say(
            "Then {pet} the {animal} came and looked at {him} with its head on one side.",
            "Only {pet} the {animal} came to see {him}. {pet} was a good listener.",
        ),
        say(
            '"{B} should say sorry first," {A} told {pet}. {pet} blinked. "Well, perhaps not first," said {A}.',
            '"I do miss {bhim}," {A} told {pet}, "but you must not tell anyone."',
        ),
        say(
            "So {A} tied a note to the {thing}, and tied the {thing} to {pet}, and gave it a little push.",
            'Then {A} wrote "I am sorry" on a leaf, and {pet} carried it away together with the {thing}.',
            then=(holds("pet"),),
        ),
        perhaps(
            "It took a long time, because on the way {pet} had to eat some thistles.",
            "{pet} took three wrong turns, but {pet} got there.",
        ),
        say(
            "{B} read the note twice. Then {bhe} took the {thing} in both arms and ran.",
            "When {B} saw {pet} and the {thing}, {bhe} laughed and cried and started to run.",
            then=(holds("B"), goes("B")),
        ),
        say(
            '"I was just coming to you," said {A}. "I was faster," said {B}.',
            '"What was it about?" asked {B}. "I think it was about jam," said {A}.',
            then=(feels("A", "happy"), feels("B", "happy")),
        ),
        say(
            '{holder} wanted to give the {thing} back. "Keep it until tomorrow," said {A}. "Then you must come again."',
            "{pet} got a carrot and a medal of paper. {holder} held the {thing}, and {A} held {holder}'s hand.",
        ),
    ),
)

PLOTS_OF_FRIENDS = {
    "newcomer": NEWCOMER,
    "supper": SUPPER,
    "contest": CONTEST,
    "learning": LEARNING,
    "secret": SECRET,
}
