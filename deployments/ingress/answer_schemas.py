"""The OpenAPI schemas of the JSON answers of photos, results and status. A field more is no lie; one less is."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import TypeAdapter

from mattehorn.quality import Reason
from mattehorn.store.records import StoredResult

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer", "minimum": 0}
_SIDE = {"type": "integer", "minimum": 1}
_TRUTH = {"type": "boolean"}
_BASE64 = {"type": "string", "contentEncoding": "base64"}
BINARY = {"type": "string", "format": "binary"}


def or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def record(**properties: dict[str, Any]) -> dict[str, Any]:
    """An object that has all of `properties`."""
    return {"type": "object", "required": list(properties), "properties": properties}


MATTE = record(
    request_id=_TEXT,
    content_type=_TEXT,
    width=_SIDE,
    height=_SIDE,
    image={**or_null(_BASE64), "description": "null with inline=false: the result's url has it"},
    alpha={**or_null(_BASE64), "description": "with include=alpha"},
    source=record(width=_SIDE, height=_SIDE, format=_TEXT, sha256=_TEXT),
    foreground=or_null(record(top=_WHOLE, left=_WHOLE, width=_SIDE, height=_SIDE)),
    model=record(name=_TEXT, version=_TEXT),
    quality=record(
        score={"type": "number", "minimum": 0, "maximum": 1},
        reasons={"type": "array", "items": {"type": "string", "enum": list(get_args(Reason))}},
    ),
    timings_ms={"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
    recipe={},
    result=or_null(record(id=_TEXT, url=_TEXT)),
    cache={"type": "string", "enum": ["hit", "miss"]},
    warnings={"type": "array", "items": _TEXT},
)
ARTICLE = record(result=_BASE64, alpha=or_null(_BASE64), width=_SIDE, height=_SIDE, result_id=or_null(_TEXT))
_RECORD = TypeAdapter(StoredResult).json_schema(mode="serialization")
_STORED = {
    **_RECORD,
    "required": [*_RECORD["properties"], "url"],
    "properties": {
        **_RECORD["properties"],
        "url": {**_TEXT, "description": "the picture: signed, for an hour, where the store has URLs"},
    },
}
_MODEL = record(
    name=_TEXT,
    version=_TEXT,
    default=_TRUTH,
    state={"type": "string", "enum": ["ready", "loading", "not_downloaded", "blocked"]},
    cold=_TRUTH,
    device=or_null(_TEXT),
    input_size=_SIDE,
    licence=_TEXT,
    licence_note=_TEXT,
    commercial_use=_TEXT,
    training_sets={"type": "array", "items": _TEXT},
)
_READY = record(
    status={"const": "ready"},
    cold=_TRUTH,
    model=record(name=_TEXT, version=_TEXT),
    device=or_null(_TEXT),
    dtype=or_null(_TEXT),
)
_NOT_READY = record(status={"const": "not_ready"}, reasons={"type": "array", "items": _TEXT})

Answers = dict[int | str, dict[str, Any]]


def answer(status: int, description: str, content: dict[str, dict[str, Any]]) -> Answers:
    """One entry of a route's `responses`; `content` maps media types to schemas."""
    return {status: {"description": description, "content": {name: {"schema": one} for name, one in content.items()}}}


def _json(status: int, description: str, schema: dict[str, Any]) -> Answers:
    return answer(status, description, {"application/json": schema})


HISTORY = _json(
    200,
    "Newest first. next_cursor: the next page; null after the last.",
    record(results={"type": "array", "items": _STORED}, next_cursor=or_null(_TEXT)),
)
REMOVED: Answers = {204: {"description": "The result is gone, and its id is not found any more."}}
STORED = _json(200, "The record of a stored result.", _STORED)
SOURCE = answer(200, "The photo as it came.", {"image/*": BINARY, "application/octet-stream": BINARY})
ALPHA = answer(200, "8-bit grey.", {"image/png": BINARY})
MODELS = _json(200, "The models of this service.", record(models={"type": "array", "items": _MODEL}))
ALIVE = _json(200, "The process lives.", record(status={"const": "ok"}))
READINESS = _json(200, "A warm-up inference ran, or the pool is at zero.", _READY) | _json(
    503, "Not yet, or not any more.", _NOT_READY
)
METRICS = answer(200, "Prometheus text.", {"text/plain": _TEXT})
