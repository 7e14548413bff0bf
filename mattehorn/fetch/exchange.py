"""One HTTP request to an address that has been checked: httpcore with a connection of its own.

httpcore and not httpx, because it lets us connect to the very address, and because what must not happen is not in it:
no redirects, cookies, proxies of the environment, decoding of bodies, no log line with the whole URL. A connection
serves one request; what a server sends after its answer is never read.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpcore

from mattehorn.fetch.addresses import Address
from mattehorn.fetch.urls import Url

USER_AGENT = "mattehorn"
HEAD_BYTES = 256 * 1024  # h11 allows one head 100 kB, but any number of 1xx heads before it
ADDRESSES = 4  # tried one after the other; a host with more has them for its load


@asynccontextmanager
async def exchange(
    url: Url,
    addresses: Sequence[Address],
    *,
    tls: ssl.SSLContext,
    connect_s: float,
    method: str = "GET",
    headers: Mapping[str, str] = {},
    content: bytes = b"",
) -> AsyncIterator[httpcore.Response]:
    """The answer's head, its body still to be read. The certificate is checked against the name in `url`.

    Raises httpcore's errors. Only connecting has a limit here; the caller sets one for the whole.
    """
    sent = {"Host": url.host_header, "User-Agent": USER_AGENT, "Connection": "close", **headers}
    backend = PinnedBackend(addresses)
    pool = httpcore.AsyncConnectionPool(
        ssl_context=tls, max_connections=1, max_keepalive_connections=0, network_backend=backend
    )
    async with (
        pool,
        pool.stream(
            method,
            httpcore.URL(
                scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode("ascii")
            ),
            headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in sent.items()],
            content=content or None,
            extensions={"timeout": {"connect": connect_s}},
        ) as response,
    ):
        backend.head.done = True
        yield response


@dataclass
class Head:
    """How much of an answer has come, until its head is whole."""

    bytes: int = 0
    done: bool = False


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to one of `addresses`, whatever name it is given. For one request."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.head = Head()
        self._addresses = addresses[:ADDRESSES]
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """The first of the addresses that answers; each has an equal share of the time that is left."""
        clock = asyncio.get_running_loop().time
        deadline = None if timeout is None else clock() + timeout
        error: Exception = httpcore.ConnectError("no address")
        for position, address in enumerate(self._addresses):
            left = len(self._addresses) - position
            share = None if deadline is None else max(0.0, deadline - clock()) / left
            try:
                stream = await self._network.connect_tcp(str(address), port, share, local_address, socket_options)
                return HeadLimit(stream, self.head)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class HeadLimit(httpcore.AsyncNetworkStream):
    """A connection that breaks when an answer's head does not end."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, head: Head) -> None:
        self._stream, self._head = stream, head

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(max_bytes, timeout)
        if not self._head.done:
            self._head.bytes += len(data)
            if self._head.bytes > HEAD_BYTES:
                raise httpcore.RemoteProtocolError("the head is too long")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return HeadLimit(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._head)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
