"""Amazon's own wrappings: the SNS message, the EventBridge event, and the test message of a new notification.

The S3 notification itself is records.py. The signature of an SNS message is sns.py's business, at the network's edge.
"""

from __future__ import annotations

from mattehorn.errors import EventError
from mattehorn.events import fields
from mattehorn.events.json_body import decode_object
from mattehorn.events.object_ref import Envelope, ObjectRef, ParsedEvent

SNS_TYPES = frozenset({"Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"})

# Every reason for it (PutObject, POST Object, CopyObject, CompleteMultipartUpload) is a new whole object; moto says
# "ObjectCreated". A reason unknown here is work too: needless work is skipped later, a photo left out is lost.
BRIDGE_WRITTEN = "Object Created"

TEST_EVENT = "s3:TestEvent"


def sns_seen(envelope: Envelope) -> bool:
    """True for a message of SNS; raw delivery has no such wrapping and is seen as what it carries."""
    return fields.text(envelope.document, "Type") in SNS_TYPES and "TopicArn" in envelope.document


def sns_read(envelope: Envelope) -> ParsedEvent | Envelope:
    """What the notification carries; a confirmation is ignored by name."""
    kind = fields.event_name(envelope.document.get("Type"))
    if kind != "Notification":
        return ParsedEvent.of([kind])
    message = envelope.document.get("Message")
    if not isinstance(message, str):
        raise EventError("The SNS notification has no Message.", field="Message")
    return Envelope(decode_object(message))


def bridge_seen(envelope: Envelope) -> bool:
    """True for an event of Amazon EventBridge."""
    return "detail-type" in envelope.document


def bridge_read(envelope: Envelope) -> ParsedEvent:
    """The object of an `Object Created` event of S3. Its key is not encoded."""
    event = envelope.document
    name = fields.event_name(event.get("detail-type"))
    detail = fields.section(event, "detail")
    reason = fields.text(detail, "reason")
    if reason is not None:
        name = fields.printable(f"{name}:{reason}")
    if event.get("source") != "aws.s3" or event.get("detail-type") != BRIDGE_WRITTEN:
        return ParsedEvent.of([name])
    thing = fields.section(detail, "object")
    found = ObjectRef(
        provider="aws",
        bucket=fields.bucket_name(fields.text(fields.section(detail, "bucket"), "name")),
        key=fields.object_key(thing.get("key"), form_encoded=False),
        version_id=fields.version_id(fields.text(thing, "version-id")),
        etag=fields.etag(fields.text(thing, "etag", "eTag")),
        size=fields.size(thing.get("size")),
        sequencer=fields.token(fields.text(thing, "sequencer")),
        event_time=fields.event_time(fields.text(event, "time")),
        event_name=name,
    )
    return ParsedEvent.of([found])


def setup_seen(envelope: Envelope) -> bool:
    """True for the message that S3 sends once when a notification is set up."""
    return envelope.document.get("Event") == TEST_EVENT


def setup_read(envelope: Envelope) -> ParsedEvent:
    """Ignored by name."""
    return ParsedEvent.of([fields.event_name(envelope.document.get("Event"))])
