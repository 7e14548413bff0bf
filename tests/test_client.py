"""The HTTP client: typed errors from the contract's JSON, events that are cut, proxies that are no service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx
import pytest

from deployments.ingress import errors as http_errors
from deployments.ingress.bulk.sse import Pace, event, progress_events
from deployments.ingress.errors import error_response
from mattehorn import errors
from mattehorn.client import AnswerError, Client, Unreachable, error_from, parse_events
from mattehorn.errors import MattehornError, NotFound, OptionError, Overloaded, Unavailable

JOB = {"id": "j", "state": "running", "total": 4, "done": 1}
ENDED = {**JOB, "state": "succeeded", "done": 4}
STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}

Answer = Callable[[httpx.Request], httpx.Response]


class Service(httpx.BaseTransport):
    """Answers requests in turn with what it was given, the last one for ever; keeps what was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.asked = list(answers), []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.raw_path.decode()}")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def client(*answers: httpx.Response | Exception) -> tuple[Client, Service, Time]:
    service, time = Service(*answers), Time()
    return Client(transport=service, sleep=time.sleep, clock=lambda: time.now), service, time


def stream(*documents: dict[str, Any], then: Exception | None = None) -> httpx.Response:
    def body() -> Iterator[bytes]:
        yield b"retry: 2000\n\n"
        yield b": the job goes on\n\n"
        for document in documents:
            yield event(document)
        if then:
            raise then

    return httpx.Response(200, headers=STREAM, content=body())


def answer_of(error: MattehornError) -> httpx.Response:
    """What the service sends for `error`."""
    made = error_response(error)
    return httpx.Response(made.status_code, headers=dict(made.headers), content=bytes(made.body))


# ---- errors ----


@pytest.mark.parametrize(
    "kind", [OptionError, errors.UnknownOption, NotFound, Overloaded, Unavailable, errors.BodyTooLarge]
)
def test_an_error_of_the_service_is_the_same_error_here(kind: type[MattehornError]) -> None:
    sent = kind("what came and what to do", field="recipe", retry_after_s=7)
    asking, _, _ = client(answer_of(sent))
    with pytest.raises(kind) as came:
        asking.job("j")
    assert type(came.value) is kind
    assert (came.value.message, came.value.retry_after_s) == (sent.message, 7)
    assert came.value.data["field"] == "recipe"


def test_an_error_with_several_classes_is_the_most_general_of_them() -> None:
    assert type(error_from(answer_of(errors.StoreUnavailable("away", retry_after_s=5)))) is Unavailable


def test_a_code_that_only_http_has_is_told_by_its_status_or_by_its_name() -> None:
    assert type(error_from(answer_of(http_errors.JobNotFound("no such job")))) is NotFound
    error = error_from(answer_of(http_errors.Forbidden("bulk work is switched off")))
    assert type(error) is AnswerError
    assert error.message == "forbidden: bulk work is switched off"


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"[]", b'{"error": "text"}', b"", b"\xff"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (502, Unavailable),
        (503, Unavailable),
        (404, Unavailable),  # of a proxy whose service has not started
        (500, Unavailable),
        (429, Overloaded),
        (405, AnswerError),
    ],
)
def test_an_answer_of_somebody_else_says_so_and_keeps_its_meaning(body: bytes, status: int, kind: type) -> None:
    error = error_from(httpx.Response(status, content=body, headers={"Retry-After": "3"}), "http://host:1")
    assert type(error) is kind
    assert "http://host:1" in error.message
    assert str(status) in error.message
    assert error.retry_after_s == 3


def test_a_page_with_status_200_is_no_answer() -> None:
    asking, _, _ = client(httpx.Response(200, content=b"<html>"))
    with pytest.raises(AnswerError, match="is it a Mattehorn service"):
        asking.submit({})


def test_nobody_there_says_what_to_start() -> None:
    asking, _, _ = client(httpx.ConnectError("refused"))
    with pytest.raises(Unreachable, match="mattehorn serve"):
        asking.jobs(5)


@pytest.mark.parametrize("server", ["", "ftp://host", "http://", "http://host:port", "http://[", "http://host:0"])
def test_what_is_no_address_is_refused(server: str) -> None:
    with pytest.raises(OptionError, match="HOST:PORT"):
        Client(server)


@pytest.mark.parametrize(
    ("given", "used"),
    [("host:8123", "http://host:8123"), ("https://host/base/", "https://host/base"), ("[::1]:80", "http://[::1]:80")],
)
def test_an_address_may_lack_its_scheme_and_have_a_path(given: str, used: str) -> None:
    assert Client(given).server == used


def test_an_id_cannot_lead_to_another_path() -> None:
    asking, service, _ = client(httpx.Response(200, json=JOB))
    asking.job("../results?x")
    assert service.asked == ["GET /v1/jobs/..%2Fresults%3Fx"]


# ---- calls ----


def test_the_calls_go_where_the_contract_says() -> None:
    asking, service, _ = client(
        httpx.Response(202, json={"id": "j"}),
        httpx.Response(200, json={"jobs": [JOB, ENDED], "next_cursor": None}),
        httpx.Response(202, json=JOB),
        httpx.Response(200, content=b"{}\n{}\n"),
        answer_of(NotFound("no")),
    )
    assert asking.submit({"recipe": "r"}) == {"id": "j"}
    assert asking.jobs(2) == [JOB, ENDED]
    assert asking.cancel("j") == JOB
    assert b"".join(asking.manifest("j")) == b"{}\n{}\n"
    with pytest.raises(NotFound):
        list(asking.manifest("k"))
    assert service.asked == [
        "POST /v1/jobs",
        "GET /v1/jobs?limit=2",
        "POST /v1/jobs/j/cancel",
        "GET /v1/jobs/j/manifest.jsonl",
        "GET /v1/jobs/k/manifest.jsonl",
    ]


# ---- following ----


def test_a_job_is_followed_by_its_events_to_the_last_state() -> None:
    asking, service, time = client(stream(JOB, ENDED, then=AssertionError("read on after the end")))
    assert list(asking.follow("j")) == [JOB, ENDED]
    assert service.asked == ["GET /v1/jobs/j/events"]
    assert time.slept == []


def test_a_stream_that_is_cut_is_opened_again() -> None:
    asking, service, _ = client(stream(JOB, then=httpx.RemoteProtocolError("cut")), stream(JOB), stream(ENDED))
    assert list(asking.follow("j")) == [JOB, JOB, ENDED]
    assert service.asked == ["GET /v1/jobs/j/events"] * 3


@pytest.mark.parametrize(
    "no_stream",
    [
        httpx.Response(404, content=b"nothing here"),
        httpx.Response(200, json=JOB),
        httpx.Response(406),
        answer_of(Overloaded("too many streams", retry_after_s=5)),
        stream(),
        httpx.ReadTimeout("a proxy holds the events back"),
    ],
    ids=["404", "no stream", "406", "429", "empty", "silent"],
)
def test_where_events_do_not_come_through_the_job_is_asked_again_and_again(no_stream: Any) -> None:
    asked = [httpx.Response(200, json=document) for document in (JOB, JOB, ENDED)]
    asking, service, time = client(no_stream, *asked)
    assert list(asking.follow("j")) == [JOB, JOB, ENDED]
    assert service.asked == ["GET /v1/jobs/j/events", *["GET /v1/jobs/j"] * 3]
    assert time.slept[1:] == [1.0, 1.0]


def test_a_service_that_restarts_is_waited_for() -> None:
    away: list[httpx.Response | Exception] = [httpx.ConnectError("refused")] * 5
    asking, _, time = client(
        stream(JOB), *away, answer_of(Unavailable("later", retry_after_s=9)), httpx.Response(200, json=ENDED)
    )
    assert list(asking.follow("j")) == [JOB, ENDED]
    assert 9 in time.slept


def test_a_service_that_starts_anew_behind_its_proxy_is_waited_for_and_why_is_told_once_each_time() -> None:
    starting: list[Any] = [
        httpx.ConnectError("refused"),
        httpx.Response(500, content=b"Internal Server Error"),
        httpx.Response(404, content=b"Path '/v1/jobs/j' not found."),
    ]
    told: list[MattehornError] = []
    first, last = (httpx.Response(200, json=document) for document in (JOB, ENDED))
    asking, _, _ = client(stream(JOB), *starting, first, *starting, last)
    assert list(asking.follow("j", on_wait=told.append)) == [JOB, JOB, ENDED]
    assert len(told) == 2
    assert all(isinstance(error, Unavailable) for error in told)


def test_a_service_that_stays_away_is_given_up() -> None:
    asking, _, time = client(stream(JOB), httpx.ConnectError("refused"))
    with pytest.raises(Unreachable):
        list(asking.follow("j", patience_s=60))
    assert 60 < time.now < 70


def test_a_job_that_is_not_there_is_not_waited_for() -> None:
    asking, _, _ = client(answer_of(http_errors.JobNotFound("no such job")))
    with pytest.raises(NotFound):
        list(asking.follow("j"))


def test_what_the_service_streams_is_read_whole() -> None:
    documents = [{**JOB, "done": number, "failed": [{"file": "ä\n\u2028", "error": ":"}]} for number in range(4)] + [
        ENDED
    ]

    async def sent() -> list[bytes]:
        rest = iter(documents[1:])

        async def read() -> dict[str, Any]:
            return next(rest)

        async def sleep(seconds: float) -> None: ...

        return [piece async for piece in progress_events(documents[0], read, Pace(heartbeat_s=1), sleep=sleep)]

    body = b"".join(asyncio.run(sent()))
    # in pieces of three bytes, as a network may cut it
    pieces: Iterable[bytes] = (body[at : at + 3] for at in range(0, len(body), 3))
    asking, _, _ = client(httpx.Response(200, headers=STREAM, content=pieces))
    assert list(asking.follow("j")) == documents


def test_other_events_and_fields_are_left_aside() -> None:
    lines = [
        "event: other",
        'data: {"a": 1}',
        "",
        "id: 3",
        "event:progress",
        f"data:{json.dumps(JOB)}",
        "",
        "data: {}",
        "",
    ]
    assert list(parse_events(lines)) == [JOB]
