"""remove.bg's documented parameters and errors as one table, to run against any service: in process or over HTTP.

`post` of a Client and of an httpx.Client take the same arguments; `photo` is a file whose subject the service finds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

REMOVE, ACCOUNT, IMPROVE = "/v1.0/removebg", "/v1.0/account", "/v1.0/improve"
JSON_UTF8 = "application/json; charset=utf-8"

SIZES = ("preview", "small", "regular", "medium", "hd", "full", "4k", "50MP", "auto")


class Service(Protocol):
    """A Client of tests.api_client, or an httpx.Client with a base URL."""

    def post(self, path: str, **kwargs: Any) -> httpx.Response: ...


@dataclass(frozen=True)
class Row:
    """One parameter of the contract's 2.1: what it takes, what it refuses, and the error then."""

    name: str
    good: tuple[str, ...]
    bad: tuple[str, ...]
    code: str
    title: str


def _named(name: str, good: tuple[str, ...], bad: tuple[str, ...]) -> Row:
    return Row(name, good, bad, f"invalid_{name}", f"Invalid {name} parameter given")


def _listed(name: str, good: tuple[str, ...], bad: tuple[str, ...]) -> Row:
    return Row(name, good, bad, f"invalid_{name}", f"Invalid value for parameter '{name}'")


def _other(name: str, good: tuple[str, ...], bad: tuple[str, ...]) -> Row:
    return Row(name, good, bad, "invalid_parameter", f"Invalid {name} parameter given")


BOOLEANS = ("true", "false", "1", "0", "yes", "no", "on", "off", "True", "FALSE", "")
NO_BOOLEANS = ("2", "maybe")

PARAMETERS: tuple[Row, ...] = (
    _listed("size", (*SIZES, "HD", ""), ("huge", "10MP", "0.25")),
    _other("type_level", ("none", "1", "2", "latest", ""), ("3", "all")),
    _named("format", ("auto", "png", "jpg", "zip", "webp", "PNG", ""), ("gif", "avif", "image/png")),
    _named(
        "roi",
        ("0% 0% 100% 100%", "1 1px 98% 99%", "5% 5% 95% 95%", ""),
        ("0 0 10", "a b c d", "-1px 0 10 10", "0,0,10,10"),
    ),
    Row("roi", (), ("0 0 101% 10%", "0 0 99999 10px"), "roi_exceeds_bounds", "ROI exceeds image bounds"),
    Row("roi", (), ("10% 10% 10% 90%", "20% 0% 10% 100%"), "roi_region_empty", "ROI region is empty"),
    _other("crop", BOOLEANS, NO_BOOLEANS),
    _named(
        "crop_margin",
        ("0", "10px", "50%", "500px", "10px 5%", "1% 2% 3px 4px", ""),
        ("51%", "501px", "1 2 3", "1 2 3 4 5", "-1px", "ten"),
    ),
    _named("scale", ("original", "10%", "100%", "55.5%", ""), ("9%", "101%", "50", "big")),
    _named(
        "position",
        ("original", "center", "0%", "100%", "0% 100%", "33.3% 50%", ""),
        ("101%", "left", "10", "1% 2% 3%", "-5%"),
    ),
    _listed("channels", ("rgba", "alpha", ""), ("rgb", "red")),
    _other("add_shadow", BOOLEANS, NO_BOOLEANS),
    _other("shadow_type", ("auto", "drop", "3D", "car", "none", ""), ("soft",)),
    _other("shadow_opacity", ("auto", "0", "100", ""), ("101", "-1", "half")),
    _named("semitransparency", BOOLEANS, NO_BOOLEANS),
    _named(
        "bg_color",
        ("fff", "#fff", "f008", "81d4fa", "#81D4FA", "81d4fa77", "green", ""),
        ("12345", "nocolour", "rgb(1,2,3)"),
    ),
)
TYPES = ("auto", "person", "product", "car", "animal", "graphic", "transportation", "other", "zebra", "")


@dataclass(frozen=True)
class Fault:
    """A request that is refused whatever its parameters: `send` makes its keyword arguments from a good photo."""

    name: str
    send: Callable[[bytes], dict[str, Any]]
    code: str
    title: str
    detail: str | None = None


def upload(photo: bytes, **fields: str) -> dict[str, Any]:
    """The keyword arguments of a multipart post."""
    return {"files": {"image_file": ("p.jpg", photo)}, "data": fields}


SOURCES_TITLE = (
    "Multiple image sources given: Please provide either the image_url, image_file or image_file_b64 parameter."
)
BACKGROUNDS_TITLE = (
    "Multiple background sources given: Please provide either the bg_color, the bg_image_url or the bg_image_file "
    "parameter."
)
PRIVATE = "http://169.254.169.254/latest/meta-data/"
MP4 = bytes.fromhex("0000001866747970") + b"mp42" + bytes(64)
UNREADABLE = "There was an error reading the image."


def header_of(width: int, height: int) -> bytes:
    """The first bytes of a PNG of this size."""
    return bytes.fromhex("89504e470d0a1a0a0000000d49484452") + width.to_bytes(4) + height.to_bytes(4) + bytes(60)


FAULTS: tuple[Fault, ...] = (
    Fault("no photo", lambda photo: {"data": {"size": "auto"}}, "missing_source", "No image given"),
    Fault("no body", lambda photo: {}, "missing_source", "No image given"),
    Fault("an empty file", lambda photo: upload(b""), "missing_source", "No image given"),
    Fault("a file field in JSON", lambda photo: {"json": {"image_file": "x"}}, "missing_source", "No image given"),
    Fault("two sources", lambda photo: upload(photo, image_url=PRIVATE), "multiple_sources", SOURCES_TITLE),
    Fault(
        "a URL that is none",
        lambda photo: {"data": {"image_url": "cup.jpg"}},
        "invalid_image_url",
        "Invalid image_url: Please provide a valid URL.",
    ),
    Fault(
        "a private URL",
        lambda photo: {"json": {"image_url": PRIVATE}},
        "invalid_image_url",
        "Invalid image_url: Please provide a valid URL.",
    ),
    Fault(
        "a private background",
        lambda photo: upload(photo, bg_image_url=PRIVATE),
        "invalid_bg_image_url",
        "Invalid bg_image_url: Please provide a valid URL.",
    ),
    Fault(
        "two backgrounds",
        lambda photo: upload(photo, bg_image_url=PRIVATE, bg_color="f00"),
        "multiple_bg_sources",
        BACKGROUNDS_TITLE,
    ),
    Fault(
        "too many bytes",
        lambda photo: upload(photo + bytes(22 * 2**20)),
        "file_too_large",
        "File too large",
        "File exceeds limit of 22MB",
    ),
    Fault(
        "a video",
        lambda photo: upload(MP4),
        "invalid_file_type",
        "Invalid file type",
        "Expected jpg/png, received video",
    ),
    Fault("half a photo", lambda photo: upload(photo[: len(photo) // 2]), "failed_to_read_image", UNREADABLE),
    Fault("no base64", lambda photo: {"data": {"image_file_b64": "@@@"}}, "failed_to_read_image", UNREADABLE),
    Fault("no whole header", lambda photo: upload(photo[:14]), "invalid_dimensions", "Failed to read image dimensions"),
    Fault(
        "60 megapixels",
        lambda photo: upload(header_of(10_000, 6_000)),
        "resolution_too_high",
        "Image resolution too high",
    ),
    Fault(
        "a raw photo",
        lambda photo: {"content": photo, "headers": {"content-type": "image/jpeg"}},
        "invalid_parameter",
        "Invalid body parameter given",
    ),
    Fault(
        "broken JSON",
        lambda photo: {"content": b"{", "headers": {"content-type": "application/json"}},
        "invalid_parameter",
        "Invalid body parameter given",
    ),
    Fault(
        "a broken form",
        lambda photo: {"content": b"no form", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        "invalid_parameter",
        "Invalid body parameter given",
    ),
    Fault(
        "a form that is cut off",
        lambda photo: {
            "content": b'--x\r\nContent-Disposition: form-data; name="image_file"; filename="p"\r\n\r\n' + photo,
            "headers": {"content-type": "multipart/form-data; boundary=x"},
        },
        "invalid_parameter",
        "Invalid body parameter given",
        "The multipart body ends before its last boundary; send all of it.",
    ),
)


def error_of(response: httpx.Response, status: int, code: str | None, title: str | None = None) -> dict[str, str]:
    """The one entry, after a check of what every error of this contract has."""
    assert (response.status_code, response.headers["content-type"]) == (status, JSON_UTF8), response.text
    assert set(response.json()) == {"errors"}
    (entry,) = response.json()["errors"]
    assert entry.get("code") == code, entry
    assert entry["title"]
    assert set(entry) <= {"title", "code", "detail"}
    assert title is None or entry["title"] == title
    assert "/home" not in response.text
    assert "Traceback" not in response.text
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["x-request-id"]
    assert "x-credits-charged" not in response.headers
    if status in (400, 403):
        assert not [name for name in response.headers if name.startswith("x-ratelimit")]
    if status == 429:
        assert int(response.headers["retry-after"]) >= 1
    return dict(entry)


def check_parameter(service: Service, row: Row, photo: bytes) -> None:
    """Every good value of a row is taken, every bad one refused as the row says."""
    for value in row.good:
        response = service.post(REMOVE, **upload(photo, **{row.name: value}))
        assert response.status_code == 200, (row.name, value, response.text)
    for value in row.bad:
        response = service.post(REMOVE, **upload(photo, **{row.name: value}))
        error_of(response, 400, row.code, row.title)


def check_fault(service: Service, fault: Fault, photo: bytes) -> None:
    entry = error_of(service.post(REMOVE, **fault.send(photo)), 400, fault.code, fault.title)
    assert fault.detail is None or entry["detail"] == fault.detail
