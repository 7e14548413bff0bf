"""Whose request this is: set by the front door, read by everything behind it."""

from __future__ import annotations

from contextvars import ContextVar

from mattehorn.access.tenant import ANONYMOUS, Tenant

TENANT: ContextVar[Tenant] = ContextVar("tenant", default=ANONYMOUS)
