"""Pairs and votes for the tests."""

from trivium.feedback.store import Choice, NewPair, NewVote, Store
from trivium.records import Message

PROMPT = (Message("user", "Where is Ada?"),)


def pair(number: int = 0, round: int = 1) -> NewPair:
    return NewPair(PROMPT, f"In the mill, {number}.", "I do not know.", round, "model-a", "model-b")


def filled(store: Store, pairs: int, round: int = 1) -> list[int]:
    return store.add_pairs([pair(number, round) for number in range(pairs)])


def vote(pair_id: int, rater_id: int, choice: Choice = "first", *, key: str = "", swapped: bool = False) -> NewVote:
    return NewVote(pair_id, rater_id, choice, key or f"{rater_id}/{pair_id}", shown_swapped=swapped, seconds=1.5)
