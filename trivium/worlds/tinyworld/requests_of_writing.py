"""Open requests to write something: praise, a note, an invitation, a story or its end."""

from trivium.worlds.tinyworld.request import Request

PRAISE = Request(
    (
        "Write a few lines in praise of the {look} {thing}.",
        "Please write a small poem about a {thing} that is {look}.",
        "Praise my {look} {thing}, please.",
    ),
    ("{thing}", "{look}"),
    (
        (
            "O {look} {thing}, so dear to me,",
            "My {look} {thing}, what joy you bring,",
            "Dear {thing}, so {look} and so fine,",
        ),
        (
            "there is no better friend to see.",
            "you make the whole wide morning sing.",
            "I am so glad that you are mine.",
        ),
        (
            "With you I am happy by night and by day.",
            "Stay with me, please, for a year and a day.",
            "I love you more than I can say.",
        ),
    ),
    ("The {thing} is {look}.", "It is a good {thing}.", "I like the {look} {thing}.", "A {look} {thing} is useful."),
    ("It is a {thing}.", "One {thing} is like another.", "I have seen a better {thing}."),
    (14, 34),
)

NOTE = Request(
    (
        "Write a note to thank {name} for the {thing}.",
        "Help me to thank {name} for {a_thing}.",
        "Please write a thank-you note to {name} for the {food}.",
    ),
    ("{name}", "{gift}", "thank|thanks"),
    (
        ("Dear {name}, thank you so much for the {gift}!", "My dear {name}, a thousand thanks for the {gift}!"),
        ("It made me very happy.", "You are a wonderful friend.", "Nobody could be so kind as you."),
        ("I hope to see you soon.", "With love from your friend.", "Best wishes to all at home."),
    ),
    (
        "{name}, thanks for the {gift}.",
        "Thank you for the {gift}.",
        "Thanks, {name}.",
        "I got the {gift}, {name}. Thanks.",
    ),
    ("I got the {gift}.", "To {name}.", "The {gift} came."),
    (14, 34),
)

INVITATION = Request(
    (
        "Invite {name} to {event} {at}.",
        "Write an invitation for {name}: {event} {at}.",
        "Please ask {name} to come to {event} {at}.",
    ),
    ("{name}", "{event_word}", "{place}"),
    (
        ("Dear {name}, please come to {event} {at}!", "Dear {name}, there will be {event} {at}, and you are welcome!"),
        (
            "It would be lovely to have you with us.",
            "We would be so happy to see you.",
            "It will be a wonderful evening.",
        ),
        ("There will be {a_food} for everyone.", "Bring a friend and a song.", "We hope that you can come."),
    ),
    (
        "{name}, come to the {place}.",
        "There is {event} {at}.",
        "Come to {event} {at}, {name}.",
        "{name} can come to {event}.",
    ),
    ("There is {event}.", "Come or stay at home, {name}.", "Somebody will be at the {place}."),
    (16, 38),
)

STORY = Request(
    (
        "Tell me a short story about {name}, {a_thing} and the {place}.",
        "Write a story with {name}, {a_thing} and the {place}.",
        "A story, please! {name}, the {place} and {a_thing}.",
    ),
    ("{name}", "{thing}", "{place}"),
    (
        (
            "One fine morning {name} took {a_thing} and went {to}.",
            "{At}, {name} found {a_thing}.",
            "{name} went {to} and lost {a_thing} there.",
        ),
        (
            "There sat {other}, who looked sad.",
            "Soon {other} came along to help.",
            "It was {other} who saw the {thing} first.",
        ),
        (
            '"Let us share it," said {name}, and {other} smiled.',
            "They laughed so loudly that the ducks woke up.",
            "{name} gave {other} the {thing}, for it was a day to be kind.",
        ),
        (
            "They were happy and stayed friends.",
            "In the evening they walked home together.",
            "Since then they have been the best of friends.",
        ),
    ),
    (
        "{name} had {a_thing}. That is all.",
        "{name} went {to} with {a_thing}. Then {he} went home.",
        "{name} went {to}. It was a long way.",
        "There was {a_thing} {at}.",
    ),
    ("There was {a_thing}.", "{name} did something.", "It was a day like any other."),
    (24, 56),
    strangers=True,
)

CONTINUATION = Request(
    (
        "{name} found {a_thing} {at}. What happened next?",
        "Go on with the story: {name} went {to} with {a_thing}.",
        "{At}, {name} heard a noise and dropped {a_thing}. And then?",
    ),
    ("{name}", "{thing}"),
    (
        (
            "{name} looked at the {thing} and laughed.",
            "Then {name} held the {thing} up to the light.",
            "{name} hid the {thing} under {his} coat and ran.",
        ),
        (
            "{other} came by and wanted to help.",
            "Behind a tree stood {other}, a little sad.",
            "At home {other} was waiting with {a_food}.",
        ),
        (
            "They played together until the stars came out.",
            "{name} was glad to share it with a friend.",
            "So both of them went home happy.",
        ),
    ),
    (
        "{name} took the {thing} home.",
        "Then {name} went home.",
        "Nothing happened to the {thing}.",
        "{name} kept the {thing}. The end.",
    ),
    ("Nothing happened.", "{name} did something.", "It was a {thing}."),
    (16, 42),
    strangers=True,
)

WRITINGS = {
    "praise": (PRAISE,),
    "note": (NOTE,),
    "invitation": (INVITATION,),
    "story": (STORY,),
    "continuation": (CONTINUATION,),
}
