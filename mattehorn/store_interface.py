"""What every home of the results store offers: the protocol `Store`, its values and its own errors.

The homes are LocalStore (local_store.py) and S3Store (store.py); callers import all of it from store.py.

The errors, all under MattehornError (an outage or a refused credential is errors.StoreUnavailable):
StoreKeyError    the key itself can never work: `..`, too long, `a` beside `a/b`. Permanent, do not retry.
StoreKeyMissing  nothing is stored under the key.
StoreKeyChanged  something is, but not with the etag that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from mattehorn.errors import MattehornError

KEY_BYTES = 1024  # S3's own limit on a whole key, prefix included
OUTAGE_RETRY_S = 5  # a short trouble; boto3 has already retried for seconds when we give up
REFUSED_RETRY_S = 30  # a person has to change a policy or a disk
DEFAULT_TYPE = "application/octet-stream"


class StoreKeyError(MattehornError):
    """The key can never be stored."""


class StoreKeyMissing(MattehornError):
    """Nothing is stored under the key."""


class StoreKeyChanged(MattehornError):
    """The object's etag is not the one asked for."""


@dataclass(frozen=True)
class Head:
    """What is known of an object without reading it. `size` in bytes; `etag` is opaque and without quotes."""

    key: str
    size: int
    etag: str
    metadata: dict[str, str]
    content_type: str


class Store(Protocol):
    """A flat map of keys to bytes. Metadata names are lower-case ASCII, values any text (2 kB in all)."""

    def head(self, key: str) -> Head | None:
        """None when the key is missing."""

    def get(self, key: str, if_match: str | None = None) -> bytes:
        """The object's bytes. Raises StoreKeyMissing, and StoreKeyChanged when `if_match` is another etag."""

    def put(
        self,
        key: str,
        data: bytes,
        *,
        create: bool = False,
        content_type: str,
        metadata: Mapping[str, str] = {},
    ) -> bool:
        """True when `data` was written. With `create`, False and no change when the key exists already.

        Some S3 servers let several racing creators win (measured: Swift), and a retried create may meet its
        own first success: False means "there", not "somebody else's". So equal keys must mean equal content.
        """

    def delete(self, key: str) -> None:
        """Removes the object; a missing one is no error."""

    def list(self, prefix: str, start_after: str | None = None) -> Iterator[str]:
        """Keys that begin with `prefix` and come after `start_after`, in order of their UTF-8 bytes."""

    def presign(self, key: str, expires_s: int) -> str | None:
        """A URL that reads the object for `expires_s` seconds; None where the home has no URLs."""


def check_key(key: str) -> str:
    """`key` itself when every home can hold it. Raises StoreKeyError."""
    if not key or key.startswith("/") or "\0" in key or ".." in key.split("/"):
        raise StoreKeyError(f"The storage key {key[:80]!r} is empty, begins with a slash, or holds '..' or a NUL.")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as exc:
        raise StoreKeyError("The storage key is not valid Unicode.") from exc
    if size > KEY_BYTES:
        raise StoreKeyError(f"The storage key has {size} bytes; at most {KEY_BYTES} are allowed. Use a shorter name.")
    return key
