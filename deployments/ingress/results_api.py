"""`/v1/results`: what was stored with `store=true`, listed, looked at and removed, by the tenant whose it is."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from deployments.ingress import answer_schemas, history_query, schemas
from deployments.ingress.errors import SafeJson
from deployments.ingress.history_query import Query
from deployments.ingress.jobs import Service
from deployments.ingress.result_entries import entry
from deployments.ingress.tenancy import TENANT, load_own, load_own_removed, seen_owners
from mattehorn.errors import ResultNotFound
from mattehorn.store import history
from mattehorn.store.records import StoredResult
from mattehorn.store.removal import remove_result
from mattehorn.store.results import load_alpha, load_image, load_source

log = logging.getLogger("ray.serve")

_READERS = 8  # of records, for all searches of this replica: a search of many takes turns, and no request's threads


def router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1/results", tags=["results"], responses=schemas.RESULT)
    _add_history(router, service)

    async def load(result_id: str) -> StoredResult:
        return await run_in_threadpool(load_own, service.store, result_id)

    @router.get("/{result_id}", responses=answer_schemas.STORED)
    async def get_result(result_id: str) -> JSONResponse:
        """Metadata of a stored result, with its storage key."""
        stored = await load(result_id)
        return SafeJson(await run_in_threadpool(entry, service.store, stored))

    @router.delete("/{result_id}", status_code=204, responses=answer_schemas.REMOVED, response_class=Response)
    async def delete_result(result_id: str) -> Response:
        """Removes a stored result, with the pictures that no other result names."""
        await run_in_threadpool(_remove, service, result_id)
        log.info("result_removed result=%s", result_id)
        return Response(status_code=204)

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


def _add_history(router: APIRouter, service: Service) -> None:
    readers = ThreadPoolExecutor(_READERS, thread_name_prefix="history")

    @router.get("", openapi_extra=history_query.PARAMETERS, responses=answer_schemas.HISTORY | schemas.errors(422))
    async def list_results(request: Request) -> JSONResponse:
        """Stored results, newest first. A page of a search may be short, or empty, and still have a `next_cursor`."""
        query = history_query.parse_query(request.query_params.multi_items(), TENANT.get().name)
        return SafeJson(await run_in_threadpool(_listing, service, query, readers))


def _listing(service: Service, query: Query, readers: ThreadPoolExecutor) -> dict[str, Any]:
    tenant = TENANT.get()
    page = history.page(service.store, seen_owners(tenant), query.search, query.limit, query.after, readers)
    cursor = None if page.after is None else history_query.cursor_of(page.after, tenant.name)
    return {"results": [entry(service.store, result) for result in page.results], "next_cursor": cursor}


def _remove(service: Service, result_id: str) -> None:
    """Also what an earlier DELETE began and did not end. Raises ResultNotFound, StoreUnavailable."""
    try:
        stored = load_own(service.store, result_id)
    except ResultNotFound:
        stored = load_own_removed(service.store, result_id)
    remove_result(service.store, stored)
