"""Refuses a picture that could not be answered in time, before its body is read. Pure: no HTTP, no Ray."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from mattehorn.errors import Overloaded

_RECENT = 32  # completions that the throughput is taken over: a few batches, seconds under load
_ENOUGH = 8  # completions below which a throughput is a guess
_STALE_S = 30.0  # older completions say nothing of today's speed


class Admission:
    """Lets in at most `limit` pictures, and fewer when the recent throughput says that they would wait too long.

    Throughput counts only from the last idle moment on: between two lone pictures it would measure the callers.
    """

    def __init__(self, limit: int, max_wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._max_wait_s, self._clock = limit, max_wait_s, clock
        self._finished: deque[float] = deque(maxlen=_RECENT)
        self.in_flight = 0

    @contextmanager
    def admit(self, max_wait_s: float | None = None) -> Iterator[None]:
        """Holds one place; for callers with less patience than the service has, `max_wait_s`. Raises Overloaded with a
        truthful `retry_after_s`."""
        wait_s = self.expected_wait_s()
        most_s = self._max_wait_s if max_wait_s is None else min(max_wait_s, self._max_wait_s)
        if self.in_flight >= self._limit or wait_s > most_s:
            raise Overloaded(
                f"{self.in_flight} pictures are in work here; the limit is {self._limit} or {most_s:g} s of "
                "waiting. Try again after Retry-After.",
                retry_after_s=max(1, math.ceil(wait_s / 2)),
            )
        if self.in_flight == 0:
            self._finished.clear()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._finished.append(self._clock())

    def expected_wait_s(self) -> float:
        """Seconds until a picture that came now would be answered: those before it over the recent throughput.

        The longest gap between completions is left out: a replica's restart is not the service's speed.
        """
        now = self._clock()
        recent = [at for at in self._finished if now - at < _STALE_S]
        if len(recent) < _ENOUGH:
            return 0.0
        gaps = sorted(later - earlier for earlier, later in pairwise(recent))[:-1]
        return self.in_flight * sum(gaps) / len(gaps)
