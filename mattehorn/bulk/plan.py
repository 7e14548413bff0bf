"""The values of bulk work on one photo: the plan for it, what the service answers, who pays, and what became of it.

What it is not: it does nothing; item.py does. Called by item.py, worker.py, shard.py and the manifest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, Protocol

from mattehorn.bulk.places import Place
from mattehorn.events import ObjectRef
from mattehorn.options import Options
from mattehorn.quality import Quality
from mattehorn.recipe import result_keys as keys
from mattehorn.recipe.gate import Route, Wish
from mattehorn.recipe.recipe import Recipe
from mattehorn.settings import Limits

Status = Literal["done", "skipped", "gone", "superseded", "error", "loop"]
SOURCE_BYTES = 100 * 2**20  # far above any photo within the pixel limit; `limits.body_bytes` is about uploads


class CutOutResult(Protocol):
    """What bulk work needs of a result; pipeline.Result has it."""

    @property
    def data(self) -> bytes: ...
    @property
    def content_type(self) -> str: ...
    @property
    def extension(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def quality(self) -> Quality: ...
    @property
    def model(self) -> str: ...
    @property
    def subject(self) -> str | None: ...
    @property
    def timings_ms(self) -> Mapping[str, float]: ...
    @property
    def route(self) -> Route | None: ...


CutOut = Callable[[bytes, Wish], Awaitable[CutOutResult]]


class Account(Protocol):
    """Who pays for a job's photos, and what they may be. `work` names a photo's result, `holder` one attempt at it."""

    @property
    def limits(self) -> Limits:
        """The service's, narrowed by the tenant's own."""

    @property
    def source_bytes(self) -> int | None:
        """The tenant's own limit for a photo's file."""

    def require_left(self) -> None:
        """Raises QuotaExceeded where nothing is left, as far as this process knows without asking."""

    async def hold(self, work: str, holder: str, megapixels: int) -> None:
        """Sets them aside. Raises QuotaExceeded, ImageTooLarge for more than the whole budget, Unavailable."""

    async def settle(self, work: str, holder: str) -> None:
        """Charges what is held. Raises nothing: the result is there."""

    async def drop(self, work: str, holder: str) -> None:
        """Gives back what is held. Raises nothing: what nobody gives back is given back in time."""


Accounts = Callable[[str], Account | None]  # by a tenant's name


def free(tenant: str) -> Account | None:
    """Where nobody pays."""
    return None


@dataclass(frozen=True)
class Plan:
    """What becomes of a photo. `model` is keys.service_digest(), `output` a folder; jobs have `job` and its `run`, a
    tenant's job the `account` that pays."""

    recipe: Recipe
    output: Place
    model: str
    job: str | None = None
    run: datetime | None = None
    max_source_bytes: int = SOURCE_BYTES
    account: Account | None = None

    @cached_property
    def options(self) -> Options:
        return self.recipe.bulk_options()

    @cached_property
    def wish(self) -> Wish:
        return Wish(self.options, self.recipe.quality, self.recipe.tag)

    @cached_property
    def recipe_hash(self) -> str:
        return self.recipe.hash

    def identity(self, version: str) -> str:
        return keys.identity(version, self.model, self.recipe_hash)

    def results(self, key: str, h: str) -> tuple[str, ...]:
        """The whole keys under which a result may lie: where the gate may send one to review, there as well."""
        gate = self.recipe.quality
        may_wait = gate is not None and gate.otherwise == "review"
        return tuple(self.result(key, h, review) for review in ((False, True) if may_wait else (False,)))

    def result(self, key: str, h: str, review: bool = False) -> str:
        """The result's whole key. Raises StoreKeyError."""
        ext = keys.extension(self.options)
        relative = keys.output_key(
            self.recipe.key_template, key, h, ext, sku=self.options.sku, job=self.job, run=self.run
        )
        return self.output.below(f"{keys.REVIEW}{relative}" if review else relative).key


@dataclass(frozen=True)
class Outcome:
    """What became of one photo. `output` is a whole key in the plan's bucket, of the result or of the error's record.

    `review`: the result lies among those to be reviewed. `first`: this call created that object. `own`: a skipped
    result that the same job made earlier. Sides in px, `size` in bytes, `seconds` from the first look to the end.
    """

    ref: ObjectRef
    status: Status
    version: str = ""
    output: str | None = None
    review: bool = False
    first: bool = False
    own: bool = False
    sha256: str | None = None
    size: int | None = None
    width: int | None = None
    height: int | None = None
    model: str | None = None
    subject: str | None = None
    quality: Mapping[str, Any] | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    code: str | None = None
    reason: str | None = None
