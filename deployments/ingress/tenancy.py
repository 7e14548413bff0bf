"""Whose request this is: set by the front door, read by everything behind it; and what that tenant may see and send."""

from __future__ import annotations

from contextvars import ContextVar

from mattehorn.access.tenant import ANONYMOUS, Tenant
from mattehorn.settings import Limits
from mattehorn.store.interface import Store
from mattehorn.store.results import StoredResult, load_result, no_result

TENANT: ContextVar[Tenant] = ContextVar("tenant", default=ANONYMOUS)


def may_see(tenant: Tenant, owner: str) -> bool:
    """Whether what belongs to `owner` is there for this caller. What was made without keys is an admin's, later on."""
    return owner == tenant.name or (owner == ANONYMOUS.name and "admin" in tenant.scopes)


def load_own(store: Store, result_id: str) -> StoredResult:
    """A stored result of this request's tenant. Raises ResultNotFound, for another tenant's too. Blocks."""
    stored = load_result(store, result_id)
    if not may_see(TENANT.get(), stored.tenant):
        raise no_result()
    return stored


def own_bytes(most: int) -> int:
    """`most`, or what this request's tenant may send where that is less."""
    own = TENANT.get().body_bytes
    return most if own is None else min(most, own)


def own_limits(limits: Limits) -> Limits:
    """The service's limits, narrowed by what this request's tenant may send; never widened."""
    return TENANT.get().narrowed(limits)
