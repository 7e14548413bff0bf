"""The pictures that a request names instead of sending them: by URL, or as an earlier result's source.

What it is not: it decides no address, speaks no HTTP (mattehorn/fetch/), reads no bucket (buckets.py) and no body
(bodies.py). Called by api.py within the admission, so that a picture by URL takes a place like any other, and goes to
compose like any other.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import PurePath

from starlette.concurrency import run_in_threadpool

from deployments.ingress.bodies import Body
from deployments.ingress.buckets import Buckets, is_bucket_url
from deployments.ingress.jobs import Service
from deployments.ingress.middleware import REQUEST_ID
from deployments.ingress.served import Served
from deployments.ingress.streams import Slots
from deployments.ingress.tenancy import load_own
from mattehorn.fetch.fetch import Fetched
from mattehorn.settings import Limits
from mattehorn.store.results import load_source
from mattehorn.telemetry import Stages


class Sources:
    """Brings what a body names. One per replica."""

    def __init__(self, service: Service) -> None:
        self._service, self._buckets = service, Buckets(service.settings)
        # half of the places, so that callers whose URLs lead to slow servers do not keep photos that are sent out
        self._fetches = Slots(max(1, service.settings.limits.requests_in_flight // 2), "pictures by URL")

    async def fill(
        self,
        body: Body,
        deadline: float,
        limits: Limits,
        *,
        photo_field: str = "image_url",
        background_field: str = "background_url",
    ) -> Body:
        """`body` with the bytes of the photo and the background that it names, and the photo's file name.

        `limits` are the contract's own and the tenant's: a picture by URL has at most the bytes of an upload.
        `photo_field` and `background_field` are what the contract calls their URLs.

        Raises ResultNotFound, UrlNotAllowed, FetchFailed, BodyTooLarge, Overloaded. No fetch goes on after the Unix
        time `deadline`.
        """
        source, background_url = body.source, body.background_url
        if source is not None and source.kind == "image_url":
            self._check(source.text, photo_field)
        if background_url is not None:
            self._check(background_url, background_field)
        if source is not None and source.kind == "result_id":
            photo, file_name = await run_in_threadpool(self._kept, source.text)
            body = replace(body, photo=photo, file_name=file_name, source=None)
        if body.source is None and background_url is None:
            return body
        stages = Stages()
        with self._fetches.held():
            try:
                with stages.timed("fetch"):  # one after the other: a request holds one connection
                    if body.source is not None:
                        photo_at = await self._fetch(body.source.text, photo_field, deadline, limits)
                        body = replace(body, photo=photo_at.data, file_name=photo_at.file_name, source=None)
                    if background_url is not None:
                        behind = await self._fetch(background_url, background_field, deadline, limits)
                        body = replace(body, background=behind.data, background_url=None)
            finally:
                stages.report()
        return replace(body, fetch_ms=stages.ms["fetch"])

    def _check(self, url: str, field: str) -> None:
        """What can be told of a bucket before anything is fetched. Raises UrlNotAllowed."""
        if is_bucket_url(url):
            self._buckets.check(url, field)

    async def _fetch(self, url: str, field: str, deadline: float, limits: Limits) -> Fetched:
        most, within_s = limits.body_bytes, max(0.0, deadline - time.time())
        if is_bucket_url(url):
            return await self._buckets.fetch(url, field=field, max_bytes=most, within_s=within_s)
        return await self._service.fetcher.fetch(
            url, field=field, max_bytes=most, within_s=within_s, request_id=REQUEST_ID.get()
        )

    def _kept(self, result_id: str) -> tuple[bytes, str]:
        """The photo that a stored result was made of, and its file name. Raises ResultNotFound."""
        stored = load_own(self._service.store, result_id)
        data = load_source(self._service.store, stored)
        return data, f"{stored.name or 'photo'}{PurePath(stored.source_key or '').suffix}"


def with_fetch(served: Served, fetch_ms: float | None) -> Served:
    """`served`, whose stage times begin with `fetch` where something was fetched."""
    if fetch_ms is None:
        return served
    answer = served.answer
    timed = replace(answer.result, timings_ms={"fetch": fetch_ms, **answer.result.timings_ms})
    return replace(served, answer=replace(answer, result=timed))
