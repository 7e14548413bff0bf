"""Which pool makes a photo's matte, and whether the stronger one has a go as well. Pure: no Ray.

The decisions are in mattehorn/recipe/gate.py; mattehorn/routed.py is the same without pools. Called by the compose
replica, whose `attempt` asks one pool.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mattehorn import telemetry
from mattehorn.models.zoo import Pool
from mattehorn.prepared import Matted, Prepared
from mattehorn.recipe.gate import Routing
from mattehorn.routed import better

Attempt = Callable[[Prepared, Pool], Awaitable[Matted]]


async def best_matte(prepared: Prepared, routing: Routing, attempt: Attempt) -> Matted:
    """The matte with the better score of those that were made. Raises what `attempt` raises: a stronger model that
    does not answer is no reason to give out what was found too weak."""
    if prepared.fitted is None:  # no model is asked
        return await attempt(prepared, "fast")
    made = await attempt(prepared, routing.first)
    if routing.wants_stronger(made.quality):
        telemetry.add(telemetry.QUALITY_ROUTES, route="retry")
        made = better(made, await attempt(prepared, "strong"))
    return made
