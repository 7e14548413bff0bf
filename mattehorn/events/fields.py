"""Fields of a notification, read tolerantly: nearly all may be missing, and producers differ in small ways.

Tolerant of what is absent, strict with what is there but cannot be right: a key or version that was guessed would name
another object, and its absence would look like a deleted one. Called by the modules of the single forms.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from mattehorn.errors import EventError
from mattehorn.events.object_ref import Json

NAME_CHARS = 100  # of an ignored event's name in logs and answers; real ones have at most 50
SIZE_DIGITS = 19  # of 2**63, more than any object has bytes

# S3 allows 3 to 63 of a-z 0-9 . and -; old AWS buckets up to 255 with capitals and _, GCS up to 222 with _.
BUCKET = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
# What may stand in an HTTP header between quotes (RFC 9110, 8.8.3); it comes back as If-Match.
ETAG = re.compile(r"[\x21\x23-\x7e]{1,256}")
VERSION = re.compile(r"[\x21-\x7e]{1,1024}")  # S3: opaque, URL-ready, at most 1024 bytes
# ISO 8601, loosely: with T or a space, any fraction, with or without a zone.
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ][0-9:.,]{5,30}(Z|[+-][0-9:]{2,6})?")


def section(document: Json, *path: str) -> Json:
    """The object at `path`; empty when it or one above it is missing or null."""
    here: object = document
    for name in path:
        here = here.get(name) if isinstance(here, dict) else None
        if here is not None and not isinstance(here, dict):
            raise EventError(f"The notification's {'.'.join(path)} is no JSON object.", field=".".join(path))
    return here if isinstance(here, dict) else {}


def rows(document: Json, name: str) -> list[Json]:
    """The array of objects called `name`; empty when it is null."""
    found = document.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise EventError(f"The notification's {name} is no array of JSON objects.", field=name)
    return found


def text(document: Json, *names: str) -> str | None:
    """The first of `names` that holds a text or a whole number, as text; None when none does, or an empty one."""
    for name in names:
        value = document.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and value:
            return value
    return None


def event_name(value: object) -> str:
    """The event's own name without a leading `s3:`, safe to print."""
    if not isinstance(value, str) or not value:
        raise EventError("The notification does not name its event.", field="eventName")
    return printable(value.removeprefix("s3:"))


def printable(value: str) -> str:
    """`value` cut to NAME_CHARS, in printable ASCII."""
    shown = value[:NAME_CHARS].encode("ascii", "backslashreplace").decode("ascii")
    return re.sub(r"[^\x20-\x7e]", "?", shown)[:NAME_CHARS]


def bucket_name(value: str | None) -> str:
    """`value` when it can be a bucket; else EventError."""
    if value is None or not BUCKET.fullmatch(value):
        said = "is missing" if value is None else f"{printable(value)!r} can be no bucket"
        raise EventError(f"The bucket's name in the notification {said}.", field="bucket")
    return value


def object_key(value: object, *, form_encoded: bool) -> str:
    """The object's key. `form_encoded`: as in an HTML form, `+` for a space and `%XX` for bytes of UTF-8."""
    if not isinstance(value, str) or not value:
        raise EventError("The notification does not name its object.", field="key")
    try:
        key = unquote_plus(value, errors="strict") if form_encoded else value
        key.encode("utf-8")
    except UnicodeError as exc:
        # Replacing the bad bytes would name another object.
        raise EventError("The object's key in the notification is not UTF-8.", field="key") from exc
    return key


def etag(value: str | None) -> str | None:
    """`value` without quotes; None when nothing is left."""
    bare = value.strip().removeprefix("W/").strip('"') if value else ""
    if bare and not ETAG.fullmatch(bare):
        raise EventError(f"The etag {printable(bare)!r} in the notification can be none.", field="etag")
    return bare or None


def version_id(value: str | None) -> str | None:
    """`value`; None for nothing, for "" (Ceph) and for "null", S3's name of the version of an unversioned object."""
    if value is None or value in ("", "null"):
        return None
    if not VERSION.fullmatch(value):
        raise EventError(f"The version {printable(value)!r} in the notification can be none.", field="version_id")
    return value


def size(value: object) -> int | None:
    """Bytes, from a number or a text (GCS); None when it is neither: the read will tell."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= SIZE_DIGITS:
        return int(value)
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**SIZE_DIGITS
    return value if isinstance(value, int) and good else None


def event_time(value: str | None) -> str | None:
    """`value` when it looks like a time."""
    return value if value is not None and TIME.fullmatch(value) else None


def token(value: str | None) -> str | None:
    """A short opaque ASCII text such as a sequencer; None for anything else."""
    return value if value is not None and re.fullmatch(r"[\x21-\x7e]{1,128}", value) else None
