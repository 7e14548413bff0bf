"""A picture by `s3://bucket/key`, from the buckets that the operator lists (`url_buckets`), for untrusted callers.

The credentials are the results store's, so a bucket that is not listed is out of reach whatever they may read; and what
the results store keeps of itself, or for several tenants, stays out of reach though its bucket is listed.
What it is not: it knows no http (mattehorn/fetch/) and no job (mattehorn/bulk/). Called by sources.py.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import PurePosixPath

from deployments.ingress.middleware import REQUEST_ID
from deployments.ingress.tenancy import TENANT
from mattehorn.bulk.places import Place, Places
from mattehorn.errors import BodyTooLarge, FetchFailed, StoreUnavailable, UrlNotAllowed
from mattehorn.fetch.fetch import Fetched
from mattehorn.settings import Settings
from mattehorn.store.interface import Store, StoreKeyError, StoreKeyMissing
from mattehorn.store.open import bucket_and_key, open_bucket

log = logging.getLogger("ray.serve")

THREADS = 8  # a store that hangs holds these and no others
_SCHEME = re.compile(r"\s*s3:", re.IGNORECASE)


def is_bucket_url(text: str) -> bool:
    return _SCHEME.match(text) is not None


class Buckets:
    """One per ingress replica. A bucket is opened at its first picture."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._allowed, limits = settings, frozenset(settings.url_buckets), settings.limits
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="buckets")
        within = partial(
            open_bucket, connect_timeout_s=limits.fetch_connect_s, read_timeout_s=limits.fetch_s, attempts=2
        )
        self._places = Places(settings.store, open_bucket=within)

    def check(self, text: str, field: str) -> Place:
        """The place that `text` names, if it may be read for this request's tenant. Raises UrlNotAllowed."""
        try:
            place = Place(*bucket_and_key(_SCHEME.sub("s3:", text, count=1), self._settings.store))
        except ValueError:
            raise _not_allowed(field, "is no s3://bucket/key") from None
        if place.bucket not in self._allowed:
            raise _not_allowed(
                field,
                f"names the bucket {place.bucket!r}, which the operator does not list (url_buckets); send a signed "
                "https:// address, or name photos in a bucket as a job's input (POST /v1/jobs)",
            )
        home = self._places.home_place
        is_shared = bool(home.bucket) and home.covers(place.bucket, place.key) and "admin" not in TENANT.get().scopes
        if is_shared or self._places.is_state(place.bucket, place.key):
            raise _not_allowed(field, "lies in the results store; name an earlier result by result_id")
        return place

    async def fetch(self, text: str, *, field: str, max_bytes: int, within_s: float) -> Fetched:
        """What lies at the address, of at most `max_bytes`. Raises UrlNotAllowed, FetchFailed and BodyTooLarge, all
        with `field`."""
        started = time.monotonic()
        place = self.check(text, field)
        within_s = min(within_s, self._settings.limits.fetch_s)
        read = partial(self._read, place, field, max_bytes, started + within_s)
        try:
            async with asyncio.timeout(within_s):
                data = await asyncio.get_running_loop().run_in_executor(self._threads, read)
        except TimeoutError:
            raise FetchFailed(f"{field}: the bucket's store did not answer in time.", field=field) from None
        seconds = time.monotonic() - started
        log.info(
            "bucket_fetched request_id=%s place=%s bytes=%d seconds=%.3f", REQUEST_ID.get(), place, len(data), seconds
        )
        return Fetched(data, PurePosixPath(place.key).name, seconds)

    def _read(self, place: Place, field: str, max_bytes: int, until: float) -> bytes:
        """Blocks, and reads nothing more after the monotonic time `until`, when nobody waits any longer."""
        try:
            return _read(self._places.store(place.bucket), place.key, field, max_bytes, until)
        except StoreKeyError:
            raise _not_allowed(field, "has a key that no store can hold") from None
        except StoreKeyMissing:
            raise _answered(field, 404) from None
        except StoreUnavailable as error:  # its own message speaks of the results store, to the operator
            if status := _status_of(error):
                raise _answered(field, status) from None
            raise FetchFailed(f"{field}: the bucket's store did not answer.", field=field) from None


def _read(store: Store, key: str, field: str, max_bytes: int, until: float) -> bytes:
    body = bytearray()
    with store.open(key) as opened:
        too_large = opened.head.size > max_bytes
        for chunk in () if too_large else opened.chunks():
            body += chunk
            too_large = len(body) > max_bytes
            if too_large or time.monotonic() > until:
                break
    if too_large:
        raise BodyTooLarge(f"The picture at {field} has more than {max_bytes} bytes.", field=field)
    if time.monotonic() > until:
        raise TimeoutError
    if not body:
        raise FetchFailed(f"{field}: the bucket holds an empty object there.", field=field)
    return bytes(body)


def _status_of(error: StoreUnavailable) -> int | None:
    """The HTTP status that the store answered with, where it did."""
    answer = getattr(error.__cause__, "response", None)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, dict) else None
    return status if isinstance(status, int) else None


def _answered(field: str, status: int) -> FetchFailed:
    return FetchFailed(
        f"{field}: the bucket's store answered {status}; 200 is needed.", field=field, upstream_status=status
    )


def _not_allowed(field: str, what: str) -> UrlNotAllowed:
    return UrlNotAllowed(f"{field} {what}.", field=field)
