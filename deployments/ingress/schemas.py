"""The OpenAPI descriptions and status documents of the API, built from `Options` and the model cards."""

from __future__ import annotations

from typing import Any

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPBearer

from deployments.calls import Pool, Readiness
from deployments.ingress.answer_schemas import ARTICLE, BINARY, MATTE, Answers, answer
from deployments.ingress.errors import schema as error_schema
from mattehorn.models.base import ModelCard
from mattehorn.models.zoo import find_card, running_cards
from mattehorn.options import Options
from mattehorn.settings import Settings

DESCRIPTION = (
    "A photo in, an alpha matte and a cutout out. Every error is JSON `{error: {code, message, field, ..}}` "
    "with `X-Request-ID`. An empty value means: not sent."
)
# Swagger UI's "Authorize"; the front door has read the key long before, and lets pass what these two do not see
KEY_FORMS = [Security(APIKeyHeader(name="X-API-Key", auto_error=False)), Security(HTTPBearer(auto_error=False))]
_STATUSES = {
    400: "no or several photos, an unreadable body, or a URL that is not allowed",
    401: "no API key, or one that is not known (where the operator has set keys)",
    403: "the API key lacks the scope that this needs",
    404: "no stored result with this id, or without its photo",
    406: "nothing that Accept allows can be given",
    408: "the upload took too long",
    413: "too many bytes or pixels",
    415: "a type that is not a picture we read",
    422: "a bad option, a corrupt picture, no foreground, or a URL whose server gave no picture",
    429: "at the limit; see Retry-After",
    503: "not available; see Retry-After",
    504: "not done in time",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": error_schema()}}}
    for status, text in _STATUSES.items()
}
_TYPES = ("image/png", "image/webp", "image/jpeg", "image/avif", "application/zip")


def errors(*statuses: int) -> Answers:
    """These of ERRORS."""
    return {status: ERRORS[status] for status in statuses}


def _pictures(types: tuple[str, ...], document: dict[str, Any] | None) -> Answers:
    content = {**dict.fromkeys(types, BINARY), **({"application/json": document} if document else {})}
    return answer(200, "The picture" + ("; as JSON when Accept prefers it." if document else "."), content)


PICTURE = _pictures(_TYPES, MATTE) | ERRORS
_UPLOADED = errors(400, 408, 413, 415, 422, 429, 503, 504)  # no field names a result, and Accept is never refused
MATTING = _pictures(_TYPES[:-1], ARTICLE) | _UPLOADED
REMOVED = _pictures(_TYPES[:-1], None) | _UPLOADED
RESULT = errors(404, 503)
IMAGE = _pictures(_TYPES, None)


def _option_properties() -> dict[str, Any]:
    """The options as form fields. What may be left out is empty in Swagger UI, which else fills in made-up values."""
    properties: dict[str, Any] = {}
    for name, entry in Options.model_json_schema()["properties"].items():
        variants = [variant for variant in entry.get("anyOf", []) if variant.get("type") != "null"]
        kept = {key: value for key, value in entry.items() if key not in ("title", "anyOf")}
        properties[name] = {**kept, **variants[0], "default": "", "example": ""} if variants else kept
    return properties


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description, "default": "", "example": ""}


KEYED = {
    **PICTURE,
    409: {
        **ERRORS[422],
        "description": "the first request with this Idempotency-Key is still in work; see Retry-After",
    },
}


def mattes() -> dict[str, Any]:
    """The request body of POST /v1/mattes in its four forms, and its header."""
    options = _option_properties()
    file = {**BINARY, "description": "the photo: jpg, png, webp, bmp, tiff, gif, heic, avif"}
    background = {**BINARY, "description": "a background picture, for a composite"}
    named = {
        "image_url": _text("an http://, https:// or, in a listed bucket, s3:// address of the photo"),
        "image_base64": _text("the photo as base64, with or without a data: prefix"),
        "result_id": _text("an earlier result that was made with store_source=true: its photo again"),
    }
    recipe = "NAME or NAME@VERSION from /v1/recipes, or a whole document as JSON; other fields go over its values"
    options = {"recipe": _text(recipe), **options}
    options = {"background_url": _text("a background picture, by its address as in image_url"), **options}
    one = "Exactly one photo: "
    form = {
        "type": "object",
        "description": f"{one}file, {', '.join(named)}.",
        "properties": {"file": file, **named, "background_file": background, **options},
    }
    flat = {"type": "object", "description": f"{one}{', '.join(named)}.", "properties": {**named, **options}}
    content = {
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": flat},
        "application/x-www-form-urlencoded": {"schema": flat},
        "image/*": {"schema": {**BINARY, "description": "the raw photo; options go in the query"}},
    }
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
        "description": "a request that is sent again with its key gets the first answer again",
    }
    return {"parameters": [key], "requestBody": {"required": True, "content": content}}


def articles() -> dict[str, Any]:
    """The form of the source articles' endpoints."""
    known = _option_properties()
    properties = {
        "image": {**BINARY, "description": "the photo (or: file)"},
        "background_color": known["background_color"],
        "output_format": {"type": "string", "enum": ["png", "jpeg", "webp", "avif"], "default": "png"},
        "alpha_threshold": known["alpha_threshold"],
        "feather": known["feather_px"],
        "erode": known["erode_px"],
        "save_alpha": {
            "type": "boolean",
            "default": False,
            "description": "store the result and its alpha matte",
        },
        "store": known["store"],
    }
    form = {"type": "object", "required": ["image"], "properties": properties}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


def model_entries(settings: Settings, state: Readiness) -> list[dict[str, Any]]:
    """The entries of `/v1/models`: the model, and the stronger one where there is one."""
    cards = running_cards(settings.model, settings.strong_model, settings.model_dir)
    first = _model_entry(cards["fast"], state.ready, state.cold, state.pool)
    if "strong" not in cards:
        return [first]
    strong = _model_entry(cards["strong"], state.ready, state.strong is None, state.strong)
    return [first, strong | {"default": False}]


def _model_entry(card: ModelCard, ready: bool, cold: bool, pool: Pool | None) -> dict[str, Any]:
    return {
        "name": card.name,
        "version": card.version,
        "default": True,
        "state": "ready" if ready else "loading",
        "cold": cold,
        "device": pool.device if pool else None,
        "input_size": card.input_size,
        "licence": card.licence,
        "licence_note": card.licence_note,
        "commercial_use": card.commercial_use,
        "training_sets": list(card.training_sets),
    }


def ready(settings: Settings, state: Readiness) -> dict[str, Any]:
    """The body of a 200 of `/readyz`."""
    card = find_card(settings.model, settings.model_dir)
    return {
        "status": "ready",
        "cold": state.cold,
        "model": {"name": card.name, "version": card.version},
        "device": state.pool.device if state.pool else None,
        "dtype": state.pool.dtype if state.pool else None,
    }
