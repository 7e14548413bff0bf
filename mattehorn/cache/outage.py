"""Remembers that something did not answer, so that not every request waits for it, and says it once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger("ray.serve")

PAUSE_S = 10.0  # a killed replica is replaced within 3 s; a bucket's trouble rarely ends sooner


class Outage:
    """Of what is a help and no need. `event` names it in the log."""

    def __init__(self, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._event, self._clock = event, clock
        self._until: float | None = None

    @property
    def lasts(self) -> bool:
        """Whether to go without it; False again after a pause, for the next one to try."""
        return self._until is not None and self._clock() < self._until

    def begin(self, reason: str) -> None:
        if self._until is None:
            log.warning("%s_away reason=%s", self._event, reason)
        self._until = self._clock() + PAUSE_S

    def end(self) -> None:
        if self._until is not None:
            log.info("%s_back", self._event)
        self._until = None
