"""remove.bg's endpoints, and carvekit's names for two of them. What differs on purpose: docs/migrate.md."""

from __future__ import annotations

import time
from dataclasses import replace

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from deployments.ingress.bodies import Body
from deployments.ingress.compat.removebg import improve, schema
from deployments.ingress.compat.removebg.account import account
from deployments.ingress.compat.removebg.answers import answer
from deployments.ingress.compat.removebg.errors import JSON, ImproveDisabled, carvekit_error, error_response
from deployments.ingress.compat.removebg.parameters import BACKGROUND_URL, PHOTO, URL, Sent, pictures, read
from deployments.ingress.compat.removebg.translate import PARAMETERS, translate
from deployments.ingress.errors import Shape
from deployments.ingress.jobs import Service, job_for, observe_total
from deployments.ingress.middleware import Bounds
from deployments.ingress.negotiate import parse_accept
from deployments.ingress.sources import Sources, with_fetch
from deployments.ingress.tenancy import TENANT, own_limits
from deployments.ingress.work import Work
from mattehorn import telemetry
from mattehorn.access.tenant import Budget
from mattehorn.errors import CorruptImage, FetchFailed
from mattehorn.image.decode import read_header
from mattehorn.settings import Limits, Settings

REMOVE, ACCOUNT, IMPROVE = "/v1.0/removebg", "/v1.0/account", "/v1.0/improve"
CARVEKIT_REMOVE, CARVEKIT_ACCOUNT = "/api/removebg", "/api/account"
PATHS = (REMOVE, ACCOUNT, IMPROVE, CARVEKIT_REMOVE, CARVEKIT_ACCOUNT)
SHAPES: dict[str, Shape] = {
    "/v1.0/": error_response,
    CARVEKIT_REMOVE: carvekit_error,
    CARVEKIT_ACCOUNT: carvekit_error,
}
MAX_WAIT_S = 15.0  # the official Ruby client gives up after 20 s, and sends its photo again


def body_bounds(settings: Settings) -> dict[str, Bounds]:
    """The bounds of these paths' bodies."""
    bounds = Bounds(settings.removebg.body_bytes, settings.limits.upload_s, base64_forms=True)
    small = replace(bounds, body_bytes=min(bounds.body_bytes, improve.BODY_BYTES))
    return {REMOVE: bounds, CARVEKIT_REMOVE: bounds, IMPROVE: small}


def router(service: Service, sources: Sources, work: Work) -> APIRouter:
    router = APIRouter(tags=["remove.bg"])
    settings = service.settings
    limits = settings.limits.model_copy(update={"body_bytes": settings.removebg.body_bytes})

    async def cut_out(request: Request, form_size: str) -> Response:
        started = time.perf_counter()
        as_json = parse_accept(request.headers.get("accept")).wants_json
        own = own_limits(limits)
        with service.admission.admit(MAX_WAIT_S):
            sent = await read(request, own)
            deadline = time.time() + min(settings.removebg.work_s, settings.limits.work_s)
            body = pictures(sent, own)
            wish = translate(sent, form_size if sent.is_form else "preview")
            telemetry.add(telemetry.IGNORED_FIELDS, len(sent.names - PARAMETERS), route=request.url.path)
            if wish.ignores_background:
                body = replace(body, background=None, background_url=None)
            body = await _filled(sources, body, deadline, own)
            job = replace(job_for(body, wish.options, deadline), rendition=wish.rendition)
            served = with_fetch(await work.cut_out(job, _budget(settings)), body.fetch_ms)
        return answer(served, wish, job.name, observe_total(started), as_json=as_json)

    @router.post(REMOVE, openapi_extra=schema.removebg(), responses=schema.PICTURE, response_class=Response)
    async def remove_background(request: Request) -> Response:
        """The photo without its background, as remove.bg's endpoint of this name."""
        return await cut_out(request, "preview")

    @router.post(CARVEKIT_REMOVE, openapi_extra=schema.removebg(), responses=schema.PICTURE, response_class=Response)
    async def remove_background_as_carvekit(request: Request) -> Response:
        """The same under carvekit's path, where a form's default size is full."""
        return await cut_out(request, "full")

    @router.get(CARVEKIT_ACCOUNT, responses=schema.ACCOUNT)
    @router.get(ACCOUNT, responses=schema.ACCOUNT)
    async def show_account() -> JSONResponse:
        """What is left of the tenant's quota, as remove.bg's credits."""
        tenant = TENANT.get()
        spent = (await service.tally.spent([tenant.name]))[tenant.name]
        return JSONResponse(account(tenant.budget, spent.month), media_type=JSON)

    @router.post(IMPROVE, openapi_extra=schema.improve(), responses=schema.IMPROVED)
    async def keep_hard_case(request: Request) -> JSONResponse:
        """A photo that came out badly, kept for the operator. Off unless `removebg.improve` is set."""
        if not settings.removebg.improve:
            raise ImproveDisabled("This service keeps no photos; its operator may allow it (removebg.improve).")
        within = limits.model_copy(update={"body_bytes": min(limits.body_bytes, improve.BODY_BYTES)})
        with service.admission.admit(MAX_WAIT_S):
            sent = await read(request, within)
            deadline = time.time() + settings.removebg.work_s
            body = await _filled(sources, pictures(_photo_only(sent), within), deadline, within)
            said = {name: sent.text(name) for name in ("image_filename", "tag") if sent.text(name)}
            tenant = TENANT.get().name
            kept = await run_in_threadpool(improve.keep, service.store, tenant, body.photo, said, within)
        return JSONResponse({"id": kept}, media_type=JSON)

    return router


async def _filled(sources: Sources, body: Body, deadline: float, limits: Limits) -> Body:
    """`body` with all its pictures, the photo's header read. Raises what Sources.fill does, and read_header."""
    try:
        filled = await sources.fill(body, deadline, limits, photo_field=URL, background_field=BACKGROUND_URL)
    except FetchFailed as error:
        error.data.setdefault("url", (body.background_url or "")[:200])
        raise
    try:
        read_header(filled.photo, limits)
    except CorruptImage as error:
        raise CorruptImage(error.message, problem="header") from None
    return filled


def _budget(settings: Settings) -> Budget:
    """The tenant's own, with this contract's minute where it has none."""
    own = TENANT.get().budget
    return own if own.per_minute is not None else replace(own, per_minute=settings.removebg.megapixels_per_minute)


def _photo_only(sent: Sent) -> Sent:
    uploads = {name: files for name, files in sent.uploads.items() if name == PHOTO}
    texts = {name: text for name, text in sent.texts.items() if not name.startswith("bg_")}
    return replace(sent, texts=texts, uploads=uploads)
