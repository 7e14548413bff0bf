"""A semaphore that goes by deadline: whose client leaves first goes first. Pure asyncio.

With a plain line each photo of a burst would do its first step, then each its second, and all of them would be done
together, too late. So the oldest photo's next step goes before a younger one's first.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count


class Slots:
    """`count` slots; of those who wait, the earliest deadline gets the next one, then who came first."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    @asynccontextmanager
    async def hold(self, deadline: float) -> AsyncIterator[None]:
        """Holds a slot for the length of the block; `deadline` is a Unix time."""
        await self._acquire(deadline)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, deadline: float) -> None:
        if self._free:
            self._free -= 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (deadline, next(self._numbers), future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._release()  # given and cancelled in the same turn
            raise

    def _release(self) -> None:
        """Gives the slot on, or keeps it free. Who waits is cancelled or waits: nobody free while somebody waits."""
        while self._waiting:
            *_, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
                return
        self._free += 1
