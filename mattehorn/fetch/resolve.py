"""Names to addresses, once per request and without holding up the event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from ipaddress import ip_address

from mattehorn.fetch.addresses import Address

Resolve = Callable[[str], Awaitable[Sequence[Address]]]
THREADS = 8  # more look-ups wait for one of these; a name server that never answers holds one for some 10 s


class SystemResolver:
    """The system's own look-up: /etc/hosts, search domains, caches.

    A look-up cannot be stopped. It runs in threads of its own, so that names of hostile servers take no thread from
    the rest of the process.
    """

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS, thread_name_prefix="resolve")

    async def __call__(self, host: str) -> Sequence[Address]:
        """Every address of `host`, the preferred first. Raises OSError when it has none or nobody knows."""
        ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return list(dict.fromkeys(ip_address(str(place[0])) for *_, place in found))
