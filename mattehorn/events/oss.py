"""Alibaba Cloud OSS: `{"events": [..]}` from its message service (SMQ, once MNS), Function Compute and EventBridge.

SMQ may hand a body over in base64, and may wrap it with the topic's name. The key is not encoded (Alibaba's own
Function Compute samples open it as it comes).
"""

from __future__ import annotations

import base64
import binascii

from mattehorn.errors import EventError
from mattehorn.events import fields
from mattehorn.events.json_body import decode_object, decode_text
from mattehorn.events.object_ref import Envelope, Json, ObjectRef, ParsedEvent

# OSS also sends ObjectCreated:InitiateMultipartUpload, UploadPart, UploadPartCopy and PutSymlink: no new whole object.
WRITTEN = frozenset(
    f"ObjectCreated:{call}"
    for call in ("PutObject", "PostObject", "CopyObject", "CompleteMultipartUpload", "AppendObject")
)


def seen(envelope: Envelope) -> bool:
    """True for a document with `events`."""
    return "events" in envelope.document


def read(envelope: Envelope) -> ParsedEvent:
    """Each event's object. Raises EventError when one is broken."""
    return ParsedEvent.of(event(row) for row in fields.rows(envelope.document, "events"))


def event(row: Json, *, event_time: str | None = None) -> ObjectRef | str:
    """One event's object, or the name of an event that wrote none. `event_time` serves when the event has none."""
    name = fields.event_name(row.get("eventName")).removeprefix("oss:")
    if name not in WRITTEN:
        return name
    thing = fields.section(row, "oss", "object")
    return ObjectRef(
        provider="oss",
        bucket=fields.bucket_name(fields.text(fields.section(row, "oss", "bucket"), "name")),
        key=fields.object_key(thing.get("key"), form_encoded=False),
        version_id=fields.version_id(fields.text(thing, "versionId")),
        etag=fields.etag(fields.text(thing, "eTag", "etag")),
        size=fields.size(thing.get("size")),
        sequencer=None,
        event_time=fields.event_time(fields.text(row, "eventTime") or event_time),
        event_name=name,
    )


def topic_seen(envelope: Envelope) -> bool:
    """True for SMQ's JSON form of a topic's message."""
    return {"TopicOwner", "TopicName", "Message"} <= set(envelope.document)


def topic_read(envelope: Envelope) -> Envelope:
    """What the topic's message carries."""
    message = envelope.document.get("Message")
    if not isinstance(message, str):
        raise EventError("The SMQ notification has no Message.", field="Message")
    return Envelope(open_body(message))


def open_body(body: bytes | str) -> dict[str, object]:
    """The JSON object in `body`, which may be base64 when an OSS message is inside, and only then."""
    text = decode_text(body).strip()
    if text.startswith(("{", "[")):
        return decode_object(text)
    try:
        inner = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise EventError("The notification is neither JSON nor base64 of it.") from exc
    document = decode_object(inner)
    if "events" not in document:
        raise EventError("Only messages of Alibaba Cloud SMQ may be base64; send others as plain JSON.")
    return document
