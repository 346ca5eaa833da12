"""A noun agrees with its number."""

import pytest

from trivium.wording import counted


@pytest.mark.parametrize(
    ("number", "told"),
    [(0, "0 steps"), (1, "1 step"), (1.0, "1 step"), (0.3, "0.3 steps"), (2, "2 steps"), (2000, "2,000 steps")],
)
def test_only_one_of_a_thing_is_singular(number: float, told: str) -> None:
    assert counted(number, "step") == told
