"""Who may be asked: public addresses on a few ports, and the hosts that the operator lists. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from mattehorn.fetch.addresses import Address, is_public, unwrap
from mattehorn.fetch.urls import BadUrl, Url, parse_url

PORTS = (80, 443)
NOT_PUBLIC = "leads to an address that is not public; its host has to be listed by the operator (url_allow)"
_ENDS_IN_PORT = re.compile(r"[^:]+:[0-9]+|\[.*\]:[0-9]+")


@dataclass(frozen=True)
class UrlPolicy:
    """`allow` holds hosts, as `Url.host` has them, that may be internal: with a port on that one, with None on `ports`.
    A listed host may have any address. `ports` are those of every host."""

    allow: frozenset[tuple[str, int | None]] = frozenset()
    ports: frozenset[int] = frozenset(PORTS)

    @classmethod
    def of(cls, allow: Iterable[str] = (), ports: Iterable[int] = PORTS) -> Self:
        """From the settings `url_allow` and `url_ports`. Raises ValueError as parse_entry does."""
        return cls(frozenset(parse_entry(entry) for entry in allow), frozenset(ports))

    def lists(self, url: Url) -> bool:
        """Whether the operator has named this host, for this port."""
        return (url.host, url.port) in self.allow or (url.port in self.ports and (url.host, None) in self.allow)

    def check(self, url: Url) -> None:
        """What can be told without a look-up. Raises BadUrl."""
        if self.lists(url):
            return
        if url.port not in self.ports:
            raise BadUrl(f"names the port {url.port}; allowed are {', '.join(map(str, sorted(self.ports)))}")
        is_local = url.host == "localhost" or url.host.endswith(".localhost")  # RFC 6761: always the loopback
        if is_local or (url.address and not is_public(url.address)):
            raise BadUrl(NOT_PUBLIC)

    def screen(self, url: Url, addresses: Sequence[Address]) -> tuple[Address, ...]:
        """`addresses`, which `url.host` has, unwrapped: when every one of them may be asked. Raises BadUrl."""
        if not self.lists(url) and not all(is_public(address) for address in addresses):
            raise BadUrl(NOT_PUBLIC)
        return tuple(unwrap(address) for address in addresses)


def parse_entry(text: str) -> tuple[str, int | None]:
    """Host and port of `HOST` or `HOST:PORT`; an IPv6 address stands in brackets. Raises ValueError."""
    try:
        url = parse_url(f"http://{text}/")
    except BadUrl as error:
        raise ValueError(f"url_allow: {text!r} {error}; write HOST or HOST:PORT.") from None
    if url.target != "/":
        raise ValueError(f"url_allow: {text!r} is more than a host; write HOST or HOST:PORT.")
    return url.host, url.port if _ENDS_IN_PORT.fullmatch(text) else None
