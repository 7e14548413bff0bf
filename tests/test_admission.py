"""Who is let in: at most the limit, and nobody who would wait longer than the request may take."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from deployments.ingress.admission import Admission
from deployments.ingress.pace import FIXED, Pace
from mattehorn.errors import Overloaded
from tests.clock import Clock

SECOND = 10 - FIXED  # megapixels that take a second


def admission(limit: int, max_wait_s: float, clock: Clock) -> Admission:
    """Of a service with one lane, in which ten units of work take a second."""
    pace = Pace(1, clock)
    made = Admission(limit, max_wait_s, pace, clock)
    for _ in range(12):
        with pace.work(20 - FIXED):
            clock.now += 2
    return made


def in_work(made: Admission, count: int, deadline: float) -> ExitStack:
    """`count` pictures of a second each in work until the stack closes."""
    stack = ExitStack()
    for _ in range(count):
        stack.enter_context(made.admit())
        stack.enter_context(made.work(SECOND, deadline))
    return stack


def test_pictures_up_to_the_limit_are_let_in_and_the_next_is_refused() -> None:
    made = Admission(3, 30, Pace(1, Clock(1000.0)))
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(made.admit())
        assert made.in_flight == 3
        with pytest.raises(Overloaded) as caught, made.admit():
            pass
        assert caught.value.retry_after_s == 1
        assert "3" in caught.value.message
    assert made.in_flight == 0


def test_places_are_given_back_after_an_error() -> None:
    clock = Clock(1000.0)
    made = admission(1, 30, clock)
    with pytest.raises(KeyError), made.admit(), made.work(SECOND, clock.now + 30):
        raise KeyError("x")
    with made.admit():
        assert made.in_flight == 1


def test_a_refused_picture_takes_no_place() -> None:
    clock = Clock(1000.0)
    made = admission(1, 30, clock)
    with in_work(made, 1, clock.now + 30):
        for _ in range(5):
            with pytest.raises(Overloaded), made.admit():
                pass
        assert made.in_flight == 1


def test_before_its_body_is_read_a_picture_is_refused_when_those_before_it_take_too_long() -> None:
    clock = Clock(1000.0)
    made = admission(100, 10, clock)
    with in_work(made, 10, clock.now + 100):
        with made.admit():
            pass
        with in_work(made, 1, clock.now + 100), pytest.raises(Overloaded) as caught, made.admit():
            pass
    retry_after_s = caught.value.retry_after_s
    assert retry_after_s is not None
    assert 1 <= retry_after_s <= 11


def test_a_less_patient_caller_is_refused_earlier() -> None:
    clock = Clock(1000.0)
    made = admission(100, 30, clock)
    with in_work(made, 16, clock.now + 100):
        with made.admit():
            pass
        with pytest.raises(Overloaded), made.admit(15):
            pass


def test_a_picture_that_would_be_late_is_refused_as_soon_as_its_size_is_known() -> None:
    clock = Clock(1000.0)
    made = admission(100, 30, clock)
    with in_work(made, 4, clock.now + 100):
        with made.admit(), made.work(SECOND, clock.now + 10):
            clock.now += 5
        with made.admit(), pytest.raises(Overloaded) as caught, made.work(60, clock.now + 10):
            pass
    assert "60.0 megapixels has 10 s" in caught.value.message


def test_a_picture_that_has_the_service_for_itself_is_tried_in_any_case() -> None:
    clock = Clock(1000.0)
    made = admission(100, 30, clock)
    with made.admit(), made.work(5000, clock.now + 1):
        assert made.in_flight == 1


def test_a_burst_of_large_pictures_gets_answers_or_refusals_and_nobody_waits_in_vain() -> None:
    """Forty pictures of 24 megapixels, about 2.5 s each, at once, with 18 s for each."""
    clock = Clock(1000.0)
    made = admission(40, 30, clock)
    deadline, refused, late = clock.now + 18, 0, 0
    with ExitStack() as stack:
        for _ in range(40):
            try:
                with made.admit(15):
                    stack.enter_context(made.work(24, deadline))
            except Overloaded:
                refused += 1
        taken = 40 - refused
        late = sum(clock.now + number * (24 + FIXED) / 10 > deadline for number in range(1, taken + 1))
    assert taken >= 5
    assert late == 0
