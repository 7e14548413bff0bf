"""What a queue message says: a store's own notification in any form, or one of ours with `"mattehorn": 1`.

What it is not: it does no work (worker.py) and no transport. Written by the webhook, the jobs and the folder watcher.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mattehorn.errors import EventError
from mattehorn.events import ObjectRef, parse_event, ref_from_json

FORM = 1  # of our messages; a later one is refused, not guessed


@dataclass(frozen=True)
class Notification:
    """What a store said: objects written, and names of events that ask for no work."""

    objects: tuple[ObjectRef, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class ObjectWork:
    """One photo under a recipe (`name` or `name@version`) into an output (a place's text)."""

    ref: ObjectRef
    recipe: str
    output: str
    job: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobWork:
    """A step of a job: list its input, work on shard `shard`, or tell its webhook that it has ended."""

    kind: Literal["listing", "shard", "webhook"]
    job: str
    shard: int | None = None


Work = Notification | ObjectWork | JobWork


def object_message(ref: ObjectRef, recipe: str, output: str, options: Mapping[str, Any] | None = None) -> str:
    """The body for one photo. `output` as in a job: `s3://bucket/prefix/`, or below the results store."""
    return _body("object", ref=ref.to_json(), recipe=recipe, output=output, job=None, options=dict(options or {}))


def listing_message(job: str) -> str:
    return _body("listing", job=job)


def shard_message(job: str, shard: int) -> str:
    return _body("shard", job=job, shard=shard)


def webhook_message(job: str) -> str:
    return _body("webhook", job=job)


def parse_message(body: str) -> Work:
    """What `body` asks for. Raises EventError for what can never be understood."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None  # SMQ sends base64: parse_event knows, and names the fault where it is one
    if not isinstance(document, dict) or "mattehorn" not in document:
        event = parse_event(body)
        return Notification(event.objects, event.ignored)
    if document["mattehorn"] != FORM:
        raise EventError(f"The message has form {str(document['mattehorn'])[:20]}; this version knows {FORM}.")
    return _own(document)


def _own(document: Mapping[str, Any]) -> Work:
    kind = document.get("kind")
    if kind == "object":
        options = document.get("options") or {}
        if not isinstance(options, dict):
            raise EventError("The message's options are no object.", field="options")
        recipe, output = _text(document, "recipe"), _text(document, "output")
        job = _text(document, "job") if document.get("job") is not None else None
        return ObjectWork(ref_from_json(document.get("ref")), recipe, output, job, options)
    if kind in ("listing", "webhook"):
        return JobWork(kind, _text(document, "job"))
    if kind == "shard":
        shard = document.get("shard")
        if not isinstance(shard, int) or isinstance(shard, bool) or shard < 0:
            raise EventError("The message's shard is no number.", field="shard")
        return JobWork("shard", _text(document, "job"), shard)
    raise EventError(f"The message has the unknown kind {str(kind)[:40]!r}.", field="kind")


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise EventError(f"The message's {name} is missing or no text.", field=name)
    return value


def _body(kind: str, **fields: Any) -> str:
    return json.dumps({"mattehorn": FORM, "kind": kind, **fields}, ensure_ascii=False, separators=(",", ":"))
