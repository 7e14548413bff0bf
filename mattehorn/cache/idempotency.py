"""Idempotency keys: one key, one request, one answer, which a repetition gets again (contract 1.3).

What it is not: it runs nothing and waits for nobody; deployments/ingress/once/idempotency.py does. Every call blocks.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from mattehorn.cache.fingerprint import filled_in
from mattehorn.cache.kept import Kept
from mattehorn.errors import IdempotencyKeyReused, OptionError
from mattehorn.options import Options

HEADER = "Idempotency-Key"
_FORM = re.compile(r"[\x20-\x7e]{1,255}")


@dataclass(frozen=True)
class KeptResponse:
    """An HTTP answer. `headers` are those of the contract, in order, as they were sent but for the request's id."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class _About(BaseModel):
    fingerprint: str
    status: int
    headers: tuple[tuple[str, str], ...]


def check_key(key: str | None) -> str | None:
    """The key itself; None where none was sent. Raises OptionError."""
    if key is None or _FORM.fullmatch(key):
        return key
    raise OptionError(
        f"{HEADER} has {len(key)} characters; allowed are 1 to 255 of printable ASCII. Send a UUID, for example.",
        field=HEADER,
    )


def fingerprint(photo: bytes | str, background: bytes | str | None, options: Options, recipe: str = "") -> str:
    """What was asked for under the key, as 64 hex digits: the pictures, or the text that names them (a URL, a result's
    id), every option, defaults filled in, and the recipe (`name@version;hash`). Takes a millisecond or two for each
    megabyte."""
    parts = (*_picture(photo), *_picture(background), json.dumps(filled_in(options), sort_keys=True), recipe)
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


def record_name(tenant: str, key: str) -> str:
    """Where the answer to a tenant's key is kept, as 64 hex digits: the key itself may be anything."""
    return hashlib.sha256(json.dumps([tenant, key]).encode("ascii")).hexdigest()


class Repetitions:
    """The answers that keys have got. Threads may share it."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept

    def find(self, name: str, fingerprint: str) -> KeptResponse | None:
        """None where the key is new, or its time is over. Raises IdempotencyKeyReused when the key was for something
        else, StoreUnavailable."""
        entry = self.kept.get(name)
        if entry is None:
            return None
        try:
            about = _About.model_validate_json(entry.about)
            (body,) = entry.blobs
        except (ValidationError, ValueError):  # of another version
            return None
        if about.fingerprint != fingerprint:
            raise IdempotencyKeyReused(
                f"This {HEADER} was sent before with another photo or other options; send each request a key of its "
                "own.",
                field=HEADER,
            )
        return KeptResponse(about.status, about.headers, body)

    def keep(self, name: str, fingerprint: str, response: KeptResponse) -> None:
        """Raises StoreUnavailable."""
        about = _About(fingerprint=fingerprint, status=response.status, headers=response.headers)
        self.kept.put(name, about.model_dump_json(), [response.body])


def is_kept(status: int) -> bool:
    """Whether an answer of this status is the key's for good; 429 and 5xx mean that the request may be sent again."""
    return status < 500 and status not in (408, 429)


def _picture(picture: bytes | str | None) -> tuple[str, str]:
    if picture is None:
        return "none", ""
    if isinstance(picture, str):
        return "named", picture
    return "sent", hashlib.sha256(picture).hexdigest()
