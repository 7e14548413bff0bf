"""The whole HTTP surface put together: middleware, contracts, pages. What it needs of Ray is behind `Service`."""

from __future__ import annotations

from fastapi import FastAPI

from deployments.ingress import errors, mattes_api, pages, recipes_api, results_api, schemas, status_api, usage_api
from deployments.ingress.bulk import events_api, jobs_api
from deployments.ingress.bulk.bulk_access import BulkAccess
from deployments.ingress.bulk.event_gate import EventGate
from deployments.ingress.bulk.upload_sweep import UploadSweep
from deployments.ingress.compat import articles, rembg
from deployments.ingress.compat.removebg import routes as removebg
from deployments.ingress.cors import CorsMiddleware
from deployments.ingress.front_door import FrontDoor, keys_of
from deployments.ingress.jobs import Service
from deployments.ingress.middleware import BodyLimitMiddleware, RequestMiddleware
from deployments.ingress.once.cache_sweep import KeptSweep
from deployments.ingress.once.idempotency import Idempotency
from deployments.ingress.removal_sweep import RemovalSweep
from deployments.ingress.sources import Sources
from deployments.ingress.sweeps import Sweep, lifespan
from deployments.ingress.work import Work
from mattehorn.recipe.own import read_recipes


def build_api(service: Service, *, serve_echoes_id: bool = False) -> FastAPI:
    """The ASGI application of the whole HTTP surface."""
    bulk, work, idempotency = BulkAccess(service.settings), Work(service), Idempotency(service)
    sweeps: list[Sweep] = [KeptSweep(work.kept), KeptSweep(idempotency.kept), RemovalSweep(service.store)]
    if service.settings.bulk.enabled:
        sweeps.append(UploadSweep(service.settings.bulk, bulk))
    keys = keys_of(service.settings)
    shapes = {rembg.PATH: rembg.error_response, **removebg.SHAPES}
    recipes = read_recipes(service.settings.recipes_dir)
    app = FastAPI(
        lifespan=lifespan(sweeps),
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
    shims = (*articles.PATHS, rembg.PATH, *removebg.PATHS)
    app.add_middleware(CorsMiddleware, paths=[*shims, *([] if keys is None else ["/v1/"])])
    app.add_middleware(RequestMiddleware, serve_echoes_id=serve_echoes_id)  # the last is the outermost
    sources = Sources(service)
    app.include_router(mattes_api.router(service, sources, work, idempotency, recipes))
    app.include_router(results_api.router(service))
    app.include_router(articles.router(service, work))
    app.include_router(rembg.router(service, sources, work))
    app.include_router(removebg.router(service, sources, work))
    app.include_router(recipes_api.router(recipes))
    app.include_router(jobs_api.router(service.settings, bulk, service.tally))
    app.include_router(events_api.router(EventGate(service.settings.events), bulk))
    app.include_router(usage_api.router(service, keys))
    app.include_router(status_api.router(service))
    pages.mount(app)
    return app
