"""Raters are told apart by what they do, and nothing is flagged that its interval does not bear out."""

import random

import pytest

from trivium.feedback.raters import Assessment, assess_raters
from trivium.feedback.votes import Choice, Vote


def cast(
    rater: int, pair: int, choice: Choice, *, swapped: bool = False, seconds: float = 4.0, repeat: int = 0
) -> Vote:
    number = 10_000 * rater + 2 * pair + repeat
    return Vote(
        number, pair, rater, choice, swapped, seconds, "", "", str(number), repeat, 0, f"rater {rater}", False, None
    )


def crowd(habit: str, pairs: int = 200) -> dict[str, Assessment]:
    """Three careful raters and a fourth with a habit, on pairs whose first answer is better in half of them."""
    chance = random.Random(3)
    truth: dict[int, Choice] = {pair: chance.choice(("first", "second")) for pair in range(pairs)}
    wrong: dict[Choice, Choice] = {"first": "second", "second": "first"}
    votes = []
    for pair in range(pairs):
        for rater in range(1, 5):
            swapped, choice, seconds = chance.random() < 0.5, truth[pair], 4.0
            if chance.random() < 0.1:
                choice = wrong[choice]
            if rater == 4 and habit == "left":
                choice = "second" if swapped else "first"
            if rater == 4 and habit == "hasty":
                seconds = 0.4
            if rater == 4 and (habit == "contrary" or (habit == "tired" and pair > pairs / 2)):
                choice = wrong[truth[pair]]
            votes.append(cast(rater, pair, choice, swapped=swapped, seconds=seconds))
            if pair % 5 == 0:
                if rater == 4 and habit == "left":
                    choice = wrong[choice]  # the sides are exchanged
                again: Choice = chance.choice(("first", "second")) if habit == "fickle" and rater == 4 else choice
                votes.append(cast(rater, pair, again, swapped=not swapped, repeat=1))
    known = {pair: truth[pair] for pair in range(0, pairs, 4)}
    return {found.rater: found for found in assess_raters(votes, known)}


@pytest.mark.parametrize(
    ("habit", "flags"),
    [
        ("none", set()),
        ("left", {"side", "known", "consistency"}),
        ("hasty", {"speed"}),
        ("contrary", {"agreement", "known"}),
        ("tired", {"drift", "known"}),
        ("fickle", {"consistency"}),
    ],
)
def test_a_habit_is_flagged_with_its_reason_and_careful_raters_are_not(habit: str, flags: set[str]) -> None:
    found = crowd(habit)
    assert {flag.kind for flag in found["rater 4"].flags} == flags
    assert all(flag.reason for flag in found["rater 4"].flags)
    assert [found[f"rater {number}"].flags for number in (1, 2, 3)] == [[], [], []]


def test_shares_are_those_counted_by_hand() -> None:
    votes = [
        cast(1, 1, "first"),
        cast(1, 2, "tie"),
        cast(1, 3, "second", swapped=True),
        cast(1, 4, "skip"),
        cast(1, 1, "second", repeat=1),
        cast(2, 1, "first"),
        cast(2, 2, "second"),
        cast(3, 2, "tie"),
    ]
    found = assess_raters(votes, {1: "first", 3: "first"})[0]
    assert (found.votes, found.skips) == (4, 1)
    assert found.agreement is not None
    assert found.agreement.rate == pytest.approx((1 + 1 / 2) / 2)
    assert found.consistency is not None
    assert found.consistency.rate == 0
    assert found.known_right is not None
    assert found.known_right.rate == pytest.approx(1 / 3)
    assert found.left is not None
    assert found.left.rate == pytest.approx(2 / 3)
    assert found.ties is not None
    assert found.ties.rate == 1 / 4
    assert found.flags == []  # so few votes say nothing


def test_a_rater_alone_is_compared_with_nobody() -> None:
    (found,) = assess_raters([cast(1, pair, "first", swapped=pair % 2 == 0) for pair in range(40)], {})
    assert (found.agreement, found.consistency, found.known_right, found.drift, found.flags) == (None,) * 4 + ([],)


def test_of_votes_that_were_cast_elsewhere_no_side_is_told() -> None:
    votes = [cast(1, pair, "first", seconds=0.0) for pair in range(60)]
    (found,) = assess_raters(votes, {})
    assert found.left is None
    assert found.flags == []
