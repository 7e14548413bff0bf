"""The native HTTP API v1: routes only. What they need of Ray is behind `Service`; pixels are behind compose."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from deployments.ingress import (
    answer_schemas,
    answers,
    articles,
    errors,
    events_api,
    jobs_api,
    pages,
    recipes_api,
    rembg,
    schemas,
    upload_sweep,
)
from deployments.ingress.bodies import Body, read_body
from deployments.ingress.bulk_access import BulkAccess
from deployments.ingress.cors import CorsMiddleware
from deployments.ingress.event_gate import EventGate
from deployments.ingress.jobs import Service, job_for, observe_total, require_model, work_ends
from deployments.ingress.middleware import BodyLimitMiddleware, RequestMiddleware
from deployments.ingress.negotiate import Accept, parse_accept, require
from deployments.ingress.removebg import routes as removebg
from deployments.ingress.sources import Sources, with_fetch
from deployments.ingress.work import Work
from mattehorn.image.encode import CONTENT_TYPES
from mattehorn.options import Options, parse_options
from mattehorn.settings import Settings
from mattehorn.store.interface import Store
from mattehorn.store.results import StoredResult, load_alpha, load_image, load_result, load_source

URL_EXPIRES_S = 3600  # a signed URL lives as long as a page stays open, not as long as a leak hurts


def build_api(service: Service, *, serve_echoes_id: bool = False) -> FastAPI:
    """The ASGI application of the whole HTTP surface."""
    bulk = BulkAccess(service.settings)
    app = FastAPI(
        lifespan=upload_sweep.lifespan(service.settings.bulk, bulk),
        title="Mattehorn",
        version="1",
        description=schemas.DESCRIPTION,
        docs_url=None,  # pages.py has its own, without a CDN
        redoc_url=None,
        redirect_slashes=False,  # a redirect is no answer of the contract, and would send a photo twice
    )
    errors.install(app, {rembg.PATH: rembg.error_response, **removebg.SHAPES})
    bodies = removebg.body_bounds(service.settings)
    app.add_middleware(BodyLimitMiddleware, limits=service.settings.limits, forms=jobs_api.FORMS, bodies=bodies)
    app.add_middleware(CorsMiddleware, paths=[rembg.PATH, *removebg.PATHS])
    app.add_middleware(RequestMiddleware, serve_echoes_id=serve_echoes_id)  # the last is the outermost
    sources, work = Sources(service), Work(service)
    app.include_router(mattes_router(service, sources, work))
    app.include_router(results_router(service))
    app.include_router(articles.router(service, work))
    app.include_router(rembg.router(service, sources, work))
    app.include_router(removebg.router(service, sources, work))
    app.include_router(recipes_api.router())
    app.include_router(jobs_api.router(service.settings, bulk))
    app.include_router(events_api.router(EventGate(service.settings.events), bulk))
    app.include_router(status_router(service))
    pages.mount(app)
    return app


def mattes_router(service: Service, sources: Sources, work: Work) -> APIRouter:
    router = APIRouter(tags=["mattes"])

    @router.post("/v1/mattes", openapi_extra=schemas.mattes(), responses=schemas.PICTURE, response_class=Response)
    async def create_matte(request: Request) -> Response:
        """A photo in, a cutout, alpha matte, composite or zip out."""
        started = time.perf_counter()
        accept = parse_accept(request.headers.get("accept"))
        with service.admission.admit():
            body = await read_body(request, service.settings.limits)
            deadline = work_ends(service.settings)
            options = options_for(body, accept, service.settings)
            body = await sources.fill(body, deadline)
            job = job_for(body, options, deadline)
            served = with_fetch(await work.cut_out(job), body.fetch_ms)
        total_ms = observe_total(started)
        if accept.wants_json or not options.inline:
            stored = served.answer.stored
            url = await run_in_threadpool(result_url, service.store, stored) if stored else None
            return answers.as_json(served, options.name or job.name, total_ms, url, options.inline)
        return answers.as_bytes(served, options.name or job.name, total_ms)

    return router


def options_for(body: Body, accept: Accept, settings: Settings) -> Options:
    """Checked options; Accept picks the format where none was sent. Raises OptionError or NotAcceptable."""
    options = parse_options(
        body.fields, background_file=body.background is not None, background_url=body.background_url is not None
    )
    require_model(options.model, settings)
    picked = None if accept.wants_json or options.kind == "zip" else accept.format
    if options.format is None and picked and not (picked == "jpg" and options.kind == "cutout"):
        options = options.model_copy(update={"format": picked})
    if options.inline:
        require(accept, [CONTENT_TYPES[name] for name in _possible_formats(options)])
    return options


def _possible_formats(options: Options) -> list[str]:
    if options.kind == "zip":
        return ["zip"]
    if options.format:
        return [options.format]
    return ["jpg", "png"] if options.kind == "composite" else ["png"]


def result_url(store: Store, stored: StoredResult) -> str:
    """A signed URL where the store gives one, else our own."""
    return store.presign(stored.key, URL_EXPIRES_S) or f"/v1/results/{stored.id}/image"


def results_router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1/results", tags=["results"], responses=schemas.RESULT)

    async def load(result_id: str) -> StoredResult:
        return await run_in_threadpool(load_result, service.store, result_id)

    @router.get("/{result_id}", responses=answer_schemas.STORED)
    async def get_result(result_id: str) -> dict[str, Any]:
        """Metadata of a stored result, with its storage key."""
        return asdict(await load(result_id))

    @router.get("/{result_id}/image", responses=schemas.IMAGE, response_class=Response)
    async def get_image(result_id: str) -> Response:
        """The same bytes that the request was answered with."""
        stored = await load(result_id)
        return Response(await run_in_threadpool(load_image, service.store, stored), media_type=stored.content_type)

    @router.get("/{result_id}/alpha", responses=answer_schemas.ALPHA, response_class=Response)
    async def get_alpha(result_id: str) -> Response:
        """The alpha matte, when store_alpha was asked for."""
        stored = await load(result_id)
        return Response(await run_in_threadpool(load_alpha, service.store, stored), media_type="image/png")

    @router.get("/{result_id}/source", responses=answer_schemas.SOURCE, response_class=Response)
    async def get_source(result_id: str) -> Response:
        """The photo as it came, when store_source was asked for."""
        stored = await load(result_id)
        data = await run_in_threadpool(load_source, service.store, stored)
        return Response(data, media_type=stored.source_content_type)

    return router


def status_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["service"])

    @router.get("/v1/models", responses=answer_schemas.MODELS)
    async def list_models() -> dict[str, Any]:
        """The model of this service, its licence and the sets it was trained on."""
        return {"models": [schemas.model_entry(service.settings, await service.readiness())]}

    @router.get("/healthz", responses=answer_schemas.ALIVE)
    async def healthz() -> dict[str, str]:
        """200 while the process lives."""
        return {"status": "ok"}

    @router.get("/readyz", responses=answer_schemas.READINESS)
    async def readyz() -> JSONResponse:
        """200 once a warm-up inference ran on the requested device; scaled to zero: 200 and cold."""
        state = await service.readiness()
        if not state.ready:
            return JSONResponse({"status": "not_ready", "reasons": list(state.reasons)}, 503, {"Retry-After": "2"})
        return JSONResponse(schemas.ready(service.settings, state))

    @router.get("/metrics", responses=answer_schemas.METRICS, response_class=Response)
    async def metrics() -> Response:
        """Prometheus text of the whole service: every node's agent, merged."""
        return Response(await service.metrics(), media_type="text/plain; version=0.0.4")

    return router
