"""Ctrl-C and SIGTERM: at once where nothing would be lost, between two steps where there is something to save."""

import os
import signal
import sqlite3
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from trivium.errors import Interrupted
from trivium.train.interrupt import STOPPED, Interrupt, listen

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def ask(number: int) -> None:
    os.kill(os.getpid(), number)


def heard(number: int, *, times: int = 1, deferred: bool = True, then: Exception | None = None) -> list[str]:
    """Ask that many times; what came to pass before an error left."""
    passed: list[str] = []

    def work(interrupt: Interrupt) -> None:
        passed.append("begun")
        for _ in range(times):
            ask(number)
        passed.append("requested" if interrupt.requested else "not requested")
        if then:
            raise then

    try:
        with listen() as interrupt:
            if deferred:
                with interrupt.deferred():
                    work(interrupt)
            else:
                work(interrupt)
    except (Interrupted, ValueError) as error:
        passed.append(str(error))
    return passed


@BOTH
def test_a_request_stops_at_once_and_says_how_to_go_on(number: int) -> None:
    assert heard(number, deferred=False) == ["begun", STOPPED]
    assert "the same command goes on" in STOPPED


@BOTH
def test_while_deferred_a_request_is_only_noted_and_then_heard_at_the_end(number: int) -> None:
    assert heard(number) == ["begun", "requested", STOPPED]


def test_a_second_request_does_not_wait() -> None:
    assert heard(signal.SIGINT, times=2) == ["begun", STOPPED]


def test_without_a_request_nothing_happens() -> None:
    assert heard(signal.SIGINT, times=0) == ["begun", "not requested"]


def test_after_the_deferral_requests_are_heard_at_once_again() -> None:
    with listen() as interrupt:
        with interrupt.deferred():
            pass
        with pytest.raises(Interrupted):
            ask(signal.SIGTERM)


def test_another_error_inside_is_not_hidden_by_a_request() -> None:
    assert heard(signal.SIGINT, then=ValueError("mine")) == ["begun", "requested", "mine"]


def test_the_old_handlers_come_back() -> None:
    others: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda *_: others.append(1))
    try:
        assert len(heard(signal.SIGTERM)) == 3
        ask(signal.SIGTERM)
        assert others == [1]
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


def test_a_request_in_the_middle_of_a_query_is_not_taken_for_an_error_of_the_database() -> None:
    """SQLAlchemy turns errors that it meets on its way into its own, unless they are no Exception."""
    armed = False

    class Asked(sqlite3.Connection):
        def cursor(self, *arguments: Any) -> sqlite3.Cursor:
            if armed:
                ask(signal.SIGTERM)
            return super().cursor(*arguments)

    engine = sa.create_engine("sqlite://", connect_args={"factory": Asked})
    with engine.connect() as connection, listen():
        armed = True
        with pytest.raises(Interrupted):
            connection.execute(sa.text("select 1"))
        armed = False
    engine.dispose()
