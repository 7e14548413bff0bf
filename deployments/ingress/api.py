"""The native HTTP API v1: routes only. What they need of Ray is behind `Service`; pixels are behind compose."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from deployments.ingress import answer_schemas, answers, errors, pages, recipes_api, schemas, usage_api
from deployments.ingress.bodies import Body, read_body
from deployments.ingress.bulk import events_api, jobs_api, upload_sweep
from deployments.ingress.bulk.bulk_access import BulkAccess
from deployments.ingress.bulk.event_gate import EventGate
from deployments.ingress.compat import articles, rembg
from deployments.ingress.compat.removebg import routes as removebg
from deployments.ingress.cors import CorsMiddleware
from deployments.ingress.front_door import FrontDoor, keys_of
from deployments.ingress.jobs import Service, job_for, observe_total, require_model, work_ends
from deployments.ingress.middleware import BodyLimitMiddleware, RequestMiddleware
from deployments.ingress.negotiate import Accept, parse_accept, require
from deployments.ingress.once import cache_sweep
from deployments.ingress.once.idempotency import Idempotency
from deployments.ingress.recipe_field import wish_for
from deployments.ingress.sources import Sources, with_fetch
from deployments.ingress.tenancy import load_own, own_limits
from deployments.ingress.work import Work
from mattehorn.cache.idempotency import HEADER, check_key
from mattehorn.image.encode import CONTENT_TYPES
from mattehorn.options import Options
from mattehorn.recipe.gate import Wish
from mattehorn.recipe.own import read_recipes
from mattehorn.recipe.recipe import Recipe
from mattehorn.settings import Settings
from mattehorn.store.interface import Store
from mattehorn.store.results import StoredResult, load_alpha, load_image, load_source

URL_EXPIRES_S = 3600  # a signed URL lives as long as a page stays open, not as long as a leak hurts


def build_api(service: Service, *, serve_echoes_id: bool = False) -> FastAPI:
    """The ASGI application of the whole HTTP surface."""
    bulk, work, idempotency = BulkAccess(service.settings), Work(service), Idempotency(service)
    uploads = upload_sweep.lifespan(service.settings.bulk, bulk)
    keys = keys_of(service.settings)
    shapes = {rembg.PATH: rembg.error_response, **removebg.SHAPES}
    recipes = read_recipes(service.settings.recipes_dir)
    app = FastAPI(
        lifespan=cache_sweep.lifespan((work.kept, idempotency.kept), uploads),
        title="Mattehorn",
        version="1",
        description=schemas.DESCRIPTION,
        docs_url=None,  # pages.py has its own, without a CDN
        redoc_url=None,
        redirect_slashes=False,  # a redirect is no answer of the contract, and would send a photo twice
        dependencies=[] if keys is None else schemas.KEY_FORMS,
        responses={} if keys is None else schemas.errors(401, 403),
    )
    # each is around those before it
    bodies = removebg.body_bounds(service.settings)
    app.add_middleware(BodyLimitMiddleware, limits=service.settings.limits, forms=jobs_api.FORMS, bodies=bodies)
    app.add_middleware(FrontDoor, keys=keys, metrics_open=service.settings.metrics_open, shapes=shapes)
    errors.install(app, shapes)
    shims = (rembg.PATH, *removebg.PATHS)
    app.add_middleware(CorsMiddleware, paths=[*shims, *([] if keys is None else ["/v1/"])])
    app.add_middleware(RequestMiddleware, serve_echoes_id=serve_echoes_id)  # the last is the outermost
    sources = Sources(service)
    app.include_router(mattes_router(service, sources, work, idempotency, recipes))
    app.include_router(results_router(service))
    app.include_router(articles.router(service, work))
    app.include_router(rembg.router(service, sources, work))
    app.include_router(removebg.router(service, sources, work))
    app.include_router(recipes_api.router(recipes))
    app.include_router(jobs_api.router(service.settings, bulk))
    app.include_router(events_api.router(EventGate(service.settings.events), bulk))
    app.include_router(usage_api.router(service, keys))
    app.include_router(status_router(service))
    pages.mount(app)
    return app


def mattes_router(
    service: Service, sources: Sources, work: Work, idempotency: Idempotency, recipes: Sequence[Recipe] = ()
) -> APIRouter:
    router = APIRouter(tags=["mattes"])

    @router.post("/v1/mattes", openapi_extra=schemas.mattes(), responses=schemas.KEYED, response_class=Response)
    async def create_matte(request: Request) -> Response:
        """A photo in, a cutout, alpha matte, composite or zip out."""
        started = time.perf_counter()
        accept = parse_accept(request.headers.get("accept"))
        key = check_key(request.headers.get(HEADER))

        async def answer(named: Body, wish: Wish, deadline: float) -> Response:
            body, options = await sources.fill(named, deadline), wish.options
            job = job_for(body, options, deadline, wish)
            served = with_fetch(await work.cut_out(job), body.fetch_ms)
            total_ms = observe_total(started)
            if accept.wants_json or not options.inline:
                stored = served.answer.stored
                url = await run_in_threadpool(result_url, service.store, stored) if stored else None
                return answers.as_json(served, options.name or job.name, total_ms, url, options.inline)
            return answers.as_bytes(served, options.name or job.name, total_ms)

        with service.admission.admit():
            body = await read_body(request, own_limits(service.settings.limits))
            deadline = work_ends(service.settings)
            wish = options_for(body, accept, service.settings, recipes)
            return await idempotency.once(key, body, wish, lambda: answer(body, wish, deadline))

    return router


def options_for(body: Body, accept: Accept, settings: Settings, recipes: Sequence[Recipe] = ()) -> Wish:
    """What is asked for, checked; Accept picks the format where none was sent. Raises OptionError or NotAcceptable."""
    wish = wish_for(body, recipes)
    options = wish.options
    require_model(options.model, settings)
    picked = None if accept.wants_json or options.kind == "zip" else accept.format
    if options.format is None and picked and not (picked == "jpg" and options.kind == "cutout"):
        options = options.model_copy(update={"format": picked})
    if options.inline:
        require(accept, [CONTENT_TYPES[name] for name in _possible_formats(options)])
    return replace(wish, options=options)


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
        return await run_in_threadpool(load_own, service.store, result_id)

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
        """The models of this service, their licences and the sets they were trained on."""
        return {"models": schemas.model_entries(service.settings, await service.readiness())}

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
