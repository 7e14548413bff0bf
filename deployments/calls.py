"""What crosses a process border, and the one rule by which a hop repeats a call whose callee died. Imports no Ray.

Encoded bytes go from ingress to compose, one network-size array from compose to matting and back (docs/adr/0002).
Decoded full-size pixels never travel.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, ParamSpec, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from mattehorn import telemetry
from mattehorn.access.tenant import ANONYMOUS
from mattehorn.errors import DeadlineExceeded, MattehornError, Overloaded, Unavailable
from mattehorn.layout.plan import Layout
from mattehorn.options import Options
from mattehorn.pipeline import Result
from mattehorn.recipe.gate import Gate, Wish
from mattehorn.rendition import Rendition
from mattehorn.store.records import StoredResult

T = TypeVar("T")
P = ParamSpec("P")
Lane = Literal["interactive", "bulk"]
LANES: tuple[Lane, ...] = get_args(Lane)

STRONG = "MattingStrong"  # the deployment of Settings.strong_model, in serve_config.yaml as well
ATTEMPTS = 3
# Other replicas answer at once; where there is none, Serve holds the call until the replacement runs, 2 s after a kill
PAUSES_S = (0.2, 1.0)
RETRY_AFTER_S = 2


@dataclass(frozen=True)
class Job:
    """Ingress or bulk to compose: one photo. `deadline` is a Unix time; `name` is the file's, without suffix.

    Somebody waits for `interactive` work; `bulk` work takes what that leaves (docs/architecture.md).
    """

    photo: bytes
    options: Options
    request_id: str
    deadline: float
    name: str
    background: bytes | None = None
    lane: Lane = "interactive"
    tenant: str = ANONYMOUS.name
    recipe: str = ""  # `name@version;hash` of the recipe asked for: it says all of `gate`, for records and caches
    gate: Gate | None = None
    binary: bool = False  # alpha smoothed and cut to 0 or 1, which no native option asks for
    rendition: Rendition | None = None  # what else none asks for

    @property
    def layout(self) -> Layout | None:
        return (self.rendition.layout if self.rendition else None) or self.options.layout

    @property
    def wish(self) -> Wish:
        return Wish(self.options, self.gate, self.recipe)


@dataclass(frozen=True)
class Answer:
    """Compose to ingress: the result, and where it was stored when that was asked for."""

    result: Result
    stored: StoredResult | None = None


@dataclass(frozen=True)
class Prediction:
    """Matting to compose: alpha uint8 [H, W] at network size and how it came about."""

    alpha: NDArray[np.uint8]
    queue_ms: float
    infer_ms: float
    batch_size: int
    model: str
    subject: str | None = None  # what the photo shows, where the model tells


@dataclass(frozen=True)
class Full:
    """The answer to bulk work that finds no place: come again. A value, for Serve logs each error with its trace."""


@dataclass(frozen=True)
class Refused:
    """An error below 500, which is the caller's: a value too. call_with_retries raises it again."""

    error: MattehornError


def refusing(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T | Refused]]:
    """A replica's method that gives out such errors as Refused, and raises the others."""

    @functools.wraps(method)
    async def told(*args: P.args, **kwargs: P.kwargs) -> T | Refused:
        try:
            return await method(*args, **kwargs)
        except MattehornError as error:
            if error.status >= 500:
                raise
            return Refused(error)

    return told


@dataclass(frozen=True)
class Pool:
    """What a matting replica says of itself, for `/readyz` and `/v1/models`."""

    model: str
    device: str
    dtype: str


@dataclass(frozen=True)
class Readiness:
    """Whether the service can answer. `cold`: scaled to zero, the first request wakes it. `strong`: the stronger
    model's pool, None where there is none or it sleeps."""

    ready: bool
    cold: bool = False
    reasons: tuple[str, ...] = ()
    pool: Pool | None = None
    strong: Pool | None = None


@dataclass(frozen=True)
class Failures:
    """How a callee's troubles look to Ray: failures.py has them, which may import it."""

    died: tuple[type[BaseException], ...] = ()
    full: tuple[type[BaseException], ...] = ()


async def call_with_retries(
    make: Callable[[], Awaitable[T | Refused]], failures: Failures, *, callee: str, deadline: float
) -> T:
    """The answer of `make()`, asked again when the callee died under it: at most 3 times, within the deadline.

    Raises Overloaded when the callee's queue is full, Unavailable when every attempt died, DeadlineExceeded, or the
    callee's own MattehornError.
    """
    for attempt in range(ATTEMPTS):
        left = deadline - time.time()
        if left <= 0:
            raise DeadlineExceeded(f"The request's time ran out before {callee} answered; try again later.")
        try:
            async with asyncio.timeout(left):
                answer = await make()
        except TimeoutError:
            raise DeadlineExceeded(
                f"{callee} did not answer in time; try again later or send a smaller photo."
            ) from None
        except Exception as error:
            original = original_error(error)
            if isinstance(original, failures.full):
                raise Overloaded("The service is at its limit; try again.", retry_after_s=RETRY_AFTER_S) from None
            if not isinstance(error, failures.died):
                if original is error:
                    raise
                raise original from None
            if attempt + 1 < ATTEMPTS:
                telemetry.add(telemetry.RETRIES, callee=callee)
                await asyncio.sleep(min(PAUSES_S[attempt], max(0.0, deadline - time.time())))
        else:
            if isinstance(answer, Refused):
                raise answer.error
            return answer
    raise Unavailable(f"{callee} was restarted too often during this request; try again.", retry_after_s=RETRY_AFTER_S)


def original_error(error: BaseException) -> BaseException:
    """The error that the callee raised: Ray's default mode wraps it and keeps it in `.cause`."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error
