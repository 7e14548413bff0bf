"""The loop around the queue when it is stopped, and when the queue is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mattehorn.bulk.consumer import Consumer, ConsumerLimits
from mattehorn.bulk.patience import Border
from mattehorn.bulk.verdict import Verdict
from mattehorn.errors import QueueUnavailable
from mattehorn.queue.interface import Message

from .bulk_bench import (
    OUT,
    RECIPE,
    Bench,
    Recorder,
    StoreAround,
    recorded,
)
from .bulk_fakes import CountingQueue, FakeWorker, consume


@pytest.fixture(autouse=True)
def counted() -> Iterator[Recorder]:
    with recorded() as recorder:
        yield recorder


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
    assert (queue.released, queue.failed) == (["0"], [])
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
