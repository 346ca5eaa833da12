"""The learning rate rises, holds and falls: its corners."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.train.schedule import warmup_stable_decay

shares = st.floats(0, 1)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.5, 1.0), (0.6, 1.0), (0.8, 0.5), (0.9, 0.25), (1.0, 0.0)],
)
def test_the_corners_of_a_rise_over_a_fifth_and_a_fall_over_two(progress: float, expected: float) -> None:
    assert warmup_stable_decay(progress, warmup=0.2, decay=0.4) == pytest.approx(expected, abs=1e-6)


def test_without_rise_and_fall_it_is_always_at_its_peak() -> None:
    assert [warmup_stable_decay(p / 10, warmup=0, decay=0) for p in range(10)] == [1.0] * 10


def test_rise_and_fall_may_overlap_and_then_the_lower_counts() -> None:
    assert warmup_stable_decay(0.5, warmup=1.0, decay=1.0) == pytest.approx(0.5)
    assert warmup_stable_decay(0.25, warmup=1.0, decay=1.0) == pytest.approx(0.25)


@given(shares, shares, shares)
def test_it_is_a_share_of_the_peak(progress: float, warmup: float, decay: float) -> None:
    assert 0 <= warmup_stable_decay(progress, warmup=warmup, decay=decay) <= 1


@given(st.integers(1, 10_000), shares, shares)
def test_no_step_but_the_first_is_wasted(steps: int, warmup: float, decay: float) -> None:
    """The first step's rate may round to nothing, the last one's never does."""
    assert warmup_stable_decay((steps - 1) / steps, warmup=warmup, decay=decay) > 0
