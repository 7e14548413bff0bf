"""One request or more for each code of the native API's errors (contract 1.6) that any service gives to anybody.

The other codes need a state that the tests of their own make: keys (`missing_key`, `invalid_key`), budgets
(`rate_limited`, `quota_exceeded`), a full or broken service (`overloaded`, `model_loading`, `unavailable`,
`deadline_exceeded`, `internal`, `upload_timeout`), a held licence (`model_not_allowed`), a job or request that is still
at work (`job_running`, `idempotency_in_progress`, `idempotency_key_reused`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from tests.make_images import black_png
from tests.service import BACKGROUND, encoded, photo

MATTES = "/v1/mattes"
PHOTO = encoded(photo())
EMPTY = encoded(np.full((48, 64, 3), BACKGROUND, np.uint8))
NO_ID = "0" * 26
PDF = b"%PDF-1.7\n" + bytes(100)


@dataclass(frozen=True)
class Row:
    """`request` are httpx's arguments; `SHOP` in a URL becomes the address of a site that the service may ask."""

    status: int
    code: str
    path: str = MATTES
    method: str = "POST"
    request: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.code if self.path == MATTES else f"{self.code} {self.method} {self.path}"


def _form(data: bytes = PHOTO, **fields: str) -> dict[str, Any]:
    return {"files": {"file": ("photo.png", data)}, "data": fields}


def _raw(data: bytes, media_type: str) -> dict[str, Any]:
    return {"content": data, "headers": {"content-type": media_type}}


TABLE = [
    Row(400, "invalid_body", request=_raw(b"{", "application/json")),
    Row(400, "missing_image", request=_form(b"")),
    Row(400, "multiple_images", request={"files": [("file", ("a", PHOTO)), ("image", ("b", PHOTO))]}),
    Row(400, "url_not_allowed", request={"json": {"image_url": "http://169.254.169.254/latest/meta-data/"}}),
    Row(403, "forbidden", "/v1/events/s3", request={"json": {}}),
    Row(404, "not_found", "/v1/nothing", "GET"),
    Row(404, "result_not_found", f"/v1/results/{NO_ID}", "GET"),
    Row(404, "result_not_found", f"/v1/results/{NO_ID}", "DELETE"),
    Row(404, "job_not_found", f"/v1/jobs/{NO_ID}", "GET"),
    Row(405, "method_not_allowed", method="DELETE"),
    Row(406, "not_acceptable", request=_form() | {"headers": {"accept": "text/html"}}),
    Row(413, "body_too_large", request=_raw(bytes(33 * 2**20), "image/png")),
    Row(413, "image_too_large", request=_form(black_png(20_000, 20_000))),
    Row(415, "unsupported_media_type", request=_raw(PHOTO, "text/html")),
    Row(415, "unsupported_image", request=_form(PDF)),
    Row(422, "invalid_option", request=_form(feather_px="99")),
    Row(422, "invalid_option", "/v1/results?limit=0", "GET"),
    Row(422, "unknown_option", "/v1/results?tenant=shop", "GET"),
    Row(422, "unknown_option", request=_form(shiny="1")),
    Row(422, "conflicting_options", request=_form(format="jpg")),
    Row(422, "unknown_model", request=_form(model="u2net")),
    Row(422, "unknown_recipe", request=_form(recipe="none-such")),
    Row(422, "corrupt_image", request=_form(PHOTO[: len(PHOTO) // 2])),
    Row(422, "no_foreground", request=_form(EMPTY)),
    Row(422, "fetch_failed", request={"json": {"image_url": "SHOP/gone"}}),
]
ELSEWHERE = frozenset(
    {
        *("missing_key", "invalid_key", "rate_limited", "quota_exceeded", "overloaded", "model_loading", "unavailable"),
        *("deadline_exceeded", "internal", "upload_timeout", "model_not_allowed", "job_running"),
        *("idempotency_in_progress", "idempotency_key_reused"),
    }
)


def ask(base: str, shop: str, row: Row) -> httpx.Response:
    """The answer to `row` of the service at `base`; `shop` is the site's address."""
    request = dict(row.request)
    if "json" in request:
        request["json"] = {
            name: value.replace("SHOP", shop) if isinstance(value, str) else value
            for name, value in request["json"].items()
        }
    return httpx.request(row.method, f"{base}{row.path}", timeout=60, **request)
