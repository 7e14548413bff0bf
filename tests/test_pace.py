"""How long one more photo would take: by size, by what quiet and busy times have taught, whatever was guessed."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from deployments.ingress.pace import FIXED, Pace
from mattehorn.errors import DeadlineExceeded
from tests.clock import Clock

UNIT_S = 0.1  # what a unit of work costs one lane of the services below


def pace(lanes: int, clock: Clock) -> Pace:
    return Pace(lanes, clock)


def done_alone(pace: Pace, clock: Clock, megapixels: float, count: int = 1) -> None:
    """Photos one after the other, each with a lane for itself."""
    for _ in range(count):
        with pace.work(megapixels):
            clock.now += (megapixels + FIXED) * UNIT_S
        clock.now += 60  # nobody else comes for a while


def done_together(pace: Pace, clock: Clock, megapixels: float, count: int, lanes: int) -> None:
    """A burst, done in its order by a service of `lanes`."""
    began, stacks = clock.now, [ExitStack() for _ in range(count)]
    for stack in stacks:
        stack.enter_context(pace.work(megapixels))
    for number, stack in enumerate(stacks, 1):
        turns = -(-number // lanes)
        clock.now = began + turns * (megapixels + FIXED) * UNIT_S
        stack.close()


def run_out_of_time(pace: Pace, clock: Clock) -> None:
    with pace.work(24):
        clock.now += 18
        raise DeadlineExceeded("late")


def test_an_idle_service_takes_a_photos_own_time() -> None:
    clock = Clock(1000.0)
    known = pace(2, clock)
    done_alone(known, clock, 20, count=12)
    assert known.wait_s() == 0
    assert known.wait_s(10) == pytest.approx((10 + FIXED) * UNIT_S)
    assert known.wait_s(40) == pytest.approx((40 + FIXED) * UNIT_S)


def test_before_the_first_photo_there_is_a_guess_that_grows_with_size() -> None:
    known = pace(2, Clock(1000.0))
    assert 0 < known.wait_s(1) < known.wait_s(24) < 5


def test_what_lone_photos_taught_holds_for_the_burst_after_them() -> None:
    clock = Clock(1000.0)
    known = pace(2, clock)
    done_alone(known, clock, 24, count=12)
    with ExitStack() as stack:
        for _ in range(11):
            stack.enter_context(known.work(24))
        assert known.count == 11
        assert known.wait_s(24) == pytest.approx(12 * (24 + FIXED) * UNIT_S / 2)  # two lanes share twelve
        assert known.wait_s() == pytest.approx(11 * (24 + FIXED) * UNIT_S / 2)


@pytest.mark.parametrize("guessed", [1, 2, 8])
@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_a_wrong_guess_of_the_lanes_is_corrected_by_a_busy_time(guessed: int, lanes: int) -> None:
    clock = Clock(1000.0)
    known = pace(guessed, clock)
    done_together(known, clock, 12, count=32, lanes=lanes)
    with ExitStack() as stack:
        for _ in range(31):
            stack.enter_context(known.work(12))
        truth = 32 * (12 + FIXED) * UNIT_S / lanes
        assert known.wait_s(12) == pytest.approx(truth, rel=0.3)


def test_large_photos_of_any_size_teach_the_same() -> None:
    clock = Clock(1000.0)
    known = pace(1, clock)
    for megapixels in (12, 24, 48) * 4:
        done_alone(known, clock, megapixels)
    assert known.wait_s(24) == pytest.approx((24 + FIXED) * UNIT_S)


def test_small_photos_that_wait_for_a_pool_to_wake_do_not_make_the_service_slow() -> None:
    """One every ten minutes, each with twenty seconds of waking: a burst of ten after that is let in."""
    clock = Clock(1000.0)
    known = pace(1, clock)
    for _ in range(30):
        with known.work(0.3):
            clock.now += 20
        clock.now += 600
    with ExitStack() as stack:
        for _ in range(9):
            stack.enter_context(known.work(0.3))
        assert known.wait_s(0.3) < 2


def test_small_photos_of_a_busy_time_teach_what_they_cost_together() -> None:
    clock = Clock(1000.0)
    known = pace(1, clock)
    for _ in range(3):
        done_together(known, clock, 0.3, count=30, lanes=1)
    assert known.wait_s(24) == pytest.approx((24 + FIXED) * UNIT_S, rel=0.01)


@pytest.mark.parametrize("waited", [1, 2])
def test_large_ones_that_waited_for_a_restart_do_not_move_the_pace(waited: int) -> None:
    clock = Clock(1000.0)
    known = pace(1, clock)
    before = known.wait_s(24)
    for _ in range(waited):
        with known.work(24):
            clock.now += 25
    assert known.wait_s(24) == before


def test_a_bad_photo_teaches_nothing_and_one_that_ran_out_of_time_does() -> None:
    clock = Clock(1000.0)
    known = pace(1, clock)
    done_alone(known, clock, 24, count=12)
    for _ in range(9):
        with pytest.raises(KeyError), known.work(24):
            raise KeyError("quick")
    assert known.wait_s(24) == pytest.approx((24 + FIXED) * UNIT_S)
    for _ in range(9):
        with pytest.raises(DeadlineExceeded):
            run_out_of_time(known, clock)
    assert known.wait_s(24) == pytest.approx(18)
    assert known.count == 0
    assert known.wait_s() == 0
