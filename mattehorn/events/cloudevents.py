"""CloudEvents 1.0 over HTTP: structured (one JSON object) and binary (`ce-*` headers, the body is the data).

Carriers known: Google Eventarc, Alibaba EventBridge, Ceph RGW (`com.amazonaws.` types with an S3 notification as
data) and the S3 adapter of the CloudEvents project (one record as data). Any other type is ignored by its name.
"""

from __future__ import annotations

import base64
import binascii

from mattehorn.errors import EventError
from mattehorn.events import fields, gcs, oss, records
from mattehorn.events.json_body import decode_object
from mattehorn.events.object_ref import Envelope, Json, ParsedEvent

OSS_PREFIX = "oss:"  # of all types that OSS publishes; the whole name is then looked up in oss.WRITTEN


def seen(envelope: Envelope) -> bool:
    """True for either mode."""
    return "specversion" in envelope.document or "ce-type" in envelope.headers


def read(envelope: Envelope) -> ParsedEvent | Envelope:
    """The object that the data describes, or the data itself when it is a notification of another form."""
    if "specversion" in envelope.document:
        attributes: Json = envelope.document
        data = _data(envelope.document)
    else:
        attributes = {name.removeprefix("ce-"): value for name, value in envelope.headers.items()}
        data = envelope.document
    kind = fields.text(attributes, "type")
    if kind is None:
        raise EventError("The CloudEvent has no type.", field="type")
    return _by_type(kind, fields.text(attributes, "time"), data)


def _by_type(kind: str, time: str | None, data: Json) -> ParsedEvent | Envelope:
    if kind == gcs.EVENTARC_WRITTEN:
        return ParsedEvent.of([gcs.resource(data, event_name=kind, event_time=time)])
    if kind.startswith(OSS_PREFIX):
        return ParsedEvent.of([oss.event({**data, "eventName": kind}, event_time=time)])
    inner = Envelope(data)
    if records.seen(inner) or gcs.seen(inner):
        return inner
    if "s3" in data and "eventName" in data:
        return ParsedEvent.of([records.record(data)])
    return ParsedEvent.of([fields.event_name(kind)])


def _data(event: Json) -> Json:
    """The event's data as an object: JSON, JSON in a text, or base64 of it; empty when there is none."""
    data, encoded = event.get("data"), event.get("data_base64")
    if isinstance(encoded, str) and data is None:
        try:
            return decode_object(base64.b64decode(encoded, validate=True))
        except (binascii.Error, ValueError) as exc:
            raise EventError("The CloudEvent's data_base64 is not base64.", field="data_base64") from exc
    if isinstance(data, str) and data:
        return decode_object(data)
    return fields.section(event, "data")
