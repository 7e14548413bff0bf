"""Notifications of object stores, whatever their form, read into one value: which object was written.

What it is not: it reads no object, writes no queue and trusts nobody. A caller at the network's edge checks the sender
first: sns.py for Amazon SNS, signatures.py for our own HMAC. Called by the webhook and by the bulk consumer.
"""

from mattehorn.events.object_ref import ObjectRef, ParsedEvent, ref_from_json
from mattehorn.events.parse import parse_event

__all__ = ["ObjectRef", "ParsedEvent", "parse_event", "ref_from_json"]
