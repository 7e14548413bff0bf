"""Removes the photos of web batches some time after their jobs' end, again and again while the ingress runs.

What it is not: it decides nothing; mattehorn/bulk/uploads.py does. Every replica of the ingress does the same, which
does no harm: one listing each, every few minutes.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from deployments.ingress.bulk.bulk_access import BulkAccess
from mattehorn.bulk.uploads import remove_old_uploads
from mattehorn.errors import MattehornError
from mattehorn.settings import BulkSettings

log = logging.getLogger("ray.serve")

PAUSE_LEAST_S, PAUSE_MOST_S = 10.0, 600.0  # a look costs one listing, and five small requests a batch that lies there


class UploadSweep:
    """One per ingress replica. Says a fault once, not at every look."""

    def __init__(self, settings: BulkSettings, bulk: BulkAccess) -> None:
        self._kept_s, self._bulk = settings.uploads_kept_s, bulk
        self.pause_s = min(PAUSE_MOST_S, max(PAUSE_LEAST_S, settings.uploads_kept_s / 6))
        self._fault = ""

    async def once(self) -> int:
        """How many photos were removed; 0 where the store or the queue is away, or the right to delete is missing."""
        try:
            removed = await self._bulk.ask(
                lambda jobs: remove_old_uploads(jobs, kept_s=self._kept_s, now=datetime.now(UTC))
            )
        except MattehornError as error:
            if error.message != self._fault:
                log.warning("bulk_uploads_not_removed reason=%s", error.message)
            self._fault = error.message
            return 0
        self._fault = ""
        if removed:
            log.info("bulk_uploads_removed photos=%d", removed)
        return removed

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(self.pause_s)
            await self.once()
