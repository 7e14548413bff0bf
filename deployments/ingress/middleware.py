"""Around every request: its id, the size and time limits of its body, security headers, metrics and one log line.

Plain ASGI, so that bodies stream. It imports no Ray and knows no route's meaning.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.tenancy import own_bytes
from mattehorn import telemetry
from mattehorn.errors import BodyTooLarge, UploadTimeout
from mattehorn.settings import Limits

log = logging.getLogger("ray.serve")

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
LEFT = 499  # counted for a client that left before its answer, as proxies do; no fault of the service's
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_BASE64_GROWTH = 1.37  # 4/3, and a line break after every 76 characters
_SLACK = 256 * 2**10  # form fields, boundaries and JSON keys around the photo

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class RequestMiddleware:
    """Takes over or makes X-Request-ID, sets default headers, counts and logs the answer.

    `serve_echoes_id`: Ray Serve stands outside and adds the header itself, from what the client or HAProxy sent.
    """

    def __init__(self, app: ASGIApp, *, serve_echoes_id: bool = False) -> None:
        self._app, self._serve_echoes_id = app, serve_echoes_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        REQUEST_ID.set(request_id)
        started = time.perf_counter()
        status = LEFT  # until an answer begins

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                if not (self._serve_echoes_id and sent == request_id):
                    headers["X-Request-ID"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            elif message["type"] == "http.response.body":
                telemetry.add(telemetry.BYTES, len(message.get("body", b"")), direction="out")
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            status = 500 if status == LEFT else status
            raise
        finally:
            route = _route(scope)
            took = time.perf_counter() - started
            telemetry.add(telemetry.REQUESTS, route=route, code=str(status))
            # the fields twice: Serve's JSON lines keep `extra`, its text lines only the message
            fields = {"request_id": request_id, "route": route, "status": status, "seconds": round(took, 4)}
            log.info("request route=%s status=%s seconds=%.4f", route, status, took, extra=fields)


@dataclass(frozen=True)
class Bounds:
    """Of one body: bytes, and seconds for it to arrive. `base64_forms`: multipart may hold base64, counted decoded."""

    body_bytes: int
    upload_s: float
    base64_forms: bool = False


class BodyLimitMiddleware:
    """Raises BodyTooLarge or UploadTimeout from `receive`, so that the route's own error answer is sent.

    `forms` has bounds of their own for the multipart bodies of some paths, `bodies` for all bodies of others. A tenant
    may have narrower ones.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        forms: Mapping[str, Bounds] = MappingProxyType({}),
        bodies: Mapping[str, Bounds] = MappingProxyType({}),
    ) -> None:
        self._app, self._limits, self._forms, self._bodies = app, limits, forms, bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        bounds = self._bounds(scope)
        allowed = _allowed(Headers(scope=scope), bounds)
        declared = _declared(Headers(scope=scope))
        ends = asyncio.get_running_loop().time() + bounds.upload_s
        seen = 0
        complete = False

        async def limited() -> Message:
            nonlocal seen, complete
            if declared > allowed:
                raise _too_large(f"{declared} bytes are announced", bounds)
            try:
                # after the last byte `receive` waits for the client to leave: no upload, no limit
                async with asyncio.timeout_at(None if complete else ends):
                    message = await receive()
            except TimeoutError:
                raise UploadTimeout(
                    f"The body was not complete after {bounds.upload_s:g} s; send it faster or smaller."
                ) from None
            if message["type"] == "http.request":
                complete = not message.get("more_body", False)
                seen += len(message.get("body", b""))
                telemetry.add(telemetry.BYTES, len(message.get("body", b"")), direction="in")
                if seen > allowed:
                    raise _too_large(f"more than {allowed} bytes came", bounds)
            return message

        await self._app(scope, limited, send)

    def _bounds(self, scope: Scope) -> Bounds:
        if (shim := self._bodies.get(scope["path"])) is not None:
            return replace(shim, body_bytes=own_bytes(shim.body_bytes))
        own = self._forms.get(scope["path"])
        if own is not None and Headers(scope=scope).get("content-type", "").lower().startswith("multipart/form-data"):
            return own
        return Bounds(own_bytes(self._limits.body_bytes), self._limits.upload_s)


def _allowed(headers: Headers, bounds: Bounds) -> int:
    base64 = ("application/json", "application/x-www-form", *(("multipart/form-data",) if bounds.base64_forms else ()))
    growth = _BASE64_GROWTH if headers.get("content-type", "").lower().startswith(base64) else 1
    return int(bounds.body_bytes * growth) + _SLACK


def _too_large(came: str, bounds: Bounds) -> BodyTooLarge:
    most = bounds.body_bytes
    return BodyTooLarge(f"The body is too large: {came}; allowed are {most} bytes.", most_bytes=most)


def _declared(headers: Headers) -> int:
    """Content-Length; 0 when it is absent or no number (the server's parser has refused most of these)."""
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _route(scope: Scope) -> str:
    """The route's template, from a closed set: what matched no route is one label."""
    route = scope.get("route")
    return str(getattr(route, "path", "other"))
