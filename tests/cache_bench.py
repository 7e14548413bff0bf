"""Two ingress replicas in one process, with one tally, one store and one pool behind them: for tests of the cache."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from deployments.calls import Answer, Job
from deployments.ingress.served import Served
from deployments.ingress.tenancy import TENANT
from deployments.ingress.work import Work
from mattehorn.access.tenant import Budget, Tenant
from mattehorn.errors import StoreUnavailable, Unavailable
from mattehorn.options import Options
from tests.api_client import PHOTO
from tests.service import InProcessService

T = TypeVar("T")
SHOP = Tenant("shop", frozenset(("matte",)), Budget(per_minute=100))


class Pool(InProcessService):
    """Counts what it was asked, holds what a test wants held, and fails as a test says."""

    def __init__(self, folder: Path, **cache: Any) -> None:
        super().__init__(folder, cache=cache)
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[BaseException] = []

    async def cut_out(self, job: Job) -> Answer:
        self.asked += 1
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return await super().cut_out(job)


class Replica:
    """One ingress replica's work; requests are the shop's."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.work = pool, Work(pool)

    async def cut_out(
        self, photo: bytes = PHOTO, *, tenant: Tenant = SHOP, left_s: float = 20, name: str = "cup", **options: Any
    ) -> Served:
        TENANT.set(tenant)
        return await self.work.cut_out(
            Job(photo, Options(**options), "id-1", time.time() + left_s, name, tenant=tenant.name)
        )

    def start(self, *arguments: Any, **options: Any) -> asyncio.Task[Served]:
        return asyncio.create_task(self.cut_out(*arguments, **options))

    async def settled(self) -> None:
        """Returns when nothing is on its way to the store."""
        assert self.work._cache is not None
        await asyncio.gather(*self.work._cache._keeping)


class AwayStore:
    """A store that does not answer. `raised` counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        def away(*_: Any, **__: Any) -> Any:
            self.asked += 1
            raise StoreUnavailable("The results store did not answer. Try again.", retry_after_s=5)

        return away


class AwayTally:
    """A tally whose replica is gone."""

    def __init__(self) -> None:
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        async def away(*_: Any) -> Any:
            self.asked += 1
            raise Unavailable("Tally was restarted too often during this request; try again.", retry_after_s=2)

        return away


async def spent(pool: Pool, tenant: Tenant = SHOP) -> int:
    """Megapixel images of the minute that are gone."""
    standing = await pool.tally.charge(tenant.name, 0, tenant.budget)
    assert standing is not None
    return standing.limit - standing.remaining


async def until(there: Any) -> None:
    """Returns when `there()` is true."""
    async with asyncio.timeout(10):
        while not there():
            await asyncio.sleep(0.001)


def run(story: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(story)
