"""How the learning rate moves over a phase: a share of its peak, as a function of the step."""

from collections.abc import Sequence


def warmup_stable_decay(
    step: int, steps: int, *, warmup_steps: int, decay: float, aims: Sequence[tuple[int, int]] = ()
) -> float:
    """Rise linearly, hold, fall linearly to zero.

    step          0 to steps - 1
    warmup_steps  in steps, so that what was learned so far does not depend on how many are to come
    decay         share of the steps, 0 to 1
    aims          (step, steps): up to that step as though there were so many in all; a fall goes straight on from there
    returns       above 0, at most 1
    Hu et al. 2024, arXiv:2404.06395; linear to zero: Bergsma et al. 2025, arXiv:2502.15938
    """
    rising = (step + 1) / warmup_steps if warmup_steps else 1.0
    return min(rising, hold_and_fall(step, steps, decay, aims))


def hold_and_fall(step: int, steps: int, decay: float, aims: Sequence[tuple[int, int]]) -> float:
    """The same without the rise."""
    if not aims:
        return min(1.0, (1 - step / steps) / decay) if decay else 1.0
    *earlier, (turn, aimed) = aims
    if step < turn:
        return hold_and_fall(step, aimed, decay, earlier)
    there = hold_and_fall(turn, aimed, decay, earlier)
    if there == hold_and_fall(turn, steps, decay, ()) == 1.0:  # no fall has begun, nor would have
        return hold_and_fall(step, steps, decay, ())
    return there * (steps - step) / (steps - turn)


def aimed_at(done: int, steps: int, aims: Sequence[tuple[int, int]]) -> int:
    """Steps in all that the last of so many was taken towards."""
    return next((aimed for turn, aimed in aims if done <= turn), steps)
