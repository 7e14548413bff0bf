"""What is SQS's own: requests and their limits (a fake client), policies and queue URLs (moto, marked s3)."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from mattehorn.errors import QueueUnavailable
from mattehorn.queue import sqs as sqs_queue
from mattehorn.queue.interface import LEASES_MOST, Depth, QueueMessageError
from mattehorn.queue.sqs import SqsQueue
from mattehorn.queue.sqs_client import queue_address, sqs_client
from mattehorn.store.open import s3_client

from .conftest import SetKeys, settings_for
from .sqs import made_queue, opened
from .swift import S3Server

ADDRESS = "http://127.0.0.1:1/123456789012/photos"
Answer = Callable[[dict[str, Any]], dict[str, Any]]


class FakeSqs:
    """A client that notes every request and answers by `answers[operation]`, with nothing where none is given."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        def call(**fields: Any) -> dict[str, Any]:
            self.requests.append((operation, fields))
            return self.answers.get(operation, lambda _: {})(fields)

        return call

    def of(self, operation: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.requests if name == operation]


def fake_queue(client: FakeSqs, lease_s: float = 60) -> SqsQueue:
    return SqsQueue(client, ADDRESS, lease_s=lease_s)


def raw(number: int, receipt: str = "r", sent_ms: int = 0) -> dict[str, Any]:
    attributes = {"ApproximateReceiveCount": "4", "SentTimestamp": str(sent_ms)}
    return {"MessageId": f"m{number}", "Body": f"b{number}", "ReceiptHandle": receipt, "Attributes": attributes}


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqs_queue, "_SEND_PAUSES_S", (0.0, 0.0))


# requests


def test_a_receive_polls_for_at_most_20_s_and_leases_whole_seconds() -> None:
    client = FakeSqs(receive_message=lambda fields: {"Messages": [raw(1)]})
    (message,) = fake_queue(client, lease_s=90.2).receive(1, wait_s=600)
    (request,) = client.of("receive_message")
    assert (request["MaxNumberOfMessages"], request["WaitTimeSeconds"], request["VisibilityTimeout"]) == (1, 20, 91)
    assert (message.id, message.body, message.receipt) == ("m1", "b1", "r")
    assert (message.attempt, message.leases, message.came_back) == (4, 4, True)  # SQS counts nothing else


def test_a_receive_asks_for_ten_at_a_time_and_waits_only_for_the_first() -> None:
    numbers = iter(range(100))
    client = FakeSqs(
        receive_message=lambda fields: {"Messages": [raw(next(numbers)) for _ in range(fields["MaxNumberOfMessages"])]}
    )
    assert len(fake_queue(client).receive(25, wait_s=20)) == 25
    asked = [(request["MaxNumberOfMessages"], request["WaitTimeSeconds"]) for request in client.of("receive_message")]
    assert asked == [(10, 20), (10, 0), (5, 0)]


def test_an_outage_after_the_first_messages_keeps_those() -> None:
    answers = iter([{"Messages": [raw(n) for n in range(10)]}])

    def answer(_: dict[str, Any]) -> dict[str, Any]:
        for given in answers:
            return given
        raise QueueUnavailable("down")

    queue = fake_queue(FakeSqs(receive_message=answer))
    assert len(queue.receive(20)) == 10
    with pytest.raises(QueueUnavailable):
        queue.receive(20)


def test_a_lease_that_ended_by_our_clock_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(sqs_queue.time, "monotonic", lambda: now)
    client = FakeSqs(receive_message=lambda _: {"Messages": [raw(1)]})
    queue = fake_queue(client)
    (message,) = queue.receive(1)
    now += 59
    assert queue.extend(message, 60) is True
    now += 59
    assert queue.extend(message, 60) is True
    now += 61
    count = len(client.requests)
    assert (queue.extend(message, 60), queue.ack(message), queue.fail(message)) == (False, False, False)
    assert len(client.requests) == count


def test_an_ack_that_met_an_outage_may_be_repeated() -> None:
    down = [QueueUnavailable("down")]

    def delete(_: dict[str, Any]) -> dict[str, Any]:
        if down:
            raise down.pop()
        return {}

    queue = fake_queue(FakeSqs(receive_message=lambda _: {"Messages": [raw(1)]}, delete_message=delete))
    (message,) = queue.receive(1)
    with pytest.raises(QueueUnavailable):
        queue.ack(message)
    assert queue.ack(message) is True
    assert queue.ack(message) is False


def test_batches_have_ten_messages_and_256_kb_at_most() -> None:
    client = FakeSqs()
    big = "x" * 100_000
    fake_queue(client).send_many([*("s" * 11), big, big, big, "é" * 131_072])
    sent = [[entry["MessageBody"] for entry in request["Entries"]] for request in client.of("send_message_batch")]
    assert [len(batch) for batch in sent] == [10, 3, 1, 1]
    assert all(sum(len(body.encode()) for body in batch) <= 262_144 for batch in sent)


@pytest.mark.usefixtures("no_pauses")
def test_only_the_entries_that_failed_are_sent_again() -> None:
    fails = iter([["1", "2"], ["2"], []])
    client = FakeSqs(
        send_message_batch=lambda _: {"Failed": [{"Id": id_, "Code": "InternalError"} for id_ in next(fails)]}
    )
    fake_queue(client).send_many(["a", "b", "c"])
    sent = [[entry["MessageBody"] for entry in request["Entries"]] for request in client.of("send_message_batch")]
    assert sent == [["a", "b", "c"], ["b", "c"], ["c"]]


@pytest.mark.usefixtures("no_pauses")
def test_entries_that_fail_three_times_are_reported() -> None:
    client = FakeSqs(send_message_batch=lambda _: {"Failed": [{"Id": "1", "Code": "ServiceUnavailable"}]})
    with pytest.raises(QueueUnavailable, match="did not take 1 of 2") as failed:
        fake_queue(client).send_many(["a", "b"])
    assert len(client.of("send_message_batch")) == 3
    assert failed.value.retry_after_s == 5


def test_an_entry_that_can_never_be_taken_is_not_sent_again() -> None:
    client = FakeSqs(
        send_message_batch=lambda _: {"Failed": [{"Id": "0", "Code": "InvalidMessageContents", "SenderFault": True}]}
    )
    with pytest.raises(QueueMessageError, match="InvalidMessageContents"):
        fake_queue(client).send_many(["\x01"])
    assert len(client.of("send_message_batch")) == 1


POLICY = '{"deadLetterTargetArn": "arn:aws:sqs:eu-west-1:123456789012:photos-dead", "maxReceiveCount": "5"}'


def test_dead_letters_are_found_by_the_redrive_policy_and_given_back() -> None:
    letters = iter([[raw(1, "r1", 7000), raw(2, "r2", 8500)], []])
    client = FakeSqs(
        get_queue_attributes=lambda _: {"Attributes": {"RedrivePolicy": POLICY}},
        receive_message=lambda _: {"Messages": next(letters)},
    )
    found = fake_queue(client).dead_letters(10)
    assert [(letter.body, letter.enqueued_at) for letter in found] == [("b1", 7.0), ("b2", 8.5)]
    assert {r["QueueUrl"] for r in client.of("receive_message")} == {"http://127.0.0.1:1/123456789012/photos-dead"}
    (back,) = client.of("change_message_visibility_batch")
    assert [(entry["ReceiptHandle"], entry["VisibilityTimeout"]) for entry in back["Entries"]] == [("r1", 0), ("r2", 0)]


def test_a_slow_look_at_dead_letters_ends_when_they_come_again() -> None:
    client = FakeSqs(
        get_queue_attributes=lambda _: {"Attributes": {"RedrivePolicy": POLICY}},
        receive_message=lambda _: {"Messages": [raw(1), raw(2)]},
    )
    assert len(fake_queue(client).dead_letters(10)) == 2


def test_redrive_leaves_what_was_sent_after_it_began() -> None:
    young = raw(2, "young", int(time.time() * 1000) + 60_000)
    letters = iter([[raw(1, "old"), young], [raw(3)]])
    client = FakeSqs(
        get_queue_attributes=lambda _: {"Attributes": {"RedrivePolicy": POLICY}},
        receive_message=lambda _: {"Messages": next(letters)},
    )
    assert fake_queue(client).redrive() == 1
    (sent,) = client.of("send_message_batch")
    assert [entry["MessageBody"] for entry in sent["Entries"]] == ["b1"]
    (deleted,) = client.of("delete_message_batch")
    assert [entry["ReceiptHandle"] for entry in deleted["Entries"]] == ["old"]
    (back,) = client.of("change_message_visibility_batch")
    assert [entry["ReceiptHandle"] for entry in back["Entries"]] == ["young"]


def test_a_redrive_that_cannot_send_deletes_nothing() -> None:
    def down(_: dict[str, Any]) -> dict[str, Any]:
        raise QueueUnavailable("down")

    client = FakeSqs(
        get_queue_attributes=lambda _: {"Attributes": {"RedrivePolicy": POLICY}},
        receive_message=lambda _: {"Messages": [raw(1)]},
        send_message_batch=down,
    )
    with pytest.raises(QueueUnavailable):
        fake_queue(client).redrive()
    assert client.of("delete_message_batch") == []


# URLs


@pytest.mark.parametrize(
    ("place", "endpoint_url", "address"),
    [
        ("sqs.eu-west-1.amazonaws.com/123/photos", None, "https://sqs.eu-west-1.amazonaws.com/123/photos"),
        ("127.0.0.1:9324/000000000000/photos", "http://127.0.0.1:9324", "http://127.0.0.1:9324/000000000000/photos"),
        ("http://localhost:4100/photos", None, "http://localhost:4100/photos"),
    ],
)
def test_a_queue_is_named_by_its_url(place: str, endpoint_url: str | None, address: str) -> None:
    assert queue_address(place, endpoint_url) == address


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("sqs.eu-west-1.amazonaws.com", "eu-west-1"),
        ("sqs-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("vpce-1-2.sqs.ap-south-1.vpce.amazonaws.com", "ap-south-1"),
        ("queues.example.org", "us-east-1"),
        ("sqs.eu-west-1.amazonaws.com.example.org", "us-east-1"),
    ],
)
def test_the_region_is_read_from_the_host(host: str, region: str, set_keys: SetKeys) -> None:
    set_keys(S3Server("http://unused", "key", "secret", checks_keys=False))
    client = sqs_client(f"https://{host}/123/photos")
    assert client.meta.region_name == region
    assert client.meta.endpoint_url == f"https://{host}"


def test_endpoint_and_region_of_the_settings_come_first(set_keys: SetKeys) -> None:
    set_keys(S3Server("http://unused", "key", "secret", checks_keys=False))
    client = sqs_client("https://sqs.eu-west-1.amazonaws.com/1/q", "https://private.example.org", "eu-south-2")
    assert (client.meta.endpoint_url, client.meta.region_name) == ("https://private.example.org", "eu-south-2")


# a server


@pytest.mark.s3
def test_a_queue_without_redrive_policy_works_and_says_so_once(moto: S3Server, caplog: Any) -> None:
    queue = opened(made_queue(moto, max_receive=None))
    queue.send_many(["a"])
    for attempt in range(1, 8):
        (message,) = queue.receive(1)
        assert message.attempt == attempt
        assert queue.fail(message)
    with caplog.at_level(logging.WARNING):
        assert queue.depth() == Depth(ready=1, leased=0, dead=0)
        assert (queue.dead_letters(5), queue.redrive()) == ([], 0)
    assert caplog.text.count("queue_without_redrive_policy") == 1


@pytest.mark.s3
@pytest.mark.parametrize(("receives", "said"), [(LEASES_MOST - 1, 1), (LEASES_MOST, 0)])
def test_a_policy_that_leaves_no_room_for_deaths_of_workers_is_said_once(
    moto: S3Server, caplog: Any, receives: int, said: int
) -> None:
    queue = opened(made_queue(moto, max_receive=receives))
    with caplog.at_level(logging.WARNING):
        queue.depth()
        queue.depth()
    assert caplog.text.count(f"maxReceiveCount={receives}") == said


@pytest.mark.s3
def test_a_message_whose_worker_died_on_the_policys_last_receive_is_a_dead_letter(moto: S3Server) -> None:
    queue = opened(made_queue(moto, max_receive=1), lease_s=1)
    queue.send_many(["kills workers"])
    assert len(queue.receive(1)) == 1
    time.sleep(1.3)
    assert queue.receive(1) == []
    assert [letter.body for letter in queue.dead_letters(10)] == ["kills workers"]


@pytest.mark.s3
def test_the_reason_of_a_failure_is_logged(moto: S3Server, caplog: Any) -> None:
    queue = opened(made_queue(moto))
    queue.send_many(["a"])
    (message,) = queue.receive(1)
    with caplog.at_level(logging.INFO):
        queue.fail(message, reason="503 from the store")
    assert "503 from the store" in caplog.text
    assert message.id in caplog.text


@pytest.mark.s3
def test_a_message_that_somebody_purged_is_a_lost_lease(moto: S3Server) -> None:
    address = made_queue(moto)
    queue = opened(address)
    queue.send_many(["a", "b", "c"])
    one, two, three = queue.receive(3)
    sqs_client(address).purge_queue(QueueUrl=address)
    assert (queue.extend(one, 60), queue.ack(two), queue.fail(three)) == (False, False, False)


@pytest.mark.s3
def test_a_body_longer_than_the_queue_takes_is_refused_for_good(moto: S3Server) -> None:
    queue = opened(made_queue(moto, MaximumMessageSize="1024"))
    with pytest.raises(QueueMessageError, match="MaximumMessageSize"):
        queue.send_many(["x" * 2000])


def test_a_refusal_names_the_permission_and_no_secret() -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        error = {"Code": "AccessDenied", "Message": "User secret-name is not authorized"}
        raise ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": 403}}, "SendMessage")  # type: ignore[typeddict-item]

    queue = fake_queue(FakeSqs(send_message_batch=refuse))
    with pytest.raises(QueueUnavailable, match="sqs:SendMessage") as refused:
        queue.send_many(["a"])
    assert "secret-name" not in refused.value.message


@pytest.mark.s3
def test_an_s3_event_sent_by_the_store_itself_is_received_whole(moto: S3Server) -> None:
    """The way in of production: S3 writes to the queue, we only read it."""
    address = made_queue(moto)
    attributes = sqs_client(address).get_queue_attributes(QueueUrl=address, AttributeNames=["QueueArn"])
    s3 = s3_client(settings_for(moto))
    bucket = f"events-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=bucket)
    target = {"QueueArn": attributes["Attributes"]["QueueArn"], "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [target]})
    s3.put_object(Bucket=bucket, Key="a b+c.png", Body=b"x")
    queue = opened(address)
    found = [json.loads(message.body) for message in queue.receive(10, wait_s=5)]
    keys = [record["s3"]["object"]["key"] for event in found for record in event.get("Records", ())]
    assert len(keys) == 1
