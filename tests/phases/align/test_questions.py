"""What phase III asks, and what it is measured on."""

from trivium.phases.align.questions import prompts_of
from trivium.records import Dialogue, Message, Pair
from trivium.text.split import Split


def prompt(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def test_where_no_pair_of_a_side_has_a_prompt_the_dialogues_are_asked() -> None:
    """So there is something to measure on when all pairs are about one prompt."""
    dialogues = Split(
        [Dialogue((*prompt("learned"), Message("assistant", "yes")), "a")],
        [Dialogue((*prompt("measured"), Message("assistant", "yes")), "a")],
    )
    pair = Pair(prompt("Write a haiku"), "good", "bad", "p")
    bare = pair._replace(prompt=())
    for train, held_out, asked in (
        ([pair], [], ("Write a haiku", "measured")),
        ([pair], [bare], ("Write a haiku", "measured")),
        ([bare], [bare], ("learned", "measured")),
        ([pair, bare], [pair], ("Write a haiku", "Write a haiku")),
    ):
        found = [prompts_of(Split(train, held_out), dialogues, held_out=side) for side in (False, True)]
        assert tuple(each[0][0].content for each in found) == asked
