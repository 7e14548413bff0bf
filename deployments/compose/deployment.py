"""One replica of the compose pool: decode in a thread, await matting, finish and store in a thread.

Bulk work has threads and memory of its own, less of both, so that an interactive photo never waits for one of its.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from time import perf_counter
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.calls import Answer, Full, Job, Lane, Pool, Prediction, call_with_retries
from deployments.compose.lanes import Lanes, full_pause_s
from deployments.compose.permits import Permits
from deployments.failures import FAILURES
from mattehorn import telemetry
from mattehorn.errors import DeadlineExceeded
from mattehorn.image.decode import read_header
from mattehorn.layout.plan import most_pixels
from mattehorn.models.zoo import find_card
from mattehorn.pipeline import NO_MODEL, Prepared, Result, finish, prepare
from mattehorn.settings import Settings
from mattehorn.store.open import open_store
from mattehorn.store.results import StoredResult, check_template, save_result
from mattehorn.telemetry import Stages

T = TypeVar("T")


@serve.deployment(name="Compose")
class Compose:
    """Turns a photo's bytes into an answer; the network's part is done by the matting pool."""

    def __init__(self, settings: Settings, matting: DeploymentHandle) -> None:
        telemetry.use_ray()
        cv2.setNumThreads(1)  # parallel across photos, not within one
        self._settings, self._matting = settings, matting
        self._card = find_card(settings.model, settings.model_dir)
        megapixels = settings.limits.megapixels_in_flight
        self._permits = Permits(megapixels)
        self._lanes = Lanes(settings.compose_threads, self._permits, megapixels)
        self._bulk_at_matting = asyncio.Semaphore(max(2, settings.max_batch))  # a batch of each replica is on its way
        check_template(settings.store.key_template)
        self._store = open_store(settings.store)

    async def cut_out(self, job: Job) -> Answer | Full:
        """The answer to one job; Full for bulk that finds no place here. Raises the library's errors, Overloaded,
        Unavailable or DeadlineExceeded."""
        if not self._lanes.has_place(job.lane):
            return Full()
        limits = self._settings.limits
        header = read_header(job.photo, limits)
        megapixels = header.megapixels
        if job.background is not None:
            megapixels += read_header(job.background, limits).megapixels
        if (layout := job.layout) is not None:  # a photo of one pixel may ask for a canvas of 50 megapixels
            megapixels += most_pixels(layout, header.width, header.height, limits) / 1e6
        with self._lanes.place(job.lane):
            waited = perf_counter()
            async with _until(job.deadline), self._lanes.hold(megapixels, job.lane):
                queue_ms = (perf_counter() - waited) * 1000
                prepared = await self._in_thread(lambda: self._prepared(job), job.lane)
                prepared.stages.record("queue", queue_ms)
                result = await self._matted(prepared, job)
                stored = await self._stored(job, result, prepared.stages)
            prepared.stages.report()
            return Answer(_with_asked_alpha(job, result), stored)

    def _prepared(self, job: Job) -> Prepared:
        return prepare(
            job.photo,
            job.options,
            self._card,
            self._settings.limits,
            job.background,
            binary=job.binary,
            rendition=job.rendition,
        )

    async def describe(self) -> Pool:
        """What one matting replica says of itself; wakes a pool at zero."""
        pool: Pool = await self._matting.describe.remote()
        return pool

    async def _matted(self, prepared: Prepared, job: Job) -> Result:
        if prepared.fitted is None:
            result = await self._in_thread(lambda: finish(prepared, None), job.lane)
            return dataclasses.replace(result, model=NO_MODEL)
        async with self._bulk_at_matting if job.lane == "bulk" else nullcontext():
            prediction = await self._predicted(prepared.fitted.pixels, job)
        prepared.stages.record("queue", prediction.queue_ms)
        prepared.stages.record("infer", prediction.infer_ms)
        result = await self._in_thread(lambda: finish(prepared, prediction.alpha), job.lane)
        return dataclasses.replace(result, model=prediction.model, subject=prediction.subject)

    async def _predicted(self, pixels: NDArray[np.uint8], job: Job) -> Prediction:
        asked = 0
        while True:
            answer: Prediction | Full = await call_with_retries(
                lambda: self._matting.predict.remote(pixels, job.lane),
                FAILURES,
                callee="Matting",
                deadline=job.deadline,
            )
            if isinstance(answer, Prediction):
                return answer
            asked += 1
            await asyncio.sleep(full_pause_s(asked))

    async def _stored(self, job: Job, result: Result, stages: Stages) -> StoredResult | None:
        if not job.options.store:
            return None
        with stages.timed("store"):
            return await self._in_thread(lambda: self._save(job, result), job.lane)

    def _save(self, job: Job, result: Result) -> StoredResult:
        options = job.options
        return save_result(
            self._store,
            image=result.data,
            content_type=result.content_type,
            ext=result.extension,
            info={
                "name": options.name or job.name,
                "sku": options.sku,
                "width": result.width,
                "height": result.height,
                "model": result.model,
                "options": options.model_dump(exclude_none=True),
                "quality": {"score": result.quality.score, "reasons": list(result.quality.reasons)},
                "source_sha256": result.source.sha256,
            },
            alpha=result.alpha_png if options.store_alpha else None,
            source=job.photo if options.store_source else None,
            source_ext=result.source.format,
            template=self._settings.store.key_template,
            now=datetime.now(UTC),
        )

    async def _in_thread(self, work: Callable[[], T], lane: Lane = "interactive") -> T:
        """`work()` in a pixel thread. For a caller that left it is not begun, or its memory is held until it ends."""
        task = (await self._lanes.threads(lane)).submit(work)
        future = asyncio.wrap_future(task)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not task.cancel():
                await asyncio.wait([future])
            raise


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    """Ends the block at `deadline` (Unix time), whether or not the ingress still waits. Raises DeadlineExceeded."""
    try:
        async with asyncio.timeout(max(0.0, deadline - time.time())):
            yield
    except TimeoutError:
        raise DeadlineExceeded("The photo was not done in time; try again later or send a smaller one.") from None


def _with_asked_alpha(job: Job, result: Result) -> Result:
    return result if job.options.include == "alpha" else dataclasses.replace(result, alpha_png=None)
