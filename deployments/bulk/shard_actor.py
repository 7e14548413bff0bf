"""A shard of a job in one process, with a model of its own: what the Ray Data engine runs on every worker.

What it is not: no Ray. ray_data.py makes actors of it; the shard's own code is mattehorn/bulk/shard.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from deployments.bulk import parts
from deployments.compose.routing import best_matte
from deployments.matting.batcher import DrainBatcher
from deployments.matting.steady import seen_steadily
from mattehorn.bulk.job_spec import JobSpec
from mattehorn.bulk.patience import Border, Patience, PhotoRunner
from mattehorn.bulk.plan import Plan
from mattehorn.bulk.shard import ShardTools, ShardWork
from mattehorn.bulk.state import JobState
from mattehorn.bulk.worker import always
from mattehorn.errors import MattehornError
from mattehorn.models.base import Seen
from mattehorn.models.registry import load_model
from mattehorn.models.zoo import Pool, running_cards
from mattehorn.pipeline import Result, matted, prepare, refitted
from mattehorn.prepared import Matted, Prepared
from mattehorn.recipe.gate import Routing, Wish
from mattehorn.routed import settled
from mattehorn.settings import Settings
from mattehorn.stability import mirrored

T = TypeVar("T")
Batch = dict[str, NDArray[Any]]

_SPARE_THREADS = 4  # for shards' own objects, beside the photos


class Matter:
    """A `cut_out` in one process: threads for pixels, one thread for the device, batches of whatever waits.

    The stronger model, where there is one, is loaded beside the other and has a thread of its own.
    """

    def __init__(self, settings: Settings, device: str) -> None:
        """Raises UnknownModel, and ModelError also for a device that is not there."""
        cv2.setNumThreads(1)  # parallel across photos, not within one
        self._limits = settings.limits
        self._cards = running_cards(settings.model, settings.strong_model, settings.model_dir)
        self._pixels = ThreadPoolExecutor(settings.compose_threads, thread_name_prefix="pixels")
        names = {"fast": settings.model, "strong": settings.strong_model}
        self._batchers = {pool: _batcher(settings, names[pool] or "", device) for pool in self._cards}

    async def cut_out(self, data: bytes, wish: Wish) -> Result:
        strong = self._cards.get("strong")
        routing = Routing(wish, (strong.name, strong.id) if strong else ())
        card, limits = self._cards["fast"], self._limits
        prepared = await self._in_thread(lambda: prepare(data, wish.options, card, limits, recipe=wish.recipe))
        made = await best_matte(prepared, routing, lambda photo, pool: self._matted(photo, pool, wish))
        return await self._in_thread(lambda: settled(prepared, made, routing))

    async def _matted(self, prepared: Prepared, pool: Pool, wish: Wish) -> Matted:
        card = self._cards[pool]
        if prepared.fitted is not None and pool != "fast":
            prepared = await self._in_thread(lambda: refitted(prepared, card))
        if prepared.fitted is None:
            return await self._in_thread(lambda: matted(prepared, None))
        seen = [prepared.fitted.pixels, *([mirrored(prepared.fitted)] if wish.check_stability else [])]
        done = await asyncio.gather(*(self._batchers[pool].submit(pixels) for pixels in seen))
        prepared.stages.record("queue", max(one.queue_ms for one in done))
        prepared.stages.record("infer", max(one.infer_ms for one in done))
        alphas, subject = [one.answer[0] for one in done], done[0].answer[1]
        return await self._in_thread(lambda: matted(prepared, *alphas, model=card.id, subject=subject))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pixels, work)


def _batcher(settings: Settings, name: str, device: str) -> DrainBatcher[Seen]:
    model = load_model(
        name,
        device=device,
        threads=settings.threads,
        model_dir=settings.model_dir,
        fake_ms=(settings.fake.batch_ms, settings.fake.image_ms),
    )
    one = ThreadPoolExecutor(1, thread_name_prefix="device")
    return DrainBatcher(lambda images: seen_steadily(model, images, settings.max_batch), one, settings.max_batch)


class ShardActor:
    """What Ray Data calls: numbers of shards in, what became of them out. One model for all its shards."""

    def __init__(self, settings: Settings, job: JobSpec, model: str, device: str) -> None:
        """`model` is keys.service_digest() of those that `settings` name."""
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
