"""Open requests of somebody who is sad, happy or at a loss: comfort, joy, advice."""

from trivium.worlds.tinyworld.request import Request

SORROWS = (
    Request(
        (
            "I am sad because I lost my {thing}.",
            "My {look} {thing} is broken and I am sad.",
            "I am {name}. My {thing} is gone.",
        ),
        ("{thing}", "sorry|sad|poor you"),
        (
            (
                "I am so sorry about your {thing}.",
                "Oh dear, your {thing}! I am sorry.",
                "Poor you, and your poor {thing}!",
            ),
            ("It is all right to be sad.", "I know how dear it was to you.", "A hug for you first."),
            ("Shall we look what we can do together?", "Tomorrow will be kinder, I hope.", "I will stay with you."),
        ),
        ("Sorry about the {thing}.", "That is sad.", "You can get another {thing}.", "Look again for the {thing}."),
        ("It was only a {thing}.", "A {thing} is a {thing}.", "Things get lost."),
        (10, 30),
        ("how nice", "how lovely", "good news"),
    ),
    Request(
        ("I am lonely. Everybody went {to}.", "I am {name} and I am lonely {at}.", "Nobody plays with me {at}."),
        ("{place}", "lonely|alone|with you|together"),
        (
            (
                "Being lonely {at} is hard, my dear.",
                "Oh, all alone, and the others at the {place}!",
                "I am sorry that you are lonely near the {place}.",
            ),
            ("I am here with you now.", "Let us do something lovely together.", "You are not alone, I am your friend."),
            ("Would you like to hear a story?", "I hope that we can laugh soon.", "Tell me what would make you happy."),
        ),
        (
            "You are not alone.",
            "Go to the {place} too.",
            "They will come back from the {place}.",
            "Being lonely is not nice.",
        ),
        ("The {place} is full anyway.", "So stay at home.", "People go to the {place}."),
        (12, 32),
        ("how nice", "good news"),
    ),
    Request(
        (
            "I am angry. {name} broke my {thing}!",
            "{name} took my {thing} and I am angry.",
            "I am so angry about {name} and my {thing}!",
        ),
        ("{name}", "angry", "{thing}"),
        (
            (
                "I am sorry, I would be angry too about the {thing}.",
                "Of course you are angry, dear friend, it was your {thing}.",
            ),
            (
                "Perhaps {name} is sorry already.",
                "Talk with {name} when you are calm.",
                "I hope that {name} will make it good again.",
            ),
            ("Take a slow breath with me.", "I am glad that you told me.", "You two were good friends before."),
        ),
        (
            "Talk to {name} about the {thing}.",
            "Being angry does not help.",
            "Ask {name} for the {thing}.",
            "It is only a {thing}.",
        ),
        ("That is like {name}.", "A {thing} can break.", "People take things."),
        (14, 34),
        ("how nice", "good news"),
    ),
    Request(
        (
            "I am afraid of the {fear}.",
            "I am {name} and I am afraid of the {fear}.",
            "I cannot sleep. I am afraid of the {fear}.",
        ),
        ("{fear}", "afraid|brave|safe"),
        (
            (
                "Many brave people are afraid of the {fear}.",
                "You are safe from the {fear} with me, dear.",
                "The {fear} sounds big, but you are safe here.",
            ),
            (
                "I am glad that you told me.",
                "Hold my hand, I will stay with you.",
                "Let us sing something lovely together.",
            ),
            ("Soon it will be over.", "In the morning we will laugh about it.", "I am proud of you."),
        ),
        ("The {fear} will not hurt you.", "You are safe.", "Do not be afraid of the {fear}.", "It is safe here."),
        ("The {fear} is the {fear}.", "That is how it is.", "There is always a {fear} somewhere."),
        (12, 30),
        ("how nice", "good news"),
    ),
)

JOYS = (
    Request(
        (
            "I am happy! I found my {thing}.",
            "I am {name} and today I got {a_thing}!",
            "Look, I have {a_thing}! I am so happy.",
        ),
        ("{thing}", "happy|glad|joy"),
        (
            (
                "How wonderful that you have your {thing}!",
                "A {thing}, how lovely!",
                "That is good news about the {thing}!",
            ),
            ("I am so happy for you.", "Your joy makes me glad.", "I am glad with you, my friend."),
            ("Will you show it to me?", "Take good care of it.", "Let us dance around the table together."),
        ),
        ("I am glad.", "That is a good {thing}.", "Good that you have the {thing}.", "I am happy about it."),
        ("It is only a {thing}.", "Many people have a {thing}.", "Well, well."),
        (10, 30),
        ("sad", "poor you"),
    ),
    Request(
        (
            "I am proud. I won the contest {at}!",
            "I am {name} and I won the prize {at}!",
            "Today I helped everybody {at}, and I am proud.",
        ),
        ("{place}", "proud|well done|bravo"),
        (
            ("Well done, my friend!", "Bravo, how wonderful!", "I am so proud of you!"),
            (
                "Everybody {at} must be glad.",
                "They will tell of it {at} for years.",
                "I hope that the whole {place} cheered.",
            ),
            ("You worked hard for it.", "I would love to hear more.", "Tonight we will drink to you together."),
        ),
        ("Well done.", "Well done {at}.", "Bravo.", "You can be proud."),
        ("The {place} is small.", "Somebody had to.", "There is always something {at}."),
        (12, 30),
        ("sad", "poor you"),
    ),
)


def _advice(question: str, asked: str, *tips: str, plain: tuple[str, str], half: str) -> Request:
    return Request(
        (question, f"I am {{name}}. {question}", f"Please help me. {question}", f"{{name}} asks: {question}"),
        (asked, "try|take|ask|give|go to|sit|bring|put|drink|read|wear"),
        (
            ("That is a good question, my dear.", "I am glad that you asked.", "I will help you gladly."),
            tips,
            ("I am sure that it will go well.", "Good luck, my friend!", "I hope that it helps."),
        ),
        plain,
        (half,),
        (8, 34),
    )


ADVICE = (
    _advice(
        "How can I sleep better?",
        "sleep|bed|night",
        "Drink some warm milk and go to bed early.",
        "Read a quiet story before you go to sleep.",
        "Put away your work and sit at the window until the night comes.",
        plain=("Go to bed early.", "Drink milk."),
        half="Sleep is for the night.",
    ),
    _advice(
        "How do I make a new friend?",
        "friend|friends",
        "Sit beside somebody who is alone, and a friend may begin there.",
        "Try to share what you have and to say a friendly word, and you will soon have a friend.",
        "Ask what the other one likes to play, and a friend is not far.",
        plain=("Ask somebody to be your friend.", "Ask for a name."),
        half="People come and go.",
    ),
    _advice(
        "What can I do on a rainy day?",
        "rain|rainy|inside|puddles",
        "Put on your boots and try every puddle, for rain is only water.",
        "On a rainy day, sit by the stove and read a long book.",
        "Try to bake something sweet while the rain sings.",
        plain=("Sit inside.", "Read a book."),
        half="Rain is wet.",
    ),
    _advice(
        "What should I give {other} for a birthday?",
        "{other}",
        "Give {other} something that you made with your own hands.",
        "Bring {other} a cake and sing a song with it.",
        "Ask what {other} dreams of, and give a small piece of that.",
        plain=("Give {other} a cake.", "Give something small."),
        half="So {other} has a birthday.",
    ),
    _advice(
        "I was rude to {other}. What now?",
        "{other}",
        "Go to {other} and say that you are sorry.",
        "Take {other} a flower and say one kind word.",
        "Sit down with {other} and say what was wrong.",
        plain=("Go to {other} and say sorry.", "Try to say sorry."),
        half="Well, {other} can be rude too.",
    ),
    _advice(
        "My hands are cold. What helps?",
        "hands",
        "Put your hands around a cup of hot tea.",
        "Wear mittens and give your hands to a friend.",
        "Take your hands to the oven at the bakery.",
        plain=("Put your hands in your pockets.", "Wear mittens."),
        half="It is winter.",
    ),
    _advice(
        "How can I learn to play the {tune}?",
        "{tune}",
        "Take the {tune} every day for a little while, and be kind to yourself.",
        "Ask somebody who plays the {tune} to show you one easy song.",
        "Try the {tune} slowly, and laugh when it goes wrong.",
        plain=("Try the {tune} every day.", "Ask a teacher."),
        half="The {tune} is loud.",
    ),
    _advice(
        "What should I cook with {fruit}?",
        "{fruit}",
        "Try a sweet cake with {fruit} on top.",
        "Put the {fruit} into a warm pudding and share it.",
        "Bring the {fruit} to the cook and bake a pie together.",
        plain=("Put the {fruit} in a cake.", "Try a pie."),
        half="I never eat {fruit}.",
    ),
)

FEELINGS = {"comfort": SORROWS, "rejoice": JOYS, "advice": ADVICE}
