"""Bulk work without a service: the queue, the worker and the model in this process, for `submit --local` and `watch`.

A job's whole state lies in the results store, so the queue may be a file that is gone tomorrow: whoever makes the same
job again goes on with it. What it is not: no command line (cli_jobs.py) and no Ray (deployments/bulk/).
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from mattehorn.bulk.consumer import Consumer, ConsumerLimits
from mattehorn.bulk.job_spec import JobSpec
from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.places import Places
from mattehorn.bulk.progress import Progress
from mattehorn.bulk.worker import Worker, WorkerSettings
from mattehorn.errors import NotFound, Unavailable
from mattehorn.models.base import Model, ModelCard
from mattehorn.models.registry import load_model
from mattehorn.models.zoo import Pool, require_running, running_cards
from mattehorn.pipeline import Result
from mattehorn.queue.interface import Queue
from mattehorn.queue.sqlite import SqliteQueue
from mattehorn.recipe.gate import Wish
from mattehorn.recipe.own import read_recipes
from mattehorn.recipe.result_keys import service_digest
from mattehorn.routed import Models, run_routed
from mattehorn.settings import Settings

WORKERS_MOST = 4  # by default: a photo of 50 megapixels takes 600 MB while it is worked on
AHEAD = 2  # photos being read or kept, beside those in the model's hands
SHARDS_AT_ONCE = 2  # so that the photos in flight do not run dry at a shard's end
LEASE_S, MAX_RECEIVE = 60.0, 5  # nobody else takes our messages; a lease only has to outlast a hiccup
DRAIN_S = 20.0  # a part has at most 20 photos of its shard in work; what is not done is done again
LOOKED_AT = 100  # of the latest jobs, for one to go on with

_Say = Callable[[Progress], None]


def usual_workers() -> int:
    """Photos to work on at once: one for each core that this process may use, up to WORKERS_MOST."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(WORKERS_MOST, cores)


class OwnModel:
    """A `cut_out` on threads of this process, each with a network of its own, for a network runs one batch at a time.

    Raises UnknownModel and ModelError when made.
    """

    def __init__(self, settings: Settings, workers: int) -> None:
        self._settings = settings
        self._ready: list[Models] = [self._load()]  # so that a fault shows now; other threads load when they are needed
        self._own = threading.local()
        self._taking = threading.Lock()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="photos")

    async def __call__(self, data: bytes, wish: Wish) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, data, wish)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, data: bytes, wish: Wish) -> Result:
        if not hasattr(self._own, "models"):
            with self._taking:
                self._own.models = self._ready.pop() if self._ready else self._load()
        return run_routed(self._own.models, data, wish, self._settings.limits, levels=True)

    def _load(self) -> Models:
        strong = self._settings.strong_model
        if strong is None:
            return Models(self._load_one(self._settings.model))
        later = functools.cache(lambda: self._load_one(strong))  # many a batch never needs it
        return Models(self._load_one(self._settings.model), _cards(self._settings)["strong"], later)

    def _load_one(self, name: str) -> Model:
        return load_model(
            name,
            threads=self._settings.threads,
            model_dir=self._settings.model_dir,
            fake_ms=(self._settings.fake.batch_ms, self._settings.fake.image_ms),
        )


def _cards(settings: Settings) -> dict[Pool, ModelCard]:
    return running_cards(settings.model, settings.strong_model, settings.model_dir)


@contextmanager
def own_queue() -> Iterator[Queue]:
    """A queue that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mattehorn-queue-") as folder:
        queue = SqliteQueue(Path(folder) / "queue.db", lease_s=LEASE_S, max_receive=MAX_RECEIVE)
        try:
            yield queue
        finally:
            queue.close()


def consumer_limits(in_flight: int) -> ConsumerLimits:
    return ConsumerLimits(in_flight=in_flight, lease_s=LEASE_S, max_receive=MAX_RECEIVE, wait_s=0.5, drain_s=DRAIN_S)


def make_or_resume(jobs: Jobs, body: Mapping[str, Any]) -> tuple[JobSpec, bool]:
    """(the job of `body`, whether it was begun before): the latest unfinished one that asks for the same, else new.

    What an earlier one still needs is queued. Raises as Jobs.submit does.
    """
    for job in islice(jobs.ids(), LOOKED_AT):
        spec = _same(jobs, job, body)
        if spec is not None and jobs.resume(job):
            return spec, True
    return jobs.submit(body), False


def _same(jobs: Jobs, job: str, body: Mapping[str, Any]) -> JobSpec | None:
    """The spec of `job` if it has not ended and asks for what `body` does."""
    state = jobs.state(job)
    try:
        spec = jobs.spec(job)
    except NotFound:  # a folder of somebody else's
        return None
    asked, keys = jobs.parse(body, job=job, created_at=spec.created_at)
    if spec != asked or state.exists("finished.json"):
        return None
    if spec.kind == "keys":
        there = [json.loads(text) for text in (state.read("input.jsonl") or b"").split(b"\n") if text]
        return spec if there == list(keys) else None
    return spec


def require_own_model(body: Mapping[str, Any], jobs: Jobs, settings: Settings) -> None:
    """Raises UnknownModel when the job of `body` wants another model than `settings` runs; OptionError as submit."""
    spec, _ = jobs.parse(body, job=jobs.new_id(), created_at=datetime.now(UTC).isoformat())
    require_running(spec.recipe.bulk_options().model, *_cards(settings).values())


class LocalJob:
    """One job done in this process. `workers` photos at once."""

    def __init__(self, settings: Settings, body: Mapping[str, Any], queue: Queue, workers: int) -> None:
        """Raises OptionError and its kinds, ModelError, StoreUnavailable."""
        self._jobs = Jobs(Places(settings.store), queue, recipes=read_recipes(settings.recipes_dir))
        require_own_model(body, self._jobs, settings)  # before there is a job that cannot be done here
        digest = service_digest(settings.model, settings.strong_model, settings.model_dir)
        self._model = OwnModel(settings, workers)
        self.spec, self.resumed = make_or_resume(self._jobs, body)
        self._worker = Worker(
            self._jobs,
            queue,
            self._model,
            WorkerSettings(digest, in_flight=workers + AHEAD, max_receive=MAX_RECEIVE),
        )
        self._consumer = Consumer(queue, self._worker, consumer_limits(SHARDS_AT_ONCE))

    async def run(self, say: _Say = lambda progress: None, every_s: float = 1.0) -> Progress:
        """How far the job came: to its end, unless `stop` was called or its messages failed on every attempt."""
        working = asyncio.create_task(self._consumer.run_until_empty())
        try:
            while not working.done():
                await asyncio.wait([working], timeout=every_s)
                with suppress(Unavailable):  # the worker waits for the store as well; the next look may succeed
                    say(await self._progress())
            await working
            return await self._progress()
        finally:
            self._worker.close()
            self._model.close()

    async def _progress(self) -> Progress:
        return await asyncio.to_thread(self._jobs.progress, self.spec.id)

    def stop(self) -> None:
        """`run` ends when the photos in work are done, within about DRAIN_S."""
        self._consumer.stop()
