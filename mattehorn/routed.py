"""One photo by the fast model, and by the stronger one where the gate or the tier says so; all in this thread.

The decisions are in mattehorn/recipe/gate.py, the service's own way is deployments/compose/routing.py. Called by the
command line, and by bulk work that has its models in its own process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mattehorn import telemetry
from mattehorn.errors import LowQuality
from mattehorn.models.base import Model, ModelCard
from mattehorn.pipeline import Result, predicted, prepare, refitted, rendered
from mattehorn.prepared import Matted, Prepared
from mattehorn.recipe.gate import Routing, Wish
from mattehorn.settings import Limits


@dataclass(frozen=True)
class Models:
    """The models of one thread. `load_strong` gives the stronger one, loaded at its first call, for `strong`."""

    fast: Model
    strong: ModelCard | None = None
    load_strong: Callable[[], Model] | None = None

    @property
    def strong_names(self) -> tuple[str, ...]:
        return () if self.strong is None else (self.strong.name, self.strong.id)


def run_routed(
    models: Models, data: bytes, wish: Wish, limits: Limits, background: bytes | None = None, *, levels: bool = False
) -> Result:
    """The answer; `levels` as in pipeline.predicted. Raises as prepare and rendered do, and LowQuality."""
    routing = Routing(wish, models.strong_names)
    prepared = prepare(data, wish.options, models.fast.card, limits, background, recipe=wish.recipe)
    if prepared.fitted is None or routing.first == "fast":
        made = predicted(prepared, models.fast, mirror=wish.check_stability, levels=levels)
    else:
        made = _by_stronger(models, prepared, wish, levels)
    if prepared.fitted is not None and routing.wants_stronger(made.quality):
        telemetry.add(telemetry.QUALITY_ROUTES, route="retry")
        made = better(made, _by_stronger(models, prepared, wish, levels))
    result = settled(prepared, made, routing)
    prepared.stages.report()
    return result


def _by_stronger(models: Models, prepared: Prepared, wish: Wish, levels: bool) -> Matted:
    assert models.load_strong is not None  # there are names for it only where it can be loaded
    model = models.load_strong()
    return predicted(refitted(prepared, model.card), model, mirror=wish.check_stability, levels=levels)


def better(first: Matted, second: Matted) -> Matted:
    """The one with the higher score; the first where they are equal."""
    return second if second.quality.score > first.quality.score else first


def settled(prepared: Prepared, made: Matted, routing: Routing) -> Result:
    """The answer, with what the gate says of it, counted. Raises as rendered does, and LowQuality."""
    if made.box is None and not prepared.options.allow_empty:
        return rendered(prepared, made)  # says so: an empty matte has no quality to speak of
    try:
        route = routing.settled(made.quality)
    except LowQuality:
        telemetry.add(telemetry.QUALITY_ROUTES, route="reject")
        raise
    if route is not None:
        telemetry.add(telemetry.QUALITY_ROUTES, route=route)
    return rendered(prepared, made, route, routing.warnings)
