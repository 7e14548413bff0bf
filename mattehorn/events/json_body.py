"""JSON from strangers: a body becomes plain values, or EventError, whatever the sender did.

What it is not: it knows no notification. Called by parse.py and sns.py for bodies, and for the JSON inside JSON.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

from mattehorn.errors import EventError

MAX_BODY_BYTES = 256 * 1024  # the webhook's limit, and SQS's own for years; an S3 event may reach 64 KB
MAX_DEPTH = 32  # the deepest form known, GCS inside SNS, has 6 levels; Python's parser gives up near 1000
MAX_DIGITS = 20  # of 2**64; converting longer ones takes time that grows with the square

# A string (closed or not, so that each character is looked at once), or one bracket.
STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def decode_object(body: bytes | str) -> dict[str, object]:
    """The JSON object in `body` (UTF-8). Raises EventError for all that is not one."""
    document = decode_json(body)
    if not isinstance(document, dict):
        raise EventError(f"A notification is a JSON object, not {_kind(document)}.")
    return document


def decode_json(body: bytes | str) -> object:
    """The JSON value in `body`. Stricter than json.loads: no NaN, no name twice, no depth or number without bound."""
    text = decode_text(body)
    _check_depth(text)
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_whole)
    except (ValueError, RecursionError) as exc:
        raise EventError("The notification is not JSON; send it as the store made it.") from exc


def decode_text(body: bytes | str) -> str:
    """`body` as text, within the size limit and without lone surrogates."""
    try:
        data = body.encode("utf-8") if isinstance(body, str) else bytes(body)
        text = data.decode("utf-8-sig")
    except UnicodeError as exc:
        raise EventError("The notification is not UTF-8 text.") from exc
    if len(data) > MAX_BODY_BYTES:
        raise EventError(f"The notification has {len(data)} bytes; {MAX_BODY_BYTES} are allowed.")
    return text


def _check_depth(text: str) -> None:
    depth = 0
    for found in STRING_OR_BRACKET.finditer(text):
        mark = found[0]
        depth += 1 if mark in "[{" else -1 if mark in "]}" else 0
        if depth > MAX_DEPTH:
            raise EventError(f"The notification is nested deeper than {MAX_DEPTH} levels.")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Two readers may take different ones of two equal names, so neither is taken."""
    document = dict(pairs)
    if len(document) != len(pairs):
        raise EventError("The notification names the same field twice in one object.")
    return document


def _no_constant(name: str) -> NoReturn:
    raise EventError(f"The notification holds {name}, which is not JSON.")


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise EventError(f"The notification holds a number of more than {MAX_DIGITS} digits.")
    return int(digits)


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
