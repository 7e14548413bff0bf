"""One replica of the HTTP ingress: the API of api.py, with Ray behind its `Service`."""

from __future__ import annotations

import asyncio
import os
import time

import httpx
import ray
import ray.exceptions
from fastapi import FastAPI
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus, DeploymentStatus

from deployments.calls import STRONG, Answer, Job, Pool, Readiness, call_with_retries
from deployments.failures import FAILURES
from deployments.ingress import scrape
from deployments.ingress.admission import Admission
from deployments.ingress.api import build_api
from deployments.ingress.pace import Pace
from deployments.tally.book import Tally
from deployments.tally.handle import TallyHandle
from mattehorn import telemetry
from mattehorn.fetch.fetch import Fetcher
from mattehorn.settings import Settings
from mattehorn.store.open import open_store

_READY_FOR_S = 1.0  # probes of several clients share one look at the controller
_METRICS_FOR_S = 5.0  # the agents' figures are up to 15 s old anyway
_SCRAPE_TIMEOUT_S = 5.0  # a busy node's agent takes a second or two; one that is gone must not hold up the others
_DESCRIBE_TIMEOUT_S = 5.0


@serve.deployment(name="Ingress")
@serve.ingress()
class Ingress:
    """Speaks HTTP; sends encoded bytes to compose and nothing else."""

    def __init__(
        self,
        settings: Settings,
        compose: DeploymentHandle,
        tally: DeploymentHandle,
        bulk: DeploymentHandle | None = None,
    ) -> None:
        """`bulk` is not called: the application has it because its root, this one, leads to it."""
        telemetry.use_ray()
        self.settings, self._compose = settings, compose
        self.store = open_store(settings.store)
        lanes = (os.cpu_count() or 1) // 2  # another ingress replica's photos have the rest; a guess, see Pace
        self.admission = Admission(settings.limits.requests_in_flight, settings.limits.work_s, Pace(lanes))
        self.fetcher = Fetcher.of(settings)
        self.tally: Tally = TallyHandle(tally)
        self._app_name = serve.get_replica_context().app_name
        self._readiness: tuple[float, Readiness] = (0.0, Readiness(False))
        self._was_ready = False  # the first 200 waits for every replica; later ones come and go
        self._metrics: tuple[float, bytes] = (0.0, b"")

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve calls it after the constructor, so that the routes get their replica without a global."""
        return build_api(self, serve_echoes_id=True)

    async def cut_out(self, job: Job) -> Answer:
        """The answer of the compose pool, asked again when a replica dies under the request."""
        telemetry.set_value(telemetry.QUEUE_IMAGES, self.admission.in_flight)
        try:
            return await call_with_retries(
                lambda: self._compose.cut_out.remote(job), FAILURES, callee="Compose", deadline=job.deadline
            )
        finally:
            telemetry.set_value(telemetry.QUEUE_IMAGES, self.admission.in_flight - 1)

    async def readiness(self) -> Readiness:
        """Asked at most once a second. A pool at zero counts as ready and cold, and is not woken."""
        at, known = self._readiness
        if time.monotonic() - at > _READY_FOR_S or not known.ready:
            known = await self._look()
            self._was_ready = self._was_ready or known.ready
            self._readiness = (time.monotonic(), known)
        return known

    async def metrics(self) -> bytes:
        """Prometheus text of all nodes, at most 5 s old."""
        at, known = self._metrics
        if time.monotonic() - at > _METRICS_FOR_S:
            nodes = await asyncio.to_thread(ray.nodes)
            urls = [
                f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
                for node in nodes
                if node["Alive"]
            ]
            async with httpx.AsyncClient(timeout=_SCRAPE_TIMEOUT_S, trust_env=False) as client:
                texts = await asyncio.gather(*(_scrape(client, url) for url in urls))
            known = await asyncio.to_thread(scrape.merge, texts)
            self._metrics = (time.monotonic(), known)
        return known

    async def _look(self) -> Readiness:
        try:
            status = await asyncio.to_thread(serve.status)
            application = status.applications[self._app_name]
            matting = application.deployments["Matting"]
        except (KeyError, RayServeException, ray.exceptions.RayError):
            return Readiness(False, reasons=("the controller does not answer",))
        if not self._was_ready and application.status != ApplicationStatus.RUNNING:
            return Readiness(False, reasons=(f"the application is {application.status.value.lower()}",))
        if matting.replica_states.get("RUNNING", 0) == 0:
            if matting.status == DeploymentStatus.HEALTHY:
                return Readiness(True, cold=True)
            return Readiness(False, reasons=(f"Matting is {matting.status.value.lower()}: {matting.message[:200]}",))
        try:
            pool: Pool = await asyncio.wait_for(self._compose.describe.remote(), _DESCRIBE_TIMEOUT_S)
            strong: Pool | None = None
            beside = application.deployments.get(STRONG)
            if beside is not None and beside.replica_states.get("RUNNING", 0):  # to ask one at zero would wake it
                strong = await asyncio.wait_for(self._compose.describe.remote("strong"), _DESCRIBE_TIMEOUT_S)
        except (TimeoutError, RayServeException, ray.exceptions.RayError):
            return Readiness(False, reasons=("Compose or Matting does not answer",))
        return Readiness(True, pool=pool, strong=strong)


async def _scrape(client: httpx.AsyncClient, url: str) -> str:
    """One agent's text; empty when it does not answer, which its missing series show."""
    try:
        response = await client.get(url)
        response.raise_for_status()
    except httpx.HTTPError:
        return ""
    return response.text
