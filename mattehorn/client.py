"""Talks to a running service over HTTP: makes, reads, follows and cancels jobs; its errors are the library's own.

What it is not: no photo goes through it, and it starts no service. Called by the commands `submit` and `jobs`
(cli_jobs.py) and by load tests.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from mattehorn import errors
from mattehorn.bulk.progress import ENDED
from mattehorn.errors import MattehornError, NotFound, OptionError, Overloaded, Unavailable

DEFAULT_SERVER = "http://127.0.0.1:8000"  # where `mattehorn serve` listens
POLL_S = 1.0  # between two looks at a job; a part of a shard takes longer
PATIENCE_S = 600.0  # a follower outlives a restart of the whole service
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # the events' heartbeat comes every 15 s

Document = dict[str, Any]


class Unreachable(Unavailable):
    """Nobody answers at the server's address, or the answer broke off."""


class AnswerError(MattehornError):
    """An answer that is no error of the contract that this version knows."""


class Client:
    """One service. Close it, or use it as a context; threads need one each.

    Every call raises what the service answered, as the class of errors.py with its code, and Unreachable.
    """

    def __init__(
        self,
        server: str = DEFAULT_SERVER,
        *,
        key: str | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`key` is the API key of a service that asks for one. `transport` takes the network's place in tests.

        Raises OptionError for what is no http address.
        """
        self.server = _address(server)
        self._sleep, self._clock = sleep, clock
        # a proxy of the environment cannot reach this machine's own loopback
        self._http = httpx.Client(
            base_url=self.server,
            headers={} if key is None else {"X-API-Key": key},
            transport=transport,
            timeout=_TIMEOUT,
            trust_env=not _is_loopback(self.server),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def submit(self, body: Mapping[str, Any]) -> Document:
        """{id, state, url} of the job that was made from the JSON of `POST /v1/jobs`."""
        return self._ask("POST", "/v1/jobs", json=dict(body))

    def job(self, job: str) -> Document:
        """The body of `GET /v1/jobs/{id}`."""
        return self._ask("GET", _path(job))

    def jobs(self, limit: int) -> list[Document]:
        """The latest jobs, at most `limit`."""
        found: list[Document] = self._ask("GET", "/v1/jobs", params={"limit": limit})["jobs"]
        return found[:limit]

    def cancel(self, job: str) -> Document:
        return self._ask("POST", f"{_path(job)}/cancel")

    def manifest(self, job: str) -> Iterator[bytes]:
        """`manifest.jsonl` in pieces."""
        with self._reaching(), self._http.stream("GET", f"{_path(job)}/manifest.jsonl") as answer:
            if answer.status_code != 200:
                answer.read()
                raise error_from(answer, self.server)
            yield from answer.iter_bytes()

    def follow(
        self, job: str, patience_s: float = PATIENCE_S, on_wait: Callable[[MattehornError], None] = lambda error: None
    ) -> Iterator[Document]:
        """The job's body, again and again until its last state: by server-sent events, or by asking every second where
        those do not come through. A service that is away is waited for, up to `patience_s`; `on_wait` hears why, once
        each time."""
        streams, heard, waiting = True, self._clock(), False
        while True:
            pause = POLL_S
            try:
                for document in self._events(job) if streams else [self.job(job)]:
                    heard, waiting = self._clock(), False
                    yield document
                    if document["state"] in ENDED:
                        return
            except _NoEvents:
                streams, pause = False, 0.0
            except (Unavailable, Overloaded) as error:
                if self._clock() - heard > patience_s:
                    raise
                if not waiting:
                    on_wait(error)
                waiting = True
                pause = error.retry_after_s or POLL_S
            self._sleep(pause)

    def _events(self, job: str) -> Iterator[Document]:
        """The documents of one stream. Raises _NoEvents when it is none, or ended before it began."""
        began = False
        try:
            with self._http.stream("GET", f"{_path(job)}/events", headers={"Accept": "text/event-stream"}) as answer:
                if answer.status_code == 200 and "text/event-stream" in answer.headers.get("Content-Type", ""):
                    for document in parse_events(answer.iter_lines()):
                        began = True
                        yield document
        except httpx.HTTPError:  # a stream may be cut at any point, by any proxy; asking tells whether it is worse
            pass
        if not began:
            raise _NoEvents

    def _ask(self, method: str, path: str, **more: Any) -> Document:
        with self._reaching():
            answer = self._http.request(method, path, **more)
        if not 200 <= answer.status_code < 300:
            raise error_from(answer, self.server)
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise AnswerError(f"{self.server} answered no JSON; is it a Mattehorn service?")
        return document

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turns httpx's errors of the transport into Unreachable."""
        try:
            yield
        except httpx.HTTPError as error:
            raise Unreachable(
                f"No service answers at {self.server} ({type(error).__name__}). Start one with `mattehorn serve`, or "
                "name another with --server URL.",
                retry_after_s=2,
            ) from error


class _NoEvents(Exception):
    """The service, or something before it, gives no stream of events."""


def parse_events(lines: Iterable[str]) -> Iterator[Document]:
    """The JSON of every event `progress` of a text/event-stream (WHATWG HTML, 9.2.6); others are left aside."""
    name = ""
    data: list[str] = []
    for line in lines:
        if not line:
            if name == "progress" and data:
                yield json.loads("\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        if field == "event":
            name = value.removeprefix(" ")
        elif field == "data":
            data.append(value.removeprefix(" "))


def error_from(answer: httpx.Response, server: str = "The service") -> MattehornError:
    """The error that the contract's JSON names, as our own class; for a code we do not know by the status."""
    try:
        said = answer.json()["error"]
        code, message = str(said["code"]), str(said["message"])
    except (ValueError, KeyError, TypeError):
        said = f"{server} answered {answer.status_code} and no error of Mattehorn's"
        message = f"{said}; is a service there, and has it started?"
        return _OF_OTHERS.get(answer.status_code, AnswerError)(message, retry_after_s=_seconds(answer))
    data = {name: said[name] for name in ("field", "details", "retry_after_s", "request_id") if said.get(name)}
    kind = _by_code().get(code) or _BY_STATUS.get(answer.status_code)
    return kind(message, **data) if kind else AnswerError(f"{code}: {message}", **data)


# what a code means that this version does not know
_BY_STATUS: dict[int, type[MattehornError]] = {
    404: NotFound,
    422: OptionError,
    429: Overloaded,
    **dict.fromkeys((502, 503, 504), Unavailable),
}
# what answers without a code of ours mean: a proxy gives them, ours too while the service behind it starts or stops
_OF_OTHERS: dict[int, type[MattehornError]] = {429: Overloaded, **dict.fromkeys((404, 500, 502, 503, 504), Unavailable)}


def _by_code() -> dict[str, type[MattehornError]]:
    """The classes of errors.py by code; of several with one code the most general."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MattehornError)]
    return {kind.code: kind for kind in sorted(kinds, key=lambda kind: -len(kind.__mro__))}


def _seconds(answer: httpx.Response) -> int | None:
    text = answer.headers.get("Retry-After", "")
    return int(text) if text.isdecimal() else None


def _path(job: str) -> str:
    return f"/v1/jobs/{quote(job, safe='')}"


def _address(server: str) -> str:
    text = server if "://" in server else f"http://{server}"
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise OptionError(f"--server is {server[:100]!r}; write http://HOST:PORT.", field="server")
    return text.rstrip("/")


def _is_loopback(server: str) -> bool:
    host = urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
