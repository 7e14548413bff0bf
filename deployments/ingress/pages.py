"""The static files: the page at `/`, and `/docs` with Swagger UI's own files (no CDN), under a strict CSP."""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

import web

WEB = Path(web.__file__).parent
SWAGGER = Path(fastapi_offline.__file__).parent / "static"

_SHARED = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
PAGE_CSP = _SHARED + "script-src 'self'; style-src 'self'; img-src 'self' blob: data:"
# Swagger UI sets style attributes and shows answers as blobs
DOCS_CSP = _SHARED + "script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:"


def mount(app: FastAPI) -> None:
    """Adds the pages to `app`; they are no part of the API's description."""

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html", headers={"Content-Security-Policy": PAGE_CSP})

    @app.head("/docs", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(WEB / "docs.html", headers={"Content-Security-Policy": DOCS_CSP})

    app.mount("/static/swagger", StaticFiles(directory=SWAGGER), name="swagger")
    app.mount("/static", StaticFiles(directory=WEB / "static"), name="static")
