"""Who is at work on what: the first to claim a piece of work does it, the others wait for it. Pure asyncio.

A claim ends when its holder releases it, or by itself when the holder has died and its lease runs out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress


class Claims:
    """Work (any text that stands for it) to its holder. One event loop owns it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, float, asyncio.Event]] = {}

    def claim(self, work: str, holder: str, lease_s: float) -> bool:
        """Whether `holder` has it now; False: another one is at it."""
        found = self._held.get(work)
        if found is not None and found[0] != holder and found[1] > self._clock():
            return False
        if found is not None and found[0] != holder:
            found[2].set()
        event = found[2] if found is not None and found[0] == holder else asyncio.Event()
        self._held[work] = (holder, self._clock() + lease_s, event)
        return True

    def release(self, work: str, holder: str) -> None:
        """Ends the claim, if it is still the holder's."""
        found = self._held.get(work)
        if found is not None and found[0] == holder:
            del self._held[work]
            found[2].set()

    async def released(self, work: str, within_s: float) -> bool:
        """True as soon as nobody holds it; False after `within_s`."""
        found = self._held.get(work)
        if found is None:
            return True
        with suppress(TimeoutError):
            await asyncio.wait_for(found[2].wait(), max(0.0, min(within_s, found[1] - self._clock())))
        now = self._held.get(work)
        return now is None or now[2] is not found[2] or now[1] <= self._clock()
