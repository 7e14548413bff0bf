"""One mapping from errors to the native contract's JSON (1.6). Only a path with a shape of its own has another."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.answers import rate_headers
from deployments.ingress.middleware import REQUEST_ID
from mattehorn import errors, telemetry
from mattehorn.errors import MattehornError

log = logging.getLogger("ray.serve")

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_BY_STATUS: dict[int, type[MattehornError]] = {
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    406: errors.NotAcceptable,
    415: errors.UnsupportedMediaType,
}

# What only HTTP knows. A key is a token or a signature (contract 1.6).


class MissingKey(MattehornError):
    code, status = "missing_key", 401


class InvalidKey(MattehornError):
    code, status = "invalid_key", 401


class Forbidden(MattehornError):
    code, status = "forbidden", 403


class JobNotFound(errors.NotFound):
    code = "job_not_found"


class SafeJson(JSONResponse):
    def render(self, content: Any) -> bytes:
        """UTF-8; what a caller sent of half surrogates, which UTF-8 cannot hold, as JSON's own escapes."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


Shape = Callable[[MattehornError], JSONResponse]
NATIVE: Mapping[str, Shape] = MappingProxyType({})


def shape_of(shapes: Mapping[str, Shape], path: str) -> Shape:
    """The shape of a path's errors: its own, or that of the longest entry ending in `/` that it begins with."""
    above = [known for known in shapes if known == path or (known.endswith("/") and path.startswith(known))]
    return shapes[max(above, key=len)] if above else error_response


def error_response(error: MattehornError) -> JSONResponse:
    """The native answer to `error`."""
    body = {
        "code": error.code,
        "message": error.message,
        "field": error.data.get("field"),
        "details": error.data.get("details", []),
        "retry_after_s": error.retry_after_s,
        "request_id": REQUEST_ID.get(),
    }
    return respond(error, {"error": body}, error.status)


def respond(error: MattehornError, body: dict[str, Any], status: int) -> JSONResponse:
    """`body` as the answer to `error`, with the headers that go with it; counted by its code."""
    telemetry.add(telemetry.ERRORS, code=error.code)
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    headers |= rate_headers(error.data.get("standing"))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return SafeJson(body, status, headers)


class UnforeseenMiddleware:
    """Answers an error that has no handler: logged whole, told as nothing. Starlette's own place for such a handler
    is outside all middleware, where the answer would lack the request's headers."""

    def __init__(self, app: ASGIApp, shapes: Mapping[str, Shape] = NATIVE) -> None:
        self._app, self._shapes = app, shapes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noticing(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noticing)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            log.exception("unforeseen error", exc_info=error, extra={"request_id": REQUEST_ID.get()})
            answer = MattehornError("An internal error occurred; the request id finds it in the log.")
            await shape_of(self._shapes, scope["path"])(answer)(scope, receive, send)


def install(app: FastAPI, shapes: Mapping[str, Shape] = NATIVE) -> None:
    """Makes every error of `app` an answer of the contract; `shapes` has the paths with another contract (a path that
    ends in `/` is all below it). Called after the middleware that it has to be around."""

    def shaped(request: Request, error: MattehornError) -> JSONResponse:
        return shape_of(shapes, request.url.path)(error)

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, MattehornError)  # registered for these only
        return shaped(request, error)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        kind = _BY_STATUS.get(error.status_code, errors.InvalidBody)
        response = shaped(request, kind(_http_message(request, error)))
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = _allowed(request)
        return response

    async def validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        name = str(first["loc"][-1])[:80]
        return shaped(request, errors.OptionError(f"{name} is not valid: {first['msg']}; see /docs.", field=name))

    async def left(request: Request, error: Exception) -> JSONResponse:
        return shaped(request, errors.InvalidBody("The client left before its body was complete."))

    app.add_exception_handler(MattehornError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_middleware(UnforeseenMiddleware, shapes=shapes)


def _allowed(request: Request) -> str:
    """Every method of the path (RFC 9110, 10.2.1); Starlette names those of the first route that has it."""
    asked = ({**request.scope, "method": method} for method in _METHODS)
    found = (any(route.matches(scope)[0] is Match.FULL for route in request.app.routes) for scope in asked)
    return ", ".join(method for method, allowed in zip(_METHODS, found, strict=True) if allowed)


def _http_message(request: Request, error: HTTPException) -> str:
    if error.status_code == 404:
        return f"{request.url.path[:200]} is not here; /docs lists what is."
    if error.status_code == 405:
        return f"{request.method} is not allowed on {request.url.path[:200]}; /docs lists what is."
    return str(error.detail)


def schema() -> dict[str, Any]:
    """The OpenAPI schema of the error body."""
    text = {"type": "string"}
    properties: dict[str, Any] = {
        "code": text,
        "message": text,
        "field": {"type": ["string", "null"]},
        "details": {"type": "array", "items": {"type": "object"}},
        "retry_after_s": {"type": ["integer", "null"], "minimum": 1},
        "request_id": text,
    }
    error = {"type": "object", "required": list(properties), "properties": properties}
    return {"type": "object", "required": ["error"], "properties": {"error": error}}
