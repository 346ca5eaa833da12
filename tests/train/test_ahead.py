"""Batches made ahead are the batches of their steps, in order; what goes wrong goes wrong when its step is due."""

import threading
import time

import pytest
import torch

from trivium.batch import TokenBatch
from trivium.train.ahead import DEPTH, drawn_ahead


def batches(step: int) -> list[TokenBatch]:
    """Odd steps take longer, so that a crowd of threads would overtake itself."""
    time.sleep(0.002 * (step % 2))
    tokens = torch.full((2, 3), step)
    return [TokenBatch(tokens, tokens, tokens > 0, tokens, tokens)]


def test_batches_made_ahead_are_those_of_the_steps_in_their_order() -> None:
    found = [int(made[0].tokens[0, 0]) for made in drawn_ahead(batches, range(3, 20))]
    assert found == list(range(3, 20))


def test_no_more_than_a_few_steps_are_made_ahead() -> None:
    made: list[int] = []
    stream = drawn_ahead(lambda step: made.append(step) or batches(step), range(100))
    next(stream)
    time.sleep(0.1)
    assert made == list(range(1 + DEPTH))
    stream.close()  # type: ignore[attr-defined]


def test_what_a_step_raises_is_raised_when_that_step_is_due() -> None:
    def broken(step: int) -> list[TokenBatch]:
        if step == 2:
            raise ValueError("two")
        return batches(step)

    stream = drawn_ahead(broken, range(5))
    assert [int(next(stream)[0].tokens[0, 0]) for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(stream)


def test_a_stream_that_is_given_up_leaves_no_thread() -> None:
    stream = drawn_ahead(batches, range(100))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("batches") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
