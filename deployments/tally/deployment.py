"""The one replica that counts for all ingress replicas. It holds no photo and no answer; losing it loses a minute's
counts, the last seconds of the month's, and the claims of requests in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ray import serve

from deployments.tally.book import Book
from deployments.tally.keeper import Keeper
from mattehorn import telemetry
from mattehorn.errors import MattehornError
from mattehorn.settings import Settings
from mattehorn.store.open import open_store


@serve.deployment(name="Tally")
class Tally(Book):
    """A Book behind a handle, whose months are kept in the results store."""

    _closed = True  # until the constructor is through

    def __init__(self, settings: Settings) -> None:
        telemetry.use_ray()
        super().__init__()
        self._keeper = Keeper(self.budgets, open_store(settings.store))
        self._closed = False
        # Serve calls the constructor on the replica's event loop
        self._keeping = asyncio.create_task(self._keeper.run())

    async def save(self) -> bool:
        """Whether the month's counts are in the store; for the end of the service."""
        return await self._keeper.save()

    def check_health(self) -> None:
        """Raises when nothing is kept any more: Serve then starts another replica."""
        if self._keeping.done() and not self._closed:
            fault = None if self._keeping.cancelled() else self._keeping.exception()
            raise MattehornError(f"The loop that keeps what tenants spend has ended: {fault!r}")

    def __del__(self) -> Coroutine[Any, Any, None] | None:
        """What Serve awaits when the replica is stopped."""
        if self._closed:
            return None
        self._closed = True
        return self._close()

    async def _close(self) -> None:
        await self._keeper.save()
        self._keeping.cancel()
