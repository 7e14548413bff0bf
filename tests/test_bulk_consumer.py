"""The loop around the queue: bounds, leases, heartbeats, stops, and a queue that is away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mattehorn import telemetry
from mattehorn.bulk.consumer import Consumer, ConsumerLimits
from mattehorn.bulk.messages import object_message
from mattehorn.bulk.patience import Border, Patience
from mattehorn.bulk.verdict import Verdict
from mattehorn.bulk.worker import WorkerSettings
from mattehorn.errors import QueueUnavailable
from mattehorn.options import Options
from mattehorn.pipeline import Result
from mattehorn.queue_interface import DeadLetter, Depth, Message

from .bulk_bench import (
    RECIPE,
    Bench,
    Recorder,
    StoreAround,
    event,
    fake_cut_out,
)

OUT = "out/"


def message(key: str, **more: Any) -> str:
    return object_message(event(key, **more), RECIPE.id, OUT)


@pytest.fixture(autouse=True)
def counted() -> Iterator[Recorder]:
    before = telemetry._backend
    recorder = Recorder()
    telemetry.use(recorder)
    yield recorder
    telemetry._backend = before


def creates(bench: Bench, folder: str = OUT) -> dict[str, int]:
    """Successful creates by key, as the store counted them."""
    store: Any = bench.places.home
    return {key: count for key, count in store.created.items() if key.startswith(folder)}


# ---- bounds, leases ----


class CountingQueue:
    """The queue's protocol over a list; knows how many messages were out at once, and does as a test tells it."""

    def __init__(self, bodies: Sequence[str] = (), max_receive: int = 4) -> None:
        self.ready = [Message(str(number), body, 0, "") for number, body in enumerate(bodies)]
        self.out: dict[str, Message] = {}
        self.most_out = 0
        self.extended: Counter[str] = Counter()
        self.failed: list[tuple[str, float, str]] = []
        self.dead: list[str] = []
        self.sent: list[str] = []
        self.max_receive = max_receive
        self.lock = threading.Lock()
        self.on_extend: Callable[[Message], bool] = lambda message: True
        self.trouble: Callable[[str], None] = lambda call: None

    def receive(self, limit: int, wait_s: float = 0.0) -> list[Message]:
        self.trouble("receive")
        if not self.ready:
            time.sleep(min(wait_s, 0.01))
        with self.lock:
            taken = self.ready[:limit]
            del self.ready[:limit]
            leased = [Message(m.id, m.body, m.attempt + 1, f"{m.id}.{m.attempt + 1}") for m in taken]
            self.out |= {m.id: m for m in leased}
            self.most_out = max(self.most_out, len(self.out))
        return leased

    def extend(self, message: Message, seconds: float) -> bool:
        self.trouble("extend")
        self.extended[message.id] += 1
        return self.on_extend(message)

    def ack(self, message: Message) -> bool:
        self.trouble("ack")
        return self.out.pop(message.id, None) is not None

    def fail(self, message: Message, delay_s: float = 0.0, reason: str = "") -> bool:
        self.trouble("fail")
        self.failed.append((message.id, delay_s, reason))
        if (held := self.out.pop(message.id, None)) is None:
            return False
        if held.attempt >= self.max_receive:
            self.dead.append(reason)
        else:
            self.ready.append(held)
        return True

    def send_many(self, bodies: Sequence[str]) -> None:
        self.trouble("send_many")
        self.sent += bodies
        self.ready += [Message(f"new-{len(self.sent)}", body, 0, "") for body in bodies]

    def depth(self) -> Depth:
        return Depth(len(self.ready), len(self.out), len(self.dead))

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        return []

    def redrive(self, limit: int | None = None) -> int:
        return 0

    def close(self) -> None:
        pass


class FakeWorker:
    """Does what a function says."""

    def __init__(self, do: Callable[[Message, Border], Any], permit: Callable[[], Any] | None = None) -> None:
        self._do = do
        self._permit = permit
        self.begun: list[str] = []
        self.ended: list[str] = []

    async def permit(self) -> None:
        if self._permit:
            await self._permit()

    async def handle(self, message: Message, border: Border) -> Verdict:
        self.begun.append(message.body)
        verdict: Verdict = await self._do(message, border)
        self.ended.append(message.body)
        return verdict


def consume(queue: Any, worker: FakeWorker, within_s: float = 20, **limits: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(within_s):
            chosen = ConsumerLimits(**{"in_flight": 3, "lease_s": 0.3, "max_receive": 4, "wait_s": 0.02, **limits})
            await Consumer(queue, worker, chosen).run_until_empty()

    asyncio.run(run())


def test_no_more_messages_are_held_than_the_bound() -> None:
    async def do(message: Message, border: Border) -> Verdict:
        await asyncio.sleep(0.01)
        return Verdict.ack()

    queue = CountingQueue([str(number) for number in range(30)])
    worker = FakeWorker(do)
    consume(queue, worker, in_flight=3)
    assert sorted(worker.ended, key=int) == [str(number) for number in range(30)]
    assert queue.most_out == 3


def test_no_more_photos_are_in_work_than_the_bound(tmp_path: Path, counted: Recorder) -> None:
    bench = Bench(tmp_path, in_flight=3)
    bench.add_photos(12)
    bench.jobs.submit({"input": {"prefix": "in/"}, "recipe": RECIPE.id})
    bench.queue.send_many([message(f"in/{number:04d}.jpg") for number in range(12)])
    bench.run()
    assert (counted.highest, counted.last) == (3, 0)
    bench.close()


def test_a_long_work_keeps_its_lease_by_its_heartbeat() -> None:
    async def do(message: Message, border: Border) -> Verdict:
        await asyncio.sleep(0.5)
        return Verdict.ack()

    queue = CountingQueue(["slow"])
    consume(queue, FakeWorker(do), lease_s=0.3)
    assert queue.extended["0"] >= 3
    assert queue.failed == []


def test_a_lost_lease_stops_the_work_at_once_and_nothing_is_acked(counted: Recorder) -> None:
    async def do(message: Message, border: Border) -> Verdict:
        await asyncio.sleep(30)
        return Verdict.ack()

    queue = CountingQueue(["slow"])

    def lost(message: Message) -> bool:
        queue.out.pop(message.id)
        return False

    queue.on_extend = lost
    worker = FakeWorker(do)
    consume(queue, worker, lease_s=0.15, within_s=10)
    assert (worker.begun, worker.ended, queue.failed) == (["slow"], [], [])
    assert counted.counts["lost"] == 1


def test_a_lease_lost_in_the_work_leaves_one_result_and_the_second_worker_finds_it(tmp_path: Path) -> None:
    """The first worker is so slow that its message goes to another one; both create, one wins, the stale ack does
    nothing."""
    first = threading.Event()
    second_done = threading.Event()

    async def cut_out(data: bytes, options: Options) -> Result:
        if not first.is_set():
            first.set()
            await asyncio.to_thread(second_done.wait, 10)
        return await fake_cut_out(data, options)

    bench = Bench(tmp_path, cut_out=cut_out, wrap=StoreAround, lease_s=0.3)
    key = bench.add_photos(1)[0]
    bench.queue.send_many([message(key)])
    bench.queue.extend = lambda message, seconds: True  # type: ignore[method-assign]  # it believes to hold the lease

    async def run() -> None:
        slow = bench.consumer()
        running = asyncio.create_task(slow.run())
        await asyncio.to_thread(first.wait, 10)
        slow._stopping.set()  # so that only the other one takes it the second time
        await asyncio.sleep(0.4)
        await bench.consumer().run_until_empty()
        assert first.is_set()
        assert not running.done()
        second_done.set()
        await running

    asyncio.run(run())
    assert list(creates(bench).values()) == [1]
    assert bench.queue.depth() == Depth(0, 0, 0)
    bench.close()


def test_a_message_past_its_deadline_is_given_up_with_the_reason() -> None:
    async def do(message: Message, border: Border) -> Verdict:
        await asyncio.sleep(30)
        return Verdict.ack()

    queue = CountingQueue(["slow"], max_receive=2)
    consume(queue, FakeWorker(do), deadline_s=0.1, max_receive=2)
    assert queue.dead == ["not done within 0.1 s"]


def test_a_message_that_only_waited_for_others_is_queued_as_new_at_its_deadline() -> None:
    tries = []

    async def do(message: Message, border: Border) -> Verdict:
        tries.append(message.attempt)
        if len(tries) < 4:
            with border.waiting():
                await asyncio.sleep(30)
        return Verdict.ack()

    queue = CountingQueue(["held back"], max_receive=2)
    consume(queue, FakeWorker(do), deadline_s=0.05, max_receive=2)
    assert tries == [1, 1, 1, 1]
    assert queue.dead == []


def test_a_worker_that_breaks_does_not_take_the_loop_with_it() -> None:
    async def do(message: Message, border: Border) -> Verdict:
        if message.body == "bad":
            raise RuntimeError("a fault of ours")
        return Verdict.ack()

    queue = CountingQueue(["bad", "good"], max_receive=2)
    worker = FakeWorker(do)
    consume(queue, worker, max_receive=2)
    assert worker.ended == ["good"]
    assert queue.dead == ["RuntimeError: a fault of ours"]


# ---- stopping ----


def test_a_stop_lets_what_is_in_work_end_and_receives_no_more() -> None:
    async def do(message: Message, border: Border) -> Verdict:
        await asyncio.sleep(0.2)
        return Verdict.ack()

    queue = CountingQueue([str(number) for number in range(10)])
    worker = FakeWorker(do)

    async def run() -> None:
        consumer = Consumer(queue, worker, ConsumerLimits(in_flight=2, lease_s=1, wait_s=0.02))
        running = asyncio.create_task(consumer.run())
        await asyncio.sleep(0.1)
        consumer.stop()
        await asyncio.wait_for(running, 5)
        assert consumer.held == 0

    asyncio.run(run())
    assert len(worker.ended) == len(worker.begun) == 2
    assert (len(queue.ready), queue.out) == (8, {})


def test_what_does_not_end_within_the_drain_is_given_back() -> None:
    async def do(message: Message, border: Border) -> Verdict:
        await asyncio.sleep(30)
        return Verdict.ack()

    queue = CountingQueue(["long"])

    async def run() -> None:
        consumer = Consumer(queue, FakeWorker(do), ConsumerLimits(lease_s=1, wait_s=0.02, drain_s=0.1))
        running = asyncio.create_task(consumer.run())
        await asyncio.sleep(0.1)
        consumer.stop()
        await asyncio.wait_for(running, 5)

    asyncio.run(run())
    assert [reason for _, _, reason in queue.failed] == ["its worker was stopped"]
    assert queue.out == {}


def test_a_full_stop_in_the_middle_and_a_restart_finish_the_job(tmp_path: Path) -> None:
    bench = Bench(tmp_path, wrap=StoreAround, in_flight=2)
    bench.add_photos(30)
    spec = bench.jobs.submit({"input": {"prefix": "in/"}, "output": OUT, "recipe": RECIPE.id})

    async def stopped() -> None:
        consumer = bench.consumer()
        running = asyncio.create_task(consumer.run())
        while len(bench.outputs()) < 5:
            await asyncio.sleep(0.02)
        consumer.stop()
        await running

    asyncio.run(stopped())
    assert bench.jobs.progress(spec.id).state == "running"
    bench.queue.close()
    again = Bench(tmp_path, wrap=StoreAround)
    again.run()
    progress = again.jobs.progress(spec.id)
    assert (progress.state, progress.tally.success) == ("succeeded", 30)
    assert len(again.outputs()) == 30
    bench.close()
    again.close()


def test_a_shard_stopped_at_its_border_many_times_is_never_a_dead_letter(tmp_path: Path) -> None:
    bench = Bench(tmp_path, in_flight=1, border_s=0.15, max_receive=2)
    bench.add_photos(25)
    spec = bench.jobs.submit({"input": {"keys": [f"in/{n:04d}.jpg" for n in range(25)]}, "recipe": RECIPE.id})
    bench.run()
    assert bench.jobs.progress(spec.id).tally.success == 25
    assert bench.queue.depth().dead == 0
    bench.close()


# ---- the queue away ----


def test_a_queue_that_is_away_for_a_while_is_waited_for() -> None:
    since = time.monotonic()

    def trouble(call: str) -> None:
        if time.monotonic() - since < 0.8:
            raise QueueUnavailable("no answer", retry_after_s=5)

    async def do(message: Message, border: Border) -> Verdict:
        return Verdict.ack()

    queue = CountingQueue(["a", "b"])
    queue.trouble = trouble
    worker = FakeWorker(do)
    consume(queue, worker)
    assert sorted(worker.ended) == ["a", "b"]
    assert queue.out == {}


def test_a_queue_that_is_away_when_the_work_ends_is_told_again() -> None:
    failures = iter([True, True])

    def trouble(call: str) -> None:
        if call == "ack" and next(failures, False):
            raise QueueUnavailable("no answer", retry_after_s=5)

    async def do(message: Message, border: Border) -> Verdict:
        return Verdict.ack()

    queue = CountingQueue(["a"])
    queue.trouble = trouble
    worker = FakeWorker(do)
    consume(queue, worker)
    assert worker.ended == ["a"]


def test_a_heartbeat_outlasts_a_short_outage_of_the_queue() -> None:
    failures = iter([True])

    def trouble(call: str) -> None:
        if call == "extend" and next(failures, False):
            raise QueueUnavailable("no answer", retry_after_s=5)

    async def do(message: Message, border: Border) -> Verdict:
        await asyncio.sleep(0.7)
        return Verdict.ack()

    queue = CountingQueue(["a"])
    queue.trouble = trouble
    worker = FakeWorker(do)
    consume(queue, worker, lease_s=0.6)
    assert worker.ended == ["a"]


# ---- fair to others ----


def test_pauses_grow_are_bounded_and_differ_between_workers() -> None:
    patience = Patience()
    for attempt, most in ((1, 5), (2, 10), (3, 20), (4, 40), (20, 300)):
        found = {patience.for_message(attempt) for _ in range(20)}
        assert all(most / 2 <= pause <= most for pause in found)
        assert len(found) > 10
    assert all(patience.in_place(30) <= patience.overload_most_s for _ in range(20))


def test_the_settings_defaults_fit_each_other() -> None:
    limits, settings = ConsumerLimits(), WorkerSettings("m")
    assert limits.in_flight == settings.in_flight
    assert limits.max_receive == settings.max_receive
    assert limits.border_s < limits.deadline_s
    assert limits.drain_s < 100  # Serve's graceful_shutdown_timeout_s
    assert settings.item_s < limits.deadline_s - limits.border_s
