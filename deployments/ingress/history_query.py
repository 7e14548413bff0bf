"""The query of GET /v1/results: from its text to a search; and cursors, which only their tenant can use.

What it is not: it reads no record (mattehorn/store/history.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deployments.ingress.bodies import once
from mattehorn.errors import OptionError, UnknownOption
from mattehorn.store.history import LIMIT, LIMIT_MOST, Search
from mattehorn.store.records import ID_FORM

TEXT_MOST = 200  # as long as a name or an SKU may be
# RFC 3339; a blank before the offset is a `+` that was not written %2B
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?(?:[Zz]|([+\- ]\d\d:\d\d))", re.ASCII)
_CHECK_CHARS = 8

_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "q": ({"type": "string", "maxLength": TEXT_MOST}, "a part of the name or the SKU, in any case"),
    "since": ({"type": "string", "format": "date-time"}, "made at this time or later (RFC 3339)"),
    "until": ({"type": "string", "format": "date-time"}, "made before this time (RFC 3339)"),
    "model": ({"type": "string", "maxLength": TEXT_MOST}, "NAME or NAME@VERSION"),
    "recipe": ({"type": "string", "maxLength": TEXT_MOST}, "NAME, NAME@VERSION or NAME@VERSION;HASH"),
    "limit": ({"type": "integer", "minimum": 1, "maximum": LIMIT_MOST, "default": LIMIT}, "results on one page"),
    "cursor": ({"type": "string"}, "`next_cursor` of the answer before, with the same other fields"),
}
PARAMETERS = {
    "parameters": [
        {"name": name, "in": "query", "schema": schema, "description": text} for name, (schema, text) in _FIELDS.items()
    ]
}


@dataclass(frozen=True)
class Query:
    """`after` is an id, or None for the first page."""

    search: Search
    limit: int
    after: str | None


def parse_query(items: Iterable[tuple[str, str]], tenant: str) -> Query:
    """What is asked for; an empty value means not sent. Raises OptionError and UnknownOption."""
    sent = once(items)
    for name in sent.keys() - _FIELDS.keys():
        raise UnknownOption(f"{name[:80]} is not a field here; allowed: {', '.join(_FIELDS)}.", field=name[:80])
    texts: dict[str, Any] = {name: _text(name, sent.get(name)) for name in ("q", "model", "recipe")}
    times: dict[str, Any] = {name: _time(name, sent.get(name)) for name in ("since", "until")}
    return Query(Search(**texts, **times), _limit(sent.get("limit")), _after(sent.get("cursor"), tenant))


def cursor_of(after: str, tenant: str) -> str:
    """The text that parse_query takes for `after`, from this tenant only."""
    return after + hashlib.sha256(f"{tenant} {after}".encode()).hexdigest()[:_CHECK_CHARS]


def _text(name: str, text: str | None) -> str | None:
    if text is not None and len(text) > TEXT_MOST:
        raise OptionError(f"{name} has {len(text)} characters; allowed are {TEXT_MOST}.", field=name)
    return text


def _time(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        date, clock, fraction, offset = _parts(_TIME.fullmatch(text))
        micros = (fraction or ".0")[:7]
        return datetime.fromisoformat(f"{date}T{clock}{micros}{(offset or '+00:00').replace(' ', '+')}")
    except ValueError:
        raise OptionError(
            f"{name} is {text[:60]}; allowed is a time of RFC 3339, such as 2026-11-05T08:00:00Z.", field=name
        ) from None


def _parts(match: re.Match[str] | None) -> Sequence[str | None]:
    """Raises ValueError."""
    if match is None:
        raise ValueError("it has another form")
    return match.groups()


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= LIMIT_MOST:
        raise OptionError(f"limit is {text[:60]}; allowed 1 to {LIMIT_MOST}.", field="limit")
    return int(text)


def _after(cursor: str | None, tenant: str) -> str | None:
    if cursor is None:
        return None
    after = cursor[:-_CHECK_CHARS]
    if not ID_FORM.fullmatch(after) or cursor != cursor_of(after, tenant):
        raise OptionError(
            "cursor is no next_cursor of an earlier answer; leave it out to begin with the newest.", field="cursor"
        )
    return after
