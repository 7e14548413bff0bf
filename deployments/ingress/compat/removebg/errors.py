"""Our errors as remove.bg's: one table of its codes, and which of them each of ours becomes.

Always `{"errors": [{title, code, detail?}]}` with at least one entry: the official Ruby client reads the first title of
every answer that is not a 200.
"""

from __future__ import annotations

from fastapi.responses import JSONResponse

from deployments.ingress import errors
from deployments.ingress.answers import rate_headers
from deployments.ingress.compat.removebg.parameters import BACKGROUND_URL
from mattehorn.errors import MattehornError

JSON = "application/json; charset=utf-8"

# code -> (status, title). Titles are remove.bg's words where the contract has them (its OpenAPI file, its recorded
# answers); {field} is the parameter, {url} the address that the caller gave, {status} what its server answered.
TABLE: dict[str, tuple[int, str]] = {
    "missing_source": (400, "No image given"),
    "multiple_sources": (
        400,
        "Multiple image sources given: Please provide either the image_url, image_file or image_file_b64 parameter.",
    ),
    "invalid_image_url": (400, "Invalid image_url: Please provide a valid URL."),
    "failed_image_download": (400, "Failed to download image from given image_url: {status}"),
    "file_too_large": (400, "File too large"),
    "invalid_file_type": (400, "Invalid file type"),
    "failed_to_read_image": (400, "There was an error reading the image."),
    "invalid_dimensions": (400, "Failed to read image dimensions"),
    "resolution_too_high": (400, "Image resolution too high"),
    "unknown_foreground": (400, "Could not identify foreground in image."),
    "invalid_size": (400, "Invalid value for parameter 'size'"),
    "invalid_channels": (400, "Invalid value for parameter 'channels'"),
    **{
        f"invalid_{name}": (400, f"Invalid {name} parameter given")
        for name in ("bg_color", "crop_margin", "format", "position", "roi", "scale", "semitransparency")
    },
    "roi_region_empty": (400, "ROI region is empty"),
    "roi_exceeds_bounds": (400, "ROI exceeds image bounds"),
    "invalid_parameter": (400, "Invalid {field} parameter given"),
    "invalid_bg_image_url": (400, "Invalid bg_image_url: Please provide a valid URL."),
    "failed_bg_download": (400, "Failed to download background image from given image_url: {url}"),
    "multiple_bg_sources": (
        400,
        "Multiple background sources given: Please provide either the bg_color, the bg_image_url or the bg_image_file "
        "parameter.",
    ),
    "insufficient_credits": (402, "Insufficient credits"),
    "auth_failed": (403, "API Key invalid"),
    "forbidden": (403, "API Key not allowed to do this"),
    "improve_disabled": (403, "Improvement program is not available"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "upload_timeout": (408, "Upload took too long"),
    "rate_limit_exceeded": (429, "Rate limit exceeded"),
    "internal": (500, "Internal server error"),
    "unavailable": (503, "Service unavailable"),
}

_CODES = {
    "missing_image": "missing_source",
    "multiple_images": "multiple_sources",
    "body_too_large": "file_too_large",
    "image_too_large": "resolution_too_high",
    "unsupported_image": "invalid_file_type",
    "corrupt_image": "failed_to_read_image",
    "no_foreground": "unknown_foreground",
    "invalid_body": "invalid_parameter",
    "unsupported_media_type": "invalid_parameter",
    "quota_exceeded": "insufficient_credits",
    "missing_key": "auth_failed",
    "invalid_key": "auth_failed",
    "overloaded": "rate_limit_exceeded",
    "rate_limited": "rate_limit_exceeded",
    "idempotency_in_progress": "rate_limit_exceeded",  # come again: the only answer after which clients do
    "model_loading": "unavailable",
    "deadline_exceeded": "unavailable",
}
_LAID_OUT = ("margin", "padding", "output_size")  # what the layout calls a crop that leaves its bounds
_NATIVE_ADVICE = "output_size"  # a way out that this contract does not have
# Details that say more than the title, in words that fit this contract; a key's error has none, byte for byte
_TELLING = {
    *(code for code in TABLE if code.startswith(("invalid_", "failed_", "roi_"))),
    *("file_too_large", "resolution_too_high", "improve_disabled", "not_found", "method_not_allowed"),
    *("forbidden", "rate_limit_exceeded", "insufficient_credits", "unavailable"),
} - {"failed_to_read_image", "invalid_dimensions"}


class ImproveDisabled(MattehornError):
    code, status = "improve_disabled", 403


def code_of(error: MattehornError) -> str:
    """remove.bg's code for one of our errors, a key of TABLE."""
    field = str(error.data.get("field", ""))
    match error.code, field, error.data.get("problem"):
        case "invalid_option", "roi", "outside":
            return "roi_exceeds_bounds"
        case "invalid_option", "roi", "empty":
            return "roi_region_empty"
        case "conflicting_options", "bg_color", _:
            return "multiple_bg_sources"
        case (("invalid_option" | "conflicting_options"), _, _):
            named = "crop_margin" if field in _LAID_OUT else field
            return f"invalid_{named}" if f"invalid_{named}" in TABLE else "invalid_parameter"
        case "url_not_allowed", _, _:
            return "invalid_bg_image_url" if field == BACKGROUND_URL else "invalid_image_url"
        case "fetch_failed", _, _:
            return "failed_bg_download" if field == BACKGROUND_URL else "failed_image_download"
        case "corrupt_image", _, "header":
            return "invalid_dimensions"
        case "invalid_body", "image_file_b64", _:
            return "failed_to_read_image"
    code = _CODES.get(error.code, error.code)
    return code if code in TABLE else "unavailable" if error.status >= 500 else "invalid_parameter"


def error_response(error: MattehornError) -> JSONResponse:
    """remove.bg's answer to `error`."""
    code = code_of(error)
    entry = {"title": _title(error, code), "code": code}
    if (detail := _detail(error, code)) and detail != entry["title"]:
        entry["detail"] = detail
    return _answer(error, code, entry)


def carvekit_error(error: MattehornError) -> JSONResponse:
    """carvekit's: the same, but that an absent key has no code."""
    if error.code == "missing_key":
        return _answer(error, "auth_failed", {"title": _title(error, "auth_failed")})
    return error_response(error)


def _answer(error: MattehornError, code: str, entry: dict[str, str]) -> JSONResponse:
    status, _ = TABLE[code]
    response = errors.respond(error, {"errors": [entry]}, error.status if error.status > 503 else status)
    response.headers["content-type"] = JSON
    if status == 429:
        response.headers.setdefault("retry-after", "1")  # without one the Node client asks again at once, for ever
        response.headers.update(rate_headers(error.data.get("standing")))
    return response


def _title(error: MattehornError, code: str) -> str:
    if error.code == "missing_key":
        return "Missing API Key"
    field = "body" if error.code in ("invalid_body", "unsupported_media_type") else error.data.get("field")
    status = error.data.get("upstream_status")
    return TABLE[code][1].format(
        field=field or "body",
        url=error.data.get("url", "bg_image_url"),
        status=f"HTTP Status {status}" if status else "No picture was sent",
    )


def _detail(error: MattehornError, code: str) -> str | None:
    if code == "file_too_large":
        most = error.data.get("most_bytes")
        return f"File exceeds limit of {_size(most)}" if most else error.message
    if code == "invalid_file_type" and error.data.get("sniffed"):
        return f"Expected jpg/png, received {error.data['sniffed']}"
    if code not in _TELLING:
        return None
    advised = _NATIVE_ADVICE in error.message  # the first sentence says what is wrong
    return error.message.partition(". ")[0] + "." if advised else error.message


def _size(count: int) -> str:
    """`count` bytes in remove.bg's spelling: 22MB, 1.5MB, 293kB."""
    return f"{count / 2**20:.4g}MB" if count >= 2**20 else f"{count / 2**10:.4g}kB"
