"""Refuses a picture that could not be answered in time: at once where that shows before its body is read, else as soon
as its size is known. Pure: no HTTP, no Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deployments.ingress.pace import Pace
from mattehorn.errors import Overloaded

_SURE = 0.75  # of the time left; a forecast is not exact, and a refused caller can ask elsewhere, one left waiting not


class Admission:
    """Lets in at most `limit` pictures, and fewer when the pace says that they would wait too long."""

    def __init__(
        self,
        limit: int,
        max_wait_s: float,
        pace: Pace,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` gives Unix time, as deadlines do."""
        self._limit, self._max_wait_s, self._pace, self._now = limit, max_wait_s, pace, now
        self.in_flight = 0

    @contextmanager
    def admit(self, max_wait_s: float | None = None) -> Iterator[None]:
        """Holds one place, before the body is read; for callers with less patience than the service has, `max_wait_s`.
        Raises Overloaded."""
        most_s = self._max_wait_s if max_wait_s is None else min(max_wait_s, self._max_wait_s)
        if self.in_flight >= self._limit or self._pace.wait_s() > most_s:
            raise self._refusal(self._pace.wait_s(), f"the limit is {self._limit} or {most_s:g} s of waiting")
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    @contextmanager
    def work(self, megapixels: float, deadline: float) -> Iterator[None]:
        """Around the work on a picture of that size. Raises Overloaded where it would not be done by `deadline`; a
        picture that has the service for itself is tried in any case."""
        wait_s, left_s = self._pace.wait_s(megapixels), deadline - self._now()
        if self._pace.count and wait_s > _SURE * left_s:
            raise self._refusal(wait_s, f"this one of {megapixels:.1f} megapixels has {max(0.0, left_s):.0f} s")
        with self._pace.work(megapixels):
            yield

    def _refusal(self, wait_s: float, why: str) -> Overloaded:
        return Overloaded(
            f"{self.in_flight} pictures are here, with about {wait_s:.0f} s of work; {why}. Try again after "
            "Retry-After.",
            retry_after_s=max(1, math.ceil(wait_s / 2)),
        )
