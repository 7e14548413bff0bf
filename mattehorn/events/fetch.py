"""One small document over https, for sns.py and pubsub.py: without redirects, with a limit on size and on time.

What it is not: no general client. It does not judge the address; its caller lets only known hosts through. A proxy
named in the environment is used, as boto3 does. The address is in no log and no message: it may hold a token.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http.client import HTTPException
from typing import IO
from urllib.error import HTTPError
from urllib.request import (
    BaseHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from mattehorn.errors import EventError, Unavailable

MAX_BYTES = 64 * 1024  # a certificate has 2 KB, a confirmation 1 KB, Google's keys 2 KB
STEP_TIMEOUT_S = 5.0  # for connecting and for each read
TOTAL_TIMEOUT_S = 10.0  # SNS itself waits 15 s for an answer to its message
CHUNK_BYTES = 8 * 1024
RETRY_S = 20  # the first retries of SNS come 20 s apart


def fetch_https(
    url: str,
    *,
    who: str = "Amazon SNS",
    handler: BaseHandler | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> bytes:
    """The body of `url`, which belongs to `who`. `handler` opens https in place of the network (tests); `clock` counts
    seconds.

    Raises Unavailable for an outage, EventError for an answer that no retry will better (4xx, redirect, too large).
    """
    if not url.startswith("https://"):
        raise EventError("Only https addresses are fetched.")
    return _fetch(url, who, clock, ProxyHandler(), handler or HTTPSHandler())


def fetch_here(url: str, *, who: str) -> bytes:
    """The body of an http `url` on this machine's loopback, past any proxy; as fetch_https otherwise."""
    if not url.startswith("http://"):
        raise EventError("Only http addresses are fetched on the loopback.")
    return _fetch(url, who, time.monotonic, HTTPHandler())


def _fetch(url: str, who: str, clock: Callable[[], float], *handlers: BaseHandler) -> bytes:
    deadline = clock() + TOTAL_TIMEOUT_S
    try:
        with _opener(*handlers).open(Request(url), timeout=STEP_TIMEOUT_S) as response:
            return _read(response, who, deadline, clock)
    except HTTPError as exc:
        exc.close()
        if exc.code >= 500:
            raise _outage(who, f"answered {exc.code}") from exc
        raise EventError(f"The message's address at {who} answered {exc.code}.") from exc
    except (OSError, HTTPException) as exc:
        raise _outage(who, "did not answer") from exc


def _read(response: IO[bytes], who: str, deadline: float, clock: Callable[[], float]) -> bytes:
    read = getattr(response, "read1", response.read)  # read1 returns what has come, read waits for all of it
    data = b""
    while chunk := read(CHUNK_BYTES):
        data += chunk
        if len(data) > MAX_BYTES:
            raise EventError(f"The message's address at {who} answered more than {MAX_BYTES} bytes.")
        if clock() > deadline:
            raise _outage(who, f"took more than {TOTAL_TIMEOUT_S:g} s")
    return data


def _opener(*handlers: BaseHandler) -> OpenerDirector:
    """Knows what `handlers` know: no other of http, file and ftp, and nothing that follows a redirect."""
    opener = OpenerDirector()
    for part in (*handlers, HTTPDefaultErrorHandler(), HTTPErrorProcessor()):
        opener.add_handler(part)
    return opener


def _outage(who: str, what: str) -> Unavailable:
    return Unavailable(f"{who} {what}; send the message again.", retry_after_s=RETRY_S)
