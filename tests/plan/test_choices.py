"""The smaller choices of the dial."""

import pytest

from trivium import plan


@pytest.mark.parametrize(
    ("steps", "world", "echoes"),
    [
        (571, True, 0),
        (572, True, 200),
        (686, True, 240),
        (914, True, 240),
        (915, True, 320),
        (10**6, True, 320),
        (10**6, False, 0),
    ],
)
def test_passages_are_said_twice_in_runs_that_have_time_for_it_on_text_that_asks_about_them(
    steps: int, world: bool, echoes: int
) -> None:
    assert plan.choose_echoes(steps, world=world) == echoes
