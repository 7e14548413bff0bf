"""One replica of bulk work: the consumer of mattehorn.bulk on its event loop, with the compose pool as its `cut_out`.

Nothing calls it: Serve starts it, it takes messages from the queue by itself, and several may run side by side. Its
photos take the `bulk` lane through compose and matting, which serve interactive ones first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Coroutine
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.bulk import parts
from deployments.bulk.accounts import make_accounts
from deployments.calls import RETRY_AFTER_S, Answer, Full, Job, call_with_retries
from deployments.failures import FAILURES
from deployments.tally.handle import TallyHandle
from mattehorn import telemetry
from mattehorn.bulk.consumer import Consumer
from mattehorn.bulk.worker import Worker
from mattehorn.errors import MattehornError, Overloaded
from mattehorn.models.zoo import require_running, running_cards
from mattehorn.pipeline import Result
from mattehorn.queue.open import open_queue
from mattehorn.recipe.gate import Wish
from mattehorn.settings import Settings

log = logging.getLogger("ray.serve")

NICE = 10  # its reading, hashing and waiting yield the cores to whatever answers somebody
_GIVE_BACK_S = 12.0  # the consumer needs up to 10 s for that


@serve.deployment(name="Bulk")
class Bulk:
    """Works on the queue from its start to its end."""

    _closed = True  # until the constructor is through

    def __init__(self, settings: Settings, compose: DeploymentHandle, tally: DeploymentHandle) -> None:
        """Raises OptionError or ValueError for settings that cannot work; neither store nor queue need answer yet."""
        telemetry.use_ray()
        _show_the_librarys_log()
        os.nice(NICE)
        self._settings, self._compose = settings, compose
        self._cards = running_cards(settings.model, settings.strong_model, settings.model_dir)
        places = parts.make_places(settings)
        self._queue = open_queue(**settings.queue.model_dump())
        self._worker = Worker(
            parts.make_jobs(settings, places, self._queue),
            self._queue,
            self.cut_out,
            parts.worker_settings(settings),
            routes=parts.make_routes(settings, places),
            webhook=parts.make_webhook(settings),
            accounts=make_accounts(settings, TallyHandle(tally)),
        )
        self._consumer = Consumer(self._queue, self._worker, parts.consumer_limits(settings))
        self._stopping = self._closed = False
        # Serve calls the constructor on the replica's event loop
        self._running = asyncio.create_task(self._consumer.run())

    async def cut_out(self, photo: bytes, wish: Wish) -> Result:
        """The compose pool's answer, as an ingress asks for it. Raises the library's errors, Overloaded, Unavailable,
        DeadlineExceeded, UnknownModel."""
        require_running(wish.options.model, *self._cards.values())
        job = Job(
            photo=photo,
            options=wish.options,
            request_id=f"bulk-{uuid.uuid4().hex}",
            deadline=time.time() + self._settings.bulk.photo_s,
            name="photo",
            lane="bulk",
            recipe=wish.recipe,
            gate=wish.gate,
        )
        answer: Answer | Full = await call_with_retries(
            lambda: self._compose.cut_out.remote(job), FAILURES, callee="Compose", deadline=job.deadline
        )
        if isinstance(answer, Full):
            raise Overloaded("Compose has no place for bulk work now.", retry_after_s=RETRY_AFTER_S)
        return answer.result

    async def drain(self, within_s: float) -> bool:
        """Receives no more and ends what is in work; what is not done after `within_s` goes back to the queue.

        True when nothing had to go back. For the end of the service: the replica does not start again.
        """
        self._stopping = True
        self._consumer.stop()
        done, _ = await asyncio.wait([self._running], timeout=within_s)
        if not done:
            self._running.cancel()
            await asyncio.wait([self._running], timeout=_GIVE_BACK_S)
        log.info("bulk_drained in_order=%s", bool(done))
        return bool(done)

    def check_health(self) -> None:
        """Raises when the loop around the queue has ended by itself: Serve then starts another replica."""
        if self._running.done() and not self._stopping:
            fault = None if self._running.cancelled() else self._running.exception()
            raise MattehornError(f"The loop around the queue has ended: {fault!r}")

    def __del__(self) -> Coroutine[Any, Any, None] | None:
        """What Serve awaits when the replica is stopped, for at most graceful_shutdown_timeout_s; nothing later on."""
        if self._closed:
            return None
        self._closed = True
        return self._close()

    async def _close(self) -> None:
        await self.drain(parts.DRAIN_S)
        self._worker.close()
        self._queue.close()


def _show_the_librarys_log() -> None:
    """What mattehorn.bulk says goes where the replica's own lines go; Serve sets up no other logger than its own."""
    library = logging.getLogger("mattehorn")
    library.setLevel(logging.INFO)
    library.handlers = list(log.handlers)
