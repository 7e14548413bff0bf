"""From an Answer to HTTP: bytes with headers, or JSON (contract 1.4)."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import JSONResponse

from deployments.ingress.middleware import REQUEST_ID
from deployments.ingress.served import Served
from mattehorn.access.budgets import Standing


def headers(served: Served, name: str, total_ms: float, warnings: tuple[str, ...] = ()) -> dict[str, str]:
    """The headers of every 200 that is a picture; `name` becomes `<name>_matte.<ext>`."""
    answer = served.answer
    result = answer.result
    timings = {**result.timings_ms, "total": total_ms}
    found = {
        "Server-Timing": ", ".join(f"{stage};dur={ms:.1f}" for stage, ms in timings.items()),
        "X-Mattehorn-Model": result.model,
        "X-Width": str(result.width),
        "X-Height": str(result.height),
        "X-Mattehorn-Quality": f"{result.quality.score:.3f}",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(f'{name}_matte.{result.extension}', safe='')}",
    }
    if result.subject is not None:
        found["X-Mattehorn-Subject"] = result.subject
    if result.foreground_box is not None:
        for side, pixels in zip(("Top", "Left", "Height", "Width"), result.foreground_box, strict=True):
            found[f"X-Foreground-{side}"] = str(pixels)
    if result.quality.reasons:
        found["X-Mattehorn-Quality-Reasons"] = ",".join(result.quality.reasons)
    if result.recipe:
        found["X-Mattehorn-Recipe"] = result.recipe
    if result.route:
        found["X-Mattehorn-Route"] = result.route
    if result.warnings + warnings:
        found["X-Mattehorn-Warnings"] = ",".join(result.warnings + warnings)
    if answer.stored is not None:
        found["X-Mattehorn-Result-Id"] = answer.stored.id
    if served.cache is not None:
        found["X-Mattehorn-Cache"] = served.cache
    return {**found, **rate_headers(served.standing)}


def rate_headers(standing: Standing | None) -> dict[str, str]:
    """X-RateLimit-*, in megapixel images (contract 2.5)."""
    if standing is None:
        return {}
    numbers = {"Limit": standing.limit, "Remaining": standing.remaining, "Reset": standing.reset_at}
    return {f"X-RateLimit-{name}": str(number) for name, number in numbers.items()}


def as_bytes(served: Served, name: str, total_ms: float, warnings: tuple[str, ...] = ()) -> Response:
    result = served.answer.result
    return Response(result.data, headers=headers(served, name, total_ms, warnings), media_type=result.content_type)


def as_json(served: Served, name: str, total_ms: float, url: str | None, inline: bool) -> JSONResponse:
    """The same answer as one JSON object; without `inline` it holds a URL in place of base64."""
    result, stored = served.answer.result, served.answer.stored
    model, _, version = result.model.partition("@")
    box = dict(zip(("top", "left", "height", "width"), result.foreground_box or (), strict=False))
    document: dict[str, Any] = {
        "request_id": REQUEST_ID.get(),
        "content_type": result.content_type,
        "width": result.width,
        "height": result.height,
        "image": _base64(result.data) if inline else None,
        "alpha": _base64(result.alpha_png) if result.alpha_png is not None else None,
        "source": {
            "width": result.source.width,
            "height": result.source.height,
            "format": result.source.format,
            "sha256": result.source.sha256,
        },
        "foreground": box or None,
        "model": {"name": model, "version": version},
        "subject": result.subject,
        "quality": {"score": round(result.quality.score, 3), "reasons": list(result.quality.reasons)},
        "timings_ms": {stage: round(ms, 1) for stage, ms in {**result.timings_ms, "total": total_ms}.items()},
        "result": {"id": stored.id, "url": url} if stored is not None else None,
        "recipe": _recipe(result.recipe),
        "route": result.route,
        "cache": served.cache or "miss",
        "warnings": list(result.warnings),
    }
    return JSONResponse(document, headers=headers(served, name, total_ms))


def _recipe(tag: str) -> dict[str, Any] | None:
    """`name@version;hash` as an object."""
    if not tag:
        return None
    recipe, _, digest = tag.partition(";")
    name, _, version = recipe.partition("@")
    return {"name": name, "version": int(version), "hash": digest}


def articles_json(served: Served, name: str, total_ms: float, warnings: tuple[str, ...]) -> JSONResponse:
    """The three views of the first source article's page: result, alpha, size."""
    answer = served.answer
    result = answer.result
    document = {
        "result": _base64(result.data),
        "alpha": _base64(result.alpha_png) if result.alpha_png is not None else None,
        "width": result.width,
        "height": result.height,
        "result_id": answer.stored.id if answer.stored else None,
    }
    return JSONResponse(document, headers=headers(served, name, total_ms, warnings))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
