"""The shared book as ingress and bulk see it: async calls over the pure counters. No Ray; deployment.py serves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mattehorn.access.budgets import Budgets, Spent, Standing
from mattehorn.access.tenant import Budget
from mattehorn.cache.claims import Claims


class Tally(Protocol):
    """What ingress and bulk call: the deployment's handle (handle.py), or a Book in one process."""

    async def charge(self, tenant: str, cost: int, budget: Budget) -> Standing | None: ...
    async def refund(self, tenant: str, cost: int, charged_at: float | None = None) -> None: ...
    async def hold(
        self, tenant: str, work: str, holder: str, cost: int, budget: Budget, lease_s: float
    ) -> Standing | None: ...
    async def settle(self, tenant: str, work: str, holder: str) -> None: ...
    async def drop(self, tenant: str, work: str, holder: str) -> None: ...
    async def spent(self, tenants: Sequence[str]) -> dict[str, Spent]: ...
    async def claim(self, work: str, holder: str, lease_s: float) -> bool: ...
    async def release(self, work: str, holder: str) -> None: ...
    async def released(self, work: str, within_s: float) -> bool: ...


class Book:
    """Budgets and claims on one event loop."""

    def __init__(self) -> None:
        self.budgets, self._claims = Budgets(), Claims()

    async def charge(self, tenant: str, cost: int, budget: Budget) -> Standing | None:
        return self.budgets.charge(tenant, cost, budget)

    async def refund(self, tenant: str, cost: int, charged_at: float | None = None) -> None:
        self.budgets.refund(tenant, cost, charged_at)

    async def hold(
        self, tenant: str, work: str, holder: str, cost: int, budget: Budget, lease_s: float
    ) -> Standing | None:
        return self.budgets.hold(tenant, work, holder, cost, budget, lease_s)

    async def settle(self, tenant: str, work: str, holder: str) -> None:
        self.budgets.settle(tenant, work, holder)

    async def drop(self, tenant: str, work: str, holder: str) -> None:
        self.budgets.drop(tenant, work, holder)

    async def spent(self, tenants: Sequence[str]) -> dict[str, Spent]:
        return {tenant: self.budgets.spent(tenant) for tenant in tenants}

    async def claim(self, work: str, holder: str, lease_s: float) -> bool:
        return self._claims.claim(work, holder, lease_s)

    async def release(self, work: str, holder: str) -> None:
        self._claims.release(work, holder)

    async def released(self, work: str, within_s: float) -> bool:
        return await self._claims.released(work, within_s)
