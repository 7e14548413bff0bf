"""Stored results: which key a picture gets; saved with its record (records.py), and read again.

What it is not: it opens no store (open.py), makes no picture, lists none (history.py) and deletes none (removal.py).
Called by compose (save), ingress (load) and at start (check_template). The record is written last, so it never points
at nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from mattehorn.errors import ResultNotFound, StoreUnavailable
from mattehorn.store.interface import DEFAULT_TYPE, OUTAGE_RETRY_S, Store, StoreKeyMissing
from mattehorn.store.key_template import KEY_PRESETS, check_ext, check_template, render_key, with_suffix
from mattehorn.store.records import StoredResult, load_result, new_id, no_result, put_record
from mattehorn.store.shared import Maker, may_share

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

NUMBERED_TRIES = 20  # `-2` to `-20`; then the id takes the number's place, as each try costs requests

SOURCE_TYPES = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "tif": "image/tiff", "tiff": "image/tiff"}
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
    Where a key holds other bytes, `-2`, `-3`.. goes before the suffix; where this tenant's same, the key is used again.
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
    maker = Maker(result.id, result.tenant, result.model or "")
    result = replace(result, key=_put_unique(store, result.key, image, content_type, maker))
    stem = result.key.removesuffix(f".{ext}")
    if alpha is not None:
        alpha_key = _put_unique(store, f"{stem}_alpha.png", alpha, "image/png", maker)
        result = replace(result, alpha_key=alpha_key, alpha_sha256=sha256(alpha).hexdigest())
    if source is not None:
        suffix = check_ext(source_ext or "bin")
        kind = SOURCE_TYPES.get(suffix, f"image/{suffix}" if source_ext else DEFAULT_TYPE)
        source_key = _put_unique(store, f"{stem}_source.{suffix}", source, kind, maker)
        digest = sha256(source).hexdigest()
        result = replace(result, source_key=source_key, source_sha256=digest, source_content_type=kind)
    put_record(store, result)
    return result


def load_image(store: Store, result: StoredResult) -> bytes:
    """The picture, byte for byte as saved. Raises ResultNotFound when it is gone or was replaced."""
    return _load(store, result.key, result.sha256, "image")


def load_alpha(store: Store, result: StoredResult) -> bytes:
    """The matte, a PNG. Raises ResultNotFound when it was not kept, is gone or was replaced."""
    return _load(store, result.alpha_key, result.alpha_sha256, "alpha")


def load_source(store: Store, result: StoredResult) -> bytes:
    """The upload. Raises ResultNotFound when it was not kept, is gone or was replaced."""
    return _load(store, result.source_key, result.source_sha256, "source")


def _candidates(key: str, result_id: str) -> Iterator[str]:
    yield key
    for number in range(2, NUMBERED_TRIES + 1):
        yield with_suffix(key, str(number))
    yield with_suffix(key, result_id)


def _put_unique(store: Store, key: str, data: bytes, content_type: str, maker: Maker) -> str:
    """The key that now holds `data`: a new one, or one that held this tenant's same bytes before."""
    for candidate in _candidates(key, maker.id):
        if store.put(candidate, data, create=True, content_type=content_type, metadata=maker.note()):
            return candidate
        if may_share(store, candidate, data, maker):
            return candidate
    raise StoreUnavailable("The results store has too many pictures of this name.", retry_after_s=OUTAGE_RETRY_S)


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
