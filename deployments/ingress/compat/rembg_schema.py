"""The OpenAPI description of rembg's endpoint."""

from __future__ import annotations

from typing import Any

_BINARY = {"type": "string", "format": "binary"}
_TRUTH = {"type": "boolean", "default": False}

PARAMETERS: dict[str, dict[str, Any]] = {
    "model": {
        "type": "string",
        "description": "the name or id of a model that runs here, or one of rembg's: substituted where it does not",
    },
    "a": {**_TRUTH, "description": "alpha matting: refine=matting of the native API"},
    "af": {"type": "integer", "minimum": 0, "maximum": 255, "default": 240, "description": "checked, without effect"},
    "ab": {"type": "integer", "minimum": 0, "maximum": 255, "default": 10, "description": "checked, without effect"},
    "ae": {"type": "integer", "minimum": 0, "default": 10, "description": "checked, without effect"},
    "om": {**_TRUTH, "description": "only the mask, 8-bit grey"},
    "ppm": {**_TRUTH, "description": "post-process the mask: smoothed, then 0 or 255"},
    "bgc": {"type": "string", "description": "background, R,G,B or R,G,B,A", "example": ""},
    "extras": {"type": "string", "description": "JSON, without effect", "example": ""},
    "format": {"type": "string", "enum": ["png", "webp", "jpg", "avif"], "default": "png"},
}

_TEXT = {"type": "string"}
_ENTRY = {"type": "object", "properties": {"type": _TEXT, "loc": {"type": "array", "items": {}}, "msg": _TEXT}}
_DETAIL = {
    "type": "object",
    "required": ["detail"],
    "properties": {"detail": {"oneOf": [_TEXT, {"type": "array", "items": _ENTRY}]}},
}
_STATUSES = {
    400: "a picture or a body that cannot be read, or a URL that is not fetched",
    401: "no API key, or one that is not known (where the operator has set keys)",
    403: "the API key lacks the scope that this needs",
    408: "the upload took too long",
    413: "too many bytes or pixels",
    415: "a type that is not a picture we read",
    422: "a parameter that is bad or missing: a list, as FastAPI makes it",
    429: "at the limit; see Retry-After",
    503: "not available; see Retry-After",
    504: "not done in time",
}
_TYPES = ("image/png", "image/webp", "image/jpeg", "image/avif")
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture.", "content": {name: {"schema": _BINARY} for name in _TYPES}},
    **{
        status: {"description": text, "content": {"application/json": {"schema": _DETAIL}}}
        for status, text in _STATUSES.items()
    },
}


def get() -> dict[str, Any]:
    """The query of a photo by URL."""
    return {"parameters": [_query("url", {"type": "string"}, required=True), *_queries()]}


def post() -> dict[str, Any]:
    """The form of an upload; its fields may stand in the query as well."""
    file = {**_BINARY, "description": "the photo"}
    url = {"type": "string", "description": "where the photo is, when none is uploaded", "example": ""}
    form = {"type": "object", "properties": {"file": file, "url": url, **PARAMETERS}}
    return {"parameters": _queries(), "requestBody": {"content": {"multipart/form-data": {"schema": form}}}}


def _queries() -> list[dict[str, Any]]:
    return [_query(name, schema) for name, schema in PARAMETERS.items()]


def _query(name: str, schema: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": schema}
