"""The golden events of tests/events, and small notifications made to order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mattehorn.events import ObjectRef, parse_event

GOLDEN = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted(Path(__file__).parent.glob("events/*.json"))
}
MD5 = "9bb58f26192e4ba00f01e2e7b136bbd8"


def body_of(golden: dict[str, Any]) -> str:
    return str(golden["text"]) if "text" in golden else json.dumps(golden["body"])


def dumped(document: object) -> bytes:
    return json.dumps(document).encode()


def s3_record(**changes: object) -> dict[str, Any]:
    """One record of form 1; `changes` go into the object, `name` and `bucket` to their places."""
    name, bucket = changes.pop("name", "ObjectCreated:Put"), changes.pop("bucket", "photos-in")
    thing = {"key": "a.jpg", "size": 1, "eTag": MD5} | changes
    return {"eventSource": "aws:s3", "eventName": name, "s3": {"bucket": {"name": bucket}, "object": thing}}


def one(**changes: object) -> ObjectRef:
    return parse_event(dumped({"Records": [s3_record(**changes)]})).objects[0]


def in_sns(body: bytes) -> bytes:
    return dumped(
        {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-central-1:000000000000:t", "Message": body.decode()}
    )
