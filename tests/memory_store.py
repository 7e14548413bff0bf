"""A results store in memory, for tests that make thousands of requests; and two callers of one, in a given order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mattehorn.store.interface import Head, Store, StoreKeyMissing


class MemoryStore:
    """A dict with what records, history and removal ask of a store. `requests` counts them by name."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.requests: dict[str, int] = {}

    def _count(self, name: str) -> None:
        self.requests[name] = self.requests.get(name, 0) + 1

    def head(self, key: str) -> Head | None:
        self._count("head")
        if key not in self.objects:
            return None
        data, note = self.objects[key]
        return Head(key, len(data), str(hash(data)), note, "image/png")

    def get(self, key: str) -> bytes:
        self._count("get")
        if key not in self.objects:
            raise StoreKeyMissing(key)
        return self.objects[key][0]

    def put(
        self, key: str, data: bytes, *, create: bool = False, content_type: str, metadata: Mapping[str, str] = {}
    ) -> bool:
        self._count("put")
        if create and key in self.objects:
            return False
        self.objects[key] = (data, dict(metadata))
        return True

    def delete(self, key: str) -> None:
        self._count("delete")
        self.objects.pop(key, None)

    def list(self, prefix: str, start_after: str | None = None) -> Iterator[str]:
        self._count("list")
        return iter([key for key in sorted(self.objects) if key.startswith(prefix) and key > (start_after or "")])

    def presign(self, key: str, expires_s: int) -> str | None:
        return None


def interleaved(store: MemoryStore, schedule: Sequence[bool], *stories: Callable[[Store], Any]) -> list[Any]:
    """What two stories over `store` return, their requests one at a time: the next is the second's where `schedule`
    says True. When it ends, or one of them has, the rest follow one after the other."""
    first, second = (_Story(store, story) for story in stories)
    for is_second in schedule:
        (second if is_second else first).step()
    return [story.end() for story in (first, second)]


class _Story:
    """A thread that waits before each of its requests."""

    def __init__(self, store: MemoryStore, tell: Callable[[Store], Any]) -> None:
        self._store, self._tell = store, tell
        self._turn, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._over = False
        self._outcome: Any = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._waits.acquire()

    def step(self) -> None:
        """Its next request; nothing when it is over."""
        if not self._over:
            self._turn.release()
            self._waits.acquire()

    def end(self) -> Any:
        while not self._over:
            self.step()
        self._thread.join()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def _run(self) -> None:
        try:
            self._outcome = self._tell(self)  # type: ignore[arg-type]
        except BaseException as error:
            self._outcome = error
        self._over = True
        self._waits.release()

    def __getattr__(self, name: str) -> Any:
        """The store's method `name`, when it is this story's turn."""

        def asked(*args: Any, **kwargs: Any) -> Any:
            self._waits.release()
            self._turn.acquire()
            return getattr(self._store, name)(*args, **kwargs)

        return asked
