"""From a text to the parts of an http URL, strictly. Pure.

One reading for all: what is checked, looked up, connected to and written into `Host` are the same fields of `Url`, so
that no second parser may see another host. Who may be asked is the policy's matter (policy.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, unquote, urljoin

import idna

from mattehorn.fetch.addresses import Address, unwrap

URL_CHARS = 8000  # what RFC 9110, 4.1 asks recipients to support; signed URLs have 500 to 3000
NAME_CHARS = 253  # of a host in DNS
DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE | re.DOTALL)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_BRACKETED = re.compile(r"\[([0-9a-fA-F:.]+)\](?::([0-9]{0,5}))?")
_NAMED = re.compile(r"([^:\[\]]+)(?::([0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")  # the underscore is in no host's name by the rules, and in real ones
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # as a last label it makes inet_aton read an IPv4 address
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_KEPT = "%/:?[]@!$&'()*+,;=~"  # in path and query; the rest is percent-encoded, what is encoded stays


class BadUrl(ValueError):
    """A URL that is not fetched. Its text goes on from the field's name: "image_url" "names a user"."""


@dataclass(frozen=True)
class Url:
    """`host` is a name in lower-case ASCII without a final dot, or an address as `ipaddress` writes it, which then is
    `address` too (an IPv4-mapped one unwrapped). `target` is path and query in ASCII and begins with a slash."""

    scheme: str
    host: str
    port: int
    target: str
    address: Address | None = None

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host_header}"

    @property
    def without_query(self) -> str:
        """For logs: a query may hold a signature."""
        return self.origin + self.path

    @property
    def file_name(self) -> str:
        """The last part of the path, decoded; empty where there is none."""
        return unquote(self.path.rpartition("/")[2])


def parse_url(text: str) -> Url:
    """`text` without the space around it. Raises BadUrl."""
    text = text.strip(" \t\r\n")
    if len(text) > URL_CHARS:
        raise BadUrl(f"has more than {URL_CHARS} characters")
    if _CONTROL.search(text):
        raise BadUrl("holds control characters")
    match = _URL.fullmatch(text)
    if not match:
        raise BadUrl("is no http:// or https:// address" if _SCHEME.match(text) else "is no whole URL")
    scheme, authority, path, query = match[1].lower(), match[2], match[3], match[4] or ""
    host, address, port = _authority(authority)
    return Url(
        scheme,
        host,
        _port(port) if port else DEFAULT_PORTS[scheme],
        quote(path or "/", safe=_KEPT) + quote(query, safe=_KEPT),
        address,
    )


def join_url(base: Url, location: str) -> Url:
    """Where a redirect from `base` to `location` leads. Raises BadUrl."""
    if _CONTROL.search(location):  # urljoin would take them out
        raise BadUrl("holds control characters")
    try:
        return parse_url(urljoin(base.origin + base.target, location.strip()))
    except BadUrl:
        raise
    except ValueError:  # urljoin, of brackets that hold no address
        raise BadUrl("is no whole URL") from None


def _authority(text: str) -> tuple[str, Address | None, str]:
    """Host, its address where it is one, and the port as written, perhaps empty."""
    if "@" in text:
        raise BadUrl("names a user or a password; send it without")
    if match := _BRACKETED.fullmatch(text):
        try:
            address = unwrap(IPv6Address(match[1]))
        except AddressValueError:
            raise BadUrl("names no valid IPv6 address") from None
        return str(address), address, match[2] or ""
    match = _NAMED.fullmatch(text)
    if not match:
        raise BadUrl("names no valid host" if text else "names no host")
    host, address4 = _name(match[1])
    return host, address4, match[2] or ""


def _name(text: str) -> tuple[str, IPv4Address | None]:
    """A name, or an IPv4 address in its one plain spelling."""
    host = _ascii(text).removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            address = IPv4Address(host)
        except AddressValueError:
            raise BadUrl("writes an IPv4 address in an unusual way; write four decimal numbers") from None
        return host, address
    if len(host) > NAME_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadUrl("names no valid host")
    return host, None


def _ascii(text: str) -> str:
    """A name as it is looked up: full-width letters, digits, dots as plain ones, other scripts as `xn--` (UTS 46)."""
    if text.isascii():
        return text.lower()
    if len(text) > NAME_CHARS:  # the library's time grows with the square
        raise BadUrl("names no valid host")
    try:
        return idna.encode(text, uts46=True, std3_rules=True).decode("ascii").lower()
    except UnicodeError:  # IDNAError is one
        raise BadUrl("names no valid host") from None


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65_535:
        raise BadUrl("names no valid port")
    return port
