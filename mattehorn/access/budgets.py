"""Counts what tenants spend: one place for all ingress and bulk replicas. Pure: no HTTP, no Ray, no store.

A megapixel image is max(1, ceil(input megapixels)) (contract 2.5). A request is charged before it is done, of the
minute and the month, and refunded when it fails. A photo of a job is held before and charged after, of the month alone
(docs/adr/0010).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from mattehorn.access.holds import Holds
from mattehorn.access.tenant import Budget

WINDOW_S = 60

Refusal = Literal["rate_limited", "quota_exceeded"]


@dataclass(frozen=True)
class Standing:
    """What is left of the limit that binds first, as X-RateLimit-* tell it. `reset_at` is a Unix time.

    `refused` says which limit a charge did not fit in; then nothing was charged, and `retry_after_s` is when to ask
    again. `charged_at` (Unix time) goes with a refund.
    """

    limit: int
    remaining: int
    reset_at: int
    refused: Refusal | None = None
    retry_after_s: int = 0
    charged_at: float = 0.0


@dataclass(frozen=True)
class Spent:
    """Megapixel images in the window that is open, and in the month. `minute_resets_at`: None without a window."""

    minute: int
    minute_resets_at: int | None
    month: int
    month_resets_at: int


def megapixel_images(width: int, height: int) -> int:
    """What a photo of this size costs: 1200x800 is 1, 1600x1200 2, 6250x4000 25."""
    return max(1, math.ceil(width * height / 1_000_000))


class Budgets:
    """Windows and months by tenant. Not thread-safe: one event loop owns it.

    Memory: a window is forgotten within a minute of its end, a month with the month; tenants are those of one file.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._minutes: dict[str, tuple[float, int]] = {}  # when the window opened, what was spent in it
        self._month = month_of(clock())
        self._months: dict[str, int] = {}
        self._holds = Holds()  # not in the months, which are kept: a crash may forget them, and nobody pays twice
        self._swept = clock()

    def charge(self, tenant: str, cost: int, budget: Budget) -> Standing | None:
        """Spends `cost`, of all limits or of none; None where nothing limits it."""
        now = self._turn()
        opened, in_minute = self._window(tenant, now)
        in_month = self._months.get(tenant, 0)
        limits: list[tuple[Refusal, int, int, int]] = []  # kind, limit, what is left, when it is whole again
        if budget.per_minute is not None:
            limits.append(
                ("rate_limited", budget.per_minute, budget.per_minute - in_minute, math.ceil(opened + WINDOW_S))
            )
        if budget.per_month is not None:
            left = budget.per_month - in_month - self._holds.total(tenant)
            limits.append(("quota_exceeded", budget.per_month, left, month_ends(now)))
        refusing = [limit for limit in limits if cost > limit[2]]
        if refusing:
            kind, most, left, reset_at = max(refusing, key=lambda limit: limit[3])
            return Standing(most, max(0, left), reset_at, kind, max(1, math.ceil(reset_at - now)))
        self._minutes[tenant] = (opened, in_minute + cost)
        self._months[tenant] = in_month + cost
        if not limits:
            return None
        _, most, left, reset_at = min(limits, key=lambda limit: limit[2])
        return Standing(most, left - cost, reset_at, charged_at=now)

    def refund(self, tenant: str, cost: int, charged_at: float | None = None) -> None:
        """Takes back a charge whose request failed; of a window or a month that has ended since, nothing."""
        now = self._turn()
        at = now if charged_at is None else charged_at
        opened, in_minute = self._window(tenant, now)
        if tenant in self._minutes and at >= opened:
            self._minutes[tenant] = (opened, max(0, in_minute - cost))
        if tenant in self._months and month_of(at) == self._month:
            self._months[tenant] = max(0, self._months[tenant] - cost)

    def hold(self, tenant: str, work: str, holder: str, cost: int, budget: Budget, lease_s: float) -> Standing | None:
        """Sets `cost` of the month aside until `settle` or `drop`, for `lease_s` at most; None when that is done, and a
        refusal when the month has not so much left. The same work is held once, whoever holds it."""
        now = self._turn()
        self._holds.expire(now)
        if self._holds.join(tenant, work, holder, now + lease_s):
            return None
        if budget.per_month is not None:
            left = budget.per_month - self._months.get(tenant, 0) - self._holds.total(tenant)
            if cost > left:
                reset_at = month_ends(now)
                wait_s = max(1, math.ceil(reset_at - now))
                return Standing(budget.per_month, max(0, left), reset_at, "quota_exceeded", wait_s)
        self._holds.begin(tenant, work, holder, now + lease_s, cost)
        return None

    def settle(self, tenant: str, work: str, holder: str) -> None:
        """Charges what is held, to the month in which it is done; nothing where the hold is not known any more."""
        self._turn()
        if cost := self._holds.settle(tenant, work, holder):
            self._months[tenant] = self._months.get(tenant, 0) + cost

    def drop(self, tenant: str, work: str, holder: str) -> None:
        """Gives back what was held for work that came to nothing."""
        self._holds.drop(tenant, work, holder)

    def spent(self, tenant: str) -> Spent:
        now = self._turn()
        opened, in_minute = self._window(tenant, now)
        is_open = tenant in self._minutes and self._minutes[tenant][0] == opened
        resets_at = math.ceil(opened + WINDOW_S) if is_open else None
        return Spent(in_minute, resets_at, self._months.get(tenant, 0), month_ends(now))

    def month(self) -> tuple[str, Mapping[str, int]]:
        """(`2026-11`, a copy of what every tenant has spent in it)."""
        self._turn()
        return self._month, dict(self._months)

    def add_month(self, month: str, counts: Mapping[str, int]) -> None:
        """Adds what was counted before this process began, unless that month is over."""
        self._turn()
        if month == self._month:
            for tenant, count in counts.items():
                self._months[tenant] = self._months.get(tenant, 0) + count

    def _window(self, tenant: str, now: float) -> tuple[float, int]:
        opened, spent = self._minutes.get(tenant, (now, 0))
        # a clock that was set back would else hold a window open for as long
        return (opened, spent) if 0 <= now - opened < WINDOW_S else (now, 0)

    def _turn(self) -> float:
        """The time. Begins a new month with it, never an old one again, and forgets windows that have ended."""
        now = self._clock()
        if month_of(now) > self._month:
            self._month, self._months = month_of(now), {}
        if abs(now - self._swept) >= WINDOW_S:
            self._swept = now
            self._holds.expire(now)
            self._minutes = {name: at for name, at in self._minutes.items() if 0 <= now - at[0] < WINDOW_S}
        return now


def month_of(at: float) -> str:
    """The calendar month of a Unix time, UTC, as `2026-11`; months sort as texts."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m}"


def month_ends(at: float) -> int:
    """The Unix time at which the next month begins, UTC."""
    moment = datetime.fromtimestamp(at, UTC)
    years, month = divmod(moment.month, 12)
    return int(datetime(moment.year + years, month + 1, 1, tzinfo=UTC).timestamp())
