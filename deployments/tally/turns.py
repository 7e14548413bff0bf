"""Turns at a piece of work, across all ingress replicas: who has the turn does it, the others wait.

A turn is a claim at the tally, renewed while its holder lives. Nothing that is wrong with the tally fails a request:
while it is away, everybody has the turn, and equal work is done as often as it is asked for. No Ray here.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress

from deployments.tally.book import Tally
from mattehorn.cache.outage import Outage
from mattehorn.errors import DeadlineExceeded, Overloaded, Unavailable

LEASE_S = 5.0  # what waiters lose when a holder's replica dies: a sixth of the 30 s that they have
RENEW_S = 1.5  # three tries within a lease, on a loop that a large photo may hold up
ASK_S = 1.0  # an answer takes milliseconds; a tally that starts again takes seconds, and the request goes on without it
_TROUBLES = (TimeoutError, Unavailable, DeadlineExceeded, Overloaded)


class Turns:
    """One per ingress replica and kind of work."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._outage = Outage("tally_claims")

    async def take(self, work: str) -> Turn | None:
        """None while somebody else has it. It is given back by `Turn.give_back`."""
        holder = uuid.uuid4().hex
        if self._outage.lasts:
            return Turn(None, work, holder)
        try:
            async with asyncio.timeout(ASK_S):
                mine = await self._tally.claim(work, holder, LEASE_S)
        except _TROUBLES as error:
            self._outage.begin(type(error).__name__)
            return Turn(None, work, holder)
        self._outage.end()
        return Turn(self._tally, work, holder) if mine else None

    async def over(self, work: str, within_s: float) -> None:
        """Returns when the turn that somebody else has is over, or time is, or the tally is away."""
        try:
            await self._tally.released(work, within_s)
        except _TROUBLES as error:
            self._outage.begin(type(error).__name__)


class Turn:
    """Held until it is given back. Without a tally it is nobody's business but ours."""

    def __init__(self, tally: Tally | None, work: str, holder: str) -> None:
        self._tally, self._work, self._holder = tally, work, holder
        self._renewing = asyncio.create_task(self._renew(tally)) if tally is not None else None

    async def give_back(self) -> None:
        """Lets the next one have it. Where the tally does not answer, the lease runs out by itself."""
        if self._tally is None or self._renewing is None:
            return
        self._renewing.cancel()
        with suppress(*_TROUBLES):
            async with asyncio.timeout(ASK_S):
                await self._tally.release(self._work, self._holder)

    async def _renew(self, tally: Tally) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(*_TROUBLES):
                async with asyncio.timeout(ASK_S):
                    await tally.claim(self._work, self._holder, LEASE_S)
