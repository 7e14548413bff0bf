"""How bulk work shares one compose replica with interactive work. Pure: no Ray.

Bulk has fewer threads, of the lowest priority, at most half of the memory and half of the replica's places, so an
interactive photo waits for none of its. While one is in work here, bulk shrinks to a single photo, which begins no step
but one a second. Nothing is told between processes: other replicas, and the scheduler of the cores, do their own part.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress

from deployments.calls import LANES, Lane
from deployments.compose.permits import Permits
from deployments.compose.slots import Slots
from deployments.yielding import yielding_threads
from mattehorn import telemetry

BULK_AT_ONCE = 8  # jobs; half of Compose's max_ongoing_requests in serve_config.yaml, so the rest stays free
BULK_BESIDE = 1  # of them at work beside interactive photos
BULK_MEMORY = 0.5  # of the permit of megapixels
LINGER_S = 0.25  # after an interactive photo its client's next one is likely
COURTESY_S = 1.0  # between steps of bulk while interactive photos come without a gap: slow, but never stopped
_LOOK_S = 0.02  # how late bulk may see that it has the replica for itself
_FULL_PAUSE_S, _FULL_PAUSE_MOST_S = 0.1, 1.0


class Lanes:
    """Places, threads and memory by lane. `permits` are those of both lanes together."""

    def __init__(
        self, threads: int, permits: Permits, megapixels: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._in_work: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._only_bulk = asyncio.Event()
        self._only_bulk.set()
        self._left_at = float("-inf")
        self._clock = clock
        self._bulk_at_work = 0
        self._bulk_next, self._bulk_step = asyncio.Lock(), asyncio.Lock()
        self._permits, self._bulk_permits = permits, Permits(megapixels * BULK_MEMORY)
        self._slots = Slots(threads)
        # as many threads less one: with one thread for each core, a core stays for who waits
        self._threads = {
            "interactive": ThreadPoolExecutor(threads, thread_name_prefix="pixels"),
            "bulk": yielding_threads(max(1, threads - 1), "bulk-pixels"),
        }

    def has_place(self, lane: Lane) -> bool:
        return lane == "interactive" or self._in_work["bulk"] < BULK_AT_ONCE

    @contextmanager
    def place(self, lane: Lane) -> Iterator[None]:
        """Holds a place for the length of the block."""
        self._count(lane, +1)
        try:
            yield
        finally:
            self._count(lane, -1)

    @asynccontextmanager
    async def hold(self, megapixels: float, lane: Lane) -> AsyncIterator[None]:
        """Holds `megapixels` for the length of the block; those of bulk together never more than their share."""
        if lane == "interactive":
            async with self._permits.hold(megapixels):
                yield
        else:
            async with self._turn(), self._bulk_permits.hold(megapixels), self._permits.hold(megapixels):
                yield

    @asynccontextmanager
    async def step(self, lane: Lane, deadline: float) -> AsyncIterator[ThreadPoolExecutor]:
        """Where the next step of a job runs, as soon as it may begin; held until it has ended."""
        if lane == "interactive":
            async with self._slots.hold(deadline):
                yield self._threads[lane]
            return
        if not self._only_bulk.is_set():
            async with self._bulk_step:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._only_bulk.wait(), COURTESY_S)
        yield self._threads[lane]

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """A bulk job at work; first come, first served."""
        async with self._bulk_next:
            while self._bulk_at_work >= (BULK_BESIDE if self._is_interactive() else BULK_AT_ONCE):
                await asyncio.sleep(_LOOK_S)
            self._bulk_at_work += 1
        try:
            yield
        finally:
            self._bulk_at_work -= 1

    def _is_interactive(self) -> bool:
        return not self._only_bulk.is_set() or self._clock() - self._left_at < LINGER_S

    def _count(self, lane: Lane, step: int) -> None:
        self._in_work[lane] += step
        telemetry.set_value(telemetry.QUEUE_IMAGES, sum(self._in_work.values()))
        if self._in_work["interactive"]:
            self._only_bulk.clear()
        else:
            self._only_bulk.set()
        if lane == "interactive" and step < 0:
            self._left_at = self._clock()


def full_pause_s(number: int) -> float:
    """The pause before bulk asks a full pool for the `number`th time again (from 1), of random length."""
    return min(_FULL_PAUSE_MOST_S, _FULL_PAUSE_S * 2.0 ** min(number - 1, 10)) * random.uniform(0.5, 1.0)
