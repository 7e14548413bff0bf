"""What the API tells of a stored result: its record, and where its picture is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mattehorn.store.interface import Store
from mattehorn.store.records import StoredResult

URL_EXPIRES_S = 3600  # a signed URL lives as long as a page stays open, not as long as a leak hurts


def entry(store: Store, stored: StoredResult) -> dict[str, Any]:
    """The record with its `url`."""
    return {**asdict(stored), "url": result_url(store, stored)}


def result_url(store: Store, stored: StoredResult) -> str:
    """A signed URL where the store gives one, else our own. Blocks: credentials may have to be fetched."""
    return store.presign(stored.key, URL_EXPIRES_S) or f"/v1/results/{stored.id}/image"
