"""Echoes: what is asked can be looked up in the row itself, and nothing else is asked."""

import numpy as np

from trivium.text.echoes import LONG, SHORT, SHORT_UNTIL, echo_batch

TAG = 0
TEXT = np.arange(1, 2001, dtype=np.int32)  # each token once: a passage never says a word twice by itself


def batch(step: int, steps: int = 100, rows: int = 6, text=TEXT):
    return echo_batch(text, TAG, rows, 256, seed=3, step=step, steps=steps)


def segments(found):
    for row in range(len(found.tokens)):
        for number in found.documents[row].unique():
            here = found.documents[row] == number
            yield found.tokens[row][here], found.targets[row][here], found.supervised[row][here]


def test_what_followed_last_time_is_asked_and_it_stands_in_the_segment():
    for step in (0, 99):
        for tokens, targets, supervised in segments(batch(step)):
            assert tokens[0] == TAG
            assert not supervised[0]
            for place in np.flatnonzero(supervised):
                before = tokens[:place].tolist().index(int(tokens[place]))  # the word at hand was said before
                assert targets[place] == tokens[place + 1] == tokens[before + 1]


def test_all_of_the_second_time_is_asked_but_its_last_word():
    found = batch(0)
    first = int(np.flatnonzero(found.documents[0] > 0)[0])  # where the second segment begins
    size = (first - 1) // 2
    assert found.tokens[0, 1 : size + 1].tolist() == found.tokens[0, size + 1 : first].tolist()
    assert found.supervised[0, :first].tolist() == [False] * (size + 1) + [True] * (size - 1) + [False]


def test_passages_stand_in_the_text_and_are_short_at_first():
    for step, (shortest, longest) in [(0, SHORT), (int(100 * SHORT_UNTIL), LONG)]:
        sizes = set()
        for tokens, _, supervised in segments(batch(step, rows=40)):
            if supervised.any():
                size = int(np.flatnonzero(supervised)[0]) - 1
                assert (tokens[2 : size + 1] - tokens[1:size] == 1).all()
                sizes.add(size)
        assert min(sizes) == shortest
        assert max(sizes) == longest


def test_a_step_is_the_same_whenever_it_is_asked_for_and_steps_differ():
    assert all((a == b).all() for a, b in zip(batch(7), batch(7), strict=True))
    assert (batch(7).tokens != batch(8).tokens).any()


def test_positions_start_anew_at_each_segment():
    found = batch(60)
    for row in range(6):
        for number in found.documents[row].unique():
            here = found.documents[row] == number
            assert found.positions[row][here].tolist() == list(range(int(here.sum())))


def test_a_text_shorter_than_a_passage_is_said_whole():
    found = batch(99, text=TEXT[:5])
    assert found.tokens[0, :11].tolist() == [TAG, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5]
