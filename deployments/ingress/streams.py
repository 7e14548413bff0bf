"""Answers that are made while they are sent: bounded in number, closed when their client leaves.

What it is not: it knows no job. Called by jobs_api.py; sse.py makes one kind of content.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from mattehorn.errors import Overloaded

PIECE_BYTES = 64 * 2**10  # a manifest's line has 500 bytes: a thread's turn for each would cost more than the line
RETRY_S = 5


class Slots:
    """At most `most` of something long at once in this replica, so that short requests keep a place in Serve's line."""

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what = most, what
        self.taken = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds one place. Raises Overloaded."""
        if self.taken >= self._most:
            raise Overloaded(
                f"{self.taken} {self._what} are open here, which is the limit. Try again after Retry-After.",
                retry_after_s=RETRY_S,
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class BoundedStream(StreamingResponse):
    """Sends `content` while it holds one of `slots`; without a free one the answer is the error of Slots.held."""

    def __init__(self, content: AsyncIterator[bytes], slots: Slots, **more: Any) -> None:
        super().__init__(content, **more)
        self._content, self._slots = content, slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._slots.held():
            try:
                await super().__call__(scope, receive, send)
            finally:
                close = getattr(self._content, "aclose", None)
                if close is not None:  # else the client's leaving would be told to it by the garbage collector
                    await close()


class InThread(Protocol):
    def __call__(self, call: Callable[..., Any], *arguments: Any) -> Awaitable[Any]: ...


async def in_pieces(parts: Iterator[bytes], in_thread: InThread) -> AsyncIterator[bytes]:
    """The same bytes in larger pieces, each made in a thread. The first is made before this returns, so that an error
    of it is still an error answer; a later one breaks the connection off."""
    joined = _joined(parts)
    first: bytes = await in_thread(next, joined, b"")

    async def rest() -> AsyncIterator[bytes]:
        piece = first
        while piece:
            yield piece
            piece = await in_thread(next, joined, b"")

    return rest()


def _joined(parts: Iterator[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for part in parts:
        held += part
        if len(held) >= PIECE_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
