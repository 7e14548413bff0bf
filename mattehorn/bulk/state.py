"""The objects that a job is: `jobs/{id}/` in the results store. Names, reading and create-only writing; nothing else.

spec.json            what was asked; never changed
input.jsonl          inline keys, where the input is those
shards/00042.jsonl   photos to do, one reference a line; shards/00042.done  its counts, when all are done
listing.done         {"shards", "total"}: there are no more shards than these
parts/00042/0003.jsonl    results of a slice of a shard at work; removed when its shard is done
results/00042.jsonl  all results of a done shard, in the order of its photos
cancel, finished.json, webhook.done    marks, each written once

Every write is create-only and says what any other writer would say, so nobody needs a lock. Called by jobs.py,
listing.py, shard.py and job_results.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mattehorn.bulk.places import JOBS
from mattehorn.errors import StoreUnavailable
from mattehorn.store.interface import Store, StoreKeyMissing

SHARDS_MOST = 100_000  # names have five digits, so that they list in order: 100 million photos in shards of 1000
JSON, LINES = "application/json", "application/x-ndjson"

_SHARD = re.compile(r"shards/(\d{5})\.(jsonl|done)")
_PART = re.compile(r"parts/(\d{5})/(\d{4})\.jsonl")


class JobState:
    """One job's objects. Every call blocks."""

    def __init__(self, store: Store, job: str) -> None:
        self._store = store
        self.job = job
        self._base = f"{JOBS}{job}/"

    def read(self, name: str) -> bytes | None:
        try:
            return self._store.get(self._base + name)
        except StoreKeyMissing:
            return None

    def read_json(self, name: str) -> dict[str, Any] | None:
        data = self.read(name)
        return None if data is None else json.loads(data)

    def exists(self, name: str) -> bool:
        return self._store.head(self._base + name) is not None

    def create(self, name: str, data: bytes, content_type: str = LINES) -> bool:
        return self._store.put(self._base + name, data, create=True, content_type=content_type)

    def create_json(self, name: str, document: Mapping[str, Any]) -> bool:
        return self.create(name, json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "replace"), JSON)

    def shards(self) -> tuple[set[int], set[int]]:
        """(shards placed, shards done)."""
        placed: set[int] = set()
        done: set[int] = set()
        for name in self._names("shards/"):
            if match := _SHARD.fullmatch(name):
                (placed if match[2] == "jsonl" else done).add(int(match[1]))
        return placed, done

    def parts(self, shard: int | None = None) -> Iterator[tuple[int, int]]:
        """(shard, part) of every part that lies there, of one shard or all, in order."""
        for name in self._names("parts/" if shard is None else f"parts/{shard:05d}/"):
            if match := _PART.fullmatch(name):
                yield int(match[1]), int(match[2])

    def remove_parts(self, shard: int) -> None:
        """Tidies up behind a done shard. The right to delete is not needed: what is left is never counted."""
        try:
            for _, part in list(self.parts(shard)):
                self._store.delete(self._base + part_name(shard, part))
        except StoreUnavailable:
            return

    def _names(self, prefix: str) -> Iterator[str]:
        for key in self._store.list(self._base + prefix):
            yield key.removeprefix(self._base)


def shard_name(shard: int) -> str:
    return f"shards/{shard:05d}.jsonl"


def done_name(shard: int) -> str:
    return f"shards/{shard:05d}.done"


def part_name(shard: int, part: int) -> str:
    return f"parts/{shard:05d}/{part:04d}.jsonl"


def results_name(shard: int) -> str:
    return f"results/{shard:05d}.jsonl"
