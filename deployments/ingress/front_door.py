"""Who comes in: each request's API key, before its body is read and before any route's handler runs.

What it is not: it knows no key's form (mattehorn/access/) and counts no megapixels (work.py). Plain ASGI, inside
CorsMiddleware, so that a page may read why it was refused, and outside BodyLimitMiddleware, which asks for the tenant.
A key in a query or a form is never looked at: addresses end up in logs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.ingress.errors import NATIVE, Forbidden, InvalidKey, MissingKey, Shape, shape_of
from deployments.ingress.tenancy import TENANT
from mattehorn import telemetry
from mattehorn.access import tenant as access
from mattehorn.access.keys_file import KeysFile
from mattehorn.access.tenant import ANONYMOUS, Tenant
from mattehorn.errors import MattehornError
from mattehorn.settings import Settings

log = logging.getLogger("ray.serve")

EVENTS = "/v1/events/s3"  # has a gate of its own (event_gate.py): senders bring its tokens and signatures, not keys
OPEN = frozenset(("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/api", EVENTS))  # /api leads to /docs
STATIC = "/static/"
METRICS, JOBS, MODELS = "/metrics", "/v1/jobs", "/v1/models"
ANY_KEY = frozenset(("/v1/usage", "/v1/recipes", MODELS))

NOBODY = Tenant(ANONYMOUS.name, frozenset())  # who comes to what is open while keys are on

Need = access.Scope | Literal["nothing", "a key"]


def keys_of(settings: Settings) -> KeysFile | None:
    """The keys of this service; None while it has none and lets everybody in."""
    return None if settings.keys_file is None else KeysFile(Path(settings.keys_file), log=log)


def need_of(method: str, path: str, metrics_open: bool) -> Need:
    """What a request needs. What is not listed needs the scope `matte`: a route that is new is not open by mistake."""
    if path in OPEN or path.startswith(STATIC) or (path == METRICS and metrics_open):
        return "nothing"
    if path == METRICS or (method == "POST" and path.startswith(f"{MODELS}/")):
        return "admin"
    if path == JOBS or path.startswith(f"{JOBS}/"):
        return "jobs"
    return "a key" if path in ANY_KEY else "matte"


class FrontDoor:
    """Sets TENANT, or answers 401 or 403 in the shape of the path's contract."""

    def __init__(
        self,
        app: ASGIApp,
        keys: KeysFile | None,
        *,
        metrics_open: bool = False,
        shapes: Mapping[str, Shape] = NATIVE,
    ) -> None:
        self._app, self._keys, self._metrics_open, self._shapes = app, keys, metrics_open, shapes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            tenant = ANONYMOUS if self._keys is None else self._admitted(self._keys, scope)
        except MattehornError as error:
            await shape_of(self._shapes, scope["path"])(error)(scope, receive, send)
            return
        token = TENANT.set(tenant)
        try:
            await self._app(scope, receive, send)
        finally:
            TENANT.reset(token)

    def _admitted(self, keys: KeysFile, scope: Scope) -> Tenant:
        """Raises MissingKey, InvalidKey, Forbidden."""
        headers = Headers(scope=scope)
        need = need_of(scope["method"], scope["path"], self._metrics_open)
        asks_first = scope["method"] == "OPTIONS" and "access-control-request-method" in headers  # browsers send no key
        if need == "nothing" or asks_first:
            return NOBODY
        presented = presented_key(headers)
        if not presented:
            telemetry.add(telemetry.KEYS_REFUSED, reason="missing")
            raise MissingKey("This service needs an API key; send it as X-API-Key: KEY or Authorization: Bearer KEY.")
        tenant = keys.keyring().find(presented)
        if tenant is None:
            telemetry.add(telemetry.KEYS_REFUSED, reason="unknown")
            raise InvalidKey("This API key is not known here, or was revoked; ask the operator for another.")
        if need != "a key" and need not in tenant.scopes:
            telemetry.add(telemetry.KEYS_REFUSED, reason="scope")
            raise Forbidden(f"This API key lacks the scope {need}; ask the operator for a key that has it.")
        return tenant


def presented_key(headers: Headers) -> str:
    """The key in X-API-Key, else the Bearer token; empty where neither was sent."""
    if key := headers.get("x-api-key", "").strip():
        return key
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
