"""What phase III asks: prompts from a world whose judge knows the truth, or from pairs on file, where none does."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from trivium.config import Recipe
from trivium.records import Dialogue, Message, Pair
from trivium.text.split import Split
from trivium.worlds import tinyworld

Gold = Callable[[str, bool], float]  # (answer, ended) -> what the answer is truly worth


class Question(NamedTuple):
    prompt: tuple[Message, ...]
    gold: Gold | None  # None where nobody knows
    expected: tuple[str, ...] = ()  # answers that are right; empty where nobody knows


Questions = Callable[[int], Question]  # the i-th question, without end


def world_questions(recipe: Recipe, *, held_out: bool) -> Questions:
    """TinyWorld's prompts, each with its judge."""

    def question(index: int) -> Question:
        task = tinyworld.prompts(recipe.seed + 1, index, held_out=held_out)

        def gold(answer: str, ended: bool) -> float:
            return tinyworld.judge(task, answer, ended=ended).score

        return Question(task.dialogue.prompt, gold, task.dialogue.accepted)

    return question


def prompts_of(pairs: Split[Pair], dialogues: Split[Dialogue], *, held_out: bool) -> list[tuple[Message, ...]]:
    """Of the pairs that have one; where no pair of that side has, of the dialogues.

    A text by itself is no answer to a question.
    """
    found = [pair.prompt for pair in (pairs.held_out if held_out else pairs.train) if pair.prompt]
    return found or [each.prompt for each in (dialogues.held_out if held_out else dialogues.train)]


Expected = Mapping[tuple[Message, ...], tuple[str, ...]]  # prompt → the answers that are right


def known_answers(dialogues: Iterable[Dialogue]) -> Expected:
    """What is right, by prompt: any of the accepted answers, or the only one there is."""
    return {dialogue.prompt: dialogue.accepted or (dialogue.answer,) for dialogue in dialogues}


def listed_questions(prompts: Sequence[tuple[Message, ...]], expected: Expected | None = None) -> Questions:
    """The different prompts of a list, again and again."""
    different, known = list(dict.fromkeys(prompts)), expected or {}

    def question(index: int) -> Question:
        prompt = different[index % len(different)]
        return Question(prompt, None, known.get(prompt, ()))

    return question
