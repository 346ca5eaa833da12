"""Echoes: what is asked can be looked up in the row itself, and nothing else is asked."""

import numpy as np
import pytest

from trivium.text.echoes import BEFORE_SHARE, FIRST_LESSON, Tags, echo_batch, word_frequencies

TAGS = Tags(before=1, after=0)
FREQUENCIES = np.array([0, 0, *[1 / 500] * 500])


def batch(step: int, steps: int = 100, rows: int = 6):
    return echo_batch(FREQUENCIES, TAGS, rows, 256, seed=3, step=step, steps=steps)


def segments(found):
    for row in range(len(found.tokens)):
        for number in found.documents[row].unique():
            here = found.documents[row] == number
            yield found.tokens[row][here], found.targets[row][here], found.supervised[row][here]


def test_the_first_lesson_asks_only_for_the_word_before():
    for tokens, targets, supervised in segments(batch(0)):
        assert tokens[0] == TAGS.before
        assert (targets[1:] == tokens[:-1])[supervised[1:]].all()
        assert not supervised[:2].any()  # before the first word stands only the tag


def test_then_what_followed_last_time_is_asked_and_it_stands_in_the_segment():
    echoes = [part for part in segments(batch(99)) if part[0][0] == TAGS.after]
    assert echoes
    for tokens, targets, supervised in echoes:
        for place in np.flatnonzero(supervised):
            said = tokens[:place].tolist()
            assert targets[place] == tokens[place + 1]
            assert int(tokens[place]) in said  # the word at hand was said before


def test_both_lessons_are_mixed_after_the_first():
    tags = [int(part[0][0]) for step in range(int(100 * FIRST_LESSON), 100, 5) for part in segments(batch(step))]
    assert tags.count(TAGS.before) / len(tags) == pytest.approx(BEFORE_SHARE, abs=0.1)


def test_a_step_is_the_same_whenever_it_is_asked_for_and_steps_differ():
    assert all((a == b).all() for a, b in zip(batch(7), batch(7), strict=True))
    assert (batch(7).tokens != batch(8).tokens).any()


def test_positions_start_anew_at_each_segment_and_no_word_of_frequency_zero_is_said():
    found = batch(60)
    for row in range(6):
        for number in found.documents[row].unique():
            here = found.documents[row] == number
            assert found.positions[row][here].tolist() == list(range(int(here.sum())))
    plain = found.tokens[found.positions > 0]
    assert plain.min() >= 2


def test_frequencies_sum_to_one_without_what_is_left_out():
    shares = word_frequencies(np.array([0, 3, 3, 2], dtype=np.int32), 5, without=[0])
    assert shares.tolist() == [0, 0, 1 / 3, 2 / 3, 0]
