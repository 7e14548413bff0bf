"""Requests byte for byte as clients that cannot run here put them on the wire."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

ANSWER_S = 60

Part = tuple[str, str | tuple[str, bytes]]  # name, and text or (file name, bytes)


@dataclass(frozen=True)
class Said:
    """An answer: status, headers by their lower-case names, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def errors(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.body)["errors"]
        return found


def send(base: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Said:
    """The answer to these headers and no others but Host and Content-Length; GET without a body."""
    place = urlsplit(base)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=ANSWER_S)
    try:
        connection.putrequest("GET" if body is None else "POST", path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Said(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def multipart(boundary: str, parts: Sequence[Part], *, ends_in_newline: bool = True, text_type: str = "") -> bytes:
    """A form as form-data of npm and multipart-post of Ruby write it."""
    body = b""
    for name, value in parts:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if isinstance(value, str):
            body += text_type.encode() + b"\r\n\r\n" + value.encode()
        else:
            body += f'; filename="{value[0]}"\r\nContent-Type: image/jpeg\r\n\r\n'.encode() + value[1]
        body += b"\r\n"
    return body + f"--{boundary}--".encode() + (b"\r\n" if ends_in_newline else b"")
