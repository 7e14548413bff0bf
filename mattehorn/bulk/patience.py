"""One photo, patiently: it waits for its permit and a free place, and tries again what may pass.

What it is not: it does not say what becomes of the message; worker.py and shard.py do. Called by those two.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from mattehorn import telemetry
from mattehorn.bulk.item import run_item
from mattehorn.bulk.places import Places
from mattehorn.bulk.plan import CutOut, Outcome, Plan
from mattehorn.errors import MattehornError, Overloaded, QuotaExceeded
from mattehorn.events import ObjectRef

log = logging.getLogger(__name__)

T = TypeVar("T")
Permit = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Patience:
    """Pauses in seconds, each halved at random so that many workers do not come back at one moment.

    In place a photo waits 0.5, 1 and 2 s: a replica that was killed is replaced in 2 s. A message given back waits 5,
    10, 20, 40 s, so that five attempts outlast an outage of a minute; then it is a dead letter. SQS allows more.
    """

    tries: int = 4
    pause_s: float = 0.5
    overload_most_s: float = 10.0
    message_s: float = 5.0
    message_most_s: float = 300.0

    def in_place(self, number: int) -> float:
        """The pause after the `number`th fault (from 1)."""
        return _jittered(min(self.overload_most_s, self.pause_s * 2 ** (number - 1)))

    def for_message(self, attempt: int) -> float:
        """The delay of a message given back after its `attempt`th failure."""
        return _jittered(min(self.message_most_s, self.message_s * 2 ** (attempt - 1)))


class Border:
    """When the work on one message shall end at its next border, and whether it is only waiting.

    Read by threads, too. `over()` says that the time is up or the process is stopping.
    """

    def __init__(self, over: Callable[[], bool] = lambda: False) -> None:
        self.over = over
        self._waiting = 0
        self._working = 0

    @property
    def is_idle(self) -> bool:
        """Nothing of the message is in work: all of it waits for a permit or for a full service."""
        return self._waiting > 0 and self._working == 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    @contextmanager
    def working(self) -> Iterator[None]:
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1


class PhotoRunner:
    """Runs photos of one process, at most `in_flight` at once."""

    def __init__(
        self,
        places: Places,
        cut_out: CutOut,
        *,
        in_flight: int,
        threads: Executor,
        permit: Permit,
        patience: Patience,
        item_s: float,
    ) -> None:
        self._places, self._cut_out, self._permit = places, cut_out, permit
        self._threads, self._patience, self._item_s = threads, patience, item_s
        self._places_free = asyncio.Semaphore(in_flight)
        self._in_flight = 0

    async def run(self, ref: ObjectRef, plan: Plan, border: Border, *, follow: bool) -> Outcome:
        """What became of the photo. Raises its last fault after `Patience.tries`; a full service is waited for."""
        faults = waits = 0
        while True:
            with border.waiting():
                await self._permit()
                await self._places_free.acquire()
            self._count(+1)
            try:
                with border.working():
                    outcome = await self._once(ref, plan, follow)
                telemetry.add(telemetry.BULK_ITEMS, outcome=_label(outcome))
                return outcome
            except Overloaded:
                waits += 1
            except Exception as error:  # Ray's, boto3's, anything: whatever it is, the photo is not lost by it
                faults += 1
                log.info("bulk_photo_failed key=%r try=%d error=%s", ref.key, faults, type(error).__name__)
                if faults >= self._patience.tries:
                    if not isinstance(error, MattehornError):
                        log.error("bulk_photo_failed key=%r", ref.key, exc_info=error)
                    raise
            finally:
                self._places_free.release()
                self._count(-1)
            telemetry.add(telemetry.BULK_ITEMS, outcome="retry")
            with border.waiting():
                await asyncio.sleep(self._patience.in_place(faults or waits))

    async def _once(self, ref: ObjectRef, plan: Plan, follow: bool) -> Outcome:
        return await run_item(
            ref,
            plan,
            self._places.store(ref.bucket),
            self._places.store(plan.output.bucket),
            self._cut_out,
            threads=self._threads,
            follow=follow,
            is_state=self._places.is_state,
            item_s=self._item_s,
        )

    def _count(self, step: int) -> None:
        self._in_flight += step
        telemetry.set_value(telemetry.BULK_IN_FLIGHT, self._in_flight)


async def patiently(make: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """The answer of `make()`, asked again while the store or the queue is away. Raises its last Unavailable."""
    for number in range(1, patience.tries):
        try:
            return await make()
        except MattehornError as error:
            if error.retry_after_s is None:
                raise
        await asyncio.sleep(patience.in_place(number))
    return await make()


def _label(outcome: Outcome) -> str:
    """An error is counted once, however often its message comes."""
    if outcome.code == QuotaExceeded.code:
        return "over_quota"
    return "skipped" if outcome.status == "error" and not outcome.first else outcome.status


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)
