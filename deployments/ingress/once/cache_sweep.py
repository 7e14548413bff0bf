"""Removes kept answers that are too old or too many, again and again while the ingress runs.

What it is not: it decides nothing; mattehorn/cache/kept.py does. Every replica of the ingress does the same, which does
no harm: one listing each, every few minutes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from mattehorn import telemetry
from mattehorn.cache.kept import CACHE, Kept
from mattehorn.errors import MattehornError

log = logging.getLogger("ray.serve")

LOOK_S = 5.0  # between two looks at how much was kept; costs nothing
PAUSE_MOST_S = 600.0  # a sweep costs one listing
AGAIN_S = 30.0  # after a failed one, since nothing is kept meanwhile
GROWTH = 8  # a replica sweeps early when it has kept an eighth of the bound: what lies there overshoots by that


class KeptSweep:
    """One per place and ingress replica. Says a fault once, not at every look."""

    def __init__(self, kept: Kept, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept, self._clock = kept, clock
        self._next = clock()  # at once: bounds may have been lowered since the last run
        self._fault = ""

    @property
    def is_due(self) -> bool:
        return self._clock() >= self._next or self._kept.grown > self._kept.max_bytes // GROWTH

    async def once(self) -> int:
        """How many entries were removed; 0 where the store is away, or the right to delete is missing."""
        try:
            swept = await asyncio.to_thread(self._kept.sweep)
        except MattehornError as error:
            if error.message != self._fault:
                log.warning("kept_not_swept place=%s reason=%s", self._kept.place, error.message)
            self._fault = error.message
            self._next = self._clock() + AGAIN_S
            return 0
        self._fault = ""
        self._next = self._clock() + min(PAUSE_MOST_S, self._kept.ttl_s / 6)
        if self._kept.place == CACHE:
            telemetry.add(telemetry.CACHE_BYTES, swept.removed_bytes, event="removed")
            telemetry.set_value(telemetry.CACHE_SIZE, swept.left_bytes)
        if swept.removed:
            log.info("kept_swept place=%s removed=%d left_bytes=%d", self._kept.place, swept.removed, swept.left_bytes)
        return swept.removed

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.is_due:
                await self.once()
