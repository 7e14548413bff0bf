"""Free TCP ports for servers that this host starts a moment later.

Not port 0: the system's own choice lies among the ports that it also gives to outgoing connections, and one of those
may take it before the server listens.
"""

from __future__ import annotations

import random
import socket

_FIRST, _LAST = 20_000, 29_999  # below the outgoing ports (Linux: from 32768) and Serve's for its replicas (from 30000)
_TRIES = 1000


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """`count` different ports of 20000 to 29999 that nobody listens on now, in random order. Raises OSError if none."""
    held: list[socket.socket] = []
    try:
        for port in random.sample(range(_FIRST, _LAST + 1), _TRIES):
            if len(held) == count:
                break
            probe = socket.socket()
            try:
                probe.bind((host, port))
            except OSError:
                probe.close()
                continue
            held.append(probe)
        if len(held) < count:
            raise OSError(f"{host}: {count} free ports were wanted, {len(held)} found between {_FIRST} and {_LAST}")
        return [probe.getsockname()[1] for probe in held]
    finally:
        for probe in held:
            probe.close()
