"""POST /v1/mattes: a photo in, a cutout, alpha matte, composite or zip out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from deployments.ingress import answers, schemas
from deployments.ingress.bodies import Body, read_body
from deployments.ingress.jobs import Service, job_for, observe_total, require_model, work_ends
from deployments.ingress.negotiate import Accept, parse_accept, require
from deployments.ingress.once.idempotency import Idempotency
from deployments.ingress.recipe_field import wish_for
from deployments.ingress.result_entries import result_url
from deployments.ingress.sources import Sources, with_fetch
from deployments.ingress.tenancy import own_limits
from deployments.ingress.work import Work
from mattehorn.cache.idempotency import HEADER, check_key
from mattehorn.image.encode import CONTENT_TYPES
from mattehorn.options import Options
from mattehorn.recipe.gate import Wish
from mattehorn.recipe.recipe import Recipe
from mattehorn.settings import Settings


def router(
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
            body, options = await sources.fill(named, deadline, own_limits(service.settings.limits)), wish.options
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
