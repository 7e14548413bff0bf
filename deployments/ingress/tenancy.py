"""Whose request this is: set by the front door, read by everything behind it; and what that tenant may see and send."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from mattehorn.access.tenant import ANONYMOUS, Tenant
from mattehorn.errors import ResultNotFound
from mattehorn.settings import Limits
from mattehorn.store.interface import Store
from mattehorn.store.records import StoredResult, load_result, no_result
from mattehorn.store.removal import load_removed

TENANT: ContextVar[Tenant] = ContextVar("tenant", default=ANONYMOUS)


def may_see(tenant: Tenant, owner: str) -> bool:
    """Whether what belongs to `owner` is there for this caller. What was made without keys is an admin's, later on."""
    return owner == tenant.name or (owner == ANONYMOUS.name and "admin" in tenant.scopes)


def seen_owners(tenant: Tenant) -> list[str]:
    """Whose things are there for this caller, as may_see says."""
    return [owner for owner in dict.fromkeys((tenant.name, ANONYMOUS.name)) if may_see(tenant, owner)]


def load_own(store: Store, result_id: str) -> StoredResult:
    """A stored result of this request's tenant. Raises ResultNotFound, for another tenant's too. Blocks."""
    return _own(load_result, store, result_id)


def load_own_removed(store: Store, result_id: str) -> StoredResult:
    """One whose removal was begun and not ended. Raises and blocks as load_own does."""
    return _own(load_removed, store, result_id)


def _own(load: Callable[[Store, str, str], StoredResult], store: Store, result_id: str) -> StoredResult:
    for owner in seen_owners(TENANT.get()):
        try:
            return load(store, result_id, owner)
        except ResultNotFound:
            continue
    raise no_result()


def own_bytes(most: int) -> int:
    """`most`, or what this request's tenant may send where that is less."""
    own = TENANT.get().body_bytes
    return most if own is None else min(most, own)


def own_limits(limits: Limits) -> Limits:
    """The service's limits, narrowed by what this request's tenant may send; never widened."""
    return TENANT.get().narrowed(limits)
