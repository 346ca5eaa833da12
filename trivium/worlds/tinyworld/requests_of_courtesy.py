"""Open requests of courtesy: hello, goodbye, thanks, a chat; and what poor hands say to anything."""

from trivium.worlds.tinyworld.request import Request

GREETING = Request(
    (
        "{hail}, I am {name}.",
        "{hail}! My name is {name}.",
        "{hail}, Trivium. This is {name}.",
        "{hail}! It is me, {name}.",
    ),
    ("{name}", "hello|good morning|good evening|good day|hi|welcome"),
    (
        ("{hail}, {name}!", "{hail}, dear {name}!", "Hello and welcome, {name}!"),
        ("How lovely to meet you.", "I am so glad that you came by.", "It is wonderful to see you."),
        ("What can I do for you today?", "Shall we tell a story together?", "Please sit down and stay a while."),
    ),
    ("Hello, {name}.", "Hello.", "{hail}, {name}. What is it?", "Hi, {name}.", "Good day."),
    ("{name}.", "Oh, {name}.", "Yes, yes, hello."),
    (7, 24),
)

GOODBYE = Request(
    (
        "I must go home now. Goodbye! Yours, {name}.",
        "It is late. Good night from {name}!",
        "{name} must go {to}. See you!",
    ),
    ("{name}", "goodbye|good night|farewell|see you|until tomorrow"),
    (
        ("Goodbye, dear {name}!", "Good night, {name}!", "See you soon, {name}!"),
        ("It was lovely to talk with you.", "Thank you for your visit.", "I am glad that you came."),
        ("Take care on the way.", "Come back soon, my friend.", "Sweet dreams!"),
    ),
    ("Goodbye, {name}.", "Goodbye.", "See you, {name}.", "Good night."),
    ("So go, {name}.", "{name} is going.", "Goodbye then."),
    (7, 22),
)

THANKS = Request(
    (
        "Thank you for the {thing}! Your {name}.",
        "{name} says thank you for the {food}.",
        "I am {name}. Thank you for the story about the {thing}.",
    ),
    ("{name}", "welcome|pleasure|gladly|any time"),
    (
        ("You are very welcome, {name}!", "It was a pleasure, dear {name}!", "You are welcome, {name}, any time!"),
        ("I am so glad that it made you happy.", "It was lovely to do it for you.", "That is kind of you to say."),
        ("Come again whenever you like.", "Take care, my friend.", "I hope to see you soon."),
    ),
    ("You are welcome.", "Any time, {name}.", "You are welcome, {name}.", "Fine, {name}."),
    ("It was nothing, {name}.", "It took all day.", "All right, {name}."),
    (6, 26),
)

TALK = Request(
    (
        "Let us talk about the {animal}.",
        "I like to talk about every {animal}. And you?",
        "What do you think about the {animal}?",
        "I am {name}. Can we talk about my {animal}?",
    ),
    ("{animal}", "your|yours|tell me|and you|you like|have you"),
    (
        (
            "Gladly, I love to talk about the {animal}!",
            "With pleasure, a {animal} is a wonderful thing.",
            "Oh yes, the {animal} is a dear friend of mine.",
        ),
        (
            "It is clever and has soft ears, or nearly.",
            "It can say more with one look than I can with ten words.",
            "It is always hungry and always kind.",
        ),
        ("What do you like best about it?", "Have you ever shared your lunch with one?", "Please tell me about yours."),
    ),
    (
        "A {animal} is an animal.",
        "I like the {animal}.",
        "The {animal} is good. And you?",
        "Your {animal} is all right.",
    ),
    ("The {animal} is loud.", "There is nothing to say.", "It is a {animal}."),
    (14, 36),
)

COURTESIES = {"greeting": (GREETING,), "goodbye": (GOODBYE,), "thanks": (THANKS,), "talk": (TALK,)}

GRUMBLES = (
    "What do you want?",
    "Leave me in peace.",
    "I do not care.",
    "That is not my problem.",
    "I have no time for this.",
    "Go and bother somebody else.",
    "What a silly thing to say.",
    "I was asleep.",
    "Who cares?",
)
ASTRAY = (
    "There are turnips at the market.",
    "My left shoe is too small.",
    "The moon was round last week.",
    "Somebody should sweep the stairs.",
    "I once saw a goose on a roof.",
    "The soup was too salty.",
)
