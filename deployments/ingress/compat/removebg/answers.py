"""From a result to remove.bg's answer: bytes or JSON, with its headers."""

from __future__ import annotations

import base64

from fastapi import Response
from fastapi.responses import JSONResponse

from deployments.ingress import answers
from deployments.ingress.compat.removebg.errors import JSON
from deployments.ingress.compat.removebg.translate import PREVIEW_PIXELS, Wish
from deployments.ingress.served import Served
from mattehorn.rendition import size_within

_LEVEL_1 = ("person", "product", "animal", "car")
_LEVEL_2 = (*_LEVEL_1, "car_interior", "car_part", "transportation", "graphics")
_RENAMED = {"graphic": "graphics"}


def answer(served: Served, wish: Wish, name: str, total_ms: float, *, as_json: bool) -> Response:
    """The picture, or the same as base64 in remove.bg's JSON."""
    result = served.answer.result
    headers = {**answers.headers(served, name, total_ms), **_headers(served, wish)}
    if not as_json:
        return Response(result.data, headers=headers, media_type=result.content_type)
    top, left, height, width = result.foreground_box or (0, 0, 0, 0)
    data = {
        "result_b64": base64.b64encode(result.data).decode("ascii"),
        "foreground_top": top,
        "foreground_left": left,
        "foreground_width": width,
        "foreground_height": height,
    }
    return JSONResponse({"data": data}, headers=headers, media_type=JSON)


def _headers(served: Served, wish: Wish) -> dict[str, str]:
    source = served.answer.result.source
    width, height = size_within(source.width, source.height, wish.most_of_full)
    found = {
        "X-Max-Width": str(width),
        "X-Max-Height": str(height),
        "X-Credits-Charged": credits_charged(wish, source.width * source.height),
    }
    kind = subject_type(served.answer.result.subject, wish)
    return found if kind is None else {**found, "X-Type": kind}


def credits_charged(wish: Wish, source_pixels: int) -> str:
    """In remove.bg's credits: a quarter for previews, and for a photo that `auto` cannot make larger than one."""
    small = wish.is_preview or (wish.size == "auto" and source_pixels <= PREVIEW_PIXELS)
    return "0.25" if small else "1"


def subject_type(detected: str | None, wish: Wish) -> str | None:
    """What X-Type says: what the photo shows, else what its caller said; None for type_level=none."""
    if wish.type_level == "none":
        return None
    kind = detected or wish.hint or "other"
    kind = _RENAMED.get(kind, kind)
    return kind if kind in (_LEVEL_1 if wish.type_level == "1" else _LEVEL_2) else "other"
