"""Records of stored results, `.results/of/{tenant}/{id}.json`: their form, their ids, where they lie.

What it is not: it knows no picture (results.py) and searches nothing (history.py). A record is written last and never
changed. Ids sort newest first, so a plain listing of a tenant's records is its history. All times are UTC.
"""

from __future__ import annotations

import json
import logging
import math
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from heapq import merge
from typing import Any

from mattehorn.access.tenant import ANONYMOUS
from mattehorn.errors import MattehornError, ResultNotFound, StoreUnavailable
from mattehorn.store.interface import Store, StoreKeyMissing

log = logging.getLogger(__name__)

RECORDS = ".results/"  # out of reach for key templates: none of their parts may begin with a dot
# Version 0.1 had the records of all tenants in RECORDS itself. Ids of the years 2004 to 2039 begin so.
EARLIER = f"{RECORDS}zy"

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"  # base 32 without i, l, o, u; the letters sort by value
TIME_CHARS, RANDOM_CHARS = 10, 16  # 50 bits of milliseconds (to the year 37000), 80 bits nobody can guess
TIME_MOST = (1 << 5 * TIME_CHARS) - 1
ID_FORM = re.compile(f"[{CROCKFORD}]{{{TIME_CHARS + RANDOM_CHARS}}}")
_KEY = re.compile(rf".*/(?P<id>{ID_FORM.pattern})\.json")


@dataclass(frozen=True)
class StoredResult:
    """One record. Sides in px, `size` in bytes, `sha256` (hex) of the stored bytes, `created_at` RFC 3339.

    `name` and `sku` are as the caller sent them, for search; `tenant` is whose it is. `options` are all that were
    used, `quality` is {"score", "reasons"} and the gate's "route" where there was one, `recipe` `name@version;hash`,
    `extra` whatever the saver added.
    """

    id: str
    key: str
    content_type: str
    width: int
    height: int
    size: int
    sha256: str
    created_at: str
    name: str | None = None
    sku: str | None = None
    model: str | None = None
    subject: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    quality: dict[str, Any] | None = None
    alpha_key: str | None = None
    alpha_sha256: str | None = None
    source_key: str | None = None
    source_sha256: str | None = None
    source_content_type: str | None = None
    tenant: str = ANONYMOUS.name
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """Of its pictures."""
        return [key for key in (self.key, self.alpha_key, self.source_key) if key is not None]


def new_id(now: datetime) -> str:
    """26 characters of Crockford's base 32: inverted milliseconds, then random. Later ids sort first."""
    return time_part(now.timestamp() * 1000) + "".join(secrets.choice(CROCKFORD) for _ in range(RANDOM_CHARS))


def time_part(ms: float) -> str:
    """What the ids of the Unix time `ms` begin with; the nearest that an id can have."""
    left = min(TIME_MOST, max(0, TIME_MOST - math.floor(ms)))
    return "".join(CROCKFORD[(left >> (5 * i)) & 31] for i in reversed(range(TIME_CHARS)))


def time_of(result_id: str) -> float:
    """The Unix time, in seconds, at which the id was made."""
    left: int = 0
    for letter in result_id[:TIME_CHARS]:
        left = left * 32 + CROCKFORD.index(letter)
    return (TIME_MOST - left) / 1000


def record_key(tenant: str, result_id: str) -> str:
    return f"{RECORDS}of/{tenant}/{result_id}.json"


def put_record(store: Store, result: StoredResult) -> None:
    data = as_json(result)
    key = record_key(result.tenant, result.id)
    if not store.put(key, data, create=True, content_type="application/json") and store.get(key) != data:
        raise StoreUnavailable("The result's id is taken. Try again.", retry_after_s=1)


def load_result(store: Store, result_id: str, tenant: str = ANONYMOUS.name) -> StoredResult:
    """The record of a tenant's id. Raises ResultNotFound, also for another tenant's and for what cannot be an id."""
    if not ID_FORM.fullmatch(result_id):
        raise no_result()
    for key in (record_key(tenant, result_id), f"{RECORDS}{result_id}.json"):
        try:
            result = read_record(store.get(key))
        except StoreKeyMissing:
            continue
        if result.tenant == tenant:
            return result
    raise no_result()


def delete_record(store: Store, result: StoredResult) -> None:
    """Afterwards the id is not found; harmless where it was not before."""
    for key in (record_key(result.tenant, result.id), f"{RECORDS}{result.id}.json"):
        store.delete(key)


def listed(store: Store, tenants: Iterable[str], after: str = "") -> Iterator[tuple[str, str]]:
    """(id, key) of these tenants' records, newest first, ids after `after`. With `anonymous` among them also all of
    version 0.1, where only the record says whose it is. A request for every thousand of each place."""
    places = [record_key(tenant, "").removesuffix(".json") for tenant in tenants]
    if ANONYMOUS.name in tenants:
        places.append(EARLIER)
    return merge(*(_of_place(store, place, after) for place in places))


def _of_place(store: Store, place: str, after: str) -> Iterator[tuple[str, str]]:
    folder = place[: place.rindex("/") + 1]
    for key in store.list(place, start_after=f"{folder}{after}" if after else None):
        if (match := _KEY.fullmatch(key)) is not None:  # else not ours
            yield match["id"], key


def as_json(result: StoredResult) -> bytes:
    return json.dumps(asdict(result), ensure_ascii=False, indent=1).encode()


def read_record(data: bytes) -> StoredResult:
    """Raises MattehornError."""
    try:
        record = json.loads(data)
        known = {f.name for f in fields(StoredResult)}  # a newer version may have written more
        return StoredResult(**{name: value for name, value in record.items() if name in known})
    except (ValueError, TypeError, AttributeError) as exc:
        raise MattehornError("The record of this result is damaged.") from exc


def whole_record(store: Store, key: str) -> StoredResult | None:
    """None for what was deleted since it was listed, and for a damaged record, which must not hide all the others."""
    try:
        return read_record(store.get(key))
    except StoreKeyMissing:
        return None
    except StoreUnavailable:
        raise
    except MattehornError:
        log.warning("result_record_damaged key=%s", key)
        return None


def no_result() -> ResultNotFound:
    """The one answer to an id that is none, or is another tenant's."""
    return ResultNotFound("There is no stored result with this id. Ids come in X-Mattehorn-Result-Id.")
