"""Cloudflare R2: the message of an event notification, `{account, action, bucket, object, eventTime}`."""

from __future__ import annotations

from mattehorn.events import fields
from mattehorn.events.object_ref import Envelope, ObjectRef, ParsedEvent

WRITTEN = frozenset({"PutObject", "CopyObject", "CompleteMultipartUpload"})


def seen(envelope: Envelope) -> bool:
    """True for a document with `action` and `account`."""
    return "action" in envelope.document and "account" in envelope.document


def read(envelope: Envelope) -> ParsedEvent:
    """The object of a write; deletions are ignored by name. The key is not encoded."""
    event = envelope.document
    name = fields.event_name(event.get("action"))
    if name not in WRITTEN:
        return ParsedEvent.of([name])
    thing = fields.section(event, "object")
    found = ObjectRef(
        provider="r2",
        bucket=fields.bucket_name(fields.text(event, "bucket")),
        key=fields.object_key(thing.get("key"), form_encoded=False),
        version_id=None,  # R2 keeps no versions
        etag=fields.etag(fields.text(thing, "eTag", "etag")),
        size=fields.size(thing.get("size")),
        sequencer=None,
        event_time=fields.event_time(fields.text(event, "eventTime")),
        event_name=name,
    )
    return ParsedEvent.of([found])
