"""Requests to remove.bg's endpoint of the in-process service."""

from __future__ import annotations

import httpx

from tests.api_client import PHOTO, Client
from tests.removebg_table import REMOVE, upload


def post(client: Client, data: bytes = PHOTO, **fields: str) -> httpx.Response:
    """The 200 that a photo gets."""
    response = client.post(REMOVE, **upload(data, **fields))
    assert response.status_code == 200, response.text
    return response
