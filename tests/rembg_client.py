"""Requests to rembg's endpoint, and what every error answer of its contract must have."""

from __future__ import annotations

from typing import Any

import httpx

from tests.api_client import PHOTO, Client

REMOVE = "/api/remove"


def post(client: Client, data: bytes = PHOTO, query: dict[str, str] | None = None, **fields: str) -> httpx.Response:
    return client.post(REMOVE, files={"file": ("p.jpg", data)}, data=fields, params=query)


def detail(response: httpx.Response, status: int) -> Any:
    """What the error says, after a check of what every error of this contract has."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json"), response.text
    assert set(response.json()) == {"detail"}
    assert response.headers["x-request-id"]
    assert response.headers["access-control-allow-origin"] == "*"
    return response.json()["detail"]


def refused(response: httpx.Response, *loc: str) -> dict[str, Any]:
    """The one entry of a 422, which is about `loc`."""
    (entry,) = detail(response, 422)
    assert set(entry) == {"type", "loc", "msg", "input"}
    assert entry["loc"] == list(loc)
    return dict(entry)
