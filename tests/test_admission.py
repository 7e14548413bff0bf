"""Who is let in: at most the limit, and nobody who would wait longer than the request may take."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from deployments.ingress.admission import Admission
from mattehorn.errors import Overloaded
from tests.clock import Clock


def filled(admission: Admission, count: int) -> ExitStack:
    """`count` pictures in work until the stack closes."""
    stack = ExitStack()
    for _ in range(count):
        stack.enter_context(admission.admit())
    return stack


def finish_at_pace(admission: Admission, clock: Clock, count: int, seconds_each: float) -> None:
    """`count` pictures end one after the other; other ones are in work all the while."""
    for _ in range(count):
        with admission.admit():
            clock.now += seconds_each


def test_pictures_up_to_the_limit_are_let_in_and_the_next_is_refused() -> None:
    admission = Admission(3, 30, Clock(1000.0))
    with filled(admission, 3):
        assert admission.in_flight == 3
        with pytest.raises(Overloaded) as caught, admission.admit():
            pass
        assert caught.value.retry_after_s == 1
        assert "3" in caught.value.message
    assert admission.in_flight == 0


def test_a_place_is_given_back_after_an_error() -> None:
    admission = Admission(1, 30, Clock(1000.0))
    with pytest.raises(KeyError), admission.admit():
        raise KeyError("x")
    with admission.admit():
        assert admission.in_flight == 1


def test_a_refused_picture_takes_no_place() -> None:
    admission = Admission(1, 30, Clock(1000.0))
    with filled(admission, 1):
        for _ in range(5):
            with pytest.raises(Overloaded), admission.admit():
                pass
        assert admission.in_flight == 1


def test_a_new_service_expects_no_wait() -> None:
    assert Admission(3, 30, Clock(1000.0)).expected_wait_s() == 0


def test_the_expected_wait_is_those_before_it_times_the_recent_pace() -> None:
    clock = Clock(1000.0)
    admission = Admission(100, 30, clock)
    with filled(admission, 9):
        finish_at_pace(admission, clock, 10, seconds_each=2.0)
        assert admission.expected_wait_s() == pytest.approx(9 * 2.0)


def test_a_picture_that_would_wait_too_long_is_refused_with_a_truthful_retry_after() -> None:
    clock = Clock(1000.0)
    admission = Admission(100, 10, clock)
    with filled(admission, 4):
        finish_at_pace(admission, clock, 10, seconds_each=2.0)
        with filled(admission, 2):  # 4 and 5 before it: 8 s and 10 s
            with pytest.raises(Overloaded) as caught, admission.admit():
                pass
            retry_after_s = caught.value.retry_after_s
        assert retry_after_s is not None
        assert 1 <= retry_after_s <= 12  # six pictures at 2 s


def test_an_old_pace_says_nothing_of_today() -> None:
    clock = Clock(1000.0)
    admission = Admission(100, 1000, clock)
    with filled(admission, 20):
        finish_at_pace(admission, clock, 10, seconds_each=2.0)
        assert admission.expected_wait_s() == pytest.approx(40)
        clock.now += 60
        assert admission.expected_wait_s() == 0


def test_a_few_completions_are_no_pace_yet() -> None:
    clock = Clock(1000.0)
    admission = Admission(100, 10, clock)
    with filled(admission, 20):
        finish_at_pace(admission, clock, 7, seconds_each=2.0)
        assert admission.expected_wait_s() == 0
        finish_at_pace(admission, clock, 1, seconds_each=2.0)
        assert admission.expected_wait_s() == pytest.approx(40)


def test_one_long_gap_such_as_a_replicas_restart_is_not_the_pace() -> None:
    clock = Clock(1000.0)
    admission = Admission(100, 1000, clock)
    with filled(admission, 10):
        finish_at_pace(admission, clock, 10, seconds_each=0.5)
        finish_at_pace(admission, clock, 1, seconds_each=9.0)
        finish_at_pace(admission, clock, 5, seconds_each=0.5)
        assert admission.expected_wait_s() == pytest.approx(10 * 0.5)


def test_quiet_times_are_not_taken_for_slowness() -> None:
    """One photo every 12 s, each done in a second: a burst of ten must not be told that the service is slow."""
    clock = Clock(1000.0)
    admission = Admission(40, 30, clock)
    for _ in range(3):
        with admission.admit():
            clock.now += 1
        clock.now += 11
    with filled(admission, 10):
        assert admission.in_flight == 10
