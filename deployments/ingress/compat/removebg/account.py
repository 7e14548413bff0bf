"""`GET /v1.0/account`: a tenant's budget in remove.bg's credits. Pure.

The official Ruby client takes the keys of `credits` and `api` as its own arguments: one more would break it.
"""

from __future__ import annotations

from typing import Any

from mattehorn.access.tenant import Budget

UNLIMITED = 99_999  # the contract's


def account(budget: Budget, spent_this_month: int) -> dict[str, Any]:
    """The body; one megapixel image counts as one credit."""
    left = UNLIMITED if budget.per_month is None else max(0, budget.per_month - spent_this_month)
    credits = {"total": left, "subscription": left, "payg": 0, "enterprise": 0}
    return {"data": {"attributes": {"credits": credits, "api": {"free_calls": left, "sizes": "all"}}}}
