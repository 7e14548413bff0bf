"""What every endpoint shares on the way from a read body to the compose pool."""

from __future__ import annotations

import time
from pathlib import PurePath
from typing import Protocol

from deployments.calls import Answer, Job, Readiness
from deployments.ingress.admission import Admission
from deployments.ingress.bodies import Body
from deployments.ingress.middleware import REQUEST_ID
from deployments.ingress.tenancy import TENANT
from deployments.tally.book import Tally
from mattehorn import telemetry
from mattehorn.fetch.fetch import Fetcher
from mattehorn.models.zoo import require_running, running_cards
from mattehorn.options import Options
from mattehorn.recipe.gate import Wish
from mattehorn.settings import Settings
from mattehorn.store.interface import Store


class Service(Protocol):
    """What the routes call: the ingress deployment, or a fake in tests."""

    settings: Settings
    store: Store
    admission: Admission
    fetcher: Fetcher
    tally: Tally

    async def cut_out(self, job: Job) -> Answer: ...
    async def readiness(self) -> Readiness: ...
    async def metrics(self) -> bytes: ...


def require_model(name: str, settings: Settings) -> None:
    """Raises UnknownModel unless `name` is what this service runs."""
    require_running(name, *running_cards(settings.model, settings.strong_model, settings.model_dir).values())


def work_ends(settings: Settings) -> float:
    """The Unix time by which a request is answered whose body is here now, fetching included."""
    return time.time() + settings.limits.work_s


def job_for(body: Body, options: Options, deadline: float, wish: Wish | None = None) -> Job:
    """The job that goes to compose, to be done by the Unix time `deadline`; `wish` holds what a recipe asks for."""
    file_name = body.file_name.encode("utf-8", "replace").decode()  # a charset like UTF-7 may bring half surrogates
    stem = PurePath(file_name.replace("\\", "/")).stem[:200]
    return Job(
        photo=body.photo,
        options=options,
        request_id=REQUEST_ID.get(),
        deadline=deadline,
        name=stem or "photo",
        background=body.background,
        tenant=TENANT.get().name,
        recipe=wish.recipe if wish else "",
        gate=wish.gate if wish else None,
    )


def observe_total(started: float) -> float:
    """Milliseconds since `started`, observed as the stage `total`."""
    seconds = time.perf_counter() - started
    telemetry.observe(telemetry.STAGE_SECONDS, seconds, stage="total")
    return seconds * 1000
