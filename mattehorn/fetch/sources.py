"""The photo of a request that names it in a field: which one it is, and base64 to bytes. Pure.

What it is not: it fetches nothing (fetch.py) and reads no stored result (results.py).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mattehorn.errors import BodyTooLarge, InvalidBody, MissingImage, MultipleImages

SOURCES = ("image_url", "image_base64", "result_id")
_DATA_URL = re.compile(r"\s*data:([^,]{0,200}),", re.IGNORECASE)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_SPACE = b" \t\r\n\f\v"


@dataclass(frozen=True)
class Source:
    """`kind` is one of SOURCES, `text` its value."""

    kind: str
    text: str


def take_source(fields: Mapping[str, Any], uploads: int = 0) -> tuple[Source | None, dict[str, Any]]:
    """The one source among `fields`, and the other fields; None where the photo is the one upload.

    An empty text and null mean "not sent". Raises MissingImage, MultipleImages, and InvalidBody for no text.
    """
    sent = [name for name in SOURCES if fields.get(name) not in (None, "")]
    if not sent and not uploads:
        raise MissingImage(
            "No photo came; send one as the form part 'file' (curl: -F file=@PHOTO), or as one of "
            f"{', '.join(SOURCES)}."
        )
    if len(sent) + uploads > 1:
        raise MultipleImages(
            f"{len(sent) + uploads} photos came ({', '.join(sent + ['file'] * uploads)}); send one per request."
        )
    rest = {name: value for name, value in fields.items() if name not in SOURCES}
    if not sent:
        return None, rest
    text = fields[sent[0]]
    if not isinstance(text, str):
        raise InvalidBody(f"{sent[0]} is not text.", field=sent[0])
    return Source(sent[0], text), rest


def decode_base64(text: str, max_bytes: int, *, field: str = "image_base64") -> bytes:
    """The bytes of base64 in either alphabet, with or without padding, line breaks and a `data:` prefix.

    Raises InvalidBody; MissingImage for no bytes; BodyTooLarge, before decoding, for more than `max_bytes`.
    """
    if prefix := _DATA_URL.match(text):
        if not prefix[1].lower().rstrip().endswith(";base64"):
            raise InvalidBody(f"{field} is a data: URL without ;base64; send base64.", field=field)
        text = text[prefix.end() :]
    try:
        plain = text.encode("ascii").translate(_URL_SAFE, _SPACE)
    except UnicodeEncodeError:
        raise _not_base64(field) from None
    if not plain:
        raise MissingImage(f"{field} is empty; send a photo.", field=field)
    digits = plain.rstrip(b"=")
    if not digits or len(plain) - len(digits) > 2 or len(digits) % 4 == 1:
        raise _not_base64(field)
    size = len(digits) * 3 // 4
    if size > max_bytes:
        raise BodyTooLarge(f"The photo has {size} bytes; allowed are {max_bytes}.", field=field, most_bytes=max_bytes)
    try:
        return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)
    except binascii.Error:
        raise _not_base64(field) from None


def _not_base64(field: str) -> InvalidBody:
    return InvalidBody(f"{field} is not base64; in an urlencoded body, + is written %2B.", field=field)
