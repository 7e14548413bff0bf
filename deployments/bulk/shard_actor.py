"""A shard of a job in one process, with a model of its own: what the Ray Data engine runs on every worker.

What it is not: no Ray. ray_data.py makes actors of it; the shard's own code is mattehorn/bulk/shard.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deployments.bulk import parts
from deployments.matting.batcher import DrainBatcher
from mattehorn.alpha import to_uint8
from mattehorn.bulk.job_spec import JobSpec
from mattehorn.bulk.patience import Border, Patience, PhotoRunner
from mattehorn.bulk.plan import Plan
from mattehorn.bulk.shard import ShardTools, ShardWork
from mattehorn.bulk.state import JobState
from mattehorn.bulk.worker import always
from mattehorn.errors import MattehornError
from mattehorn.models.registry import load_model
from mattehorn.options import Options
from mattehorn.pipeline import NO_MODEL, Result, finish, prepare
from mattehorn.settings import Settings

Batch = dict[str, NDArray[Any]]

_SPARE_THREADS = 4  # for shards' own objects, beside the photos


class Matter:
    """A `cut_out` in one process: threads for pixels, one thread for the device, batches of whatever waits."""

    def __init__(self, settings: Settings, device: str) -> None:
        """Raises UnknownModel, and ModelError also for a device that is not there."""
        cv2.setNumThreads(1)  # parallel across photos, not within one
        self._limits = settings.limits
        self._model = load_model(
            settings.model,
            device=device,
            threads=settings.threads,
            model_dir=settings.model_dir,
            fake_ms=(settings.fake.batch_ms, settings.fake.image_ms),
        )
        self._pixels = ThreadPoolExecutor(settings.compose_threads, thread_name_prefix="pixels")
        one = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._batcher = DrainBatcher(lambda images: to_uint8(self._model.predict(images)), one, settings.max_batch)

    async def cut_out(self, data: bytes, options: Options) -> Result:
        in_thread = asyncio.get_running_loop().run_in_executor
        prepared = await in_thread(self._pixels, prepare, data, options, self._model.card, self._limits)
        if prepared.fitted is None:
            return dataclasses.replace(await in_thread(self._pixels, finish, prepared, None), model=NO_MODEL)
        done = await self._batcher.submit(prepared.fitted.pixels)
        prepared.stages.record("queue", done.queue_ms)
        prepared.stages.record("infer", done.infer_ms)
        result = await in_thread(self._pixels, finish, prepared, done.answer)
        return dataclasses.replace(result, model=self._model.card.id)


class ShardActor:
    """What Ray Data calls: numbers of shards in, what became of them out. One model for all its shards."""

    def __init__(self, settings: Settings, job: JobSpec, model: str, device: str) -> None:
        """`model` is keys.model_digest() of the one that `settings` name."""
        in_flight = settings.bulk.in_flight
        places = parts.make_places(settings)
        self._spec, self._state = job, JobState(places.home, job.id)
        self._plan = Plan(job.recipe, job.output, model, job=job.id, run=job.run)
        self._patience = Patience()
        self._attempts = settings.queue.max_receive
        self._threads = ThreadPoolExecutor(in_flight + _SPARE_THREADS, thread_name_prefix="bulk-store")
        runner = PhotoRunner(
            places,
            Matter(settings, device).cut_out,
            in_flight=in_flight,
            threads=self._threads,
            permit=always,
            patience=self._patience,
            item_s=settings.bulk.photo_s,
        )
        self._tools = ShardTools(runner, self._in_thread, self._patience, in_flight, self._attempts)
        self._loop = asyncio.new_event_loop()

    def __call__(self, batch: Batch) -> Batch:
        problems = [self._loop.run_until_complete(self._shard(int(number))) for number in batch["id"]]
        return {"id": batch["id"], "problem": np.array(problems, dtype=object)}

    async def _shard(self, number: int) -> str:
        """Why the shard is not done; empty when it is, or when the job was cancelled."""
        problem = ""
        for attempt in range(1, self._attempts + 1):
            pause = self._patience.for_message(attempt)
            try:
                verdict = await ShardWork(
                    self._tools, self._spec, self._plan, self._state, number, attempt, Border()
                ).run()
            except MattehornError as error:
                problem = f"{error.code}: {error.message}"
            else:
                if verdict.kind == "ack":
                    return ""
                problem, pause = verdict.reason, verdict.delay_s
            if attempt < self._attempts:
                await asyncio.sleep(pause)
        return problem

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
