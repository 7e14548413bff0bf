"""Keeps the month's counts in the results store, so that a quota outlives the replica that counts. No Ray.

What it is not: it decides nothing (mattehorn/access/budgets.py). Owned by the tally's replica.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from mattehorn.access.budgets import Budgets
from mattehorn.access.usage import read_month, write_month
from mattehorn.errors import MattehornError, StoreUnavailable
from mattehorn.store.interface import Store

log = logging.getLogger("ray.serve")

EVERY_S = 5.0  # what a crash can lose; half a million writes a month at most, of which a bucket's owner pays for each


class Keeper:
    """Reads the month once, then writes it whenever it has changed, at most every few seconds.

    A store that is away holds nobody up: what is counted meanwhile is added to what is read later.
    """

    def __init__(self, budgets: Budgets, store: Store) -> None:
        self._budgets, self._store = budgets, store
        self._loaded = False
        self._written: tuple[str, Mapping[str, int]] | None = None
        self._fault = ""
        self._saving = asyncio.Lock()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.save()
            await asyncio.sleep(EVERY_S)

    async def save(self) -> bool:
        """Whether what was counted so far is in the store. Says a fault once, not at every try."""
        async with self._saving:
            try:
                await self._load()
                month, counts = self._budgets.month()
                if counts and (month, counts) != self._written:
                    await asyncio.to_thread(write_month, self._store, month, counts)
                self._written, self._fault = (month, counts), ""
            except StoreUnavailable as error:
                self._say(error)
                return False
            return True

    async def _load(self) -> None:
        if self._loaded:
            return
        month, _ = self._budgets.month()
        try:
            counts = await asyncio.to_thread(read_month, self._store, month)
        except StoreUnavailable:
            raise
        except MattehornError as error:  # never to be read: counting from zero is all that is left
            self._say(error)
            counts = {}
        self._budgets.add_month(month, counts)
        self._loaded, self._written = True, (month, counts)

    def _say(self, error: MattehornError) -> None:
        if error.message != self._fault:
            log.warning("usage_not_kept reason=%s", error.message)
        self._fault = error.message
