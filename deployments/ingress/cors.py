"""Cross-origin requests from any page, for the paths of the contracts whose originals allow them.

What it is not: the native API stays same-origin. Stands within RequestMiddleware, so that errors have the headers too.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY_ORIGIN = {"Access-Control-Allow-Origin": "*"}
_EXPOSED = (
    "X-Request-ID, Server-Timing, X-Mattehorn-Model, X-Mattehorn-Quality, X-Mattehorn-Quality-Reasons, "
    "X-Mattehorn-Warnings, X-Width, X-Height, X-Foreground-Top, X-Foreground-Left, X-Foreground-Width, "
    "X-Foreground-Height, X-Max-Width, X-Max-Height, X-Type, X-Credits-Charged, X-RateLimit-Limit, "
    "X-RateLimit-Remaining, X-RateLimit-Reset, Content-Disposition, Retry-After"
)
_PREFLIGHT = {
    **ANY_ORIGIN,
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "X-API-Key, Authorization, Content-Type, Accept, Idempotency-Key, X-Request-ID",
    "Access-Control-Max-Age": "600",
}


class CorsMiddleware:
    """Answers preflights of `paths` with 204 and lets every page read their answers."""

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app, self._paths = app, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS" and "access-control-request-method" in Headers(scope=scope):
            await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update({**ANY_ORIGIN, "Access-Control-Expose-Headers": _EXPOSED})
            await send(message)

        await self._app(scope, receive, send_with_headers)
