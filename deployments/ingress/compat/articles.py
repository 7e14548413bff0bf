"""`POST /api/matting` and `POST /remove_background`: the source articles' endpoints, over the native path.

Unknown fields are left aside and counted; errors have the native shape. Contract: section 4.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from deployments.ingress import answers, schemas
from deployments.ingress.bodies import read_form
from deployments.ingress.jobs import Service, job_for, observe_total, require_model, work_ends
from deployments.ingress.negotiate import parse_accept
from deployments.ingress.tenancy import own_limits
from deployments.ingress.work import Work
from mattehorn import telemetry
from mattehorn.colour import parse_colour
from mattehorn.errors import OptionError, UnsupportedMediaType
from mattehorn.options import Options, parse_options

MATTING, REMOVE = "/api/matting", "/remove_background"
PATHS = (MATTING, REMOVE)
_PLAIN = ("model", "alpha_threshold", "background_color", "store", "name", "sku")
_RENAMED = {
    "feather": "feather_px",
    "erode": "erode_px",
    "output_format": "format",
    "save_alpha": "store_alpha",
}
_SENT = {new: old for old, new in _RENAMED.items()}
_TRUE = ("true", "1", "yes", "on")


def router(service: Service, work: Work) -> APIRouter:
    router = APIRouter(tags=["articles"])

    @router.post(MATTING, openapi_extra=schemas.articles(), responses=schemas.MATTING, response_class=Response)
    async def matting(request: Request) -> Response:
        """RGBA PNG; with a JSON Accept the three views result, alpha and size."""
        return await _answer(service, work, request, json_views=True)

    @router.post(
        REMOVE,
        openapi_extra=schemas.articles(),
        responses=schemas.REMOVED,
        response_class=Response,
    )
    async def remove_background(request: Request) -> Response:
        """RGBA PNG."""
        return await _answer(service, work, request, json_views=False)

    return router


async def _answer(service: Service, work: Work, request: Request, *, json_views: bool) -> Response:
    started = time.perf_counter()
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMediaType("Send multipart/form-data with the photo as the part 'image' (or 'file').")
    as_json = json_views and parse_accept(request.headers.get("accept")).wants_json
    with service.admission.admit():
        body = await read_form(request, own_limits(service.settings.limits), photo_only=True)
        deadline = work_ends(service.settings)
        options, warnings = translate(body.fields, request.url.path, include_alpha=as_json)
        require_model(options.model, service.settings)
        job = job_for(body, options, deadline)
        served = await work.cut_out(job)
    total_ms = observe_total(started)
    if as_json:
        return answers.articles_json(served, options.name or job.name, total_ms, warnings)
    return answers.as_bytes(served, options.name or job.name, total_ms, warnings)


def translate(fields: dict[str, str], route: str, *, include_alpha: bool) -> tuple[Options, tuple[str, ...]]:
    """(native options, warnings). PNG unless a background makes jpeg safe: transparency is never lost.

    Raises OptionError, which names fields as they were sent.
    """
    native: dict[str, Any] = {name: fields[name] for name in _PLAIN if fields.get(name)}
    native |= {new: fields[old] for old, new in _RENAMED.items() if fields.get(old)}
    telemetry.add(telemetry.IGNORED_FIELDS, len(set(fields) - {*_PLAIN, *_RENAMED}), route=route)
    warnings: tuple[str, ...] = ()
    native.setdefault("format", "png")
    if native["format"].strip().lower() in ("jpg", "jpeg") and not _opaque(native.get("background_color")):
        native["format"], warnings = "png", ("png_keeps_transparency",)
    if str(native.get("store_alpha", "")).strip().lower() in _TRUE:
        native["store"] = True
    if include_alpha:
        native["include"] = "alpha"
    try:
        return parse_options(native), warnings
    except OptionError as error:
        raise _as_sent(error) from None


def _as_sent(error: OptionError) -> OptionError:
    """`error` with the articles' names in place of the native ones."""
    first = _renamed({"message": error.message, "field": error.data.get("field")})
    details = [_renamed(entry) for entry in error.data.get("details", [])]
    return type(error)(first["message"], **{**error.data, "field": first["field"], "details": details})


def _renamed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry whose message begins with its field's name."""
    field = entry["field"]
    if field not in _SENT:
        return dict(entry)
    return {**entry, "message": _SENT[field] + entry["message"].removeprefix(field), "field": _SENT[field]}


def _opaque(colour: str | None) -> bool:
    """Whether this background hides everything; a colour that is none is left to parse_options."""
    try:
        return colour is not None and parse_colour(colour)[3] == 255
    except ValueError:
        return True
