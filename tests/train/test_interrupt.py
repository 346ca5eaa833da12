"""Ctrl-C and SIGTERM: at once where nothing would be lost, between two steps where there is something to save."""

import os
import signal
import threading

import pytest

from trivium.errors import Interrupted
from trivium.train.interrupt import Interrupt, listen

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def ask(number: int) -> None:
    os.kill(os.getpid(), number)


@BOTH
def test_a_request_stops_at_once_and_says_how_to_go_on(number: int) -> None:
    with pytest.raises(Interrupted, match="the same command goes on"), listen():
        ask(number)


@BOTH
def test_while_deferred_a_request_is_only_noted_and_then_heard_at_the_end(number: int) -> None:
    reached = False
    with pytest.raises(Interrupted), listen() as interrupt, interrupt.deferred():
        assert not interrupt.requested
        ask(number)
        assert interrupt.requested
        reached = True
    assert reached


def test_a_second_request_does_not_wait() -> None:
    reached = False
    with pytest.raises(Interrupted), listen() as interrupt, interrupt.deferred():
        ask(signal.SIGINT)
        ask(signal.SIGINT)
        reached = True
    assert not reached


def test_without_a_request_nothing_happens_and_later_ones_are_heard_at_once_again() -> None:
    with pytest.raises(Interrupted), listen() as interrupt:
        with interrupt.deferred():
            pass
        ask(signal.SIGTERM)
        raise AssertionError


def test_another_error_inside_is_not_hidden_by_a_request() -> None:
    with pytest.raises(ValueError, match="mine"), listen() as interrupt, interrupt.deferred():
        ask(signal.SIGINT)
        raise ValueError("mine")


def test_the_old_handlers_come_back() -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with pytest.raises(Interrupted), listen():
            ask(signal.SIGTERM)
        ask(signal.SIGTERM)
        assert heard == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_beside_the_main_thread_it_listens_to_nobody_and_does_no_harm() -> None:
    found: list[Interrupt] = []

    def work() -> None:
        with listen() as interrupt, interrupt.deferred():
            found.append(interrupt)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [interrupt.requested for interrupt in found] == [False]
