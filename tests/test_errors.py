"""The errors a user can meet: each has its place, and points to the nearest name."""

from typing import Any

import pytest

from trivium import errors
from trivium.cli import complain
from trivium.errors import did_you_mean


def test_every_error_is_one_a_user_can_do_something_about() -> None:
    named = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, BaseException)]
    assert len(named) == 9
    assert all(issubclass(error, errors.TriviumError | errors.Interrupted) for error in named)
    assert all(error.__doc__ for error in named)


def test_the_nearest_name_is_offered_and_a_far_one_is_not() -> None:
    known = ["pretrain.learning_rate", "pretrain.steps"]
    assert did_you_mean("pretrain.learning_rte", known) == "; did you mean pretrain.learning_rate?"
    assert did_you_mean("colour", known) == ""
    assert did_you_mean("colour", []) == ""


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (errors.ConfigError("a = 1: b;\n  try 2"), 2, "ConfigError: a = 1: b; try 2\n"),
        (errors.Interrupted("stopped"), 130, "trivium: stopped\n"),
    ],
)
def test_a_complaint_is_one_line(error: Any, code: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complain(error, code) == code
    assert capsys.readouterr() == ("", told)
