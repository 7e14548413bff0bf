"""Notifications of every form become the same values."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mattehorn.errors import EventError
from mattehorn.events import ParsedEvent, parse_event
from tests.golden_events import GOLDEN, body_of, dumped, in_sns, one, s3_record

PROVIDERS = {"aws", "minio", "rustfs", "ceph", "s3", "gcs", "oss", "r2"}


# ---- golden events


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_event_gives_its_objects_and_ignored_names(name: str) -> None:
    golden = GOLDEN[name]
    found = parse_event(body_of(golden), golden.get("headers"))
    assert [ref.to_json() for ref in found.objects] == golden["objects"]
    assert list(found.ignored) == golden["ignored"]


def test_every_provider_has_a_golden_event() -> None:
    assert {ref["provider"] for golden in GOLDEN.values() for ref in golden["objects"]} == PROVIDERS


def test_the_record_of_minio_names_the_same_object_as_its_top_level_key() -> None:
    body = GOLDEN["minio-put"]["body"]
    found = parse_event(dumped(body)).objects[0]
    assert f"{found.bucket}/{found.key}" == body["Key"]


def test_bytes_and_text_are_read_alike_with_or_without_a_byte_order_mark() -> None:
    text = body_of(GOLDEN["ceph-put"])
    assert parse_event(text) == parse_event(text.encode()) == parse_event(b"\xef\xbb\xbf" + text.encode())


def test_the_names_of_headers_may_be_in_any_case() -> None:
    golden = GOLDEN["gcs-eventarc-binary"]
    shouted = {name.upper(): value for name, value in golden["headers"].items()}
    assert parse_event(body_of(golden), shouted) == parse_event(body_of(golden), golden["headers"])


def test_binary_cloudevents_headers_do_not_reach_what_is_wrapped() -> None:
    """The data is a Records document again seen as itself, not as a CloudEvent without end."""
    golden = GOLDEN["ceph-cloudevent"]
    assert len(parse_event(body_of(golden), golden["headers"]).objects) == 1


# ---- fields


@pytest.mark.parametrize(
    ("sent", "read"), [('"abc"', "abc"), ("abc", "abc"), ('W/"abc"', "abc"), ('""', None), ("", None)]
)
def test_an_etag_loses_its_quotes(sent: str, read: str | None) -> None:
    assert one(eTag=sent).etag == read


@pytest.mark.parametrize("sent", ["", "null", None])
def test_no_version_is_none_however_it_is_said(sent: str | None) -> None:
    assert one(versionId=sent).version_id is None


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (0, 0),
        ("0", 0),
        ("1024", 1024),
        (-1, None),
        ("-1", None),
        (True, None),
        (1.5, None),
        ("many", None),
        ("٣", None),
    ],
)
def test_a_size_is_whole_bytes_or_unknown(sent: object, read: int | None) -> None:
    assert one(size=sent).size == read


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("a+b", "a b"),
        ("a%2Bb", "a+b"),
        ("100%25", "100%"),
        ("%E9%9E%8B", "鞋"),
        ("a%2Fb", "a/b"),
        ("鞋+1", "鞋 1"),
        ("50%", "50%"),
    ],
)
def test_a_form_encoded_key_is_decoded_once(sent: str, read: str) -> None:
    assert one(key=sent).key == read


def test_a_key_over_the_limit_is_kept_for_the_caller_to_refuse() -> None:
    assert one(key="k" * 5000).key == "k" * 5000


@pytest.mark.parametrize("field", ["eTag", "size", "sequencer", "versionId"])
def test_what_is_not_needed_may_be_missing(field: str) -> None:
    record = s3_record(sequencer="00", versionId="v")
    del record["s3"]["object"][field]
    assert parse_event(dumped({"Records": [record]})).objects[0].key == "a.jpg"


@pytest.mark.parametrize(
    "bucket", ["ab", "", "a/b", "../etc", "a..b", "a b", "-ab", "a" * 256, "bücher", "a\nb", None, 7.5, ["abc"]]
)
def test_a_bucket_that_can_be_none_is_refused(bucket: object) -> None:
    with pytest.raises(EventError, match="bucket"):
        one(bucket=bucket)


@pytest.mark.parametrize("bucket", ["abc", "photos.in-2", "Old_Bucket", "a" * 255])
def test_a_bucket_of_any_store_is_taken(bucket: str) -> None:
    assert one(bucket=bucket).bucket == bucket


@pytest.mark.parametrize("key", ["", None, 5, ["a"], "%FF", "a%ED%A0%80", "\ud800"])
def test_a_key_that_is_missing_or_not_utf8_is_refused(key: object) -> None:
    """A guess would name another object, and its absence would look like a deletion."""
    with pytest.raises(EventError, match="object"):
        one(key=key)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a b", 'a"b', "é", "e" * 257])
def test_an_etag_that_cannot_stand_in_a_header_is_refused(value: str) -> None:
    with pytest.raises(EventError, match="etag"):
        one(eTag=value)


@pytest.mark.parametrize("value", ["a\nb", "v w", "v" * 1025])
def test_a_version_that_can_be_none_is_refused(value: str) -> None:
    with pytest.raises(EventError, match="version"):
        one(versionId=value)


# ---- names


@pytest.mark.parametrize(
    "name",
    [
        "ObjectCreated:PutRetention",
        "ObjectCreated:PutLegalHold",
        "ObjectCreated:*",
        "ObjectCreated:",
        "ObjectCreated:Put2",
        "objectcreated:put",
        "s3:s3:ObjectCreated:Put",
        "ObjectRemoved:Delete",
        "ObjectTagging:Put",
    ],
)
def test_a_name_that_is_not_on_the_list_is_ignored_by_name(name: str) -> None:
    found = parse_event(dumped({"Records": [s3_record(name=name)]}))
    assert found == ParsedEvent((), (name.removeprefix("s3:"),))


def test_an_ignored_event_need_not_name_an_object() -> None:
    assert parse_event(dumped({"Records": [{"eventName": "ObjectRemoved:Delete"}]})).ignored == (
        "ObjectRemoved:Delete",
    )


def test_an_ignored_name_is_short_and_printable() -> None:
    found = parse_event(dumped({"Records": [s3_record(name="é\x1b[31m\ud800" + "x" * 9000)]}))
    assert len(found.ignored[0]) <= 100
    assert found.ignored[0].isascii()
    assert found.ignored[0].isprintable()


def test_one_broken_record_refuses_the_whole_message() -> None:
    with pytest.raises(EventError):
        parse_event(dumped({"Records": [s3_record(), s3_record(key=None)]}))


@pytest.mark.parametrize("records", [[], None])
def test_no_records_are_no_work(records: object) -> None:
    assert parse_event(dumped({"Records": records})) == ParsedEvent((), ())


def test_an_eventbridge_event_of_another_source_is_ignored() -> None:
    event = GOLDEN["eventbridge-created"]["body"] | {"source": "com.example"}
    assert parse_event(dumped(event)) == ParsedEvent((), ("Object Created:PutObject",))


@pytest.mark.parametrize("reason", ["ObjectCreated", "Something New", None])
def test_an_eventbridge_reason_does_not_decide(reason: str | None) -> None:
    event = json.loads(body_of(GOLDEN["eventbridge-created"]))
    event["detail"]["reason"] = reason
    name = f"Object Created:{reason}" if reason else "Object Created"
    assert [ref.event_name for ref in parse_event(dumped(event)).objects] == [name]


# ---- wrapping


def test_three_wrappings_are_opened_and_a_fourth_is_refused() -> None:
    body = dumped({"Records": [s3_record()]})
    for _ in range(3):
        body = in_sns(body)
    assert parse_event(body).objects == (one(),)
    with pytest.raises(EventError, match="more than 3 times"):
        parse_event(in_sns(body))


def test_base64_is_opened_for_smq_and_nothing_else() -> None:
    with pytest.raises(EventError, match="SMQ"):
        parse_event(base64.b64encode(dumped({"Records": [s3_record()]})))
    with pytest.raises(EventError):
        parse_event(in_sns(base64.b64encode(dumped({"Records": [s3_record()]}))))


def test_base64_in_lines_is_opened() -> None:
    lines = base64.encodebytes(dumped(GOLDEN["oss-put"]["body"]))
    assert parse_event(lines) == parse_event(dumped(GOLDEN["oss-put"]["body"]))


def test_a_cloudevent_may_carry_its_data_in_base64_or_as_a_text() -> None:
    event = GOLDEN["gcs-eventarc-structured"]["body"]
    data = dumped(event["data"])
    rest = {name: value for name, value in event.items() if name != "data"}
    expected = parse_event(dumped(event))
    assert parse_event(dumped(rest | {"data_base64": base64.b64encode(data).decode()})) == expected
    assert parse_event(dumped(rest | {"data": data.decode()})) == expected


def test_parsing_loads_neither_cryptography_nor_a_web_client() -> None:
    code = (
        "import sys, mattehorn.events; sys.exit(bool({'cryptography', 'urllib.request', 'httpx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent).returncode == 0


# ---- what another program sends: moto's S3, through its SNS, SQS and EventBridge

HARD_KEY = "in/a b+c%2F100% é鞋.jpg"


@pytest.fixture(scope="module")
def from_moto() -> Iterator[dict[str, list[str]]]:
    """The bodies that arrived in a queue after one put of HARD_KEY, by the way they took."""
    import boto3
    from moto import mock_aws

    with mock_aws():
        where = {"region_name": "eu-central-1", "aws_access_key_id": "example", "aws_secret_access_key": "example"}
        s3, sqs, sns, bridge = (boto3.client(name, **where) for name in ("s3", "sqs", "sns", "events"))
        urls = {way: sqs.create_queue(QueueName=way)["QueueUrl"] for way in ("direct", "by-sns", "by-eventbridge")}
        arns = {
            way: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            for way, url in urls.items()
        }
        topic = sns.create_topic(Name="photos")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arns["by-sns"])
        bridge.put_rule(Name="photos", EventPattern='{"source": ["aws.s3"]}', State="ENABLED")
        bridge.put_targets(Rule="photos", Targets=[{"Id": "1", "Arn": arns["by-eventbridge"]}])
        s3.create_bucket(Bucket="photos-in", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        created = {"Events": ["s3:ObjectCreated:*"]}
        s3.put_bucket_notification_configuration(
            Bucket="photos-in",
            NotificationConfiguration={
                "QueueConfigurations": [created | {"QueueArn": arns["direct"]}],
                "TopicConfigurations": [created | {"TopicArn": topic}],
                "EventBridgeConfiguration": {},
            },
        )
        s3.put_object(Bucket="photos-in", Key=HARD_KEY, Body=b"photo")
        received = {way: sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10) for way, url in urls.items()}
        yield {way: [message["Body"] for message in answer.get("Messages", [])] for way, answer in received.items()}


@pytest.mark.parametrize("way", ["direct", "by-sns", "by-eventbridge"])
def test_what_moto_sends_for_one_put_names_that_object_once(from_moto: dict[str, list[str]], way: str) -> None:
    found = [parse_event(body) for body in from_moto[way]]
    objects = [ref for event in found for ref in event.objects]
    assert [(ref.provider, ref.bucket, ref.key, ref.size) for ref in objects] == [("aws", "photos-in", HARD_KEY, 5)]
    assert objects[0].etag == "5ae0c1c8a5260bc7b6648f6fbd115c35"  # md5 of b"photo"
    ignored = {name for event in found for name in event.ignored}
    assert ignored <= {"TestEvent", "Object Tags Added:ObjectTagging"}  # moto tags each new object
