"""Server-sent events (WHATWG HTML, section 9.2): a job's progress, as long as it goes on.

What it is not: it reads no store; jobs_api.py says how a job is asked. Called by it alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mattehorn.bulk.progress import ENDED
from mattehorn.errors import Unavailable

MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second: nginx would hold events back
FINAL_ID = "final"  # browsers send it back when they connect anew; 204 then tells them not to
RECONNECT_MS = 2000

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Pace:
    """Seconds. `poll_s`: between looks at the job, each a few small requests to the store. `heartbeat_s`: the longest
    silence, below a proxy's usual 30 or 60. `most_s`: then the client connects anew, so that no place is held for days.
    """

    poll_s: float = 1.0
    heartbeat_s: float = 15.0
    most_s: float = 3000.0


async def progress_events(
    first: Document,
    read: Callable[[], Awaitable[Document]],
    pace: Pace,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[bytes]:
    """An event `progress` at once and at each change, until the job's final state; comments in between.

    A store that is away for a while is waited for; any other error of `read` ends the stream.
    """
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    document, sent = first, None
    spent = quiet = 0.0
    while True:
        if document != sent:
            yield event(document)
            sent, quiet = document, 0.0
        if document["state"] in ENDED or spent >= pace.most_s:
            return
        await sleep(pace.poll_s)
        spent, quiet = spent + pace.poll_s, quiet + pace.poll_s
        if quiet >= pace.heartbeat_s:
            yield b": the job goes on\n\n"
            quiet = 0.0
        try:
            document = await read()
        except Unavailable:
            continue


def event(document: Document) -> bytes:
    """One event; its data is the body of `GET /v1/jobs/{id}` on one line."""
    name = f"id: {FINAL_ID}\n" if document["state"] in ENDED else ""
    return f"{name}event: progress\ndata: {json.dumps(document, separators=(',', ':'))}\n\n".encode()
