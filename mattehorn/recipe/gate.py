"""Which model a photo goes to, and what becomes of its result: every decision that follows from a quality score.

A recipe's gate, the caller's `tier` and the models that run decide together. Pure: no model, no store. Called by
whoever makes the picture (mattehorn/routed.py in one process, deployments/compose/routing.py in a service) and by bulk
work, which puts a result under review into a folder of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from mattehorn.errors import LowQuality, OptionError
from mattehorn.models.zoo import Pool
from mattehorn.options import Options
from mattehorn.quality import Quality

Otherwise = Literal["review", "reject", "accept"]
Route = Literal["accept", "review"]

# Below it `tier=auto` asks the stronger model where no gate says otherwise. Of the training sets' validation split
# (docs/evaluation.md) it sends a third of the photos there, which hold three quarters of what the stronger one mends.
RETRY_BELOW = 0.6
NO_STRONGER_MODEL = "no_stronger_model"  # the warning to `tier=best` where only one model runs


@dataclass(frozen=True)
class Gate:
    """A score from `accept` on is accepted. Below it: the stronger model has a go where `retry_model` allows and one
    runs, then `otherwise` says what becomes of the result. `check_stability` asks for that option on each photo."""

    accept: float = 0.5
    retry_model: bool = True
    otherwise: Otherwise = "review"
    check_stability: bool = False

    @classmethod
    def read(cls, document: object) -> Self:
        """The gate of a recipe's `quality`. Raises OptionError."""
        known = {item.name for item in fields(cls)}
        if not isinstance(document, Mapping):
            raise _bad(f'is an object such as {{"accept": 0.6, "otherwise": "review"}}; it has {_listed(known)}')
        if unknown := sorted(str(name) for name in document if name not in known):
            raise _bad(f"has no {unknown[0][:80]}; it has {_listed(known)}")
        accept = document.get("accept", cls.accept)
        if isinstance(accept, bool) or not isinstance(accept, int | float) or not 0 <= accept <= 1:
            raise _bad(f"has accept {str(accept)[:80]}; allowed is a number from 0 to 1")
        otherwise = document.get("otherwise", cls.otherwise)
        if otherwise not in get_args(Otherwise):
            raise _bad(f"has otherwise {str(otherwise)[:80]}; allowed are {', '.join(get_args(Otherwise))}")
        for name in ("retry_model", "check_stability"):
            if not isinstance(document.get(name, False), bool):
                raise _bad(f"has {name} {str(document[name])[:80]}; allowed are true and false")
        return cls(**{**document, "accept": float(accept)})

    def document(self) -> dict[str, Any]:
        """What `read` takes, defaults left out, so that a field of a later version changes no recipe's hash."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value != getattr(Gate, name)}

    def route(self, quality: Quality) -> Route:
        """Raises LowQuality where the gate rejects."""
        if quality.score >= self.accept or self.otherwise == "accept":
            return "accept"
        if self.otherwise == "review":
            return "review"
        reasons = f" ({', '.join(quality.reasons)})" if quality.reasons else ""
        raise LowQuality(
            f"The matte's score is {quality.score:.3f}{reasons}; the recipe accepts {self.accept:g} and more. Send "
            "another photo, or use a recipe without this gate."
        )


def quality_document(quality: Quality, route: Route | None) -> dict[str, Any]:
    """What a record says of a result's quality; `route` only where a gate said something."""
    told = {"score": quality.score, "reasons": list(quality.reasons)}
    return told | ({"route": route} if route else {})


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _bad(what: str) -> OptionError:
    return OptionError(f"A recipe's quality {what}.", field="recipe")


@dataclass(frozen=True)
class Wish:
    """What is asked for one photo. `recipe` is `name@version;hash` for the record, or empty."""

    options: Options
    gate: Gate | None = None
    recipe: str = ""

    @property
    def check_stability(self) -> bool:
        return self.options.check_stability or (self.gate is not None and self.gate.check_stability)


@dataclass(frozen=True)
class Routing:
    """The way of one photo through one model or two. `strong`: names by which the stronger one may be asked for."""

    wish: Wish
    strong: tuple[str, ...] = ()

    @property
    def first(self) -> Pool:
        """A model that is named goes before the tier."""
        options = self.wish.options
        if options.model != "auto":
            return "strong" if options.model in self.strong else "fast"
        return "strong" if self.strong and options.tier == "best" else "fast"

    def wants_stronger(self, first: Quality) -> bool:
        """Whether the stronger model has a go after this result of the fast one."""
        options, gate = self.wish.options, self.wish.gate
        if not self.strong or self.first == "strong" or options.model != "auto" or options.tier != "auto":
            return False
        if gate is None:
            return first.score < RETRY_BELOW
        return gate.retry_model and first.score < gate.accept

    def settled(self, quality: Quality) -> Route | None:
        """What becomes of the best result; None without a gate. Raises LowQuality where the gate rejects."""
        return self.wish.gate.route(quality) if self.wish.gate else None

    @property
    def warnings(self) -> tuple[str, ...]:
        wanted = self.wish.options.tier == "best" and self.wish.options.model == "auto" and not self.strong
        return (NO_STRONGER_MODEL,) if wanted else ()
