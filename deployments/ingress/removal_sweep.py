"""Ends removals of stored results that ended half-way, again and again while the ingress runs.

What it is not: it decides nothing; mattehorn/store/removal.py does. Every replica of the ingress does the same, which
does no harm: one listing each, every ten minutes, of what is nearly always empty.
"""

from __future__ import annotations

import asyncio
import logging

from mattehorn.errors import MattehornError
from mattehorn.store.interface import Store
from mattehorn.store.removal import finish_removal, unfinished

log = logging.getLogger("ray.serve")

PAUSE_S = 600.0


class RemovalSweep:
    """One per ingress replica. Takes up what lay there at its last look, too: the others are at work. Says a fault
    once, not at every look."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: set[str] = set()
        self._fault = ""

    async def once(self) -> int:
        """How many removals were ended; 0 where the store is away, or the right to delete is missing."""
        try:
            ended = await asyncio.to_thread(self._swept)
        except MattehornError as error:
            if error.message != self._fault:
                log.warning("results_not_removed reason=%s", error.message)
            self._fault = error.message
            return 0
        self._fault = ""
        if ended:
            log.info("results_removed_late results=%d", ended)
        return ended

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(PAUSE_S)

    def _swept(self) -> int:
        lying = set(unfinished(self._store))
        old, self._seen = lying & self._seen, lying
        return sum(finish_removal(self._store, copy) for copy in sorted(old))
