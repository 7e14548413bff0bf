"""Stored results as a history: newest first, page by page, searched by name, SKU, time, model and recipe.

What it is not: it knows no HTTP, and decides not whose results are shown. Called by the ingress. Every call blocks.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, takewhile

from mattehorn.store.interface import Store
from mattehorn.store.records import TIME_CHARS, StoredResult, listed, time_part, whole_record

LIMIT, LIMIT_MOST = 50, 200
READ_MOST = 500  # records for one page, 2 to 20 ms each: a search that finds little comes back and is asked to go on
CHUNK = 50  # records read at once; what is read beyond a full page is read for nothing


@dataclass(frozen=True)
class Search:
    """What is looked for; None: anything. Times have a zone: `since` is included, `until` is not."""

    q: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None
    recipe: str | None = None

    @property
    def reads(self) -> bool:
        """Whether a record has to be read to know if it is meant."""
        return any(wanted is not None for wanted in (self.q, self.model, self.recipe))

    def takes(self, result: StoredResult) -> bool:
        """Times aside, which the id tells."""
        if self.q is not None and not any(_folded(self.q) in _folded(text or "") for text in (result.name, result.sku)):
            return False
        return _is_named(self.model, result.model) and _is_named(self.recipe, result.recipe)


@dataclass(frozen=True)
class Page:
    """`after` is where the next page begins, an id; None: that was all. A page may be short, or empty, and not the
    last."""

    results: Sequence[StoredResult]
    after: str | None


def page(
    store: Store, tenants: Sequence[str], search: Search, limit: int, after: str | None, readers: Executor
) -> Page:
    """At most `limit` results of these tenants, older than the id `after`. Raises StoreUnavailable."""
    entries = _within(store, tenants, search, after)
    found: list[StoredResult] = []
    looked_at, last = 0, None
    while looked_at < READ_MOST and len(found) < limit:
        wanted = CHUNK if search.reads else limit - len(found)
        chunk = list(islice(entries, min(wanted, READ_MOST - looked_at)))
        looked_at += len(chunk)
        records = readers.map(lambda entry: whole_record(store, entry[1]), chunk)
        for (result_id, _), result in zip(chunk, records, strict=True):
            if len(found) == limit:
                return Page(found, last)
            last = result_id
            if result is not None and result.tenant in tenants and search.takes(result):
                found.append(result)
        if not chunk:
            return Page(found, None)
    return Page(found, last if next(entries, None) is not None else None)


def _within(store: Store, tenants: Sequence[str], search: Search, after: str | None) -> Iterator[tuple[str, str]]:
    """(id, key) of what `since`, `until` and `after` leave, newest first."""
    begin = f"{after}.json" if after else ""
    if search.until is not None:  # `~` is behind every letter of an id
        begin = max(begin, f"{time_part(_ms(search.until))}~")
    entries = listed(store, tenants, begin)
    if search.since is None:
        return entries
    oldest = time_part(_ms(search.since))
    return takewhile(lambda entry: entry[0][:TIME_CHARS] <= oldest, entries)


def _ms(at: datetime) -> int:
    """Whole milliseconds, as ids have, rounded up: what was made in the millisecond of `at` was made before it."""
    return math.ceil(at.timestamp() * 1000)


def _is_named(wanted: str | None, having: str | None) -> bool:
    """`slim` is `slim@1`, and `white@2` is `white@2;hash`."""
    if wanted is None or wanted == having:
        return True
    return having is not None and having.startswith((f"{wanted}@", f"{wanted};"))


def _folded(text: str) -> str:
    """One spelling for what looks alike: upper and lower case, an accent as a letter of its own."""
    return unicodedata.normalize("NFC", text).casefold()
