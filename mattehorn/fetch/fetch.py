"""A picture by its URL, and a POST to one, for callers whom we do not trust.

Every URL, a redirect's too, is parsed once, its host looked up once, every address checked, and one of these very
addresses connected to: a name that has another address a moment later (DNS rebinding) gains nothing. Messages hold no
address and nothing of the answer; logs drop the query.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import httpcore
import httpx

from mattehorn.errors import BodyTooLarge, FetchFailed, MattehornError, UrlNotAllowed
from mattehorn.fetch.addresses import Address
from mattehorn.fetch.exchange import exchange
from mattehorn.fetch.policy import UrlPolicy
from mattehorn.fetch.resolve import Resolve, SystemResolver
from mattehorn.fetch.urls import BadUrl, Url, join_url, parse_url

if TYPE_CHECKING:  # settings check their lists by policy.py
    from mattehorn.settings import Settings

log = logging.getLogger(__name__)

REDIRECTS = frozenset({301, 302, 303, 307, 308})
# One-byte chunks take 60 times the bytes' work and held the event loop for 0.5 s at a time (measured). A server that
# sends more pieces than this, of less than this on average, means harm; common ones send 1 to 64 kB.
PIECES, PIECE_BYTES = 1000, 100
HEADERS = {"Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class FetchLimits:
    """Seconds unless the name says otherwise; the contract's 6.3. `connect_s` is for the look-up, for TCP and for TLS
    each; `total_s` is for all, redirects included. A body may lag `grace_s` behind `bytes_per_s`."""

    connect_s: float = 5.0
    total_s: float = 15.0
    bytes_per_s: float = 10_000.0
    grace_s: float = 2.0
    redirects: int = 3


@dataclass(frozen=True)
class Fetched:
    """`file_name` is the last part of the URL's path, as the caller sent it: not to be trusted."""

    data: bytes
    file_name: str
    seconds: float


class Fetcher:
    """Fetches for callers. Holds no connection; one serves a whole process, from any event loop of it."""

    def __init__(
        self,
        policy: UrlPolicy | None = None,
        limits: FetchLimits | None = None,
        *,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`resolve` takes the look-up's place, `tls` that of the public authorities (tests)."""
        self.policy, self.limits = policy or UrlPolicy(), limits or FetchLimits()
        self._resolve = resolve or SystemResolver()
        self._given_tls = tls

    @classmethod
    def of(cls, settings: Settings) -> Self:
        limits = settings.limits
        return cls(
            UrlPolicy.of(settings.url_allow, settings.url_ports),
            FetchLimits(
                limits.fetch_connect_s, limits.fetch_s, limits.fetch_bytes_per_s, redirects=limits.fetch_redirects
            ),
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._given_tls or httpx.create_ssl_context(trust_env=False)  # certifi's list

    async def fetch(
        self, text: str, *, field: str, max_bytes: int, within_s: float | None = None, request_id: str = "-"
    ) -> Fetched:
        """What lies at the URL `text`, of at most `max_bytes`; the picture's type is left to the decoder.

        `within_s` is the time that the request has left. Raises UrlNotAllowed, FetchFailed and BodyTooLarge, all with
        `field`.
        """
        started = time.monotonic()
        seen: list[Url] = []
        limits = self.limits if within_s is None else _shortened(self.limits, within_s)
        with _told(field, seen, request_id):
            async with asyncio.timeout(limits.total_s):
                data = await self._follow(text, field, max_bytes, limits, seen)
        seconds = time.monotonic() - started
        log.info(
            "url_fetched request_id=%s url=%s redirects=%d bytes=%d seconds=%.3f",
            *(request_id, seen[0].without_query, len(seen) - 1, len(data), seconds),
        )
        return Fetched(data, seen[0].file_name, seconds)

    async def post(
        self, text: str, content: bytes, headers: Mapping[str, str], *, field: str, within_s: float, request_id: str
    ) -> int:
        """The status that a POST to the URL `text` is answered with; redirects are not followed, the body is not read.

        Raises UrlNotAllowed and FetchFailed, both with `field`.
        """
        seen: list[Url] = []
        limits = _shortened(self.limits, within_s)
        with _told(field, seen, request_id, with_path=False):  # receivers put their secrets there
            async with asyncio.timeout(limits.total_s):
                url = parse_url(text)
                seen.append(url)
                async with self._ask(url, limits, method="POST", headers=headers, content=content) as answer:
                    return answer.status

    async def _follow(self, text: str, field: str, max_bytes: int, limits: FetchLimits, seen: list[Url]) -> bytes:
        """The body at the end of the redirects; adds each URL to `seen`."""
        seen.append(parse_url(text))
        while True:
            url = seen[-1]
            async with self._ask(url, limits, headers=HEADERS) as answer:
                location = _header(answer, b"location")
                if answer.status not in REDIRECTS:
                    _require_plain(answer, field)
                    return await _read(answer, field, max_bytes, limits)
            if not location:
                raise FetchFailed(f"{field}: the server answered {answer.status} and no Location.", field=field)
            if len(seen) > limits.redirects:
                raise FetchFailed(f"{field}: the server redirects more than {limits.redirects} times.", field=field)
            try:
                target = join_url(url, location)
            except BadUrl as error:
                raise BadUrl(f"redirects to a URL that {error}") from None
            seen.append(target)
            if url.scheme == "https" and target.scheme == "http":
                raise BadUrl("is http, after https")

    @asynccontextmanager
    async def _ask(
        self,
        url: Url,
        limits: FetchLimits,
        *,
        headers: Mapping[str, str],
        method: str = "GET",
        content: bytes = b"",
    ) -> AsyncIterator[httpcore.Response]:
        """The answer of `url`, whose addresses are looked up once and all checked.

        Raises BadUrl, _NoSuchHost and httpcore's errors.
        """
        self.policy.check(url)
        addresses = self.policy.screen(url, await self._addresses(url, limits.connect_s))
        async with exchange(
            url,
            addresses,
            tls=self._tls,
            connect_s=limits.connect_s,
            method=method,
            headers=headers,
            content=content,
        ) as answer:
            yield answer

    async def _addresses(self, url: Url, within_s: float) -> Sequence[Address]:
        if url.address:
            return [url.address]
        try:
            async with asyncio.timeout(within_s):
                found = await self._resolve(url.host)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            raise _NoSuchHost from error
        if not found:
            raise _NoSuchHost
        return found


class _NoSuchHost(Exception):
    """The look-up gave no address in time."""


def _shortened(limits: FetchLimits, within_s: float) -> FetchLimits:
    """`limits` with at most `within_s` seconds in all."""
    return replace(limits, total_s=min(limits.total_s, within_s))


def _require_plain(answer: httpcore.Response, field: str) -> None:
    """Raises FetchFailed unless the answer is 200 with a body as it is."""
    if answer.status != 200:
        raise FetchFailed(
            f"{field}: the server answered {answer.status}; 200 is needed.", field=field, upstream_status=answer.status
        )
    if _header(answer, b"content-encoding").strip().lower() not in ("", "identity"):
        raise FetchFailed(f"{field}: the server sent the picture in a content encoding nobody asked for.", field=field)


async def _read(answer: httpcore.Response, field: str, max_bytes: int, limits: FetchLimits) -> bytes:
    """The whole body. The time it has grows with what came: no byte after it, and a slow body ends."""
    announced = _header(answer, b"content-length")
    if announced.isdigit() and int(announced[:19]) > max_bytes:
        raise _too_large(field, max_bytes)
    body, pieces = bytearray(), 0
    due = asyncio.get_running_loop().time() + limits.grace_s
    try:
        async with asyncio.timeout_at(due) as patience:
            async for chunk in answer.aiter_stream():
                body += chunk
                pieces += 1
                if pieces > PIECES and len(body) < pieces * PIECE_BYTES:
                    raise FetchFailed(f"{field}: the server sends the picture in pieces too small.", field=field)
                if len(body) > max_bytes:
                    raise _too_large(field, max_bytes)
                patience.reschedule(due + len(body) / limits.bytes_per_s)
    except TimeoutError:
        if not patience.expired():
            raise
        raise FetchFailed(f"{field}: the server sends less than {limits.bytes_per_s:g} bytes/s.", field=field) from None
    if not body:
        raise FetchFailed(f"{field}: the server answered 200 and an empty body.", field=field)
    return bytes(body)


def _too_large(field: str, max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The picture at {field} has more than {max_bytes} bytes.", field=field, most_bytes=max_bytes)


def _header(answer: httpcore.Response, name: bytes) -> str:
    """A header's first value; empty where there is none. UTF-8, as some servers write Location, else Latin-1."""
    value = next((value for key, value in answer.headers if key.lower() == name), b"")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


@contextmanager
def _told(field: str, seen: list[Url], request_id: str, *, with_path: bool = True) -> Iterator[None]:
    """Turns every trouble on the way into an error of the contract, and logs it."""
    try:
        with _translated(field, seen):
            yield
    except MattehornError as error:
        url = (seen[-1].without_query if with_path else seen[-1].origin) if seen else "-"
        log.info("url_refused request_id=%s url=%s code=%s reason=%s", request_id, url, error.code, error.message)
        raise


@contextmanager
def _translated(field: str, seen: list[Url]) -> Iterator[None]:
    try:
        yield
    except BadUrl as error:
        subject = field if len(seen) < 2 else f"{field} redirects to a URL that"
        raise UrlNotAllowed(f"{subject} {error}.", field=field) from None
    except _NoSuchHost:
        raise _failed(field, "the host's name has no address") from None
    except (TimeoutError, httpcore.TimeoutException):
        raise _failed(field, "the server did not answer in time") from None
    except httpcore.ConnectError as error:
        if isinstance(error.__context__, ssl.SSLError):  # the pool takes the cause away, not the context
            raise _failed(field, "the server's certificate or TLS is not valid for its name") from None
        raise _failed(field, "the server cannot be reached") from None
    except (httpcore.NetworkError, OSError):  # httpcore lets TLS alerts through, which are OSErrors
        raise _failed(field, "the connection broke off") from None
    except httpcore.ProtocolError:
        raise _failed(field, "the server's answer is no whole HTTP answer") from None


def _failed(field: str, what: str) -> FetchFailed:
    return FetchFailed(f"{field}: {what}.", field=field)
