"""Counts what tenants spend: one place for all ingress replicas. Pure: no HTTP, no Ray, no store.

A megapixel image is max(1, ceil(input megapixels)) (contract 2.5).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mattehorn.access.tenant import Budget

WINDOW_S = 60


@dataclass(frozen=True)
class Standing:
    """What is left of the limit that binds first, as X-RateLimit-* tell it. `reset_at` is a Unix time.

    `refused` says which limit a charge did not fit in; then nothing was charged, and `retry_after_s` is when to ask
    again.
    """

    limit: int
    remaining: int
    reset_at: int
    refused: Literal["rate_limited", "quota_exceeded"] | None = None
    retry_after_s: int = 0


def megapixel_images(width: int, height: int) -> int:
    """What a photo of this size costs: 1200x800 is 1, 1600x1200 2, 6250x4000 25."""
    return max(1, math.ceil(width * height / 1_000_000))


class Budgets:
    """Windows by tenant. Not thread-safe: one event loop owns it."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._minutes: dict[str, tuple[float, int]] = {}  # when the window opened, what was spent in it

    def charge(self, tenant: str, cost: int, budget: Budget) -> Standing | None:
        """Spends `cost`; None where nothing limits it."""
        if budget.per_minute is None:
            return None
        now = self._clock()
        opened, spent = self._minutes.get(tenant, (now, 0))
        if now - opened >= WINDOW_S:
            opened, spent = now, 0
        reset_at = math.ceil(opened + WINDOW_S)
        left = budget.per_minute - spent
        if cost > left:
            return Standing(
                budget.per_minute, max(0, left), reset_at, "rate_limited", max(1, math.ceil(reset_at - now))
            )
        self._minutes[tenant] = (opened, spent + cost)
        return Standing(budget.per_minute, left - cost, reset_at)

    def refund(self, tenant: str, cost: int) -> None:
        """Takes back a charge whose request failed."""
        if tenant in self._minutes:
            opened, spent = self._minutes[tenant]
            self._minutes[tenant] = (opened, max(0, spent - cost))
