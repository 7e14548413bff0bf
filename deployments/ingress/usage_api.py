"""`GET /v1/usage`: what the caller's tenant has spent of its megapixels, and may spend; for an admin: all tenants."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from deployments.ingress import schemas
from deployments.ingress.jobs import Service
from deployments.ingress.tenancy import TENANT
from mattehorn.access.budgets import Spent
from mattehorn.access.keys_file import KeysFile
from mattehorn.access.tenant import Budget


def router(service: Service, keys: KeysFile | None) -> APIRouter:
    router = APIRouter(tags=["service"], responses=schemas.errors(503))

    @router.get("/v1/usage")
    async def get_usage() -> dict[str, Any]:
        """Megapixel images spent in the open minute and in this month, with their limits; null: no limit."""
        caller = TENANT.get()
        budgets = {caller.name: caller.budget}
        if keys is not None and "admin" in caller.scopes:
            budgets |= keys.keyring().budgets
        spent = await service.tally.spent(sorted(budgets))
        return {"tenants": [_entry(name, budgets[name], spent[name]) for name in sorted(budgets)]}

    return router


def _entry(name: str, budget: Budget, spent: Spent) -> dict[str, Any]:
    return {
        "tenant": name,
        "minute": _window(budget.per_minute, spent.minute, spent.minute_resets_at),
        "month": _window(budget.per_month, spent.month, spent.month_resets_at),
    }


def _window(limit: int | None, spent: int, reset_at: int | None) -> dict[str, int | None]:
    remaining = None if limit is None else max(0, limit - spent)
    return {"limit": limit, "spent": spent, "remaining": remaining, "reset_at": reset_at}
