"""A weighted semaphore: bounds the decoded megapixels that one compose replica holds. Pure asyncio."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PARTS = 1_000_000  # counted in whole pixels: sums of fractions would drift until nobody gets the whole


class Permits:
    """`capacity` megapixels, given out first come, first served; a wish above the capacity takes all of it."""

    def __init__(self, capacity: float) -> None:
        self._capacity = self._free = math.ceil(capacity * _PARTS)
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> float:
        return (self._capacity - self._free) / _PARTS

    @asynccontextmanager
    async def hold(self, megapixels: float) -> AsyncIterator[None]:
        """Holds `megapixels` for the length of the block."""
        amount = min(math.ceil(megapixels * _PARTS), self._capacity)
        await self._acquire(amount)
        try:
            yield
        finally:
            self._free += amount
            self._wake()

    async def _acquire(self, amount: int) -> None:
        if not self._waiting and amount <= self._free:
            self._free -= amount
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._free += amount  # given and cancelled in the same turn
            self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting:
            amount, future = self._waiting[0]
            if future.done():
                self._waiting.popleft()
                continue
            if amount > self._free:
                return
            self._waiting.popleft()
            self._free -= amount
            future.set_result(None)
