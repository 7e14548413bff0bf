"""Buckets and keys as texts, and the stores behind them: where bulk work reads, writes and must not read.

A place is written `s3://bucket/key`, `file:///full/path` under the results folder, or as a plain key of the results
store. What it is not: it signs and fetches nothing; the stores do. Called by the jobs, the item and the worker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mattehorn.cache.kept import PLACES as KEPT_PLACES
from mattehorn.errors import OptionError
from mattehorn.settings import StoreSettings
from mattehorn.store.interface import Store
from mattehorn.store.open import bucket_and_key, open_bucket, open_store

JOBS = "jobs/"  # in the results store: the state of all jobs
UPLOADS = "uploads/"  # in the results store: photos that came with a request, by job id


@dataclass(frozen=True)
class Place:
    """A bucket and a key, or the beginning of keys, in it. The bucket "" is the results folder."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.bucket else self.key

    @property
    def folder(self) -> Place:
        """The same, ending in a slash: what begins with `out/` does not begin `outside`. A whole bucket stays."""
        return self if not self.key or self.key.endswith("/") else Place(self.bucket, f"{self.key}/")

    def below(self, key: str) -> Place:
        return Place(self.bucket, self.key + key)

    def covers(self, bucket: str, key: str) -> bool:
        return bucket == self.bucket and key.startswith(self.key)


class Places:
    """Reads places and opens stores, each bucket once; threads may share it. Credentials are the results store's.

    `allowed` names the buckets that may be read and written besides the results store's own; None allows all that the
    credentials reach.
    """

    def __init__(
        self,
        settings: StoreSettings,
        *,
        allowed: Iterable[str] | None = None,
        open_bucket: Callable[[str, StoreSettings], Store] = open_bucket,
    ) -> None:
        self._settings = settings
        self._open = open_bucket
        is_folder = settings.url.startswith("file://")
        self.home_place = Place("", "") if is_folder else Place(*bucket_and_key(settings.url, settings)).folder
        self.home = open_store(settings)
        self._stores: dict[str, Store] = {"": self.home} if is_folder else {}
        self._allowed = None if allowed is None else frozenset((*allowed, self.home_place.bucket))
        self._lock = threading.Lock()

    def parse(self, text: str, field: str) -> Place:
        """The place that `text` names. Raises OptionError for `field`, also where the bucket is not allowed."""
        if "://" not in text:
            return self.home_place.below(text)
        try:
            place = Place(*bucket_and_key(text, self._settings))
        except ValueError as exc:
            raise OptionError(f"{field}: {exc}", field=field) from None
        self.require_allowed(place.bucket, field)
        return place

    def require_allowed(self, bucket: str, field: str) -> None:
        """Raises OptionError for what is no bucket's name, and when this service does not work on `bucket`."""
        try:
            if bucket:
                bucket_and_key(f"s3://{bucket}/", self._settings)
        except ValueError as exc:
            raise OptionError(f"{field}: {exc}", field=field) from None
        if self._allowed is not None and bucket not in self._allowed:
            raise OptionError(f"{field}: this service does not work on the bucket {bucket[:80]!r}.", field=field)

    def store(self, bucket: str) -> Store:
        """The whole bucket. Raises ValueError for a name that can be none."""
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = self._open(bucket, self._settings)
            return self._stores[bucket]

    def is_state(self, bucket: str, key: str) -> bool:
        """Whether the key holds what a job knows about itself, or an answer that is kept for a while: never a photo."""
        return any(self.home_place.below(prefix).covers(bucket, key) for prefix in (JOBS, *KEPT_PLACES))


def refuse_loop(source: Place, output: Place) -> None:
    """Raises OptionError when results written below `output` could match the input `source`, or the other way round.

    `source` is a whole prefix: of a job, or of a bucket's notifications. Errors lie below the output, too.
    """
    out = output.folder
    meets = source.bucket == out.bucket and (out.key.startswith(source.key) or source.key.startswith(out.key))
    if meets:
        raise OptionError(
            f"The output {str(out) or 'of the whole results folder'} and the input {source} overlap, so results would "
            "come in as photos again, without end. Write to another bucket, or to a prefix beside the input.",
            field="output",
        )
