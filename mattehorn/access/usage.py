"""What tenants have spent in a month, as one small object in the results store: `.usage/2026-11.json`.

Out of reach for key templates, none of whose parts may begin with a dot. What it is not: it counts nothing
(budgets.py). Every call blocks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from mattehorn.errors import MattehornError
from mattehorn.store.interface import Store, StoreKeyMissing

PREFIX = ".usage/"


def read_month(store: Store, month: str) -> dict[str, int]:
    """Megapixel images by tenant; empty where nothing was kept. Raises StoreUnavailable, and MattehornError for an
    object that is damaged."""
    try:
        data = store.get(f"{PREFIX}{month}.json")
    except StoreKeyMissing:
        return {}
    try:
        counts = json.loads(data)["megapixels"]
        return {str(tenant): max(0, int(count)) for tenant, count in counts.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise MattehornError(f"The record of what tenants spent in {month} is damaged.") from None


def write_month(store: Store, month: str, counts: Mapping[str, int]) -> None:
    """Raises StoreUnavailable."""
    document = {"month": month, "megapixels": dict(sorted(counts.items()))}
    store.put(f"{PREFIX}{month}.json", json.dumps(document, indent=1).encode(), content_type="application/json")
