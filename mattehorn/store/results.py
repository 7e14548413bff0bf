"""Stored results: which key a picture gets, and its record `.results/{id}.json`, which finds it again.

What it is not: it opens no store (open.py) and makes no picture. Called by compose (save), ingress (load)
and at start (check_template). A record is written last and never changed, so it never points at nothing. Ids
sort newest first, so a plain listing of the records is the history. All times are UTC.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from mattehorn.access.tenant import ANONYMOUS
from mattehorn.errors import MattehornError, ResultNotFound, StoreUnavailable
from mattehorn.store.interface import DEFAULT_TYPE, OUTAGE_RETRY_S, Store, StoreKeyMissing
from mattehorn.store.key_template import KEY_PRESETS, check_ext, check_template, render_key, with_suffix

__all__ = [
    "KEY_PRESETS",
    "StoredResult",
    "check_template",
    "load_alpha",
    "load_image",
    "load_result",
    "load_source",
    "new_id",
    "no_result",
    "render_key",
    "save_result",
]

RECORDS = ".results/"  # out of reach for key templates: none of their parts may begin with a dot
NUMBERED_TRIES = 20  # `-2` to `-20`; then the id takes the number's place, as each try costs requests

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"  # base 32 without i, l, o, u; the letters sort by value
TIME_CHARS, RANDOM_CHARS = 10, 16  # 50 bits of milliseconds (to the year 37000), 80 bits nobody can guess
ID_FORM = re.compile(f"[{CROCKFORD}]{{{TIME_CHARS + RANDOM_CHARS}}}")

SOURCE_TYPES = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "tif": "image/tiff", "tiff": "image/tiff"}


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


INFO_FIELDS = ("width", "height", "name", "sku", "model", "subject", "options", "recipe", "quality", "tenant")


def save_result(
    store: Store,
    *,
    image: bytes,
    content_type: str,
    ext: str,
    info: Mapping[str, Any],
    alpha: bytes | None = None,
    source: bytes | None = None,
    source_ext: str | None = None,
    template: str,
    now: datetime,
    run: datetime | None = None,
    folder: str = "",
) -> StoredResult:
    """The record of the stored `image`, and of `alpha` (a PNG) and `source` where given.

    `info` needs `width` and `height` and may hold the other INFO_FIELDS; whatever else it holds becomes `extra`. All of
    it must be JSON. `template` is a preset or a template, and `folder` goes before what it gives; `now` has a zone.
    Where a key holds other bytes, `-2`, `-3`.. goes before the suffix; where the same, the key is used again.
    """
    given = json.loads(json.dumps(dict(info)))  # as it will be read back; fails before anything is written
    key = render_key(template, name=given.get("name") or "", sku=given.get("sku"), time=now, ext=ext, run=run)
    result = StoredResult(
        id=new_id(now),
        key=f"{folder}{key}",
        content_type=content_type,
        size=len(image),
        sha256=sha256(image).hexdigest(),
        created_at=now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        extra={name: value for name, value in given.items() if name not in INFO_FIELDS},
        **{name: given[name] for name in INFO_FIELDS if given.get(name) is not None},
    )
    note = {"model": result.model or "", "result-id": result.id}
    result = replace(result, key=_put_unique(store, result.key, image, content_type, note))
    stem = result.key.removesuffix(f".{ext}")
    if alpha is not None:
        alpha_key = _put_unique(store, f"{stem}_alpha.png", alpha, "image/png", note)
        result = replace(result, alpha_key=alpha_key, alpha_sha256=sha256(alpha).hexdigest())
    if source is not None:
        suffix = check_ext(source_ext or "bin")
        kind = SOURCE_TYPES.get(suffix, f"image/{suffix}" if source_ext else DEFAULT_TYPE)
        source_key = _put_unique(store, f"{stem}_source.{suffix}", source, kind, note)
        digest = sha256(source).hexdigest()
        result = replace(result, source_key=source_key, source_sha256=digest, source_content_type=kind)
    _put_record(store, result)
    return result


def load_result(store: Store, result_id: str) -> StoredResult:
    """The record of an id. Raises ResultNotFound, also for what cannot be an id."""
    if not ID_FORM.fullmatch(result_id):
        raise no_result()
    try:
        data = store.get(_record_key(result_id))
    except StoreKeyMissing as exc:
        raise no_result() from exc
    try:
        record = json.loads(data)
        known = {f.name for f in fields(StoredResult)}  # a newer version may have written more
        return StoredResult(**{name: value for name, value in record.items() if name in known})
    except (ValueError, TypeError, AttributeError) as exc:
        raise MattehornError("The record of this result is damaged.") from exc


def no_result() -> ResultNotFound:
    """The one answer to an id that is none, or is another tenant's."""
    return ResultNotFound("There is no stored result with this id. Ids come in X-Mattehorn-Result-Id.")


def load_image(store: Store, result: StoredResult) -> bytes:
    """The picture, byte for byte as saved. Raises ResultNotFound when it is gone or was replaced."""
    return _load(store, result.key, result.sha256, "image")


def load_alpha(store: Store, result: StoredResult) -> bytes:
    """The matte, a PNG. Raises ResultNotFound when it was not kept, is gone or was replaced."""
    return _load(store, result.alpha_key, result.alpha_sha256, "alpha")


def load_source(store: Store, result: StoredResult) -> bytes:
    """The upload. Raises ResultNotFound when it was not kept, is gone or was replaced."""
    return _load(store, result.source_key, result.source_sha256, "source")


def new_id(now: datetime) -> str:
    """26 characters of Crockford's base 32: inverted milliseconds, then random. Later ids sort first."""
    left = 2 ** (5 * TIME_CHARS) - 1 - int(now.timestamp() * 1000)
    digits = [CROCKFORD[(left >> (5 * i)) & 31] for i in reversed(range(TIME_CHARS))]
    return "".join(digits + [secrets.choice(CROCKFORD) for _ in range(RANDOM_CHARS)])


def _candidates(key: str, result_id: str) -> Iterator[str]:
    yield key
    for number in range(2, NUMBERED_TRIES + 1):
        yield with_suffix(key, str(number))
    yield with_suffix(key, result_id)


def _put_unique(store: Store, key: str, data: bytes, content_type: str, note: Mapping[str, str]) -> str:
    """The key that now holds `data`: a new one, or one that held the same bytes before."""
    for candidate in _candidates(key, note["result-id"]):
        if store.put(candidate, data, create=True, content_type=content_type, metadata=note):
            return candidate
        if _holds(store, candidate, data):
            return candidate
    raise StoreUnavailable("The results store has too many pictures of this name.", retry_after_s=OUTAGE_RETRY_S)


def _holds(store: Store, key: str, data: bytes) -> bool:
    head = store.head(key)
    if head is None or head.size != len(data):
        return False
    try:
        return store.get(key) == data
    except StoreKeyMissing:
        return False


def _put_record(store: Store, result: StoredResult) -> None:
    data = json.dumps(asdict(result), ensure_ascii=False, indent=1).encode()
    key = _record_key(result.id)
    if not store.put(key, data, create=True, content_type="application/json") and store.get(key) != data:
        raise StoreUnavailable("The result's id is taken. Try again.", retry_after_s=1)


def _record_key(result_id: str) -> str:
    return f"{RECORDS}{result_id}.json"


def _load(store: Store, key: str | None, digest: str | None, what: str) -> bytes:
    """Checks the digest: some stores let racing creators overwrite, and nobody may get another's picture."""
    if key is None:
        raise ResultNotFound(f"This result has no {what}; store_{what}=true keeps it.")
    try:
        data = store.get(key)
    except StoreKeyMissing as exc:
        raise ResultNotFound(f"The {what} of this result is no longer in the store.") from exc
    if sha256(data).hexdigest() != digest:
        raise ResultNotFound(f"The {what} of this result was replaced in the store since it was saved.")
    return data
