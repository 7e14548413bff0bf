"""Cross-origin requests from any page, for the paths of the contracts whose originals allow them.

What it is not: it knows no key. The native API stays same-origin while keys are off: a page of another site could
else use whatever service runs on its visitor's machine. Stands within RequestMiddleware, so that errors have the
headers too.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY_ORIGIN = {"Access-Control-Allow-Origin": "*"}
_EXPOSED = ", ".join(
    (
        *("X-Request-ID", "Server-Timing", "Content-Disposition", "Retry-After", "Location", "Idempotency-Replayed"),
        *(
            f"X-Mattehorn-{name}"
            for name in ("Model", "Subject", "Quality", "Quality-Reasons", "Recipe", "Route", "Result-Id", "Cache")
        ),
        *("X-Mattehorn-Warnings", "X-Width", "X-Height", "X-Max-Width", "X-Max-Height", "X-Type", "X-Credits-Charged"),
        *(f"X-Foreground-{side}" for side in ("Top", "Left", "Width", "Height")),
        *(f"X-RateLimit-{name}" for name in ("Limit", "Remaining", "Reset")),
    )
)
_PREFLIGHT = {
    **ANY_ORIGIN,
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "X-API-Key, Authorization, Content-Type, Accept, Idempotency-Key, X-Request-ID",
    "Access-Control-Max-Age": "600",
}


class CorsMiddleware:
    """Answers preflights of `paths` with 204 and lets every page read their answers. A path that ends in `/` is all
    below it."""

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app, self._paths = app, frozenset(paths)
        self._folders = tuple(path for path in self._paths if path.endswith("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._covers(scope["path"]):
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

    def _covers(self, path: str) -> bool:
        return path in self._paths or path.startswith(self._folders)
