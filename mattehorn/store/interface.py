"""What every home of the results store offers: the protocol `Store`, its values and its own errors.

The homes are LocalStore (local_store.py) and S3Store (s3_store.py); callers import all of it from store.py.

The errors, all under MattehornError (an outage or a refused credential is errors.StoreUnavailable):
StoreKeyError    the key itself can never work: `..`, too long, `a` beside `a/b`. Permanent, do not retry.
StoreKeyMissing  nothing is stored under the key.
StoreKeyChanged  something is, but not with the etag that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from mattehorn.errors import MattehornError

KEY_BYTES = 1024  # S3's own limit on a whole key, prefix included
OUTAGE_RETRY_S = 5  # a short trouble; boto3 has already retried for seconds when we give up
REFUSED_RETRY_S = 30  # a person has to change a policy or a disk
DEFAULT_TYPE = "application/octet-stream"
CHUNK_BYTES = 256 * 2**10  # as much as one read of a socket or a disk is worth


class StoreKeyError(MattehornError):
    """The key can never be stored."""


class StoreKeyMissing(MattehornError):
    """Nothing is stored under the key."""


class StoreKeyChanged(MattehornError):
    """The object's etag is not the one asked for."""


@dataclass(frozen=True)
class Head:
    """What is known of an object without reading it. `size` in bytes; `etag` is opaque and without quotes.

    `version_id` is None where the home keeps no versions, and for an object from before it did.
    """

    key: str
    size: int
    etag: str
    metadata: dict[str, str]
    content_type: str
    version_id: str | None = None


class ByteSource(Protocol):
    """An open file, or the body of an HTTP answer."""

    def read(self, size: int = ..., /) -> bytes: ...
    def close(self) -> None: ...


class OpenObject:
    """An object whose head is known and whose bytes are still to be read. Holds a connection or a file: close it.

    `errors` turns the home's own errors into ours while bytes are read; `check` raises StoreKeyChanged when what was
    read may be half of one object and half of another.
    """

    def __init__(
        self,
        head: Head,
        source: ByteSource,
        errors: Callable[[], AbstractContextManager[None]],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.head = head
        self._source, self._errors, self._check = source, errors, check

    def read(self) -> bytes:
        """All bytes. Raises StoreUnavailable when they end too early, StoreKeyChanged (see above)."""
        with self._errors():
            data = self._source.read()
            self._check()
        return data

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The bytes in pieces of about `size`, for what may not fit into memory. Raises as `read` does."""
        with self._errors():
            while chunk := self._source.read(size):
                yield chunk
            self._check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()


class Store(Protocol):
    """A flat map of keys to bytes. Metadata names are lower-case ASCII, values any text (2 kB in all)."""

    def head(self, key: str) -> Head | None:
        """None when the key is missing."""

    def get(self, key: str, if_match: str | None = None, version_id: str | None = None) -> bytes:
        """The object's bytes. Raises StoreKeyMissing, and StoreKeyChanged when `if_match` is another etag."""

    def open(self, key: str, if_match: str | None = None, version_id: str | None = None) -> OpenObject:
        """The object's head now, its bytes on demand. Raises as `get` does; a folder knows no `version_id`."""

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

    def folders(self, prefix: str, start_after: str | None = None) -> Iterator[str]:
        """Names of the next level under `prefix` (empty or ending in `/`), in order, after the name `start_after`.

        For `a/1/x`, `a/2/y` and `a/z` under `a/`: `1`, `2`. Reads no deeper, however much lies there.
        """

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
