"""The tally's handle as its protocol, with the retry rule of every hop. Held by ingress and bulk replicas.

What it is not: it counts nothing (book.py), and imports no Ray: the deployments bring the handle.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from deployments.calls import call_with_retries
from deployments.failures import FAILURES
from mattehorn.access.budgets import Spent, Standing
from mattehorn.access.tenant import Budget

T = TypeVar("T")
_TALLY_S = 10.0  # a call takes milliseconds; a replica that was killed is replaced in two or three seconds


class TallyHandle:
    def __init__(self, handle: Any) -> None:
        """`handle`: Serve's DeploymentHandle of the tally."""
        self._handle = handle

    async def charge(self, tenant: str, cost: int, budget: Budget) -> Standing | None:
        return await self._ask(lambda: self._handle.charge.remote(tenant, cost, budget))

    async def refund(self, tenant: str, cost: int, charged_at: float | None = None) -> None:
        await self._ask(lambda: self._handle.refund.remote(tenant, cost, charged_at))

    async def hold(
        self, tenant: str, work: str, holder: str, cost: int, budget: Budget, lease_s: float
    ) -> Standing | None:
        return await self._ask(lambda: self._handle.hold.remote(tenant, work, holder, cost, budget, lease_s))

    async def settle(self, tenant: str, work: str, holder: str) -> None:
        await self._ask(lambda: self._handle.settle.remote(tenant, work, holder))

    async def drop(self, tenant: str, work: str, holder: str) -> None:
        await self._ask(lambda: self._handle.drop.remote(tenant, work, holder))

    async def spent(self, tenants: Sequence[str]) -> dict[str, Spent]:
        return await self._ask(lambda: self._handle.spent.remote(tenants))

    async def claim(self, work: str, holder: str, lease_s: float) -> bool:
        return await self._ask(lambda: self._handle.claim.remote(work, holder, lease_s))

    async def release(self, work: str, holder: str) -> None:
        await self._ask(lambda: self._handle.release.remote(work, holder))

    async def released(self, work: str, within_s: float) -> bool:
        return await self._ask(lambda: self._handle.released.remote(work, within_s), within_s)

    async def _ask(self, make: Callable[[], Awaitable[T]], more_s: float = 0.0) -> T:
        deadline = time.time() + _TALLY_S + more_s
        return await call_with_retries(make, FAILURES, callee="Tally", deadline=deadline)
