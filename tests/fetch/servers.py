"""Real servers on the loopback that say what a test writes, a resolver that knows what a test tells it, and a small
authority of certificates."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mattehorn.fetch.addresses import Address
from mattehorn.fetch.fetch import Fetched, Fetcher, FetchLimits
from mattehorn.fetch.policy import UrlPolicy

HERE = "127.0.0.1"
PICTURE = bytes(range(256)) * 40
Act = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(status: str = "200 OK", body: bytes = PICTURE, length: int | None = None, **headers: str) -> bytes:
    """A whole HTTP answer; `length` is what it says of its body, if not the truth. `_` in a header's name is `-`."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return answer(status, b"", Location=location)


@dataclass
class Server:
    """What was asked of it: one text per request, head only (and the body of a POST)."""

    port: int
    asked: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [head.split(" ")[1] for head in self.asked]


@asynccontextmanager
async def serving(*answers: bytes | Act, tls: ssl.SSLContext | None = None, host: str = HERE) -> AsyncIterator[Server]:
    """A server whose n-th connection gets the n-th of `answers`, as bytes or by a function that writes; the last one
    again and again. It closes each connection after its answer."""
    scripted = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            server.asked.append(head)
            said = scripted.pop(0) if len(scripted) > 1 else scripted[0]
            if isinstance(said, bytes):
                writer.write(said)
                await writer.drain()
            else:
                await said(writer)
        writer.close()

    listener = await asyncio.start_server(serve, host, 0, ssl=tls)
    server = Server(listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listener.close()


class Names:
    """A resolver: each name's answers in turn, the last again and again. `asked` are the names in order."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        """Keyword `a__example=[["8.8.8.8"]]` is the name `a.example`."""
        self.answers = {name.replace("__", "."): list(lists) for name, lists in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[Address]:
        self.asked.append(host)
        if host not in self.answers:
            raise OSError("Name or service not known")
        lists = self.answers[host]
        return [ip_address(text) for text in (lists.pop(0) if len(lists) > 1 else lists[0])]


def fetcher(
    *allow: str, names: Names | None = None, tls: ssl.SSLContext | None = None, ports: Sequence[int] = (), **limits: Any
) -> Fetcher:
    """One that may go to the hosts of `allow`, and whose limits no busy machine reaches unless a test sets them."""
    patient = {"connect_s": 60.0, "total_s": 60.0, "grace_s": 60.0, **limits}
    policy = UrlPolicy.of(allow, [80, 443, *ports])
    return Fetcher(policy, FetchLimits(**patient), resolve=names or Names(), tls=tls)


async def get(by: Fetcher, url: str, max_bytes: int = 10**6, **more: Any) -> Fetched:
    return await by.fetch(url, field="image_url", max_bytes=max_bytes, **more)


class Authority:
    """Signs certificates for servers; `trusted` is a context that believes it and nobody else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        own = self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.trusted = ssl.create_default_context(cadata=own.public_bytes(serialization.Encoding.PEM).decode())

    def server(self, *names: str, days: int = 1) -> ssl.SSLContext:
        """A server's context with a certificate for `names`, which are DNS names or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = x509.SubjectAlternativeName([_general(name) for name in names])
        certificate = self._signed(x509.Name([]), key, alternative, days=days)
        path = self._folder / "server.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        return context

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType, days: int = 1
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        start = now - datetime.timedelta(days=3)
        return (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(extension, critical=True)
            .sign(self._key, hashes.SHA256())
        )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
