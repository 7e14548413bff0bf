"""`POST /v1/events/s3`: who may post, what is taken, and what then lies in the queue."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from deployments.ingress import errors
from deployments.ingress.bulk import events_api
from deployments.ingress.bulk.bulk_access import BulkAccess
from deployments.ingress.bulk.event_gate import WAITING, EventGate
from deployments.ingress.bulk.events_api import message_body
from deployments.ingress.middleware import RequestMiddleware
from mattehorn.bulk.messages import Notification, parse_message
from mattehorn.bulk.worker import Route
from mattehorn.errors import Overloaded, QueueUnavailable, Unavailable
from mattehorn.events import parse_event
from mattehorn.events.json_body import MAX_BODY_BYTES
from mattehorn.events.signatures import HEADER, make_signature
from mattehorn.queue.interface import QueueMessageError
from mattehorn.settings import EventSettings, Settings
from tests.api_client import error_of
from tests.bulk_bench import RECIPE
from tests.bulk_http import Site
from tests.golden_events import GOLDEN, body_of, dumped, in_sns, s3_record
from tests.test_sns import CERTIFICATE_URL, DAY, SUBSCRIBE_URL, TOPIC, certificate, changed, confirmation, signed

TOKEN, SECRET = "token-0123", "secret-4567"
BEARER = {"authorization": f"Bearer {TOKEN}"}
PATH = "/v1/events/s3"
EVENT = dumped({"Records": [s3_record(key="in/a.jpg")]})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, events={"token": TOKEN, "hmac_secret": SECRET})
    yield made
    made.close()


def headers_of(golden: dict[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in golden.get("headers", {}).items()}


def post(site: Site, body: bytes = EVENT, headers: dict[str, str] | None = None, path: str = PATH) -> httpx.Response:
    return site.client.post(path, content=body, headers=BEARER if headers is None else headers)


# what is taken


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_every_form_is_queued_so_that_a_worker_reads_the_same(site: Site, name: str) -> None:
    golden = GOLDEN[name]
    body, headers = body_of(golden).encode(), headers_of(golden)
    expected = parse_event(body, headers)
    answer = post(site, body, {**headers, **BEARER})
    assert answer.status_code == 202, answer.text
    found = len(expected.objects)
    assert answer.json() == {"accepted": found, "unrouted": found, "ignored": list(expected.ignored)}
    queued = [parse_message(message) for message in site.messages()]
    assert queued == ([Notification(expected.objects, expected.ignored)] if expected.objects else [])


def test_there_are_golden_events_with_and_without_headers() -> None:
    with_headers = [golden for golden in GOLDEN.values() if "ce-type" in {n.lower() for n in headers_of(golden)}]
    assert 0 < len(with_headers) < len(GOLDEN)


def test_a_notification_that_needs_no_headers_is_queued_as_it_came(site: Site) -> None:
    assert post(site).status_code == 202
    assert site.messages() == [EVENT.decode()]


def test_a_cloud_events_headers_go_inside_and_nothing_else_of_the_request() -> None:
    data = {"eventName": "ObjectCreated:Put", **s3_record(key="ü.jpg")}
    headers = {"ce-type": "com.amazonaws.s3.put", "ce-id": "7", "ce-data": "x", "authorization": "Bearer t"}
    event = parse_event(dumped(data), headers)
    assert [ref.key for ref in event.objects] == ["ü.jpg"]
    wrapped = json.loads(message_body(dumped(data), headers, event))
    assert wrapped == {"specversion": "1.0", "type": "com.amazonaws.s3.put", "id": "7", "data": data}
    assert parse_event(json.dumps(wrapped)) == event


def test_a_test_message_is_taken_and_not_queued(site: Site) -> None:
    answer = post(site, dumped({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "shop"}))
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "unrouted": 0, "ignored": ["TestEvent"]})
    assert site.messages() == []


def test_an_events_photo_goes_the_route_of_its_bucket(site: Site) -> None:
    (key,) = site.bench.add_photos(1)
    bench = site.bench
    bench.places._stores["shop"] = bench.home
    bench.routes = [Route(bench.places.parse("s3://shop/in/", "source"), RECIPE, bench.places.parse("out/", "output"))]
    assert post(site, dumped({"Records": [s3_record(bucket="shop", key=key, eTag=None)]})).status_code == 202
    bench.run()
    assert len(bench.outputs()) == 1


def test_the_answer_tells_how_many_objects_no_route_takes(tmp_path: Path) -> None:
    route = {"source": "s3://shop/in/", "output": "s3://shop/out/"}
    site = Site(tmp_path, events={"token": TOKEN}, bulk={"routes": [route]})
    rows = [s3_record(bucket="shop", key=key) for key in ("in/a.jpg", "other/b.jpg", "in/c.jpg")]
    rows.append(s3_record(bucket="elsewhere", key="in/d.jpg"))
    answer = post(site, dumped({"Records": rows}))
    assert (answer.status_code, answer.json()) == (202, {"accepted": 4, "unrouted": 2, "ignored": []})
    site.close()


# who may post


@pytest.mark.parametrize(
    "headers",
    [
        BEARER,
        {"authorization": f"bearer  {TOKEN} "},
        {"authorization": TOKEN},  # MinIO
        {"x-eventbridge-signature-token": TOKEN},  # Alibaba
    ],
)
def test_a_token_opens(site: Site, headers: dict[str, str]) -> None:
    assert post(site, headers=headers).status_code == 202


def test_a_token_in_the_address_opens_for_senders_without_headers(site: Site) -> None:
    assert post(site, headers={}, path=f"{PATH}?token={TOKEN}").status_code == 202
    error_of(post(site, headers={}, path=f"{PATH}?token=other"), 401, "invalid_key")


def test_a_signature_opens(site: Site) -> None:
    assert post(site, headers={HEADER: make_signature(EVENT, SECRET, time.time())}).status_code == 202


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_key"),
        ({"authorization": ""}, "missing_key"),
        ({"authorization": "Bearer"}, "invalid_key"),
        ({"authorization": f"Bearer {TOKEN}x"}, "invalid_key"),
        ({"authorization": f"Basic {TOKEN}"}, "invalid_key"),
        ({"authorization": f"Bearer {SECRET}"}, "invalid_key"),
        ({"authorization": "Bearer \xff"}, "invalid_key"),
        ({HEADER: "t=1,v1=" + "0" * 64}, "invalid_key"),
        ({HEADER: make_signature(EVENT, SECRET, 1)}, "invalid_key"),
        ({HEADER: make_signature(EVENT, TOKEN, time.time())}, "invalid_key"),
        ({HEADER: make_signature(b"other", SECRET, time.time())}, "invalid_key"),
        ({"x-amz-sns-message-type": "Notification"}, "missing_key"),
    ],
)
def test_who_is_not_known_gets_401_and_queues_nothing(site: Site, headers: dict[str, str], code: str) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = site.client.post(PATH, content=EVENT, headers=raw)
    error_of(answer, 401, code)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text
    assert site.messages() == []


@pytest.mark.parametrize("events", [{}, {"sns_topics": []}])
def test_with_nothing_configured_nobody_may_post(tmp_path: Path, events: dict[str, Any]) -> None:
    site = Site(tmp_path, events=events)
    for headers in ({}, BEARER, {"authorization": ""}, {HEADER: "t=1,v1=" + "0" * 64}):
        message = error_of(post(site, headers=headers), 403, "forbidden")["message"]
        assert "events.token" in message
    site.close()


def test_an_unset_token_is_not_opened_by_an_empty_one(tmp_path: Path) -> None:
    site = Site(tmp_path, events={"hmac_secret": SECRET})
    error_of(post(site, headers={"authorization": "Bearer "}), 401, "invalid_key")
    error_of(post(site, headers={}, path=f"{PATH}?token="), 401, "missing_key")
    site.close()


def test_events_are_refused_where_bulk_is_switched_off(tmp_path: Path) -> None:
    site = Site(tmp_path, events={"token": TOKEN}, bulk={"enabled": False})
    assert "bulk.enabled" in error_of(post(site), 403, "forbidden")["message"]
    site.close()


# what is refused


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"no json", b"[]", b"\xff", b'{"Records": 7}', b"[" * 100_000, dumped({"Records": [{"s3": 1}] * 3})],
)
def test_an_unknown_or_broken_notification_is_400(site: Site, body: bytes) -> None:
    error_of(post(site, body), 400, "invalid_event")
    assert site.messages() == []


def test_a_notification_above_256_kb_is_413_whether_announced_or_not(site: Site) -> None:
    largest = EVENT + b" " * (MAX_BODY_BYTES - len(EVENT))
    assert post(site, largest).status_code == 202
    error_of(post(site, largest + b" "), 413, "body_too_large")

    async def chunks() -> Any:
        for _ in range(MAX_BODY_BYTES // 1024 + 1):
            yield b" " * 1024

    error_of(site.client.post(PATH, content=chunks(), headers=BEARER), 413, "body_too_large")


def test_the_queue_being_away_is_503_with_retry_after(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"where the queue's folder should be")
    site = Site(tmp_path, events={"token": TOKEN}, queue={"url": f"sqlite:///{tmp_path}/file/queue.db"})
    error_of(post(site), 503, "unavailable")
    assert site.client.get("/healthz").status_code == 200
    site.close()


class Taking:
    """A queue that does as told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.bodies = error, list[str]()

    def send_many(self, bodies: Sequence[str]) -> None:
        if self.error is not None:
            raise self.error
        self.bodies += bodies


def application(folder: Path, events: dict[str, Any], queue: Taking, fetch: Any = None) -> FastAPI:
    settings = Settings.model_validate({"store": {"url": folder.as_uri()}, "events": events})
    bulk = BulkAccess(settings)
    bulk._opened = None, queue
    gate = EventGate(EventSettings.model_validate(events), fetch=fetch, clock=time.time)
    app = FastAPI()
    errors.install(app)
    app.add_middleware(RequestMiddleware)
    app.include_router(events_api.router(gate, bulk))
    return app


def send(app: FastAPI, body: bytes, headers: dict[str, str]) -> httpx.Response:
    async def request() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post(PATH, content=body, headers=headers)

    return asyncio.run(request())


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (QueueUnavailable("The queue is away.", retry_after_s=5), 503, "unavailable"),
        (QueueMessageError("U+FFFF is refused."), 400, "invalid_event"),
    ],
)
def test_what_the_queue_says_decides_the_answer(tmp_path: Path, error: Exception, status: int, code: str) -> None:
    error_of(send(application(tmp_path, {"token": TOKEN}, Taking(error)), EVENT, BEARER), status, code)


# Amazon SNS

SNS = {"x-amz-sns-message-type": "Notification", "content-type": "text/plain; charset=UTF-8"}
TOPICS = {"sns_topics": [TOPIC]}
NOTIFICATION = EVENT.decode()


class Amazon:
    """Answers every address with a certificate that is good today; `error` is raised instead."""

    def __init__(self, error: Exception | None = None) -> None:
        now = datetime.now(UTC)
        self.certificate = certificate(begins=now - DAY, ends=now + DAY)
        self.error, self.asked = error, list[str]()

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if self.error is not None:
            raise self.error
        return self.certificate


def test_a_message_that_sns_signed_is_queued(tmp_path: Path) -> None:
    amazon, queue = Amazon(), Taking()
    body = signed(Message=NOTIFICATION)
    answer = send(application(tmp_path, TOPICS, queue, amazon), body, SNS)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "unrouted": 1, "ignored": []})
    assert parse_message(queue.bodies[0]) == parse_message(NOTIFICATION)
    assert amazon.asked == [CERTIFICATE_URL]


def test_a_subscription_to_a_topic_of_ours_is_confirmed(tmp_path: Path) -> None:
    amazon, queue = Amazon(), Taking()
    headers = {**SNS, "x-amz-sns-message-type": "SubscriptionConfirmation"}
    answer = send(application(tmp_path, TOPICS, queue, amazon), confirmation(), headers)
    assert (answer.status_code, answer.json()) == (
        202,
        {"accepted": 0, "unrouted": 0, "ignored": ["SubscriptionConfirmation"]},
    )
    assert amazon.asked == [CERTIFICATE_URL, SUBSCRIBE_URL]
    assert queue.bodies == []


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (changed(signed(), Message=NOTIFICATION), 1),
        (signed(Message=NOTIFICATION, TopicArn=TOPIC + "-foreign"), 0),
        (signed(Message=NOTIFICATION, SigningCertURL="https://evil.example/x.pem"), 0),
        (confirmation(url="https://evil.example/?Action=ConfirmSubscription"), 0),
        (in_sns(EVENT), 0),
        (EVENT, 0),
        (b"no json", 0),
    ],
)
def test_a_message_that_sns_did_not_sign_for_us_is_401(tmp_path: Path, body: bytes, asked: int) -> None:
    amazon, queue = Amazon(), Taking()
    error_of(send(application(tmp_path, TOPICS, queue, amazon), body, SNS), 401, "invalid_key")
    assert (len(amazon.asked), queue.bodies) == (asked, [])


def test_amazon_being_away_is_503_so_that_sns_sends_again(tmp_path: Path) -> None:
    amazon = Amazon(Unavailable("Amazon SNS did not answer.", retry_after_s=20))
    answer = send(application(tmp_path, TOPICS, Taking(), amazon), signed(Message=NOTIFICATION), SNS)
    error_of(answer, 503, "unavailable")


def test_raw_delivery_carries_no_signature_and_needs_a_token(tmp_path: Path) -> None:
    app = application(tmp_path, {**TOPICS, "token": TOKEN}, Taking(), Amazon())
    raw = {**SNS, "x-amz-sns-rawdelivery": "true"}
    error_of(send(app, EVENT, raw), 401, "missing_key")
    assert send(app, EVENT, raw | BEARER).status_code == 202


def test_a_token_alone_confirms_no_subscription(tmp_path: Path) -> None:
    amazon = Amazon()
    headers = {**SNS, **BEARER, "x-amz-sns-message-type": "SubscriptionConfirmation"}
    answer = send(application(tmp_path, {"token": TOKEN}, Taking(), amazon), confirmation(), headers)
    assert (answer.status_code, amazon.asked) == (202, [])


def test_messages_that_wait_for_amazon_are_bounded(tmp_path: Path) -> None:
    gate = EventGate(EventSettings.model_validate(TOPICS), fetch=Amazon())
    gate.amazon.waiting.taken = WAITING
    with pytest.raises(Overloaded):
        asyncio.run(gate.admit(signed(), SNS, None))
