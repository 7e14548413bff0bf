"""A tenant: whom a key belongs to, what its key may do, and the limits that hold for it. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mattehorn.settings import Limits

Scope = Literal["matte", "jobs", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Budget:
    """Megapixel images that a tenant may spend; None: as many as it likes. The minute is a fixed window of 60 s that
    the first call opens, the month is the calendar's, UTC."""

    per_minute: int | None = None
    per_month: int | None = None

    @property
    def unlimited(self) -> bool:
        return self.per_minute is None and self.per_month is None


@dataclass(frozen=True)
class Tenant:
    """`name` stands in records, metrics never. `body_bytes` and `pixels` of None: the service's own limits."""

    name: str
    scopes: frozenset[Scope]
    budget: Budget = Budget()
    body_bytes: int | None = None
    pixels: int | None = None

    def narrowed(self, limits: Limits) -> Limits:
        """The service's limits, narrowed by what this tenant may send; never widened."""
        own = {"body_bytes": self.body_bytes, "pixels": self.pixels}
        narrower = {name: value for name, value in own.items() if value is not None and value < getattr(limits, name)}
        return limits.model_copy(update=narrower) if narrower else limits


ANONYMOUS = Tenant("anonymous", frozenset(SCOPES))  # everybody, while no key is configured
