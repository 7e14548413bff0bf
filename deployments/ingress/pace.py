"""How fast photos are done, by their size, and so how long one more would take. Pure: no HTTP, no Ray.

A photo's work is its megapixels, and a little that every photo costs. Each photo done tells what a unit of work costs
a lane: the time it took, over the work before it and its own, times the lanes that were busy with it. That holds for a
large photo alone, which has one lane, as for the last of a burst, which waits for all the others; so what quiet hours
have taught is right for the burst after them. A small photo alone tells nothing: it waits for a batch, a process or a
pool that wakes more than it works.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from mattehorn.errors import DeadlineExceeded

FIXED = 1.2  # what each photo costs beside its pixels, in megapixels: 48 ms and 41 ms a megapixel (docs/performance.md)
_GUESS_S = 0.05  # a unit's cost until photos have told it; the same figures, rounded up
_RECENT, _GUESSES = 16, 5  # whose median is the pace: two that waited for a restart or a cold pool do not move it
_TELLING = 12.0  # units before a photo and its own, from which on its time is mostly work


class Pace:
    """`lanes`: photos that can be in work side by side. Where that guess is wrong, photos of a busy time correct it."""

    def __init__(self, lanes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._lanes, self._clock = max(1, lanes), clock
        self._unit_s = deque([_GUESS_S] * _GUESSES, maxlen=_RECENT)
        self._work = 0.0
        self.count = 0  # photos in work

    def wait_s(self, megapixels: float | None = None) -> float:
        """Seconds until all in work are done, and one more of `megapixels` where that is given."""
        if megapixels is None:
            return self._work * median(self._unit_s) / self._lanes
        work = self._work + megapixels + FIXED
        return work * median(self._unit_s) / min(self._lanes, self.count + 1)

    @contextmanager
    def work(self, megapixels: float) -> Iterator[None]:
        """Counts a photo as in work, and learns from it. One that fails teaches nothing, unless time ran out."""
        own = megapixels + FIXED
        self._work += own
        self.count += 1
        before, busy, began = self._work, min(self._lanes, self.count), self._clock()

        def learn() -> None:
            if before >= _TELLING:
                self._unit_s.append((self._clock() - began) / before * busy)

        try:
            yield
        except DeadlineExceeded:
            learn()
            raise
        else:
            learn()
        finally:
            self.count -= 1
            self._work = self._work - own if self.count else 0.0  # sums of fractions drift
