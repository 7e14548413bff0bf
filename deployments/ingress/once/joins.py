"""Equal work that is asked for at once in one process is done once: the first does it, the others get its outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from mattehorn.errors import DeadlineExceeded, MattehornError

T = TypeVar("T")


class Joins(Generic[T]):
    """Work in flight, by a text that stands for it. One event loop owns it."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Future[T | MattehornError | None]] = {}

    async def once(self, work: str, do: Callable[[], Awaitable[T]], deadline: float) -> tuple[T, bool]:
        """The outcome of `do()`, and whether another caller had it done.

        Where the first fails, one of the others does it anew, unless the error is the request's own fault: then all get
        it. Raises what `do` raises, and DeadlineExceeded for one that waited until the Unix time `deadline`.
        """
        while (running := self._running.get(work)) is not None:
            outcome = await _within(running, deadline)
            if isinstance(outcome, MattehornError):
                raise type(outcome)(outcome.message, **outcome.data)
            if outcome is not None:
                return outcome, True
        future = self._running[work] = asyncio.get_running_loop().create_future()
        outcome = None
        try:
            done = outcome = await do()
        except MattehornError as error:
            outcome = error if _is_the_requests_fault(error) else None
            raise
        finally:
            del self._running[work]
            future.set_result(outcome)
        return done, False


async def _within(running: asyncio.Future[T], deadline: float) -> T:
    try:
        async with asyncio.timeout(max(0.0, deadline - time.time())):
            return await asyncio.shield(running)  # one that leaves does not end it for the others
    except TimeoutError:
        raise DeadlineExceeded("An equal request is not done yet, and time is up; try again later.") from None


def _is_the_requests_fault(error: MattehornError) -> bool:
    """Whether an equal request will fail the same way, whoever does it and when."""
    return 400 <= error.status < 500 and error.retry_after_s is None
