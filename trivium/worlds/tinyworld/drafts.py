"""What every kind of instruction returns before it becomes a task, and the facts that the judge will need."""

from typing import NamedTuple


class Facts(NamedTuple):
    """What a good answer has to do. Checkable answers need none of it but the length."""

    shortest: int  # words
    longest: int  # words
    asked: tuple[tuple[str, ...], ...] = ()  # what must be mentioned; each in any one of several wordings
    contradictions: tuple[str, ...] = ()  # words that would deny what the prompt told
    strangers: bool = False  # whether people may appear whom the prompt did not name


class Draft(NamedTuple):
    turns: tuple[str, ...]  # user and assistant by turns, ending with the assistant's answer
    accepted: tuple[str, ...]  # empty when the answer is open
    facts: Facts
    combinations: tuple[tuple[str, ...], ...]  # what is held out together; the first one decides the answer


def checkable(
    turns: tuple[str, ...], accepted: tuple[str, ...], combinations: tuple[tuple[str, ...], ...] = ()
) -> Draft:
    """A draft whose answer is the first accepted one; the prompt itself is what is held out unless said otherwise."""
    longest = max(len(answer.split()) for answer in accepted)
    return Draft((*turns, accepted[0]), accepted, Facts(1, longest), combinations or (turns,))
