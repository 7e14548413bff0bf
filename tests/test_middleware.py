"""Around every request: its id, limits while its body streams in, security headers, counts. Tiny applications only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from deployments.ingress.middleware import REQUEST_ID, SECURITY_HEADERS, BodyLimitMiddleware, RequestMiddleware
from mattehorn import telemetry
from mattehorn.errors import BodyTooLarge, UploadTimeout
from mattehorn.settings import Limits

SLACK = 256 * 2**10  # what the form around a photo may take besides


@pytest.fixture(autouse=True)
def registry() -> Iterator[Any]:
    before = telemetry._backend
    backend = telemetry.PrometheusBackend()
    telemetry.use(backend)
    yield backend.registry
    telemetry._backend = before


class Answer:
    def __init__(self) -> None:
        self.status, self.headers, self.body = 0, list[tuple[str, str]](), b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


def call(
    app: ASGIApp, pieces: list[bytes] | None = None, headers: dict[str, str] | None = None, **scope: Any
) -> Answer:
    """One request whose body comes in `pieces`; then the client stays and sends nothing."""
    waiting = [
        {"type": "http.request", "body": piece, "more_body": index + 1 < len(pieces or [])}
        for index, piece in enumerate(pieces or [])
    ]
    if pieces is None:
        waiting = [{"type": "http.request", "body": b"", "more_body": False}]
    answer = Answer()

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = [(key.decode().lower(), value.decode()) for key, value in message["headers"]]
        else:
            answer.body += message.get("body", b"")

    raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    full = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw, **scope}
    asyncio.run(asyncio.wait_for(app(full, receive, send), 30))
    return answer


async def echo(request: Request) -> Response:
    return PlainTextResponse(f"{len(await request.body())} {REQUEST_ID.get()}")


def routed(endpoint: Any = echo) -> ASGIApp:
    return Starlette(routes=[Route("/things/{name}", endpoint, methods=["POST"])])


# ids and headers


@pytest.mark.parametrize("sent", ["a", "A-b_c.9", "x" * 128])
def test_a_request_id_is_taken_over_and_known_inside(sent: str) -> None:
    answer = call(RequestMiddleware(routed()), headers={"X-Request-ID": sent}, path="/things/1")
    assert answer.all("x-request-id") == [sent]
    assert answer.body == f"0 {sent}".encode()


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a/b", "ü", "a\tb"])
def test_a_request_id_of_another_form_is_replaced(sent: str) -> None:
    answer = call(RequestMiddleware(routed()), headers={"X-Request-ID": sent}, path="/things/1")
    (made,) = answer.all("x-request-id")
    assert made != sent
    assert len(made) == 32
    assert made.encode() in answer.body


def test_requests_without_an_id_get_different_ones() -> None:
    app = RequestMiddleware(routed())
    assert call(app).all("x-request-id") != call(app).all("x-request-id")


def test_an_id_that_serve_echoes_itself_is_not_sent_twice() -> None:
    app = RequestMiddleware(routed(), serve_echoes_id=True)
    assert call(app, headers={"X-Request-ID": "mine"}).all("x-request-id") == []
    assert len(call(app).all("x-request-id")) == 1


def test_security_headers_are_set_and_a_pages_own_policy_stays() -> None:
    async def page(request: Request) -> Response:
        return Response(headers={"Content-Security-Policy": "default-src 'self'"})

    plain = call(RequestMiddleware(routed()))
    for name, value in SECURITY_HEADERS.items():
        assert plain.all(name.lower()) == [value]
    own = call(RequestMiddleware(routed(page)), path="/things/1")
    assert own.all("content-security-policy") == ["default-src 'self'"]
    assert own.all("x-content-type-options") == ["nosniff"]


def test_requests_are_counted_by_the_routes_template_and_the_status(registry: Any) -> None:
    app = RequestMiddleware(routed())
    for path in ("/things/1", "/things/2", "/nowhere", "/things/1/../../etc"):
        call(app, path=path)
    name = telemetry.REQUESTS.name
    assert registry.get_sample_value(name, {"route": "/things/{name}", "code": "200"}) == 2
    assert registry.get_sample_value(name, {"route": "other", "code": "404"}) == 2


def test_an_error_that_nobody_caught_is_counted_as_500(registry: Any) -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        call(RequestMiddleware(fail))
    assert registry.get_sample_value(telemetry.REQUESTS.name, {"route": "other", "code": "500"}) == 1


def test_a_client_that_leaves_before_its_answer_is_no_fault_of_the_service(registry: Any) -> None:
    async def leave(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        call(RequestMiddleware(leave))
    assert registry.get_sample_value(telemetry.REQUESTS.name, {"route": "other", "code": "499"}) == 1
    assert registry.get_sample_value(telemetry.REQUESTS.name, {"route": "other", "code": "500"}) is None


def test_bytes_are_counted_in_both_directions(registry: Any) -> None:
    app = RequestMiddleware(BodyLimitMiddleware(routed(), Limits()))
    answer = call(app, [b"x" * 700, b"y" * 300], path="/things/1")
    assert registry.get_sample_value(telemetry.BYTES.name, {"direction": "in"}) == 1000
    assert registry.get_sample_value(telemetry.BYTES.name, {"direction": "out"}) == len(answer.body)


def test_what_is_not_http_passes_untouched() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    call(RequestMiddleware(BodyLimitMiddleware(app, Limits())), type="lifespan")
    assert seen == ["lifespan"]


# sizes


def limited(limits: Limits, taken: list[int]) -> ASGIApp:
    """Notes the size of every piece that comes through."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            taken.append(len(message["body"]))
            more = message["more_body"]

    return BodyLimitMiddleware(app, limits)


def test_a_body_of_the_allowed_size_passes() -> None:
    taken: list[int] = []
    size = 1000 + SLACK
    call(limited(Limits(body_bytes=1000), taken), [bytes(size)], {"content-length": str(size)})
    assert sum(taken) == size


def test_an_announced_size_above_the_limit_is_refused_before_a_byte_is_read() -> None:
    taken: list[int] = []
    with pytest.raises(BodyTooLarge, match="1000 bytes"):
        call(limited(Limits(body_bytes=1000), taken), [b"x"], {"content-length": str(300 * 2**20)})
    assert taken == []


def test_a_body_of_unknown_size_is_refused_as_soon_as_the_limit_has_come() -> None:
    taken: list[int] = []
    pieces = [bytes(100_000)] * 50
    with pytest.raises(BodyTooLarge):
        call(limited(Limits(body_bytes=1000), taken), pieces, {"transfer-encoding": "chunked"})
    assert sum(taken) <= 1000 + SLACK
    assert len(taken) == 2


def test_a_false_content_length_does_not_get_more_through() -> None:
    taken: list[int] = []
    with pytest.raises(BodyTooLarge):
        call(limited(Limits(body_bytes=1000), taken), [bytes(100_000)] * 50, {"content-length": "10"})
    assert sum(taken) <= 1000 + SLACK


@pytest.mark.parametrize("length", ["", "-1", "1e9", "٣", "9" * 5000, "0x10"])
def test_a_content_length_that_is_no_number_falls_back_to_counting(length: str) -> None:
    taken: list[int] = []
    with pytest.raises(BodyTooLarge):
        call(limited(Limits(body_bytes=1000), taken), [bytes(2 * SLACK)], {"content-length": length})


@pytest.mark.parametrize("media_type", ["application/json", "application/x-www-form-urlencoded"])
def test_base64_bodies_get_the_room_that_base64_takes(media_type: str) -> None:
    taken: list[int] = []
    size = int(1_000_000 * 1.35)
    headers = {"content-type": media_type, "content-length": str(size)}
    call(limited(Limits(body_bytes=1_000_000), taken), [bytes(size)], headers)
    assert sum(taken) == size
    with pytest.raises(BodyTooLarge):
        call(limited(Limits(body_bytes=1_000_000), []), [bytes(size)], {"content-type": "image/png"})


# times


def test_a_body_that_does_not_arrive_in_time_is_a_timeout() -> None:
    with pytest.raises(UploadTimeout, match=r"0\.05 s"):
        call(limited(Limits(upload_s=0.05), []), [])


def test_a_whole_body_ends_the_upload_time() -> None:
    """Serve listens for the client to leave while the work goes on: that must not run into the upload's limit."""
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        listening = asyncio.ensure_future(receive())
        await asyncio.sleep(0.2)
        heard.append("still listening" if not listening.done() else repr(listening.exception()))
        listening.cancel()

    call(BodyLimitMiddleware(app, Limits(upload_s=0.05)), [b"whole"])
    assert heard == ["still listening"]
