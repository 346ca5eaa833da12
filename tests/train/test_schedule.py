"""The learning rate rises, holds and falls: its corners."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.train.schedule import aimed_at, warmup_stable_decay


def rates(steps: int, warmup_steps: int, decay: float) -> list[float]:
    return [warmup_stable_decay(step, steps, warmup_steps=warmup_steps, decay=decay) for step in range(steps)]


def test_the_corners_of_a_rise_in_two_steps_and_a_fall_over_two_fifths() -> None:
    assert rates(10, 2, 0.4) == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_without_rise_and_fall_it_is_always_at_its_peak() -> None:
    assert rates(10, 0, 0.0) == [1.0] * 10


def test_rise_and_fall_may_overlap_and_then_the_lower_counts() -> None:
    assert rates(4, 4, 1.0) == pytest.approx([0.25, 0.5, 0.5, 0.25])


def test_from_where_another_end_is_aimed_at_it_falls_straight_there() -> None:
    def rate(step: int, *aims: tuple[int, int], steps: int) -> float:
        return warmup_stable_decay(step, steps, warmup_steps=0, decay=0.5, aims=aims)

    assert [rate(step, (6, 8), steps=10) for step in range(10)] == pytest.approx(
        [1, 1, 1, 1, 1, 0.75, 0.5, 0.375, 0.25, 0.125]
    )
    assert [rate(step, (6, 8), (8, 10), steps=9) for step in range(9)] == pytest.approx(
        [1, 1, 1, 1, 1, 0.75, 0.5, 0.375, 0.25]
    )
    assert [rate(step, (2, 8), steps=4) for step in range(4)] == pytest.approx([1, 1, 1, 0.5])
    assert [rate(step, (3, 8), steps=4) for step in range(4)] == pytest.approx([1, 1, 1, 1])  # and then none


def test_a_turn_before_any_fall_leaves_no_trace() -> None:
    def rates_by(*aims: tuple[int, int]) -> list[float]:
        return [warmup_stable_decay(step, 12, warmup_steps=2, decay=0.5, aims=aims) for step in range(12)]

    assert rates_by((2, 8), (4, 9)) == rates_by((2, 8)) == rates_by() == rates(12, 2, 0.5)


def test_each_step_is_taken_towards_the_end_that_was_chosen_then() -> None:
    assert [aimed_at(done, 7, [(2, 8), (5, 9)]) for done in range(1, 8)] == [8, 8, 9, 9, 9, 7, 7]


@given(st.integers(3, 500), st.data())
def test_what_was_done_before_a_turn_is_what_it_would_have_been_without(first: int, data: st.DataObject) -> None:
    turn = data.draw(st.integers(1, first - 1))
    steps = data.draw(st.integers(turn + 1, 600))
    rates = [warmup_stable_decay(s, steps, warmup_steps=0, decay=0.5, aims=[(turn, first)]) for s in range(steps)]
    before = [warmup_stable_decay(s, first, warmup_steps=0, decay=0.5) for s in range(turn)]
    assert rates[:turn] == before
    assert all(0 < rate <= 1 for rate in rates)
    assert rates == sorted(rates, reverse=True)


@given(st.integers(1, 1000), st.integers(0, 2000), st.floats(0, 1))
def test_no_step_is_wasted_and_none_is_above_the_peak(steps: int, warmup_steps: int, decay: float) -> None:
    assert all(0 < rate <= 1 for rate in rates(steps, warmup_steps, decay))


@given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 500), st.floats(0.01, 0.99))
def test_before_the_fall_it_does_not_depend_on_how_many_steps_there_are(
    one: int, other: int, warmup_steps: int, decay: float
) -> None:
    flat = int((1 - decay) * min(one, other))
    assert rates(one, warmup_steps, decay)[:flat] == rates(other, warmup_steps, decay)[:flat]
