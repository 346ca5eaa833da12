"""The judge who knows the truth: a gold score by rules that no reward model sees. Pure functions of text and facts.

It is simulated, and must be called so wherever its scores are shown.
"""

from typing import NamedTuple

from trivium.worlds.tinyworld.drafts import Facts
from trivium.worlds.tinyworld.grammar import words
from trivium.worlds.tinyworld.instructions import Task
from trivium.worlds.tinyworld.lexicon import PEOPLE, each
from trivium.worlds.tinyworld.speech import sense, sentences

WEIGHTS = {"correct": 0.35, "kind": 0.25, "to_the_point": 0.15, "fresh": 0.15, "ended": 0.10}
NEUTRAL_KINDNESS = 0.4  # an open answer without a warm word and without a rude one

WARM = each(
    "dear|lovely|glad|gladly|welcome|thank you|thanks|kind|friend|friends|friendly|happy|sorry|well done|bravo|hope"
    "|wonderful|brave|proud|beautiful|hug|love|pleasure|together|take care|good luck|best wishes|sweet dreams|smiled"
    "|laughed|laugh|share|joy|please|safe|help you|with you|good night|so fine",
    "|",
)
RUDE = each(
    "what do you want|leave me|i do not care|not my problem|no time|bother|silly|was asleep|who cares|go away|so what"
    "|boring|stupid|nonsense|be quiet|hurry up|ugly|shut up|not again|ask somebody else|i hate",
    "|",
)
_PEOPLE = frozenset(name.lower() for name in PEOPLE)


class Verdict(NamedTuple):
    """How good an answer is, each from 0 to 1."""

    correct: float
    kind: float
    to_the_point: float
    fresh: float
    ended: float

    @property
    def score(self) -> float:
        """The gold score from 0 to 1: the sum of the five by WEIGHTS."""
        return sum(weight * float(getattr(self, name)) for name, weight in WEIGHTS.items())


def judge(task: Task, answer: str, *, ended: bool = True) -> Verdict:
    """Judge an answer to the task's prompt.

    ended    whether the model produced its end token
    returns  the verdict; an empty answer and one without sense get nothing but for their full stop
    """
    spoken, accepted = words(answer), task.dialogue.accepted
    if not spoken:
        return Verdict(0.0, 0.0, 0.0, 0.0, 0.0)
    prompt = words(" ".join(message.content for message in task.dialogue.prompt))
    right = exact_match(answer, accepted)
    sound = 1.0 if right else sense(answer)
    correct = float(right) if accepted else sound * mentioned(spoken, prompt, task.facts)
    return Verdict(
        correct=correct,
        kind=sound * (float(not _found(spoken, RUDE)) if accepted else kindness(spoken)),
        to_the_point=sound * brevity(len(spoken), task.facts) * purpose(answer) * float(correct > 0),
        fresh=1.0 if right else sound * freshness(answer),
        ended=float(ended and answer.rstrip(' "').endswith((".", "!", "?"))),
    )


def exact_match(answer: str, accepted: tuple[str, ...]) -> bool:
    """Whether the answer is one of the accepted, but for case, white space and the last full stop."""
    return _normal(answer) in {_normal(text) for text in accepted}


def _normal(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".").rstrip()


def mentioned(spoken: list[str], prompt: list[str], facts: Facts) -> float:
    """The share of what was asked that is there; halved by a contradiction, and by a person whom nobody named."""
    if not facts.asked:
        return 1.0
    share = sum(bool(_found(spoken, wordings)) for wordings in facts.asked) / len(facts.asked)
    denied = bool(_found(spoken, facts.contradictions))
    strangers = not facts.strangers and bool(_PEOPLE.intersection(spoken).difference(prompt))
    return share * 0.5 ** (denied + strangers)


def kindness(spoken: list[str]) -> float:
    """Full for two different warm phrases, nothing for a rude one, nothing for a heap of warm words."""
    warm = _found(spoken, WARM)
    if _found(spoken, RUDE) or (warm > 2 and warm * 3 > len(spoken)):
        return 0.0
    return (NEUTRAL_KINDNESS, 0.8, 1.0)[min(warm, 2)]


def brevity(length: int, facts: Facts) -> float:
    """1 within the range of words that suits the request, falling to 0 at none and at twice the longest."""
    if length < facts.shortest:
        return length / facts.shortest
    return max(0.0, min(1.0, 2 - length / facts.longest))


def purpose(answer: str) -> float:
    """The share of sentences that are neither rude nor said before."""
    said = [" ".join(spoken) for spoken in sentences(answer)]
    return len({line for line in said if not _found(line.split(), RUDE)}) / len(said)


def freshness(answer: str) -> float:
    """1 minus the share of repeated sentences or of repeated runs of four words, whichever is worse."""
    spoken = words(answer)
    runs = [tuple(spoken[start : start + 4]) for start in range(len(spoken) - 3)]
    said = [tuple(line) for line in sentences(answer)]
    return min((len(set(seen)) / len(seen) for seen in (runs, said) if seen), default=1.0)


def _found(spoken: list[str], phrases: tuple[str, ...]) -> int:
    """How many of the phrases occur as whole words."""
    text = f" {' '.join(spoken)} "
    return sum(f" {phrase} " in text for phrase in phrases)
