"""The real HTTP application without Ray: what compose and matting do happens in a thread, with the fake model."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from deployments.calls import Answer, Job, Pool, Readiness
from deployments.ingress.admission import Admission
from deployments.ingress.api import build_api
from mattehorn import pipeline
from mattehorn.models.fake import FakeModel
from mattehorn.settings import Settings, StoreSettings
from mattehorn.store import open_store

START_S = 10.0  # uvicorn is up in a few tenths of a second; a busy machine takes longer


@dataclass
class InProcessService:
    """What `build_api` calls. While `held` is clear, requests wait, so that a test sees them running."""

    settings: Settings
    jobs: list[Job] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.store = open_store(self.settings.store)
        self.admission = Admission(self.settings.limits.requests_in_flight, self.settings.limits.work_s)
        self.model = FakeModel()
        self.held.set()

    async def cut_out(self, job: Job) -> Answer:
        self.jobs.append(job)
        return Answer(await asyncio.to_thread(self._work, job))

    def _work(self, job: Job) -> pipeline.Result:
        assert self.held.wait(START_S), "a test held the service and never let it go"
        return pipeline.run(self.model, job.photo, job.options, self.settings.limits, job.background)

    async def readiness(self) -> Readiness:
        return Readiness(True, pool=Pool(self.model.card.id, self.model.device, "float32"))

    async def metrics(self) -> bytes:
        return b""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, InProcessService]]:
    """(base URL, service) of the application on a free port of 127.0.0.1, until the block ends."""
    service = InProcessService(Settings(model="fake", store=StoreSettings(url=folder.as_uri())))
    config = uvicorn.Config(build_api(service), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}", service
        finally:
            service.held.set()
            server.should_exit = True
            thread.join(START_S)
