"""Who is at work on what: the first to claim a piece of work does it, the others wait for it. Pure asyncio.

A claim ends when its holder releases it, or by itself when the holder has died and its lease runs out; a holder that
lives claims again before that. What it is not: it knows no answer. Called by the tally (deployments/tally/book.py).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass
class _Claim:
    """`ends` on the clock; `over` is set when the work is free for another."""

    holder: str
    ends: float
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Claims:
    """Work (any text that stands for it) to its holder. One event loop owns it.

    It holds what is claimed now: a claim whose lease has run out is dropped by the next one, whatever that is for.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: OrderedDict[str, _Claim] = OrderedDict()  # claimed last, stands last; leases are of one length

    def __len__(self) -> int:
        return len(self._held)

    def claim(self, work: str, holder: str, lease_s: float) -> bool:
        """Whether `holder` has it now, for `lease_s`; False: another is at it. The holder's own is renewed."""
        self._drop_ended()
        found = self._held.get(work)
        if found is not None and found.ends <= self._clock():  # behind one of a longer lease
            self._end(work)
            found = None
        if found is None:
            found = self._held[work] = _Claim(holder, 0.0)
        elif found.holder != holder:
            return False
        found.ends = self._clock() + lease_s
        self._held.move_to_end(work)
        return True

    def release(self, work: str, holder: str) -> None:
        """Ends the claim, if it is still the holder's."""
        found = self._held.get(work)
        if found is not None and found.holder == holder:
            self._end(work)

    async def released(self, work: str, within_s: float) -> bool:
        """True as soon as the claim that stands now is over, by release or lease; False after `within_s`."""
        found = self._held.get(work)
        gives_up = self._clock() + within_s
        while found is not None and not found.over.is_set():
            now = self._clock()
            if now >= found.ends:
                break
            if now >= gives_up:
                return False
            with suppress(TimeoutError):
                await asyncio.wait_for(found.over.wait(), min(gives_up, found.ends) - now)
        return True

    def _drop_ended(self) -> None:
        """Looks at the oldest only, as long as they have ended: a few steps for each claim."""
        now = self._clock()
        while self._held:
            work = next(iter(self._held))
            if self._held[work].ends > now:
                return
            self._end(work)

    def _end(self, work: str) -> None:
        self._held.pop(work).over.set()
