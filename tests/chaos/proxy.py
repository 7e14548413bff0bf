"""A proxy in front of a store or a queue that can be told to fail: HTTP as plain TCP, so signatures stay valid."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

# refusing: every request is answered 503. slow: each piece of a request waits. deaf: the request is done, its answer is
# lost. away: connections are closed.
Mode = Literal["passing", "refusing", "slow", "deaf", "away"]

SLOW_S = 0.7  # for each piece of a request, so a call of three pieces takes two seconds
_PIECE = 64 * 2**10
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FaultProxy:
    """Listens on `port` of 127.0.0.1 and passes on to `upstream`, a port of the same machine."""

    def __init__(self, upstream: int) -> None:
        self.mode: Mode = "passing"
        self.failed = 0  # requests, or pieces of them, that met a fault
        self.port = 0
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> FaultProxy:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the fault proxy did not start")
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    @contextmanager
    def fault(self, mode: Mode, seconds: float) -> Iterator[None]:
        """The fault, for at least `seconds` and as long as the block takes."""
        self.mode, until = mode, time.monotonic() + seconds
        try:
            yield
            time.sleep(max(0.0, until - time.monotonic()))
        finally:
            self.mode = "passing"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        open_ones = asyncio.all_tasks(self._loop)
        for task in open_ones:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*open_ones, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):  # the proxy is stopped
            await self._connect(reader, writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.close()
            return
        try:
            up = asyncio.create_task(self._requests(reader, there[1], writer))
            down = asyncio.create_task(self._answers(there[0], writer))
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
        finally:
            for each in (writer, there[1]):
                each.close()

    async def _requests(
        self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_PIECE):
                if self.mode != "passing":
                    self.failed += 1
                if self.mode == "away":
                    return
                if self.mode == "refusing":
                    back.write(_REFUSAL)
                    await back.drain()
                    return
                if self.mode == "slow":
                    await asyncio.sleep(SLOW_S)
                there.write(data)
                await there.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_PIECE):
                if self.mode == "deaf" and not data.startswith(b"HTTP/1.1 100"):
                    return
                writer.write(data)
                await writer.drain()
