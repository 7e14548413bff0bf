"""Requests to the in-process service without a network, and what every error answer must have."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

import httpx
import numpy as np

from deployments.ingress.api import build_api
from tests.service import BACKGROUND, InProcessService, encoded, photo

PHOTO = encoded(photo())
EMPTY = encoded(np.full((48, 64, 3), BACKGROUND, np.uint8))
JSON = {"accept": "application/json"}
T = TypeVar("T")


class Client:
    """Requests to an application without a network, on one event loop; exceptions become what a server answers."""

    def __init__(self, service: InProcessService) -> None:
        self.service, self.app = service, build_api(service)
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        # httpx's own `Accept: */*` would hide what an absent header does
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60)
        del self.http.headers["accept"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self.http.aclose())
        self._runner.close()

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        return self._runner.run(self.http.request(method, path, **kwargs))

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        """What `story` returns, on the loop that `http` and the service are on."""
        return self._runner.run(story)

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("GET", path, **kwargs)

    def post(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("POST", path, **kwargs)

    def post_together(self, path: str, requests: list[dict[str, Any]]) -> list[httpx.Response]:
        """All of them in flight at once, answers in their order."""

        async def all_of_them() -> list[httpx.Response]:
            return await asyncio.gather(*(self.http.post(path, **kwargs) for kwargs in requests))

        return self._runner.run(all_of_them())


def post(
    client: Client, data: bytes = PHOTO, *, headers: dict[str, str] | None = None, **fields: str
) -> httpx.Response:
    return client.post("/v1/mattes", files={"file": ("my photo.png", data)}, data=fields, headers=headers or {})


def error_of(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error's body, after a check of everything that every error answer has."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json"), response.text
    (error,) = response.json().values()
    assert set(error) == {"code", "message", "field", "details", "retry_after_s", "request_id"}
    assert error["code"] == code, error
    assert error["message"].endswith((".", "?"))
    assert error["request_id"] == response.headers["x-request-id"]
    assert "/home" not in error["message"]
    assert "Traceback" not in error["message"]
    assert (error["retry_after_s"] is None) == ("retry-after" not in response.headers)
    return dict(error)
