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

from deployments.calls import Answer, Full, Job, Pool, Prediction, call_with_retries, refusing
from deployments.compose.lanes import Lanes, full_pause_s
from deployments.compose.permits import Permits
from deployments.compose.routing import best_matte
from deployments.failures import FAILURES
from deployments.weight import megapixels
from mattehorn import telemetry
from mattehorn.errors import DeadlineExceeded
from mattehorn.models.zoo import Pool as PoolName
from mattehorn.models.zoo import running_cards
from mattehorn.pipeline import Result, matted, prepare, refitted
from mattehorn.prepared import Matted, Prepared
from mattehorn.recipe.gate import Routing, quality_document
from mattehorn.recipe.result_keys import REVIEW
from mattehorn.routed import settled
from mattehorn.settings import Settings
from mattehorn.stability import mirrored
from mattehorn.store.open import open_store
from mattehorn.store.records import StoredResult
from mattehorn.store.results import check_template, save_result
from mattehorn.telemetry import Stages

T = TypeVar("T")


@serve.deployment(name="Compose")
class Compose:
    """Turns a photo's bytes into an answer; the network's part is done by the matting pool."""

    def __init__(self, settings: Settings, matting: DeploymentHandle, strong: DeploymentHandle | None = None) -> None:
        """`strong`: the pool of `settings.strong_model`, where that is set."""
        telemetry.use_ray()
        cv2.setNumThreads(1)  # parallel across photos, not within one
        self._settings, self._pools = settings, {"fast": matting} | ({"strong": strong} if strong is not None else {})
        self._cards = running_cards(settings.model, settings.strong_model, settings.model_dir)
        most = settings.limits.megapixels_in_flight
        self._permits = Permits(most)
        self._lanes = Lanes(settings.compose_threads, self._permits, most)
        self._bulk_at_matting = asyncio.Semaphore(max(2, settings.max_batch))  # a batch of each replica is on its way
        check_template(settings.store.key_template)
        self._store = open_store(settings.store)

    @refusing
    async def cut_out(self, job: Job) -> Answer | Full:
        """The answer to one job; Full for bulk that finds no place here. Raises the library's errors, Overloaded,
        Unavailable or DeadlineExceeded."""
        if not self._lanes.has_place(job.lane):
            return Full()
        weight = megapixels(job, self._settings.limits)
        with self._lanes.place(job.lane):
            waited = perf_counter()
            async with _until(job.deadline), self._lanes.hold(weight, job.lane):
                queue_ms = (perf_counter() - waited) * 1000
                prepared = await self._in_thread(lambda: self._prepared(job), job)
                prepared.stages.record("queue", queue_ms)
                result = await self._settled(prepared, job)
                stored = await self._stored(job, result, prepared.stages)
            prepared.stages.report()
            return Answer(_with_asked_alpha(job, result), stored)

    async def describe(self, of: PoolName = "fast") -> Pool:
        """What one replica of a matting pool says of itself; wakes a pool at zero."""
        pool: Pool = await self._pools[of].describe.remote()
        return pool

    def _prepared(self, job: Job) -> Prepared:
        return prepare(
            job.photo,
            job.options,
            self._cards["fast"],
            self._settings.limits,
            job.background,
            binary=job.binary,
            recipe=job.recipe,
            rendition=job.rendition,
        )

    async def _settled(self, prepared: Prepared, job: Job) -> Result:
        """The answer of the model, or the models, that the photo goes to."""
        strong = self._cards.get("strong")
        routing = Routing(job.wish, (strong.name, strong.id) if strong else ())
        made = await best_matte(prepared, routing, lambda photo, pool: self._matted(photo, pool, job))
        return await self._in_thread(lambda: settled(prepared, made, routing), job)

    async def _matted(self, prepared: Prepared, pool: PoolName, job: Job) -> Matted:
        """The photo with the matte of one pool."""
        card = self._cards[pool]
        if prepared.fitted is not None and pool != "fast":
            prepared = await self._in_thread(lambda: refitted(prepared, card), job)
        if prepared.fitted is None:
            return await self._in_thread(lambda: matted(prepared, None), job)
        seen = [prepared.fitted.pixels, *([mirrored(prepared.fitted)] if job.wish.check_stability else [])]
        async with self._bulk_at_matting if job.lane == "bulk" else nullcontext():
            found = await asyncio.gather(*(self._predicted(pixels, pool, job) for pixels in seen))
        prepared.stages.record("queue", max(prediction.queue_ms for prediction in found))
        prepared.stages.record("infer", max(prediction.infer_ms for prediction in found))
        told = found[0]
        alphas = [prediction.alpha for prediction in found]
        return await self._in_thread(lambda: matted(prepared, *alphas, model=told.model, subject=told.subject), job)

    async def _predicted(self, pixels: NDArray[np.uint8], pool: PoolName, job: Job) -> Prediction:
        asked = 0
        while True:
            answer: Prediction | Full = await call_with_retries(
                lambda: self._pools[pool].predict.remote(pixels, job.lane),
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
            return await self._in_thread(lambda: self._save(job, result), job)

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
                "subject": result.subject,
                "options": options.model_dump(exclude_none=True),
                "recipe": result.recipe or None,
                "quality": quality_document(result.quality, result.route),
                "source_sha256": result.source.sha256,
                "tenant": job.tenant,
            },
            alpha=result.alpha_png if options.store_alpha else None,
            source=job.photo if options.store_source else None,
            source_ext=result.source.format,
            template=self._settings.store.key_template,
            folder=REVIEW if result.route == "review" else "",
            now=datetime.now(UTC),
        )

    async def _in_thread(self, work: Callable[[], T], job: Job) -> T:
        """`work()` in a pixel thread. For a caller that left it is not begun, or its memory is held until it ends."""
        async with self._lanes.step(job.lane, job.deadline) as threads:
            task = threads.submit(work)
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
