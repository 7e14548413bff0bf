"""Google Cloud Storage: a Pub/Sub push, and the object resource that Eventarc puts into a CloudEvent.

The etag of a reference is the object's MD5 in hex, which is what GCS's S3-compatible (XML) API answers as ETag; the
`etag` in the resource belongs to the JSON API and would never match. Composite objects have no MD5: None.
"""

from __future__ import annotations

import base64
import binascii

from mattehorn.errors import EventError
from mattehorn.events import fields
from mattehorn.events.json_body import decode_object
from mattehorn.events.object_ref import Envelope, Json, ObjectRef, ParsedEvent

WRITTEN = "OBJECT_FINALIZE"
EVENTARC_WRITTEN = "google.cloud.storage.object.v1.finalized"
MD5_BYTES = 16


def seen(envelope: Envelope) -> bool:
    """True for a Pub/Sub push with attributes."""
    message = envelope.document.get("message")
    return isinstance(message, dict) and isinstance(message.get("attributes"), dict)


def read(envelope: Envelope) -> ParsedEvent:
    """The object of an OBJECT_FINALIZE. The attributes name it; the data, when sent, adds size and MD5."""
    message = fields.section(envelope.document, "message")
    said = fields.section(message, "attributes")
    name = fields.event_name(said.get("eventType"))
    if name != WRITTEN:
        return ParsedEvent.of([name])
    data = {} if said.get("payloadFormat") == "NONE" else _data(message.get("data"))
    named = {"bucket": said.get("bucketId"), "name": said.get("objectId"), "generation": said.get("objectGeneration")}
    whole = {**data, **{field: value for field, value in named.items() if value}}
    time = fields.text(said, "eventTime") or fields.text(message, "publishTime")
    return ParsedEvent.of([resource(whole, event_name=name, event_time=time)])


def resource(document: Json, *, event_name: str, event_time: str | None) -> ObjectRef:
    """The reference to the object that an object resource describes; its name is not encoded."""
    return ObjectRef(
        provider="gcs",
        bucket=fields.bucket_name(fields.text(document, "bucket")),
        key=fields.object_key(document.get("name"), form_encoded=False),
        version_id=fields.version_id(fields.text(document, "generation")),
        etag=_md5_hex(fields.text(document, "md5Hash")),
        size=fields.size(document.get("size")),
        sequencer=None,
        event_time=fields.event_time(event_time),
        event_name=event_name,
    )


def _data(value: object) -> Json:
    """The object resource in a Pub/Sub message; empty when none was sent."""
    if value is None or value == "":
        return {}
    try:
        raw = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except (binascii.Error, ValueError) as exc:
        raise EventError("The Pub/Sub message's data is not base64.", field="message.data") from exc
    if raw is None:
        raise EventError("The Pub/Sub message's data is no text.", field="message.data")
    return decode_object(raw)


def _md5_hex(value: str | None) -> str | None:
    try:
        digest = base64.b64decode(value or "", validate=True)
    except (binascii.Error, ValueError):
        return None  # a hint that cannot be read is a hint not given
    return digest.hex() if len(digest) == MD5_BYTES else None
