"""The content-hash cache in front of the work: what was answered is looked up, what is in work is waited for.

Pure asyncio over the store and the tally; mattehorn/cache/ has what is kept and where. A store or a tally that is away
makes every request a miss, and fails none. One per ingress replica.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from deployments.calls import Answer
from deployments.ingress.once.joins import Joins
from deployments.tally.turns import Turn, Turns
from mattehorn import telemetry
from mattehorn.cache.answers import Answers, KeptAnswer
from mattehorn.cache.fingerprint import Question, fingerprint, maker
from mattehorn.cache.outage import Outage
from mattehorn.errors import DeadlineExceeded, MattehornError, ModelError
from mattehorn.models.zoo import running_cards
from mattehorn.pipeline import NO_MODEL

if TYPE_CHECKING:
    from deployments.ingress.jobs import Service
    from deployments.ingress.served import Served

log = logging.getLogger("ray.serve")
T = TypeVar("T")

FIND_S = 3.0  # reading 64 MB takes about a second; computing a photo again seldom takes longer than this
KEEP_S = 5.0  # others wait for it, and after that compute for themselves
_KEEPS_MOST = 8  # answers of at most 64 MB that are on their way to the store; above it an answer is not kept
_THREADS = 8  # of its own: a store that hangs holds them for up to 48 s, and nothing else


class AnswerCache:
    """Answers of this service's models."""

    def __init__(self, service: Service, answers: Answers, by: str) -> None:
        """`by` is fingerprint.maker's word for who answers."""
        settings = service.settings
        cards = running_cards(settings.model, settings.strong_model, settings.model_dir)
        # during an update a replica of another model may answer once more: that is not kept as this one's
        self._models = frozenset((*(card.id for card in cards.values()), NO_MODEL))
        self._answers, self._by = answers, by
        self._turns = Turns(service.tally)
        self._joins: Joins[Served | Answer] = Joins()
        self._outage = Outage("cache_store")
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="cache")
        self._keeping: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, service: Service, answers: Answers) -> AnswerCache | None:
        """None where the cache is off, or the model's weights are out of this replica's reach."""
        if service.settings.cache.max_bytes == 0:
            return None
        try:
            return cls(service, answers, maker(service.settings))
        except ModelError as error:
            log.warning("cache_off reason=%s", error.message)
            return None

    async def answer(
        self, question: Question, deadline: float, compute: Callable[[], Awaitable[Served]]
    ) -> Served | Answer:
        """An Answer that was computed for another request, or what `compute()` gave for this one.

        Waits for an equal request in flight until the Unix time `deadline`. Raises what `compute` raises, and
        DeadlineExceeded.
        """
        began = perf_counter()
        name = await asyncio.to_thread(fingerprint, question, self._by)
        found = await self._find(name)
        telemetry.observe(telemetry.STAGE_SECONDS, perf_counter() - began, stage="cache")
        if found is not None:
            return _taken(found, began, "hit")
        done, joined = await self._joins.once(name, lambda: self._computed(name, deadline, compute), deadline)
        if isinstance(done, Answer) or joined:
            return _taken(done if isinstance(done, Answer) else done.answer, began, "joined")
        telemetry.add(telemetry.CACHE_REQUESTS, outcome="miss")
        return done

    async def _computed(self, name: str, deadline: float, compute: Callable[[], Awaitable[Served]]) -> Served | Answer:
        """What `compute()` gives, or the Answer of the replica that was at it."""
        work = f"answer:{name}"
        while (turn := await self._turns.take(work)) is None:
            await self._turns.over(work, deadline - time.time())
            if (found := await self._find(name)) is not None:
                return found
            if time.time() >= deadline:
                raise DeadlineExceeded("An equal request is not done yet, and time is up; try again later.")
        try:
            # once more: another replica may have been done between our look and our turn
            if (found := await self._find(name)) is None:
                served = await compute()
        except BaseException:
            await turn.give_back()
            raise
        if found is not None:
            await turn.give_back()
            return found
        self._keep_meanwhile(name, served.answer, turn)
        return served

    async def _find(self, name: str) -> Answer | None:
        if self._outage.lasts:
            return None
        try:
            async with asyncio.timeout(FIND_S):
                found = await self._in_thread(lambda: self._answers.find(name))
        except (TimeoutError, MattehornError) as error:
            self._outage.begin(str(error) or "it did not answer in time")
            return None
        self._outage.end()
        return None if found is None else Answer(found.result, found.stored)

    def _keep_meanwhile(self, name: str, answer: Answer, turn: Turn) -> None:
        """Keeps `answer` while it is sent; the turn is given back after that, so that the others find it."""
        is_ours = answer.result.model in self._models and not self._answers.kept.stuck
        task = asyncio.create_task(self._keep(name, answer, turn, wanted=is_ours and len(self._keeping) < _KEEPS_MOST))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep(self, name: str, answer: Answer, turn: Turn, *, wanted: bool) -> None:
        try:
            if wanted and not self._outage.lasts:
                kept = KeptAnswer(answer.result, answer.stored)
                async with asyncio.timeout(KEEP_S):
                    size = await self._in_thread(lambda: self._answers.keep(name, kept))
                telemetry.add(telemetry.CACHE_BYTES, size, event="kept")
        except (TimeoutError, MattehornError) as error:
            self._outage.begin(str(error) or "it did not answer in time")
        finally:
            await turn.give_back()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _taken(answer: Answer, began: float, outcome: str) -> Answer:
    """`answer` with the time that it took here, in place of what it took the one who computed it."""
    telemetry.add(telemetry.CACHE_REQUESTS, outcome=outcome)
    telemetry.add(telemetry.CACHE_BYTES, len(answer.result.data), event="answered")
    timings = {"cache": (perf_counter() - began) * 1000}
    return replace(answer, result=replace(answer.result, timings_ms=timings))
