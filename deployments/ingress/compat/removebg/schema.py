"""The OpenAPI description of remove.bg's endpoints: the contract's field list."""

from __future__ import annotations

from typing import Any

from deployments.ingress.compat.removebg import translate

_BINARY = {"type": "string", "format": "binary"}
_TEXT: dict[str, Any] = {"type": "string"}
_TRUTH: dict[str, Any] = {"type": "boolean"}
_WHOLE: dict[str, Any] = {"type": "integer"}


def _text(description: str, default: str = "") -> dict[str, Any]:
    return {**_TEXT, "description": description, "default": default, "example": default}


def _choice(values: tuple[str, ...], default: str, description: str) -> dict[str, Any]:
    return {**_TEXT, "enum": list(values), "default": default, "description": description}


def _truth(default: bool, description: str) -> dict[str, Any]:
    return {**_TRUTH, "default": default, "description": description}


FILES: dict[str, dict[str, Any]] = {
    "image_file": {**_BINARY, "description": "the photo"},
    "bg_image_file": {**_BINARY, "description": "a background picture"},
}
FIELDS: dict[str, dict[str, Any]] = {
    "image_file_b64": _text("the photo as base64, with or without a data: prefix"),
    "image_url": _text("an address that the service fetches the photo from"),
    "size": _choice(
        tuple(translate.SIZES),
        "preview",
        "the most that the result has: preview, small, regular 0.25 megapixels, medium 1.5, hd 4, full and 4k 25, 50MP "
        "and auto 50; png at most 10; nothing is enlarged",
    ),
    "type": _choice(translate.TYPES, "auto", "what the photo shows; a hint"),
    "type_level": _choice(translate.TYPE_LEVELS, "1", "how fine X-Type tells; none: not at all"),
    "format": _choice(tuple(translate.FORMATS), "auto", "auto: png with any transparency, else jpg; zip: two files"),
    "roi": _text("x1 y1 x2 y2, each px or %; outside is background", "0% 0% 100% 100%"),
    "crop": _truth(False, "crops to the subject; scale and position then have no effect"),
    "crop_margin": _text("1, 2 or 4 lengths around a cropped subject, px or % of it; at most 50% or 500px", "0"),
    "scale": _text("original, or 10% to 100%: how much of the picture the subject fills", "original"),
    "position": _text("original, center, or one or two of 0% to 100%", "original"),
    "channels": _choice(translate.CHANNELS, "rgba", "alpha: only the matte, grey"),
    "add_shadow": _truth(False, "without effect"),
    "shadow_type": _choice(translate.SHADOW_TYPES, "auto", "without effect"),
    "shadow_opacity": _text("auto, or 0 to 100; without effect", "auto"),
    "semitransparency": _truth(True, "false: windows and panes that the subject encloses are opaque"),
    "bg_color": _text("hex of 3, 4, 6 or 8 digits, or a colour's name"),
    "bg_image_url": _text("a background picture by its address"),
}
_IMPROVE: dict[str, dict[str, Any]] = {
    **{name: FIELDS[name] for name in ("image_file_b64", "image_url")},
    "image_filename": _text("the photo's name"),
    "tag": _text("what photos of one kind are kept under"),
}

_ENTRY = {
    "type": "object",
    "required": ["title"],
    "properties": {"title": _TEXT, "code": _TEXT, "detail": _TEXT},
}
ERROR = {
    "type": "object",
    "required": ["errors"],
    "properties": {"errors": {"type": "array", "minItems": 1, "items": _ENTRY}},
}
_STATUSES = {
    400: "a parameter, a picture or an address that is no good; see the code",
    402: "the month's quota is spent",
    403: "no key, or one that may not do this",
    405: "another method",
    408: "the upload took too long",
    429: "at the limit; see Retry-After",
    500: "a fault of the service",
    503: "not available; see Retry-After",
    504: "not done in time",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": ERROR}}}
    for status, text in _STATUSES.items()
}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


_RESULT = _object(
    data=_object(
        result_b64=_TEXT,
        **{f"foreground_{name}": _WHOLE for name in ("top", "left", "width", "height")},
    )
)
_ACCOUNT = _object(
    data=_object(
        attributes=_object(
            credits=_object(total=_WHOLE, subscription=_WHOLE, payg=_WHOLE, enterprise=_WHOLE),
            api=_object(free_calls=_WHOLE, sizes=_TEXT),
        )
    )
)
_TYPES = ("image/png", "image/jpeg", "image/webp", "application/zip")
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture; as JSON when Accept prefers application/json.",
        "content": {
            **{name: {"schema": _BINARY} for name in _TYPES},
            "application/json": {"schema": _RESULT},
        },
    },
    **ERRORS,
}
ACCOUNT: dict[int | str, dict[str, Any]] = {
    200: {"description": "What is left.", "content": {"application/json": {"schema": _ACCOUNT}}},
    **{status: entry for status, entry in ERRORS.items() if status in (403, 429, 500, 503)},
}
IMPROVED: dict[int | str, dict[str, Any]] = {
    200: {"description": "Kept.", "content": {"application/json": {"schema": _object(id=_TEXT)}}},
    **ERRORS,
}


def removebg() -> dict[str, Any]:
    """The request body of the removal in its three forms."""
    return _body(FILES, FIELDS)


def improve() -> dict[str, Any]:
    """The request body of the improvement program."""
    return _body({"image_file": FILES["image_file"]}, _IMPROVE)


def _body(files: dict[str, dict[str, Any]], fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    flat = {"schema": {"type": "object", "properties": fields}}
    form = {"schema": {"type": "object", "properties": {**files, **fields}}}
    content = {
        "multipart/form-data": form,
        "application/x-www-form-urlencoded": flat,
        "application/json": flat,
    }
    return {"requestBody": {"required": True, "content": content}}
