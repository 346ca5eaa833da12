"""The looks at the clock, by hand."""

import pytest

from trivium import plan

LOOK = plan.Look("pretrain", steps=100, begun=10.0, end=60.0)
EVEN = [0.5] * 25  # seconds of each step so far


@pytest.mark.parametrize(
    ("spent", "steps"),
    [
        (22.5, 100),  # 25 steps in 12.5 seconds, as was thought: 75 more fit into the 37.5 that are left
        (20.0, 125),  # .4 seconds a step
        (27.5, 71),  # .7 seconds a step
        (14.0, 150),  # far faster: no more than half as many again
        (70.0, 43),  # too late already: a fourth of what was to come
        (22.55, 100),  # 99.6: not worth another choice
    ],
)
def test_a_look_fits_the_steps_to_their_speed_so_far(spent: float, steps: int) -> None:
    assert LOOK.step == 25
    assert LOOK.steps_by(25, spent, EVEN) == steps


def test_looks_come_nearer_and_nearer_to_the_end() -> None:
    looks = [LOOK]
    while following := looks[-1].next(looks[-1].step, 100):
        looks.append(following)
    assert [look.step for look in looks] == [25, 40, 60, 80, 90]


def test_a_look_that_steps_have_passed_by_is_left_out() -> None:
    following = LOOK.next(50, 80)
    assert following
    assert (following.step, following.steps) == (64, 80)
    assert LOOK.next(75, 80) is None


def test_steps_that_have_become_slower_are_fewer() -> None:
    assert LOOK.steps_by(25, 22.5, [0.4] * 15 + [0.5] * 10) == 85  # a quarter more: .625 seconds a step from now on


def test_without_a_journal_all_steps_were_alike() -> None:
    assert LOOK.steps_by(25, 20.0, []) == LOOK.steps_by(25, 20.0, EVEN) == 125


def test_with_the_minutes_to_ask_for_a_stage_has_the_seconds_that_it_needs() -> None:
    machine = plan.Machine("a test machine", 2, 2**34, "bfloat16", 1e11)
    for through in ("pretrain", "measure"):
        dial = plan.Dial(minutes=1.0, open=[], machine=machine, spent=19.0, through=through)
        for stage in ("pretrain", "instruct"):
            asked = dial.minutes_with(stage, 60.0)
            longer = plan.Dial(asked / plan.share_through(through), [], machine, spent=19.0, through=through)
            assert longer.seconds_for(stage) == pytest.approx(60.0)
