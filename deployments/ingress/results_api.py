"""GET /v1/results/{id}: what was stored with `store=true`, for the tenant whose it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from deployments.ingress import answer_schemas, schemas
from deployments.ingress.jobs import Service
from deployments.ingress.tenancy import load_own
from mattehorn.store.results import StoredResult, load_alpha, load_image, load_source


def router(service: Service) -> APIRouter:
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
