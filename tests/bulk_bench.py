"""A whole bulk service in one process for tests: a results folder, the SQLite queue, the fake model, and stores that
fail, are slow, or let several creators win."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mattehorn import telemetry
from mattehorn.bulk import listing
from mattehorn.bulk.consumer import Consumer, ConsumerLimits
from mattehorn.bulk.job_results import manifest_lines
from mattehorn.bulk.job_spec import JobSpec
from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.messages import object_message, parse_message
from mattehorn.bulk.patience import Patience
from mattehorn.bulk.places import Place, Places
from mattehorn.bulk.plan import Accounts, CutOut, Plan, free
from mattehorn.bulk.webhook import Webhook
from mattehorn.bulk.worker import Route, Worker, WorkerSettings
from mattehorn.events import ObjectRef
from mattehorn.models.fake import FakeModel
from mattehorn.pipeline import Result
from mattehorn.queue.sqlite import SqliteQueue
from mattehorn.recipe.gate import Wish
from mattehorn.recipe.recipe import Recipe, find_recipe
from mattehorn.routed import Models, run_routed
from mattehorn.settings import Limits, StoreSettings
from mattehorn.store.interface import Head, OpenObject, Store
from mattehorn.telemetry import Metric

MODEL = FakeModel()
RECIPE = find_recipe("transparent-web")
QUICK = Patience(tries=3, pause_s=0.01, overload_most_s=0.02, message_s=0.02, message_most_s=0.05)
JPEG = "image/jpeg"
OUT = "out/"

POISON = {
    "empty.jpg": b"",
    "text.jpg": b"this is no picture at all",
    "half.jpg": b"",  # filled in below
    "bomb.png": b"",
}


def photo(number: int = 0) -> bytes:
    """A small picture with a subject; every number gives other bytes (a jpg might not)."""
    return _drawn(number, ".png")


def _drawn(number: int, suffix: str) -> bytes:
    picture = np.full((40, 48, 3), 200, np.uint8)
    picture[10:30, 12:36] = (number % 200, 40, 255 - number // 200)
    done, data = cv2.imencode(suffix, picture)
    assert done
    return data.tobytes()


def bomb() -> bytes:
    """The header of a png of 400 megapixels."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


POISON["half.jpg"] = _drawn(0, ".jpg")[:400]
POISON["bomb.png"] = bomb()
POISON_CODES = {
    "empty.jpg": "missing_image",
    "text.jpg": "unsupported_image",
    "half.jpg": "corrupt_image",
    "bomb.png": "image_too_large",
}


async def fake_cut_out(data: bytes, wish: Wish) -> Result:
    return await asyncio.to_thread(run_routed, Models(MODEL), data, wish, Limits())


async def telling_cut_out(data: bytes, wish: Wish) -> Result:
    """As a model that tells subjects has it."""
    return dataclasses.replace(await fake_cut_out(data, wish), subject="product")


def event(key: str, *, bucket: str = "", etag: str | None = None, version: str | None = None, **more: Any) -> ObjectRef:
    fields = {"provider": "aws", "size": None, "sequencer": None, "event_time": None, "event_name": "ObjectCreated:Put"}
    return ObjectRef(**{**fields, **more}, bucket=bucket, key=key, version_id=version, etag=etag)


def message(key: str, **more: Any) -> str:
    """A queue message for one photo into OUT; `more` goes to `event`."""
    return object_message(event(key, **more), RECIPE.id, OUT)


def plan(output: str = OUT, recipe: Recipe = RECIPE, **more: Any) -> Plan:
    return Plan(recipe, Place("", output), "model-digest", **more)


class Bench:
    """The parts, wired as a deployment wires them."""

    def __init__(
        self,
        folder: Path,
        *,
        cut_out: CutOut = fake_cut_out,
        lease_s: float = 5.0,
        max_receive: int = 4,
        in_flight: int = 4,
        wrap: Callable[[Store], Store] = lambda store: store,
        permit: Callable[[], Any] | None = None,
        webhook: Webhook | None = None,
        accounts: Accounts = free,
        settings: StoreSettings | None = None,
        **limits: Any,
    ) -> None:
        self.folder = folder
        self.places = Places(settings or StoreSettings(url=f"file://{folder}/results"))
        self.home = self.places.home
        if wrapped := wrap(self.home):
            self.places.home = wrapped
            self.places._stores[""] = wrapped
        self.queue = SqliteQueue(folder / "queue.db", lease_s=lease_s, max_receive=max_receive)
        self.webhook, self.accounts = webhook, accounts
        self.jobs = Jobs(self.places, self.queue, check_webhook=webhook.check_url if webhook else lambda url: None)
        self.limits = ConsumerLimits(
            **{"in_flight": in_flight, "lease_s": lease_s, "max_receive": max_receive, "wait_s": 0.05, **limits}
        )
        self.routes: list[Route] = []
        self._made: list[Worker] = []
        self._cut_out, self._permit = cut_out, {"permit": permit} if permit else {}
        self._settings = WorkerSettings("model-digest", in_flight=in_flight, max_receive=max_receive, patience=QUICK)

    def add_photos(self, count: int, folder: str = "in/") -> list[str]:
        keys = [f"{folder}{number:04d}.jpg" for number in range(count)]
        for number, key in enumerate(keys):
            self.home.put(key, photo(number), content_type=JPEG)
        return keys

    def consumer(self) -> Consumer:
        """A consumer with a worker of its own, as another process would have."""
        worker = Worker(
            self.jobs,
            self.queue,
            self._cut_out,
            self._settings,
            routes=self.routes,
            webhook=self.webhook,
            accounts=self.accounts,
            **self._permit,
        )
        self._made.append(worker)
        return Consumer(self.queue, worker, self.limits)

    def run(self, within_s: float = 60) -> None:
        """Works until the queue is empty."""

        async def work() -> None:
            async with asyncio.timeout(within_s):
                await self.consumer().run_until_empty()

        asyncio.run(work())

    def outputs(self, folder: str = "out/") -> list[str]:
        return [key for key in self.home.list(folder) if not key.startswith(f"{folder}errors/")]

    def close(self) -> None:
        for worker in self._made:
            worker.close()
        self.queue.close()


def creates(bench: Bench, folder: str = OUT) -> dict[str, int]:
    """Successful creates by key, as the bench's store counted them; it was made with a StoreAround."""
    store: Any = bench.places.home
    return {key: count for key, count in store.created.items() if key.startswith(folder)}


class StoreAround:
    """A store before another one; tests override what they change. Counts successful creates by key."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.created: Counter[str] = Counter()
        self.calls: list[tuple[str, str]] = []
        self.lock = threading.Lock()

    def before(self, name: str, key: str) -> None:
        """Called first; may raise or sleep."""
        with self.lock:
            self.calls.append((name, key))

    def head(self, key: str) -> Head | None:
        self.before("head", key)
        return self.inner.head(key)

    def get(self, key: str, if_match: str | None = None, version_id: str | None = None) -> bytes:
        self.before("get", key)
        return self.inner.get(key, if_match, version_id)

    def open(self, key: str, if_match: str | None = None, version_id: str | None = None) -> OpenObject:
        self.before("open", key)
        return self.inner.open(key, if_match, version_id)

    def put(
        self, key: str, data: bytes, *, create: bool = False, content_type: str, metadata: Mapping[str, str] = {}
    ) -> bool:
        self.before("put", key)
        made = self.inner.put(key, data, create=create, content_type=content_type, metadata=metadata)
        if made:
            with self.lock:
                self.created[key] += 1
        return made

    def delete(self, key: str) -> None:
        self.before("delete", key)
        self.inner.delete(key)

    def list(self, prefix: str, start_after: str | None = None) -> Iterator[str]:
        self.before("list", prefix)
        return self.inner.list(prefix, start_after)

    def folders(self, prefix: str, start_after: str | None = None) -> Iterator[str]:
        self.before("folders", prefix)
        return self.inner.folders(prefix, start_after)

    def presign(self, key: str, expires_s: int) -> str | None:
        return self.inner.presign(key, expires_s)


class Written(StoreAround):
    """Keeps what every put wanted to write, by key, whether it won or not."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.written: defaultdict[str, list[bytes]] = defaultdict(list)

    def put(self, key: str, data: bytes, **fields: Any) -> bool:
        with self.lock:
            self.written[key].append(data)
        return super().put(key, data, **fields)


class EveryCreatorWins(StoreAround):
    """As Swift was measured: of writers racing for a key, several are told that they created it; the last one stays.

    `gap` lies between a creator's look and its write.
    """

    def __init__(self, inner: Store, gap: Callable[[], object] = lambda: time.sleep(0.02)) -> None:
        super().__init__(inner)
        self.gap = gap

    def put(
        self, key: str, data: bytes, *, create: bool = False, content_type: str, metadata: Mapping[str, str] = {}
    ) -> bool:
        there = create and self.inner.head(key) is not None
        if create:
            self.gap()
        if there:
            return False
        return super().put(key, data, create=False, content_type=content_type, metadata=metadata)


class Recorder:
    """A telemetry back end that keeps counts by label and the gauge's highest value."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.highest = 0.0
        self.last = 0.0

    def add(self, metric: Metric, amount: float, labels: Mapping[str, str]) -> None:
        if metric is telemetry.BULK_ITEMS:
            self.counts[labels["outcome"]] += int(amount)

    def set(self, metric: Metric, value: float) -> None:
        if metric is telemetry.BULK_IN_FLIGHT:
            self.highest, self.last = max(self.highest, value), value

    def observe(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        pass


@contextmanager
def recorded() -> Iterator[Recorder]:
    """What telemetry counts within the block."""
    before = telemetry._backend
    recorder = Recorder()
    telemetry.use(recorder)
    try:
        yield recorder
    finally:
        telemetry._backend = before


def body(**more: Any) -> dict[str, Any]:
    return {"input": {"prefix": "in/"}, "recipe": "transparent-web@1", **more}


def small_shards(bench: Bench, keys: int = 3) -> JobSpec:
    """A submitted job over `in/` whose shards have `keys` keys; its spec is written as an older release might have."""
    spec = bench.jobs.submit(body())
    document = spec.document() | {"shard_keys": keys}
    bench.home.put(f"jobs/{spec.id}/spec.json", json.dumps(document).encode(), content_type="application/json")
    bench.jobs._spec.cache_clear()
    return bench.jobs.spec(spec.id)


def rows(bench: Bench, job: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in manifest_lines(bench.jobs, job)]


def shards(bench: Bench, job: str) -> list[list[str]]:
    state = bench.jobs.state(job)
    return [[ref.key for ref in listing.read_shard(state, number)] for number in sorted(state.shards()[0])]


def messages_of(bench: Bench) -> list[tuple[str, int | None]]:
    """(kind, shard) of every message; they are taken out."""
    found = []
    while batch := bench.queue.receive(10):
        for message in batch:
            work = parse_message(message.body)
            found.append((getattr(work, "kind", "object"), getattr(work, "shard", None)))
            bench.queue.ack(message)
    return found
