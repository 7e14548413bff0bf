"""The values that the reading of a notification gives: ObjectRef, ParsedEvent, and the step between, Envelope.

What it is not: it knows no form of notification; those are the modules beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields

from mattehorn.errors import EventError

Json = Mapping[str, object]


@dataclass(frozen=True)
class ObjectRef:
    """One object that a store said was written.

    `key` is decoded, in Unicode, and may be longer than a store allows (1024 bytes): the caller refuses it. `etag` is
    without quotes. `size` is in bytes and only a hint. `sequencer` orders events of the same key at best; nothing may
    rest on it. `event_time` is the producer's own text. None: the notification did not say.
    """

    provider: str
    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    size: int | None
    sequencer: str | None
    event_time: str | None
    event_name: str

    def to_json(self) -> dict[str, str | int | None]:
        """The fields as plain JSON values, for a queue message; ref_from_json reads them back."""
        return asdict(self)


REQUIRED = ("provider", "bucket", "key", "event_name")


def ref_from_json(document: object) -> ObjectRef:
    """The reference that `to_json` wrote. Raises EventError for anything else; further fields are left aside."""
    if not isinstance(document, dict):
        raise EventError(f"An object reference is a JSON object, not {type(document).__name__}.")
    values: dict[str, object] = {item.name: document.get(item.name) for item in fields(ObjectRef)}
    for name, value in values.items():
        wanted = int if name == "size" else str
        missing = value is None and name not in REQUIRED
        if not missing and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise EventError(
                f"The object reference's {name} is {type(value).__name__}, not {wanted.__name__}.", field=name
            )
    return ObjectRef(**values)  # type: ignore[arg-type]  # each was checked above


@dataclass(frozen=True)
class ParsedEvent:
    """What one notification held: the objects written, and the names of events that ask for no work."""

    objects: tuple[ObjectRef, ...]
    ignored: tuple[str, ...]

    @classmethod
    def of(cls, found: Iterable[ObjectRef | str]) -> ParsedEvent:
        """Sorted out of a mixed row: a reference is work, a text is the name of an ignored event."""
        row = list(found)
        return cls(
            objects=tuple(item for item in row if isinstance(item, ObjectRef)),
            ignored=tuple(item for item in row if isinstance(item, str)),
        )


@dataclass(frozen=True)
class Envelope:
    """A JSON object still to be recognised. `headers` are the HTTP request's, names in lower case; none inside."""

    document: Json
    headers: Mapping[str, str] = field(default_factory=dict)
