"""A notification of any known form, as objects to work on: the order of detection, and the loop that unwraps.

What it is not: each form is a module of its own beside this one, and no sender is checked here. Called by the webhook
and by the bulk consumer. Names of events are compared whole, never by their beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mattehorn.errors import EventError
from mattehorn.events import aws, cloudevents, gcs, oss, r2, records
from mattehorn.events.object_ref import Envelope, ParsedEvent

MAX_WRAPPERS = 3  # a queue's message may hold SNS, that a CloudEvent, that an S3 notification


@dataclass(frozen=True)
class Form:
    """One form of notification: how to recognise it, and how to read it or what it wraps."""

    name: str
    seen: Callable[[Envelope], bool]
    read: Callable[[Envelope], ParsedEvent | Envelope]


FORMS = (
    Form("SNS message", aws.sns_seen, aws.sns_read),
    Form("Pub/Sub push", gcs.seen, gcs.read),
    Form("CloudEvent", cloudevents.seen, cloudevents.read),
    Form("EventBridge event", aws.bridge_seen, aws.bridge_read),
    Form("OSS events", oss.seen, oss.read),
    Form("S3 notification", records.seen, records.read),
    Form("R2 message", r2.seen, r2.read),
    Form("S3 test message", aws.setup_seen, aws.setup_read),
    Form("SMQ topic message", oss.topic_seen, oss.topic_read),
)


def parse_event(body: bytes | str, headers: Mapping[str, str] | None = None) -> ParsedEvent:
    """The objects that the notification in `body` says were written, and the names of its other events.

    `headers` are the HTTP request's, in any case; only CloudEvents in binary mode need them. Raises EventError for
    an unknown form or a broken message, and nothing else, whatever the body holds.
    """
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    envelope = Envelope(oss.open_body(body), lowered)
    for _ in range(MAX_WRAPPERS + 1):
        form = next((form for form in FORMS if form.seen(envelope)), None)
        if form is None:
            raise EventError(f"The notification has no known form; known are: {', '.join(f.name for f in FORMS)}.")
        found = form.read(envelope)
        if isinstance(found, ParsedEvent):
            return found
        envelope = found
    raise EventError(f"The notification is wrapped more than {MAX_WRAPPERS} times.")
