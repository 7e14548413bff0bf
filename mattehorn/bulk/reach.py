"""Is what a job names there at all? Asked before the job is made, for afterwards nobody would hear of it: a bucket that
is missing looks like an outage to the workers, and they try again and again.

What it is not: no promise. A bucket may go later, and a right to write shows only when something is written. Called by
the ingress and by `mattehorn submit --local`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mattehorn.bulk.places import Place, Places
from mattehorn.errors import OptionError, StoreUnavailable
from mattehorn.store.interface import StoreKeyError

BUCKETS_MOST = 8  # of inline keys; each is a small request, while somebody waits
PREFIX, KEYS, OUTPUT = "input.prefix", "input.keys", "output"


def require_buckets(places: Places, body: Mapping[str, Any]) -> None:
    """Returns when every bucket of the job's body (`POST /v1/jobs`) is there, as far as one listing of each can tell.

    Raises OptionError for one that is not, StoreUnavailable when the input's prefix cannot be listed. What else may be
    wrong with the body is Jobs.submit's business.
    """
    for field, place in _named(places, body):
        try:
            next(iter(places.store(place.bucket).list(place.key)), None)
        except StoreKeyError:
            continue
        except StoreUnavailable as error:
            if _is_missing(error):
                raise OptionError(
                    f"{field}: there is no bucket {place.bucket!r}. Check its name, and the settings "
                    "store.endpoint_url and store.region.",
                    field=field,
                ) from None
            if field == PREFIX:  # elsewhere the right to list may be missing, and is not needed
                raise


def _named(places: Places, body: Mapping[str, Any]) -> Iterable[tuple[str, Place]]:
    """(field, place) of each bucket that the body names, the prefix with its key."""
    given = body.get("input")
    source: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    yield from _parsed(places, PREFIX, [source.get("prefix")])
    keys = source.get("keys")
    yield from _parsed(places, KEYS, _buckets(keys if isinstance(keys, list) else []))
    yield from _parsed(places, OUTPUT, _buckets([body.get("output")]))


def _buckets(texts: Iterable[object]) -> list[str]:
    """`s3://bucket/` of the first few different buckets; nothing is listed in it but what begins with a rare key."""
    found: dict[str, None] = {}
    for text in texts:
        if isinstance(text, str) and text.startswith("s3://") and len(found) < BUCKETS_MOST:
            found["s3://" + text.removeprefix("s3://").partition("/")[0] + "/.mattehorn-looks/"] = None
    return list(found)


def _parsed(places: Places, field: str, texts: Iterable[object]) -> Iterable[tuple[str, Place]]:
    for text in texts:
        if isinstance(text, str) and text:
            try:
                yield field, places.parse(text, field)
            except OptionError:
                continue


def _is_missing(error: StoreUnavailable) -> bool:
    """Whether the store answered NoSuchBucket: S3's own answer is the cause of our error."""
    answer = getattr(error.__cause__, "response", None)
    return isinstance(answer, dict) and answer.get("Error", {}).get("Code") == "NoSuchBucket"
