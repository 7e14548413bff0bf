"""The HTTP service in one process, without a Ray cluster, for tests of the API and the page.

Everything is real but the transport: the API, the compose replica's own class, the batcher, the store in a folder.
The model is `fake`, which keys out the colour of a photo's top left pixel, so a made-up photo has a known matte.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray
from PIL import Image
from prometheus_client import generate_latest

from deployments.calls import Answer, Failures, Job, Lane, Pool, Prediction, Readiness, call_with_retries
from deployments.compose.deployment import Compose
from deployments.ingress.admission import Admission
from deployments.ingress.api import build_api
from deployments.ingress.pace import Pace
from deployments.matting.batcher import DrainBatcher
from deployments.tally.book import Book
from mattehorn import telemetry
from mattehorn.fetch.addresses import Address
from mattehorn.fetch.fetch import Fetcher
from mattehorn.models.base import seen_by
from mattehorn.models.fake import CARD, FakeModel
from mattehorn.models.zoo import find_card
from mattehorn.settings import Settings
from mattehorn.store.open import open_store

Pixels = NDArray[np.uint8]

BACKGROUND, SUBJECT = (40, 120, 60), (200, 60, 50)
CARD_64 = dataclasses.replace(CARD, input_size=64)  # a picture of 64 px costs milliseconds, one of 512 px a tenth
START_S = 10.0  # uvicorn is up in a few tenths of a second; a busy machine takes longer


def photo(width: int = 64, height: int = 48) -> Pixels:
    """A red rectangle in the middle half of a green picture, RGB [H, W, 3]."""
    pixels = np.full((height, width, 3), BACKGROUND, np.uint8)
    pixels[height // 4 : height - height // 4, width // 4 : width - width // 4] = SUBJECT
    return pixels


def encoded(pixels: Pixels, format: str = "PNG", **settings: Any) -> bytes:
    """`pixels` [H, W, 3 or 4] as a file."""
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format, **settings)
    return target.getvalue()


def decoded(data: bytes) -> Pixels:
    """A file's pixels in the mode that it has: [H, W, 4], [H, W, 3] or [H, W]."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


class Method:
    """A replica's method as a handle gives it: `handle.name.remote(..)`."""

    def __init__(self, method: Callable[..., Awaitable[Any]]) -> None:
        self.remote = method


class FakeMatting:
    """The matting pool: the real batcher around the fake model. `failures` are raised first, one per call."""

    def __init__(self, max_batch: int = 2, name: str = "fake@1") -> None:
        self.model, self.name = FakeModel(), name
        self.failures: list[BaseException] = []
        self.asked = 0
        executor = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._batcher = DrainBatcher(lambda images: seen_by(self.model, images), executor, max_batch)
        self.predict, self.describe = Method(self._predict), Method(self._describe)

    async def _predict(self, pixels: Pixels, lane: Lane = "interactive") -> Prediction:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        done = await self._batcher.submit(pixels, lane)
        alpha, subject = done.answer
        return Prediction(alpha, done.queue_ms, done.infer_ms, done.batch_size, self.name, subject)

    async def _describe(self) -> Pool:
        return Pool(self.model.card.id, self.model.device, "float32")


async def no_names(host: str) -> Sequence[Address]:
    """The look-up of a machine without a name server: tests name addresses."""
    raise OSError(f"{host} is not known")


class InProcessService:
    """What `build_api` calls. `jobs` keeps every job; while `held` is clear, jobs wait; `error` is raised instead."""

    def __init__(self, folder: Path, **args: Any) -> None:
        # no cache, unless a test is about it: the others count what equal photos cost
        plain = {"model": "fake", "store": {"url": folder.as_uri()}, "cache": {"max_bytes": 0}}
        self.settings = Settings.model_validate({**plain, **args})
        self.store = open_store(self.settings.store)
        self.pace = Pace(2)
        self.admission = Admission(self.settings.limits.requests_in_flight, self.settings.limits.work_s, self.pace)
        by = Fetcher.of(self.settings)
        self.fetcher = Fetcher(by.policy, by.limits, resolve=no_names)
        self.tally = Book()
        self.matting = FakeMatting(self.settings.max_batch)
        stronger = self.settings.strong_model
        self.strong = FakeMatting(self.settings.max_batch, find_card(stronger).id) if stronger else None
        self.compose = Compose.func_or_class(self.settings, self.matting, self.strong)
        cards = self.compose._cards
        self.compose._cards = {pool: dataclasses.replace(card, input_size=64) for pool, card in cards.items()}
        self.state = Readiness(True, pool=Pool(self.matting.model.card.id, "cpu", "float32"))
        self.jobs: list[Job] = []
        self.error: Exception | None = None
        self.held = threading.Event()
        self.held.set()
        self.backend = telemetry.PrometheusBackend()
        telemetry.use(self.backend)  # the replica's class had switched to Ray's

    async def cut_out(self, job: Job) -> Answer:
        self.jobs.append(job)
        if self.error is not None:
            raise self.error
        if not self.held.is_set():
            assert await asyncio.to_thread(self.held.wait, START_S), "a test held the service and never let it go"
        work: Callable[[], Awaitable[Answer]] = lambda: self.compose.cut_out(job)  # noqa: E731
        return await call_with_retries(work, Failures(), callee="Compose", deadline=job.deadline)

    async def readiness(self) -> Readiness:
        return self.state

    async def metrics(self) -> bytes:
        return generate_latest(self.backend.registry)


@contextlib.contextmanager
def serving(service: InProcessService) -> Iterator[str]:
    """The base URL of the application on a free port of 127.0.0.1, until the block ends."""
    server = uvicorn.Server(uvicorn.Config(build_api(service), log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            service.held.set()
            server.should_exit = True
            thread.join(START_S)
