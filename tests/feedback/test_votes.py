"""What the votes say, whom they favour, and what is asked next."""

import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.feedback.ballots import PROMPT, filled, pair, vote
from trivium.feedback.store import Choice, NewPair, Store, choice_of
from trivium.records import Pair

# Swapped: never


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_a_choice_is_about_the_answer_not_its_place(screens: list[tuple[bool, bool]]) -> None:
    for swapped, likes_first in screens:
        clicked = "left" if likes_first != swapped else "right"  # where the liked answer stands
        assert choice_of(clicked, shown_swapped=swapped) == ("first" if likes_first else "second")


def test_the_preference_is_for_the_liked_answer_however_it_was_shown(store: Store) -> None:
    chance = random.Random(3)
    store.add_pairs([NewPair(PROMPT, *chance.sample(["good", "bad"], 2), round=1, source=f"{i}") for i in range(2)])
    store.add_pairs([NewPair(PROMPT, "good", "bad", 1, f"m{i}") for i in range(10)])
    store.add_pairs([NewPair(PROMPT, "bad", "good", 1, f"m{i}") for i in range(10)])
    rater = store.add_rater("Ann")
    for asked in store.pairs(1):
        swapped = chance.random() < 0.5
        left, _ = asked.shown(swapped=swapped)
        choice = choice_of("left" if left == "good" else "right", shown_swapped=swapped)
        store.add_vote(vote(asked.id, rater.id, choice, swapped=swapped))
    assert {stored.shown_swapped for stored in store.votes()} == {True, False}
    assert {labelled.decided().chosen for labelled in store.labelled_pairs()} == {"good"}


def test_words_other_than_left_and_right_mean_the_same_on_every_screen() -> None:
    for swapped in (False, True):
        assert [choice_of(word, shown_swapped=swapped) for word in ("tie", "both_bad", "skip")] == [
            "tie",
            "both_bad",
            "skip",
        ]


def test_pairs_that_mirror_each_other_keep_their_own_order(store: Store) -> None:
    there = NewPair(PROMPT, "yes", "no", 1)
    back = NewPair(PROMPT, "no", "yes", 1)
    store.add_pairs([there, back])
    assert [(stored.first, stored.second) for stored in store.pairs()] == [("yes", "no"), ("no", "yes")]


# What the votes say


def test_the_preference_is_the_mean_of_the_votes_that_count(store: Store) -> None:
    ids = filled(store, 4)
    raters = [store.add_rater(name).id for name in ("Ann", "Bob", "Cyd", "Dan")]
    said: dict[int, list[Choice]] = {
        ids[0]: ["first", "first", "second", "skip"],
        ids[1]: ["tie", "both_bad"],
        ids[2]: ["skip", "skip"],
        ids[3]: ["second"],
    }
    store.add_votes(
        [
            vote(pair_id, rater, choice)
            for pair_id, choices in said.items()
            for rater, choice in zip(raters, choices, strict=False)
        ]
    )
    labelled = store.labelled_pairs()
    assert [(found.pair_id, found.preference, found.votes) for found in labelled] == [
        (ids[0], 2 / 3, 3),
        (ids[1], 0.5, 2),
        (ids[3], 0.0, 1),
    ]
    assert labelled[2].decided() == Pair(PROMPT, "I do not know.", "In the mill, 3.", "sampled")
    assert labelled[1].decided().tie


def test_labelled_pairs_are_of_the_asked_rounds(store: Store) -> None:
    rater = store.add_rater("Ann")
    for round in (1, 2, 3):
        (pair_id,) = store.add_pairs([pair(round, round)])
        store.add_vote(vote(pair_id, rater.id))
    assert [labelled.round for labelled in store.labelled_pairs([1, 3])] == [1, 3]
    assert len(store.labelled_pairs()) == len(store.votes()) == 3
    assert [len(store.votes(2)), len(store.pairs(2)), len(store.labelled_pairs([]))] == [1, 1, 0]


def test_simulated_votes_are_marked_and_can_be_left_out(store: Store) -> None:
    ids = filled(store, 2)
    ann, judge = store.add_rater("Ann"), store.add_rater("simulated judge", simulated=True)
    store.add_votes([vote(ids[0], ann.id), vote(ids[0], judge.id, "second"), vote(ids[1], judge.id)])
    assert [(labelled.preference, labelled.simulated) for labelled in store.labelled_pairs()] == [
        (0.5, True),
        (1.0, True),
    ]
    assert [
        (labelled.preference, labelled.simulated) for labelled in store.labelled_pairs(include_simulated=False)
    ] == [(1.0, False)]


def test_counts_add_up(store: Store) -> None:
    ids = filled(store, 3)
    ann, judge = store.add_rater("Ann"), store.add_rater("simulated judge", simulated=True)
    store.add_votes([vote(ids[0], ann.id), vote(ids[1], ann.id, "skip"), vote(ids[0], judge.id)])
    counts = store.counts()
    assert (counts.pairs, counts.raters, counts.simulated_raters, counts.votes, counts.simulated_votes) == (
        3,
        2,
        1,
        3,
        1,
    )
    assert counts.choices == {"first": 2, "second": 0, "tie": 0, "both_bad": 0, "skip": 1}


def test_the_fingerprint_names_the_content_and_nothing_else(tmp_path: Path) -> None:
    prints = []
    for name, order, last in (("a", [0, 1, 2], "tie"), ("b", [2, 0, 1], "tie"), ("c", [0, 1, 2], "first")):
        with Store.open(tmp_path / name) as store:
            empty = store.fingerprint()
            store.add_pairs([pair(number) for number in order])
            rater = store.add_rater("Ann")
            for stored in store.pairs():
                choice: Choice = "first" if stored.first != "In the mill, 2." else last  # type: ignore[assignment]
                store.add_vote(vote(stored.id, rater.id, choice))
            prints.append(store.fingerprint())
            assert store.fingerprint([9]) == empty != prints[-1]
    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 16
