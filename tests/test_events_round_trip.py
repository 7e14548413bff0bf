"""What is encoded in a form comes back from it: keys with blanks, plus, percent and any letters, up to 1024 bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mattehorn.errors import EventError
from mattehorn.events import ObjectRef, ParsedEvent, parse_event, ref_from_json
from tests.golden_events import dumped, one

KEY_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
TELLING = st.lists(
    st.sampled_from(["a", " ", "+", "%", "%2B", "/", "é", "鞋", "😀", "?", "#", '"', "\\", "\x00"]), min_size=1
).map("".join)
KEYS = st.one_of(KEY_TEXTS, TELLING).filter(lambda key: len(key.encode()) <= 1024)
REFS = st.builds(
    ObjectRef,
    provider=st.just(""),  # each form sets its own
    bucket=st.from_regex(r"[a-z0-9][a-z0-9-]{1,30}[a-z0-9]", fullmatch=True),
    key=KEYS,
    version_id=st.one_of(st.none(), st.from_regex(r"[0-9]{5,20}", fullmatch=True)),
    etag=st.one_of(st.none(), st.binary(min_size=16, max_size=16).map(bytes.hex)),
    size=st.one_of(st.none(), st.integers(0, 2**63 - 1)),
    sequencer=st.one_of(st.none(), st.from_regex(r"[0-9A-F]{16,18}", fullmatch=True)),
    event_time=st.datetimes().map(lambda at: at.isoformat(timespec="milliseconds") + "Z"),
    event_name=st.just(""),
)
LONGEST = "é+% " * 204 + "1234"  # 1024 bytes


def known(**values: object) -> dict[str, object]:
    """The fields that have a value."""
    return {name: value for name, value in values.items() if value is not None}


def as_records(ref: ObjectRef, key: str, source: str = "aws:s3", prefix: str = "") -> dict[str, Any]:
    thing = known(key=key, size=ref.size, eTag=ref.etag, versionId=ref.version_id, sequencer=ref.sequencer)
    record = {
        "eventVersion": "2.1",
        "eventSource": source,
        "eventTime": ref.event_time,
        "eventName": prefix + ref.event_name,
    }
    return {"Records": [record | {"s3": {"bucket": {"name": ref.bucket}, "object": thing}}]}


def encode_s3(ref: ObjectRef) -> dict[str, Any]:
    return as_records(ref, quote_plus(ref.key, safe="/"))


def encode_eventbridge(ref: ObjectRef) -> dict[str, Any]:
    thing = known(key=ref.key, size=ref.size, etag=ref.etag, sequencer=ref.sequencer) | {
        "version-id": ref.version_id or "null"
    }
    detail = {"bucket": {"name": ref.bucket}, "object": thing, "reason": ref.event_name.partition(":")[2]}
    return {"detail-type": "Object Created", "source": "aws.s3", "time": ref.event_time, "detail": detail}


def encode_minio(ref: ObjectRef) -> dict[str, Any]:
    """As Go's url.QueryEscape: slashes too."""
    top = {"EventName": "s3:" + ref.event_name, "Key": f"{ref.bucket}/{ref.key}"}
    return top | as_records(ref, quote_plus(ref.key, safe=""), "minio:s3", "s3:")


def encode_gcs(ref: ObjectRef) -> dict[str, Any]:
    said = known(bucketId=ref.bucket, objectId=ref.key, objectGeneration=ref.version_id, eventTime=ref.event_time)
    md5 = base64.b64encode(bytes.fromhex(ref.etag)).decode() if ref.etag else None
    data = known(
        bucket=ref.bucket, name=ref.key, size=None if ref.size is None else str(ref.size), md5Hash=md5, etag="CJ="
    )
    message = {"attributes": said | {"eventType": ref.event_name}, "data": base64.b64encode(dumped(data)).decode()}
    return {"message": message}


FORMS: dict[str, tuple[Callable[[ObjectRef], dict[str, Any]], dict[str, str | None]]] = {
    "form 1, S3": (encode_s3, {"provider": "aws", "event_name": "ObjectCreated:Put"}),
    "form 3, EventBridge": (encode_eventbridge, {"provider": "aws", "event_name": "Object Created:POST Object"}),
    "form 5, MinIO": (encode_minio, {"provider": "minio", "event_name": "ObjectCreated:CompleteMultipartUpload"}),
    "form 6, GCS": (encode_gcs, {"provider": "gcs", "event_name": "OBJECT_FINALIZE", "sequencer": None}),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=100, deadline=None)
@example(ref=ObjectRef("", "abc", LONGEST, None, None, None, None, None, ""))
@given(ref=REFS)
def test_a_reference_comes_back_from_its_notification(form: str, ref: ObjectRef) -> None:
    encode, fixed = FORMS[form]
    ref = replace(ref, **fixed)  # type: ignore[arg-type]
    assert parse_event(dumped(encode(ref))) == ParsedEvent((ref,), ())


@given(ref=REFS)
def test_a_reference_comes_back_from_a_queue_message(ref: ObjectRef) -> None:
    assert ref_from_json(json.loads(json.dumps(ref.to_json()))) == ref


@pytest.mark.parametrize(
    "change",
    [{"key": None}, {"key": 5}, {"size": "5"}, {"size": True}, {"etag": 5}, {"provider": None}, {"bucket": ["a"]}],
)
def test_a_reference_of_the_wrong_shape_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(EventError):
        ref_from_json(one().to_json() | change)
    with pytest.raises(EventError):
        ref_from_json([])
