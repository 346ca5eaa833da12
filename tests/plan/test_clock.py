"""The looks at the clock, by hand."""

import pytest

from trivium import plan

LOOK = plan.Look("pretrain", steps=100, flat=0.5, begun=10.0, end=60.0)


@pytest.mark.parametrize(
    ("spent", "steps"),
    [
        (22.5, 100),  # 25 steps in 12.5 seconds, as was thought: 75 more fit into the 37.5 that are left
        (20.0, 125),  # .4 seconds a step
        (27.5, 71),  # .7 seconds a step
        (14.0, 150),  # far faster: no more than half as many again
        (70.0, 50),  # too late already: so many that the learning rate had not begun to fall
    ],
)
def test_a_look_fits_the_steps_to_their_speed_so_far(spent: float, steps: int) -> None:
    assert LOOK.step == 25
    assert LOOK.steps_by(spent) == steps


def test_one_more_look_comes_just_before_the_learning_rate_may_fall() -> None:
    last = LOOK.next(80)
    assert last
    assert last.step == 32 <= last.flat * last.steps_by(1e9)
    assert last.steps_by(26.0) == 100  # 32 steps in 16 seconds: 68 more in the 34 that are left
    assert last.next(80) is None


def test_no_other_look_comes_where_the_learning_rate_falls_early() -> None:
    assert plan.Look("pretrain", steps=100, flat=0.25, begun=10.0, end=60.0).next(100) is None


def test_steps_that_have_become_slower_are_fewer() -> None:
    assert LOOK.steps_by(22.5, [0.4] * 15 + [0.5] * 10) == 85  # a quarter more: .625 seconds a step from now on
    assert LOOK.steps_by(22.5, [0.5] * 25) == LOOK.steps_by(22.5, [9.0]) == LOOK.steps_by(22.5)


def test_with_the_minutes_to_ask_for_a_stage_has_the_seconds_that_it_needs() -> None:
    machine = plan.Machine("a test machine", 2, 2**34, "bfloat16", 1e11)
    for through in ("pretrain", "measure"):
        dial = plan.Dial(minutes=1.0, open=[], machine=machine, spent=19.0, through=through)
        for stage in ("pretrain", "instruct"):
            asked = dial.minutes_with(stage, 60.0)
            longer = plan.Dial(asked / plan.share_through(through), [], machine, spent=19.0, through=through)
            assert longer.seconds_for(stage) == pytest.approx(60.0)
