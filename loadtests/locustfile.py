"""The locust scenario: closed-loop clients that post photos to /v1/mattes, one after another.

Locust replaces sockets and threads of its process by gevent's, so `python -m loadtests` runs this file in a process of
its own. By hand: `python -m locust -f loadtests/locustfile.py --headless -H http://127.0.0.1:8000 -u 8 -r 8 -t 10s`.
With `--answers FILE` every answer is written there as one JSON line, see report.Answer.
"""

from __future__ import annotations

import itertools
import json
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from locust import FastHttpUser, events, task
from locust.env import Environment

from loadtests import photos

_BOUNDARY = "mattehorn-load-7f3a9c"  # occurs in no photo: it would take 2^168 bytes
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff")  # PNG, JPEG
_OK = 200
_NETWORK_TIMEOUT_S = 100.0  # above the service's own 95 s, so that it is the service that gives up

_bodies: Iterator[bytes] = iter(())
_answers: TextIO | None = None


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--photos", choices=sorted(photos.SETS), default="small", help="which photos are posted")
    parser.add_argument("--form", action="append", default=[], metavar="NAME=VALUE", help="a field of every post")
    parser.add_argument("--answers", default="", help="file for one JSON line per answer")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Environment, **_: Any) -> None:
    """Builds every request beforehand: the clients share the service's cores."""
    global _bodies, _answers
    options = environment.parsed_options
    if options is None:
        return
    _bodies = itertools.cycle([_multipart(photo, options.form) for photo in photos.SETS[options.photos]()])
    if options.answers:
        _answers = open(options.answers, "w", buffering=1, encoding="utf-8")  # noqa: SIM115  (lives as long as the run)


@events.request.add_listener  # type: ignore[untyped-decorator]
def _note(start_time: float, response_time: float, response: Any, **_: Any) -> None:
    if _answers is None:
        return
    headers = response.headers or {}
    entry = {
        "began": start_time,
        "ms": response_time,
        "status": response.status_code,
        "image": response.status_code == _OK and (response.content or b"").startswith(_PICTURES),
        "retry_after": headers.get("Retry-After"),
        "server_timing": headers.get("Server-Timing", ""),
    }
    print(json.dumps(entry), file=_answers)


class Client(FastHttpUser):
    """Posts the next photo as soon as it has an answer; after a refusal it waits as long as Retry-After says."""

    network_timeout = _NETWORK_TIMEOUT_S
    pause_s = 0.0

    def wait_time(self) -> float:
        return self.pause_s

    @task
    def post(self) -> None:
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        body: Any = next(_bodies)  # locust's annotation knows no bytes, its code does
        answer = self.client.post("/v1/mattes", data=body, headers=headers)
        self.pause_s = _pause_s(answer)


def _pause_s(answer: Any) -> float:
    """Seconds before the client's next post."""
    if answer.status_code == _OK:
        return 0.0
    asked = (answer.headers or {}).get("Retry-After") or ""
    return float(asked) if asked.isdigit() else 1.0  # an error without the header is reported; do not spin on it


def _multipart(photo: photos.Photo, form: Sequence[str]) -> bytes:
    """A form with the photo; an empty matte is allowed, for an error answer would be cheaper than a cutout."""
    fields = "".join(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, _, value in (pair.partition("=") for pair in ("allow_empty=true", *form))
    )
    file = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{photo.name}.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return (fields + file).encode() + photo.data + f"\r\n--{_BOUNDARY}--\r\n".encode()
