"""The ingress's side of bulk work: jobs and their queue, opened at the first use, on threads of their own.

What it is not: it works on no photo; the bulk deployment does. Called by the routes of jobs and of events. A store or
a queue that is away makes these routes answer 503 and leaves the others alone.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from deployments.bulk.parts import make_jobs, make_places, make_routes
from deployments.ingress.errors import Forbidden, JobNotFound
from deployments.ingress.tenancy import TENANT, may_see
from mattehorn.bulk.job_spec import JobSpec, Owner
from mattehorn.bulk.jobs import Jobs, no_job
from mattehorn.bulk.reach import require_buckets
from mattehorn.errors import NotFound, QueueUnavailable, Unavailable
from mattehorn.events import ObjectRef
from mattehorn.queue.interface import REFUSED_RETRY_S, Queue
from mattehorn.queue.open import open_queue
from mattehorn.settings import Settings

log = logging.getLogger("ray.serve")

T = TypeVar("T")

THREADS = 8  # a slow store holds up jobs, not the threads that signed URLs and stored results need


class BulkAccess:
    """One per ingress replica."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bulk-http")
        self._opening = threading.Lock()
        self._opened: tuple[Jobs, Queue] | None = None
        self._routes = functools.cache(lambda: make_routes(settings, make_places(settings)))

    def require_enabled(self) -> None:
        """Raises Forbidden where the operator has switched bulk work off."""
        if not self._settings.bulk.enabled:
            raise Forbidden("Bulk work is switched off here (bulk.enabled); ask the operator.")

    async def ask(self, call: Callable[[Jobs], T]) -> T:
        """`call(jobs)`, in a thread. Raises JobNotFound, StoreUnavailable, QueueUnavailable, and what `call` does."""
        try:
            return await self.in_thread(lambda: call(self._open()[0]))
        except NotFound as error:
            raise JobNotFound(error.message) from None

    async def ask_about(self, job: str, call: Callable[[Jobs], T]) -> T:
        """As `ask`, about a job of this request's tenant; another tenant's is JobNotFound."""
        tenant = TENANT.get()

        def about_own(jobs: Jobs) -> T:
            if not may_see(tenant, jobs.spec(job).owner.tenant):
                raise no_job()
            return call(jobs)

        return await self.ask(about_own)

    async def submit(self, body: dict[str, Any], job: str) -> JobSpec:
        """The job with the id `job`, of this request's tenant. One that could not be queued is withdrawn: its caller
        asks again, for another."""
        tenant = TENANT.get()
        owner = Owner(tenant.name, fenced="admin" not in tenant.scopes)

        def work(jobs: Jobs) -> JobSpec:
            require_buckets(jobs.places, body)
            try:
                return jobs.submit(body, job=job, owner=owner)
            except Unavailable:
                with suppress(NotFound, Unavailable):  # not there yet, or away too: then it stays, and does nothing
                    jobs.cancel(job)
                raise

        return await self.ask(work)

    async def enqueue(self, body: str) -> None:
        """Durable when it returns. Raises QueueUnavailable, QueueMessageError."""
        await self.in_thread(lambda: self._open()[1].send_many([body]))

    async def unrouted(self, objects: Iterable[ObjectRef]) -> int:
        """How many of them no route of `bulk.routes` takes: they are queued, and the worker leaves them aside."""
        routes = await self.in_thread(self._routes)
        return sum(not any(route.source.covers(ref.bucket, ref.key) for route in routes) for ref in objects)

    async def in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def start(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        """`call(jobs, *arguments)` in a thread, for a caller that may not wait: its request may be cancelled."""
        return self._threads.submit(lambda: call(self._open()[0], *arguments))

    def _open(self) -> tuple[Jobs, Queue]:
        with self._opening:
            if self._opened is None:
                places, queue = make_places(self._settings), self._open_queue()
                self._opened = make_jobs(self._settings, places, queue), queue
            return self._opened

    def _open_queue(self) -> Queue:
        try:
            return open_queue(**self._settings.queue.model_dump())
        except ValueError as error:
            log.error("bulk_queue_cannot_be_opened reason=%s", error)
            raise QueueUnavailable(
                "The queue cannot be opened; the log says why.", retry_after_s=REFUSED_RETRY_S
            ) from error
