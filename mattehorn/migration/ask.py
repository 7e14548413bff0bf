"""One photo to one service, as remove.bg's or rembg's callers send it, and what came back.

What it is not: it compares nothing (compare.py). It is polite: one request at a time, and after a 429 it waits as long
as the service says. A key is in the request and nowhere else: not in a message, not in a repr.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray

from mattehorn.errors import FetchFailed, MattehornError, OptionError
from mattehorn.image.decode import decode
from mattehorn.settings import Limits

Style = Literal["removebg", "rembg"]

TIMEOUT = httpx.Timeout(120.0, connect=10.0)  # a cold service loads its model first
TRIES = 5  # of one photo, while the service says 429
WAIT_MOST_S = 120.0  # a longer Retry-After is a used-up quota, not a busy minute
_WAIT_S = 5.0  # where a 429 does not say how long
_SHOWN = ("content-type", "x-width", "x-height", "x-type", "x-credits-charged")
_SHOWN_FAMILIES = ("x-foreground-", "x-ratelimit-", "x-mattehorn-")


@dataclass(frozen=True)
class Endpoint:
    """Where photos go. `fields` are sent with each, in remove.bg's or rembg's words."""

    url: str
    style: Style
    key: str | None = field(default=None, repr=False)
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The address without what may be secret in it: user, query."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


@dataclass(frozen=True)
class Reply:
    """`rgba` [H, W, 4] as it came, straight or not; `seconds` of the request that was answered."""

    rgba: NDArray[np.uint8]
    data_bytes: int
    seconds: float
    headers: Mapping[str, str]


def endpoint(url: str, key: str | None, size: str) -> Endpoint:
    """The endpoint at `url`, whose path says what it is. Raises OptionError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OptionError(f"{url[:80]!r} is no http or https address.")
    if parts.path.endswith("/removebg"):
        return Endpoint(url, "removebg", key, {"size": size, "format": "png"})
    if parts.path.endswith("/api/remove"):
        return Endpoint(url, "rembg", key)
    raise OptionError(
        f"{parts.path or '/'} is no endpoint that is known here; it ends in /v1.0/removebg (remove.bg) "
        "or in /api/remove (rembg)."
    )


def cut_out(client: httpx.Client, to: Endpoint, name: str, photo: bytes, waiting: Callable[[float], None]) -> Reply:
    """The service's answer to one photo; `waiting` is told of each pause before it is made.

    Raises FetchFailed, and what decoding the answer raises.
    """
    for _ in range(TRIES):
        started = time.perf_counter()
        response = _post(client, to, name, photo)
        seconds = time.perf_counter() - started
        if response.status_code != 429:
            break
        pause = _pause(response.headers.get("retry-after", ""))
        waiting(pause)
        time.sleep(pause)
    if response.status_code != 200:
        raise FetchFailed(f"{response.status_code}: {_title(response)}")
    return Reply(_rgba(response.content), len(response.content), seconds, _shown_headers(response.headers))


def _post(client: httpx.Client, to: Endpoint, name: str, photo: bytes) -> httpx.Response:
    headers = {"Accept": "image/*"} | ({"X-Api-Key": to.key} if to.key else {})
    part = "image_file" if to.style == "removebg" else "file"
    try:
        return client.post(to.url, files={part: (name, photo)}, data=dict(to.fields), headers=headers)
    except httpx.TimeoutException:
        raise FetchFailed("the service did not answer in time.") from None
    except httpx.HTTPError as error:
        raise FetchFailed(f"the service cannot be reached ({type(error).__name__}).") from None


def _pause(retry_after: str) -> float:
    """Seconds. Raises FetchFailed for more than somebody waits at a terminal."""
    seconds = float(retry_after) if retry_after.strip().isdigit() else _WAIT_S
    if seconds > WAIT_MOST_S:
        raise FetchFailed(f"429, again in {seconds:.0f} s: the quota is used up.")
    return max(1.0, seconds)


def _title(response: httpx.Response) -> str:
    """What the service says of its refusal, in either contract's words."""
    try:
        said: Any = response.json()
        text = said["errors"][0]["title"] if "errors" in said else said["detail"]
    except (ValueError, LookupError, TypeError):
        text = response.reason_phrase
    return str(text)[:200]


def _rgba(data: bytes) -> NDArray[np.uint8]:
    try:
        decoded = decode(data, Limits())
    except MattehornError as error:
        raise FetchFailed(f"the answer is no picture that can be read: {error.message}") from None
    height, width = decoded.rgb.shape[:2]
    alpha = np.full((height, width), 255, np.uint8) if decoded.alpha is None else decoded.alpha
    return np.dstack((decoded.rgb, alpha))


def _shown_headers(headers: httpx.Headers) -> dict[str, str]:
    return {
        name.lower(): value
        for name, value in headers.items()
        if name.lower() in _SHOWN or name.lower().startswith(_SHOWN_FAMILIES)
    }
