"""Things kept in the results store for a while: found by name, bounded in age and in bytes.

Below `place` lie `objects/xx/NAME`, one whole object each, and `index/TIME-SIZE-NAME`, empty, so that a listing alone
tells what is too old or too much. The mark is written first and removed last: a crash leaves a mark without an object,
never an object that no sweep would find. What it is not: it knows no picture and no HTTP. Every call blocks.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mattehorn.errors import MattehornError
from mattehorn.store.interface import DEFAULT_TYPE, Store, StoreKeyChanged, StoreKeyMissing

CACHE, IDEMPOTENCY = ".cache/", ".idempotency/"  # out of reach for key templates and jobs, like .results/
PLACES = (CACHE, IDEMPOTENCY)

_MAGIC = b"mattehorn-kept-1\n"
_DIGEST_BYTES = 32
_HEAD_LENGTH = struct.Struct(">I")
_MARK = re.compile(r"(\d{13,16})-(\d{12,16})-([0-9a-f]{64})")  # digits fill up, so that marks sort by their time


class Damaged(ValueError):
    """The bytes are not what was kept under this name."""


@dataclass(frozen=True)
class Entry:
    """`about` is JSON text of whoever kept it; `at` a Unix time."""

    at: float
    about: str
    blobs: tuple[bytes, ...]


@dataclass(frozen=True)
class Swept:
    """What one sweep removed, and the bytes that it left."""

    removed: int
    removed_bytes: int
    left_bytes: int


@dataclass(frozen=True)
class _Mark:
    key: str
    at: float
    size: int
    name: str


class Kept:
    """Entries for at most `ttl_s`, and `max_bytes` of them after each sweep. Threads may share it.

    `grown` counts about what was put through this object since its last sweep, in bytes; `stuck` says that the last
    sweep failed, so that what is put now might stay for ever.
    """

    def __init__(
        self, store: Store, place: str, *, ttl_s: float, max_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self.place, self._clock = store, place, clock
        self.ttl_s, self.max_bytes = ttl_s, max_bytes
        self.grown, self.stuck = 0, False

    def get(self, name: str) -> Entry | None:
        """None for what is not there, too old, damaged or not ours. `name` is 64 hex digits. Raises
        StoreUnavailable."""
        try:
            entry = unframe(name, self._store.get(self._key(name)))
        except (StoreKeyMissing, StoreKeyChanged, Damaged):
            return None
        return entry if self._clock() - entry.at < self.ttl_s else None

    def put(self, name: str, about: str, blobs: Sequence[bytes]) -> int:
        """Keeps it from now on, in place of what had the name; the bytes that it takes. Raises StoreUnavailable."""
        now = self._clock()
        data = frame(name, Entry(now, about, tuple(blobs)))
        mark = f"{self.place}index/{int(now * 1000):013d}-{len(data):012d}-{name}"
        self._store.put(mark, b"", content_type=DEFAULT_TYPE)
        self._store.put(self._key(name), data, content_type=DEFAULT_TYPE)
        self.grown += len(data)
        return len(data)

    def sweep(self) -> Swept:
        """Removes what is too old, then the oldest while the rest has more than `max_bytes`.

        Two sweeps at once do no harm, nor does one beside a put: at worst an entry goes that might have stayed.
        Raises StoreUnavailable, also without the right to delete.
        """
        self.grown = 0
        try:
            swept = self._swept()
        except MattehornError:
            self.stuck = True
            raise
        self.stuck = False
        return swept

    def _swept(self) -> Swept:
        entries = list(self._newest())
        left, oldest_allowed = sum(mark.size for mark in entries), self._clock() - self.ttl_s
        removed = removed_bytes = 0
        for mark in entries:
            if mark.at > oldest_allowed and left <= self.max_bytes:
                break
            self._store.delete(self._key(mark.name))
            self._store.delete(mark.key)
            left -= mark.size
            removed, removed_bytes = removed + 1, removed_bytes + mark.size
        return Swept(removed, removed_bytes, left)

    def _newest(self) -> Iterator[_Mark]:
        """Each name's last mark, the oldest first. Marks of what was replaced are removed."""
        found: dict[str, _Mark] = {}
        for key in list(self._store.list(f"{self.place}index/")):
            match = _MARK.fullmatch(key.rpartition("/")[2])
            if match is None:  # not ours
                continue
            mark = _Mark(key, int(match[1]) / 1000, int(match[2]), match[3])
            replaced = found.pop(mark.name, None)
            if replaced is not None:
                self._store.delete(replaced.key)
            found[mark.name] = mark
        yield from found.values()

    def _key(self, name: str) -> str:
        return f"{self.place}objects/{name[:2]}/{name}"


def frame(name: str, entry: Entry) -> bytes:
    """One object: a magic line, SHA-256 of the rest, the head's length, the head (JSON), the blobs."""
    head = {"name": name, "at": entry.at, "about": entry.about, "sizes": [len(blob) for blob in entry.blobs]}
    encoded = json.dumps(head).encode("ascii")
    rest = b"".join((_HEAD_LENGTH.pack(len(encoded)), encoded, *entry.blobs))
    return _MAGIC + hashlib.sha256(rest).digest() + rest


def unframe(name: str, data: bytes) -> Entry:
    """The inverse of `frame`. Raises Damaged."""
    begin = len(_MAGIC) + _DIGEST_BYTES
    rest = memoryview(data)[begin:]
    if not data.startswith(_MAGIC) or hashlib.sha256(rest).digest() != data[len(_MAGIC) : begin]:
        raise Damaged("the digest does not fit")
    (length,) = _HEAD_LENGTH.unpack_from(rest)  # what the digest covers was written whole, by frame()
    at = _HEAD_LENGTH.size + length
    head: dict[str, Any] = json.loads(bytes(rest[_HEAD_LENGTH.size : at]))
    if head["name"] != name:
        raise Damaged("it was kept under another name")
    blobs = []
    for size in head["sizes"]:
        blobs.append(bytes(rest[at : at + size]))
        at += size
    return Entry(head["at"], head["about"], tuple(blobs))
