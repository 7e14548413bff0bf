"""The loop around the queue: bounds, leases, heartbeats, messages that kill."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mattehorn.bulk.consumer import SUSPECT_LEASES, Consumer, ConsumerLimits
from mattehorn.bulk.patience import Border, Patience
from mattehorn.bulk.verdict import Verdict
from mattehorn.bulk.worker import WorkerSettings
from mattehorn.pipeline import Result
from mattehorn.queue.interface import LEASES_MOST, Depth, Message
from mattehorn.queue.sqlite import SqliteQueue
from mattehorn.recipe.gate import Wish

from .bulk_bench import (
    RECIPE,
    Bench,
    Recorder,
    StoreAround,
    creates,
    fake_cut_out,
    message,
    recorded,
)
from .bulk_fakes import CountingQueue, FakeWorker, consume


@pytest.fixture(autouse=True)
def counted() -> Iterator[Recorder]:
    with recorded() as recorder:
        yield recorder


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

    async def cut_out(data: bytes, wish: Wish) -> Result:
        if not first.is_set():
            first.set()
            await asyncio.to_thread(second_done.wait, 10)
        return await fake_cut_out(data, wish)

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


# ---- messages that kill ----


class Deaths:
    """Consumers on one SQLite queue whose clock is the test's; the message `killer` kills the one that works on it."""

    def __init__(self, folder: Path, in_flight: int) -> None:
        self.now, self.killed, self.done = 1_000_000.0, 0, Counter[str]()
        self.queue = SqliteQueue(folder / "queue.db", lease_s=60, max_receive=5, clock=lambda: self.now)
        self._limits = ConsumerLimits(in_flight=in_flight, lease_s=60, wait_s=0.01, drain_s=0.0)

    async def live_once(self) -> None:
        """One consumer's life: to its death, or until the queue is empty. A dead one says nothing to the queue."""
        dies = asyncio.Event()

        async def do(message: Message, border: Border) -> Verdict:
            if message.body == "killer":
                dies.set()
                await asyncio.sleep(600)
            await asyncio.sleep(0)  # whoever began before the killer, and not yet ended, goes down with it
            if dies.is_set():
                await asyncio.sleep(600)
            self.done[message.body] += 1
            return Verdict.ack()

        consumer = Consumer(self.queue, FakeWorker(do), self._limits)

        async def silence(message: Message) -> None:
            return None

        consumer._give_back = silence  # type: ignore[method-assign]
        running, death = asyncio.create_task(consumer.run_until_empty()), asyncio.create_task(dies.wait())
        await asyncio.wait([running, death], return_when=asyncio.FIRST_COMPLETED)
        self.killed += dies.is_set()
        for task in (running, death):
            task.cancel()
        await asyncio.gather(running, death, return_exceptions=True)
        self.now += 61


def test_a_message_that_kills_its_workers_ends_and_takes_no_other_with_it(tmp_path: Path) -> None:
    random.seed(4)  # of the order in which suspects are worked on
    deaths = Deaths(tmp_path, in_flight=8)
    others = [f"photo {number}" for number in range(7)]
    deaths.queue.send_many([*others[:3], "killer", *others[3:]])

    async def until_empty() -> None:
        async with asyncio.timeout(60):
            while (depth := deaths.queue.depth()).ready or depth.leased:
                await deaths.live_once()

    asyncio.run(until_empty())
    assert deaths.killed == LEASES_MOST
    assert [letter.body for letter in deaths.queue.dead_letters(9)] == ["killer"]
    assert set(deaths.done) == set(others)
    deaths.queue.close()


def test_messages_that_came_back_often_are_worked_on_one_at_a_time() -> None:
    at_once, most = Counter[bool](), Counter[bool]()

    async def do(message: Message, border: Border) -> Verdict:
        suspect = message.leases >= SUSPECT_LEASES
        at_once[suspect] += 1
        most[suspect] = max(most[suspect], at_once[suspect])
        await asyncio.sleep(0.02)
        at_once[suspect] -= 1
        return Verdict.ack()

    class Worn(CountingQueue):
        def receive(self, limit: int, wait_s: float = 0.0) -> list[Message]:
            found = super().receive(limit, wait_s)
            return [replace(m, leases=SUSPECT_LEASES) if m.body.startswith("worn") else m for m in found]

    queue = Worn([f"{kind} {number}" for number in range(5) for kind in ("worn", "new")])
    consume(queue, FakeWorker(do), in_flight=10)
    assert (most[True], most[False]) == (1, 5)
    assert queue.out == {}


# ---- pauses, limits ----


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
