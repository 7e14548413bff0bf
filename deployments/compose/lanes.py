"""How bulk work shares one compose replica with interactive work. Pure: no Ray.

Bulk has fewer threads, of the lowest priority, at most half of the memory and half of the replica's places, so an
interactive photo waits for none of its. While one is in work here, bulk begins no step of its own, but one a second.
Nothing is told between processes: what runs in another replica is left to the scheduler of the machine's cores.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress

from deployments.calls import LANES, Lane
from deployments.compose.permits import Permits
from deployments.yielding import yielding_threads
from mattehorn import telemetry

BULK_AT_ONCE = 8  # jobs; half of Compose's max_ongoing_requests in serve_config.yaml, so the rest stays free
BULK_MEMORY = 0.5  # of the permit of megapixels
COURTESY_S = 1.0  # between steps of bulk while interactive photos come without a gap: slow, but never stopped
_FULL_PAUSE_S, _FULL_PAUSE_MOST_S = 0.1, 1.0


class Lanes:
    """Places, threads and memory by lane. `permits` are those of both lanes together."""

    def __init__(self, threads: int, permits: Permits, megapixels: float) -> None:
        self._in_work: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._only_bulk = asyncio.Event()
        self._only_bulk.set()
        self._turn = asyncio.Lock()
        self._permits, self._bulk_permits = permits, Permits(megapixels * BULK_MEMORY)
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

    def _count(self, lane: Lane, step: int) -> None:
        self._in_work[lane] += step
        telemetry.set_value(telemetry.QUEUE_IMAGES, sum(self._in_work.values()))
        if self._in_work["interactive"]:
            self._only_bulk.clear()
        else:
            self._only_bulk.set()

    async def threads(self, lane: Lane) -> ThreadPoolExecutor:
        """Where the next step of a job runs, as soon as it may begin."""
        if lane == "bulk" and not self._only_bulk.is_set():
            async with self._turn:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._only_bulk.wait(), COURTESY_S)
        return self._threads[lane]

    @asynccontextmanager
    async def hold(self, megapixels: float, lane: Lane) -> AsyncIterator[None]:
        """Holds `megapixels` for the length of the block; those of bulk together never more than their share."""
        if lane == "interactive":
            async with self._permits.hold(megapixels):
                yield
        else:
            async with self._bulk_permits.hold(megapixels), self._permits.hold(megapixels):
                yield


def full_pause_s(number: int) -> float:
    """The pause before bulk asks a full pool for the `number`th time again (from 1), of random length."""
    return min(_FULL_PAUSE_MOST_S, _FULL_PAUSE_S * 2.0 ** (number - 1)) * random.uniform(0.5, 1.0)
