"""The S3 notification, `{"Records": [..]}`: AWS, and those that speak its form (MinIO, RustFS, Ceph and others).

Versions 2.x of the form are alike in what is read here, so the version is not looked at. MinIO and RustFS add a
top-level EventName and Key; the record says the same and is in one spelling, so they are left aside.
"""

from __future__ import annotations

from mattehorn.events import fields
from mattehorn.events.object_ref import Envelope, Json, ObjectRef, ParsedEvent

# By full name: MinIO also sends ObjectCreated:PutRetention and PutLegalHold, where no byte changed.
WRITTEN = frozenset(
    {"ObjectCreated:Put", "ObjectCreated:Post", "ObjectCreated:Copy", "ObjectCreated:CompleteMultipartUpload"}
)
PROVIDERS = {"aws:s3": "aws", "minio:s3": "minio", "rustfs:s3": "rustfs", "ceph:s3": "ceph"}
OTHER = "s3"  # any further store that speaks this form

# Ceph puts the key as it is (rgw_notify.cc: object_key = obj->get_name()), all others form-encode it.
RAW_KEYS = frozenset({"ceph"})


def seen(envelope: Envelope) -> bool:
    """True for a document with `Records`."""
    return "Records" in envelope.document


def read(envelope: Envelope) -> ParsedEvent:
    """Each record's object. Raises EventError when one record is broken: none of the message is lost silently."""
    return ParsedEvent.of(record(row) for row in fields.rows(envelope.document, "Records"))


def record(row: Json) -> ObjectRef | str:
    """One record's object, or the name of an event that wrote none."""
    name = fields.event_name(row.get("eventName"))
    if name not in WRITTEN:
        return name
    provider = PROVIDERS.get(fields.text(row, "eventSource") or "", OTHER)
    thing = fields.section(row, "s3", "object")
    return ObjectRef(
        provider=provider,
        bucket=fields.bucket_name(fields.text(fields.section(row, "s3", "bucket"), "name")),
        key=fields.object_key(thing.get("key"), form_encoded=provider not in RAW_KEYS),
        version_id=fields.version_id(fields.text(thing, "versionId")),
        etag=fields.etag(fields.text(thing, "eTag", "etag")),
        size=fields.size(thing.get("size")),
        sequencer=fields.token(fields.text(thing, "sequencer")),
        event_time=fields.event_time(fields.text(row, "eventTime")),
        event_name=name,
    )
