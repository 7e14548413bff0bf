"""Megapixels set aside for work that is charged when it is done. Pure: no limit is known here (budgets.py).

A hold is known by its work, not by who began it: whoever takes the work up again, after a crash or beside another,
joins the hold that is there. So one piece of work is paid once, by the first of its holders that has done it. A holder
that says nothing any more is forgotten at the end of its lease; a hold without holders is gone, and cost nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class _Hold:
    """`holders`: the Unix time at which each one's lease runs out."""

    cost: int
    holders: dict[str, float] = field(default_factory=dict)


class Holds:
    """Holds by tenant and work. Not thread-safe: one event loop owns it. Memory: what is in work, and what crashed
    within a lease."""

    def __init__(self) -> None:
        self._held: defaultdict[str, dict[str, _Hold]] = defaultdict(dict)

    def total(self, tenant: str) -> int:
        """What is set aside for this tenant now."""
        return sum(hold.cost for hold in self._held.get(tenant, {}).values())

    def join(self, tenant: str, work: str, holder: str, until: float) -> bool:
        """Whether the work was held already; then it is held by `holder` too, and costs no more."""
        hold = self._held.get(tenant, {}).get(work)
        if hold is not None:
            hold.holders[holder] = until
        return hold is not None

    def begin(self, tenant: str, work: str, holder: str, until: float, cost: int) -> None:
        self._held[tenant][work] = _Hold(cost, {holder: until})

    def settle(self, tenant: str, work: str, holder: str) -> int:
        """What is to be paid now; 0 for a holder that is not known (any more): another has paid, or nobody can tell."""
        hold = self._held.get(tenant, {}).get(work)
        if hold is None or holder not in hold.holders:
            return 0
        self._forget(tenant, work)
        return hold.cost

    def drop(self, tenant: str, work: str, holder: str) -> None:
        """Frees what is held when no other holds it."""
        hold = self._held.get(tenant, {}).get(work)
        if hold is not None and hold.holders.pop(holder, None) is not None and not hold.holders:
            self._forget(tenant, work)

    def expire(self, now: float) -> None:
        """Forgets the holders whose lease has run out."""
        ended = [
            (tenant, work, holder)
            for tenant, held in self._held.items()
            for work, hold in held.items()
            for holder, until in hold.holders.items()
            if until <= now
        ]
        for tenant, work, holder in ended:
            self.drop(tenant, work, holder)

    def _forget(self, tenant: str, work: str) -> None:
        del self._held[tenant][work]
        if not self._held[tenant]:
            del self._held[tenant]
