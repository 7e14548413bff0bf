"""`/v1/jobs`: jobs made, listed, looked at, cancelled, followed and handed over. Contract: docs/api.md.

What it is not: it works on no photo and keeps no state; both are behind `BulkAccess`. Its streams are bounded, so that
they never take the places of short requests.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from deployments.ingress.bodies import read_within
from deployments.ingress.bulk import job_form, job_schemas, sse
from deployments.ingress.bulk.bulk_access import BulkAccess
from deployments.ingress.bulk.job_uploads import Batch, json_object, require_models, require_recipe
from deployments.ingress.errors import Forbidden, SafeJson
from deployments.ingress.middleware import Bounds
from deployments.ingress.streams import BoundedStream, Slots, in_pieces
from deployments.ingress.tenancy import TENANT, may_see
from deployments.tally.book import Tally
from mattehorn.access.tenant import ANONYMOUS, Tenant
from mattehorn.bulk.job_results import manifest_lines, results_zip
from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.progress import Progress
from mattehorn.errors import NotFound, OptionError, QuotaExceeded, UnsupportedMediaType
from mattehorn.settings import Settings
from mattehorn.store.records import ID_FORM

PATH = "/v1/jobs"
FORMS = {PATH: Bounds(job_form.BODY_BYTES_MOST, job_form.UPLOAD_S)}
JSON_BYTES = 16 * 2**20  # 100,000 keys of 160 bytes; longer lists are manifests
PACE = sse.Pace()
LISTED, LISTED_MOST = 20, 100  # two small reads of the store each
LOOKED_AT_MOST = 500  # a small read each, for a page that shows few of them: the others are other tenants'

# Serve gives a replica 64 requests at once, of which photos may take 40: these leave some for probes and short calls.
EVENT_STREAMS, DOWNLOADS, UPLOADS = 10, 4, 2  # an upload holds a photo of up to 32 MB twice


def router(settings: Settings, bulk: BulkAccess, tally: Tally) -> APIRouter:
    router = APIRouter(prefix=PATH, tags=["bulk"])
    uploads = Slots(UPLOADS, "uploads of a batch")
    add_streams(router, bulk)

    @router.post("", status_code=202, openapi_extra=job_schemas.NEW_REQUEST, responses=job_schemas.NEW_ANSWERS)
    async def create_job(request: Request) -> JSONResponse:
        """A job over keys, a prefix or a manifest (JSON), or over the photos in this request (a form)."""
        bulk.require_enabled()
        require_no_foreign_page(request)
        await require_month_left(tally)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == "multipart/form-data":
            with uploads.held():
                spec = await Batch(settings, bulk, await bulk.ask(Jobs.new_id)).take(request)
        elif media_type == "application/json":
            data = await read_within(request, JSON_BYTES, "A job (a manifest names as many photos as you like)")
            body = await bulk.in_thread(json_object, data, "The body")
            require_recipe(body)
            require_models(body, settings)
            spec = await bulk.submit(body, await bulk.ask(Jobs.new_id))
        else:
            raise UnsupportedMediaType(
                f"Content-Type is {media_type[:80] or 'missing'}; allowed: application/json, multipart/form-data. With "
                "curl: -H 'Content-Type: application/json'."
            )
        url = f"{PATH}/{spec.id}"
        return JSONResponse({"id": spec.id, "state": "queued", "url": url}, 202, {"Location": url})

    @router.get("", responses=job_schemas.LIST_ANSWERS)
    async def list_jobs(
        limit: int = Query(LISTED, ge=1, le=LISTED_MOST),
        cursor: str = Query("", description="`next_cursor` of the answer before"),
    ) -> JSONResponse:
        """Jobs, the latest first, without their failures."""
        if cursor and not ID_FORM.fullmatch(cursor):
            raise OptionError("cursor is no next_cursor of an earlier answer.", field="cursor")
        tenant = TENANT.get()
        return SafeJson(await bulk.ask(lambda jobs: _listing(jobs, tenant, limit, cursor or None)))

    @router.get("/{job_id}", responses=job_schemas.JOB_ANSWERS)
    async def get_job(job_id: str) -> JSONResponse:
        """How far a job is."""
        return SafeJson(await bulk.ask_about(job_id, lambda jobs: jobs.progress(job_id).document()))

    @router.post("/{job_id}/cancel", status_code=202, responses=job_schemas.CANCEL_ANSWERS)
    async def cancel_job(job_id: str) -> JSONResponse:
        """No further photo is begun, once the workers have seen it; harmless for a job that has ended."""
        return SafeJson(await bulk.ask_about(job_id, lambda jobs: jobs.cancel(job_id).document()), 202)

    return router


def add_streams(router: APIRouter, bulk: BulkAccess) -> None:
    followers = Slots(EVENT_STREAMS, "event streams of jobs")
    downloads = Slots(DOWNLOADS, "downloads of jobs")

    @router.get("/{job_id}/events", responses=job_schemas.STREAM_ANSWERS, response_class=Response)
    async def follow_job(job_id: str, request: Request) -> Response:
        """Server-sent events `progress` until the job's final state."""

        async def read() -> dict[str, Any]:
            return await bulk.ask_about(job_id, lambda jobs: jobs.progress(job_id).document())

        first = await read()
        if request.headers.get("last-event-id") == sse.FINAL_ID:
            return Response(status_code=204)
        events = sse.progress_events(first, read, PACE)
        return BoundedStream(events, followers, media_type=sse.MEDIA_TYPE, headers=sse.HEADERS)

    @router.get("/{job_id}/manifest.jsonl", responses=job_schemas.MANIFEST_ANSWERS, response_class=Response)
    async def get_manifest(job_id: str) -> Response:
        """A line for each photo that is done."""
        return await download(await bulk.ask_about(job_id, lambda jobs: manifest_lines(jobs, job_id)), "manifest.jsonl")

    @router.get("/{job_id}/results.zip", responses=job_schemas.ZIP_ANSWERS, response_class=Response)
    async def get_results(job_id: str) -> Response:
        """All results in one file, made while it is sent; 409 before the job's end."""
        return await download(await bulk.ask_about(job_id, lambda jobs: results_zip(jobs, job_id)), "batch_results.zip")

    async def download(parts: Iterator[bytes], name: str) -> Response:
        content = await in_pieces(parts, bulk.in_thread)
        media_type = "application/zip" if name.endswith(".zip") else "application/x-ndjson"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return BoundedStream(content, downloads, media_type=media_type, headers=headers)


def require_no_foreign_page(request: Request) -> None:
    """Raises Forbidden for what a browser sends for another site's page: a form needs nobody's consent to be posted to
    this machine, and a job writes into buckets. JSON is stopped by the browser itself: it would ask us first."""
    site = request.headers.get("sec-fetch-site", "none")
    if TENANT.get() is not ANONYMOUS:  # no browser adds a key by itself: the page has it from its user
        return
    if site not in ("none", "same-origin"):
        raise Forbidden("Another site's page may not make jobs here; use this service's own page, or a program.")


async def require_month_left(tally: Tally) -> None:
    """Raises QuotaExceeded where this request's tenant has spent its month: of the job's photos none would be done."""
    tenant = TENANT.get()
    limit = tenant.budget.per_month
    if limit is None:
        return
    spent = (await tally.spent([tenant.name]))[tenant.name]
    if spent.month >= limit:
        raise QuotaExceeded(
            f"All {limit} megapixel images of this month are spent. Make the job after Retry-After, or ask the "
            "operator for a larger budget.",
            retry_after_s=max(1, math.ceil(spent.month_resets_at - time.time())),
        )


def _listing(jobs: Jobs, tenant: Tenant, limit: int, cursor: str | None) -> dict[str, Any]:
    """What is `tenant`'s of the jobs looked at; `next_cursor` where there are more, its own or others'."""
    shown: list[dict[str, Any]] = []
    last = None
    for number, job in enumerate(jobs.ids(LOOKED_AT_MOST + 1, cursor)):
        if len(shown) == limit or number == LOOKED_AT_MOST:
            return {"jobs": shown, "next_cursor": last}
        last = job
        if (progress := _found(jobs, tenant, job)) is not None:
            shown.append(_short(progress))
    return {"jobs": shown, "next_cursor": None}


def _found(jobs: Jobs, tenant: Tenant, job: str) -> Progress | None:
    """None for another tenant's, and where a folder is no job: its request failed half-way, or others made it."""
    try:
        return jobs.progress(job) if may_see(tenant, jobs.spec(job).owner.tenant) else None
    except NotFound:
        return None


def _short(progress: Progress) -> dict[str, Any]:
    return {name: value for name, value in progress.document().items() if name != "failed"}
