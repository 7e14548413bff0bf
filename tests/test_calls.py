"""One hop's retries: a callee that dies is asked again, its own errors pass, and the deadline holds."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from deployments import calls
from deployments.calls import ATTEMPTS, Failures, Job, Prediction, call_with_retries, refusing
from mattehorn import telemetry
from mattehorn.errors import CorruptImage, DeadlineExceeded, MattehornError, OptionError, Overloaded, Unavailable
from mattehorn.options import Options


class Died(Exception):
    pass


class Full(Exception):
    pass


class Wrapped(Exception):
    """As Ray hands over what a callee raised: the original is in `.cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a remote traceback")
        self.cause = cause


FAILURES = Failures(died=(Died,), full=(Full,))


class Callee:
    """Gives the outcomes in turn: an exception is raised, anything else is the answer."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes, self.asked = list(outcomes), 0

    async def __call__(self) -> Any:
        self.asked += 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were taken, none of which takes time."""
    taken: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        taken.append(seconds)
        await real(0)

    monkeypatch.setattr(calls.asyncio, "sleep", sleep)
    return taken


@pytest.fixture
def registry() -> Iterator[telemetry.PrometheusBackend]:
    before = telemetry._backend
    backend = telemetry.PrometheusBackend()
    telemetry.use(backend)
    yield backend
    telemetry._backend = before


def ask(make: Callable[[], Any], *, left_s: float = 30.0) -> Any:
    return asyncio.run(call_with_retries(make, FAILURES, callee="Matting", deadline=time.time() + left_s))


def test_an_answer_is_passed_on_without_a_pause(pauses: list[float]) -> None:
    callee = Callee("alpha")
    assert ask(callee) == "alpha"
    assert (callee.asked, pauses) == (1, [])


def test_a_callee_that_dies_twice_is_asked_a_third_time(pauses: list[float]) -> None:
    callee = Callee(Died(), Died(), "alpha")
    assert ask(callee) == "alpha"
    assert callee.asked == ATTEMPTS == 3
    assert pauses == [0.2, 1.0]


def test_a_callee_that_dies_three_times_is_unavailable(pauses: list[float]) -> None:
    callee = Callee(Died(), Died(), Died(), "too late")
    with pytest.raises(Unavailable) as caught:
        ask(callee)
    assert callee.asked == 3
    assert caught.value.retry_after_s is not None
    assert "Matting" in caught.value.message


def test_only_repeated_calls_count_as_retries(pauses: list[float], registry: telemetry.PrometheusBackend) -> None:
    ask(Callee(Died(), "alpha"))
    with pytest.raises(Unavailable):
        ask(Callee(Died(), Died(), Died()))
    name = telemetry.RETRIES.name
    assert registry.registry.get_sample_value(name, {"callee": "Matting"}) == 1 + 2


def test_a_full_callee_is_overloaded_at_once(pauses: list[float]) -> None:
    callee = Callee(Full(), "too late")
    with pytest.raises(Overloaded) as caught:
        ask(callee)
    assert (callee.asked, pauses) == (1, [])
    assert caught.value.retry_after_s == calls.RETRY_AFTER_S


@pytest.mark.parametrize("error", [CorruptImage("half a photo"), Overloaded("x", retry_after_s=9), KeyError("bug")])
def test_the_callees_own_error_passes_and_is_not_repeated(error: Exception, pauses: list[float]) -> None:
    callee = Callee(error, "too late")
    with pytest.raises(type(error)) as caught:
        ask(callee)
    assert caught.value is error
    assert callee.asked == 1


@pytest.mark.parametrize("error", [CorruptImage("half a photo", field="file"), KeyError("bug")])
def test_an_error_that_came_wrapped_is_unwrapped(error: Exception, pauses: list[float]) -> None:
    callee = Callee(Wrapped(error), "too late")
    with pytest.raises(type(error)) as caught:
        ask(callee)
    assert caught.value is error
    assert callee.asked == 1


def test_a_full_queue_that_came_wrapped_is_overloaded_too(pauses: list[float]) -> None:
    with pytest.raises(Overloaded):
        ask(Callee(Wrapped(Full())))


def test_a_death_further_down_is_not_repeated_here(pauses: list[float]) -> None:
    """What was retried below is not retried above: the callee lives and tells of a death of its own callee."""
    callee = Callee(Wrapped(Died()), "too late")
    with pytest.raises(Died):
        ask(callee)
    assert callee.asked == 1


def test_nobody_is_asked_after_the_deadline(pauses: list[float]) -> None:
    callee = Callee("too late")
    with pytest.raises(DeadlineExceeded):
        ask(callee, left_s=-1)
    assert callee.asked == 0


def test_an_answer_that_does_not_come_ends_at_the_deadline() -> None:
    ended: list[str] = []

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with pytest.raises(DeadlineExceeded):
        ask(never, left_s=0.05)
    assert ended == ["cancelled"]


def test_no_pause_goes_beyond_the_deadline(pauses: list[float]) -> None:
    with pytest.raises((Unavailable, DeadlineExceeded)):
        ask(Callee(Died(), Died(), Died()), left_s=0.1)
    assert all(pause <= 0.1 for pause in pauses)


def test_what_crosses_a_process_border_can_be_pickled() -> None:
    job = Job(b"photo", Options(roi="1 2 3 4", store=True), "id", 1.0, "name", b"background")
    assert pickle.loads(pickle.dumps(job)) == job
    sent = Prediction(np.full((2, 3), 7, np.uint8), 1.0, 2.0, 4, "fake@1")
    came = pickle.loads(pickle.dumps(sent))
    assert np.array_equal(came.alpha, sent.alpha)
    assert (came.queue_ms, came.infer_ms, came.batch_size, came.model) == (1.0, 2.0, 4, "fake@1")


def test_an_original_error_is_itself_when_nothing_wraps_it() -> None:
    error = MattehornError("x")
    assert calls.original_error(error) is error
    caused = KeyError("x")
    caused.__cause__ = error  # Python's own chain says what led here, not what was raised there
    assert calls.original_error(caused) is caused


def test_a_refusal_crosses_as_a_value_and_is_raised_again() -> None:
    fault = OptionError("roi holds no pixel.", field="roi", problem="empty")

    @refusing
    async def callee() -> int:
        raise fault

    async def sent() -> Any:
        return pickle.loads(pickle.dumps(await callee()))

    async def check() -> None:
        with pytest.raises(OptionError, match="no pixel") as raised:
            await call_with_retries(sent, FAILURES, callee="Compose", deadline=time.time() + 30)
        assert raised.value.data == fault.data

    asyncio.run(check())


@pytest.mark.parametrize("error", [Unavailable("x", retry_after_s=1), DeadlineExceeded("x"), ValueError("x")])
def test_what_is_no_callers_fault_is_raised_where_it_happens(error: Exception) -> None:
    @refusing
    async def callee() -> int:
        raise error

    with pytest.raises(type(error)):
        asyncio.run(callee())
