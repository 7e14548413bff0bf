"""Messages worked on, on the real SQLite queue: nothing lost, nothing double, others let go first."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mattehorn.bulk.job_results import manifest_lines
from mattehorn.errors import Overloaded, StoreUnavailable
from mattehorn.pipeline import Result
from mattehorn.queue.interface import Depth, Message
from mattehorn.recipe.gate import Wish

from .bulk_bench import (
    JPEG,
    OUT,
    POISON,
    POISON_CODES,
    RECIPE,
    Bench,
    EveryCreatorWins,
    Recorder,
    StoreAround,
    Written,
    creates,
    fake_cut_out,
    message,
    photo,
    recorded,
)


@pytest.fixture(autouse=True)
def counted() -> Iterator[Recorder]:
    with recorded() as recorder:
        yield recorder


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, wrap=StoreAround)
    yield made
    made.close()


# ---- exactly once ----


def test_every_message_three_times_and_out_of_order_makes_every_result_once(bench: Bench, counted: Recorder) -> None:
    keys = bench.add_photos(15)
    for name, data in POISON.items():
        bench.home.put(f"in/{name}", data, content_type=JPEG)
        keys.append(f"in/{name}")
    bodies = [message(key) for key in keys] * 3
    random.Random(4).shuffle(bodies)
    bench.queue.send_many(bodies)
    bench.run()
    assert len(bench.outputs()) == 15
    errors = [json.loads(bench.home.get(key)) for key in bench.home.list(f"{OUT}errors/")]
    assert {error["source"]: error["code"] for error in errors} == {
        f"in/{name}": code for name, code in POISON_CODES.items()
    }
    assert set(creates(bench).values()) == {1}
    assert bench.queue.depth() == Depth(0, 0, 0)
    assert (counted.counts["done"], counted.counts["error"], counted.counts["skipped"]) == (15, 4, 38)


def test_two_jobs_and_events_of_the_same_bad_photos_write_equal_records(tmp_path: Path) -> None:
    bench = Bench(tmp_path, wrap=Written)
    for name, data in POISON.items():
        bench.home.put(f"in/{name}", data, content_type=JPEG)
    jobs = [bench.jobs.submit({"input": {"prefix": "in/"}, "output": OUT, "recipe": RECIPE.id}) for _ in range(2)]
    bench.queue.send_many([message(f"in/{name}") for name in POISON])
    bench.run()
    assert [bench.jobs.progress(job.id).tally.failed for job in jobs] == [len(POISON)] * 2
    store = bench.places.home
    assert isinstance(store, Written)
    records = {key: data for key, data in store.written.items() if key.startswith(f"{OUT}errors/")}
    assert len(records) == len(POISON)
    assert {(len(data), len(set(data))) for data in records.values()} == {(3, 1)}
    bench.close()


def test_three_consumers_on_one_queue_share_the_work_and_repeat_none_of_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, wrap=EveryCreatorWins)
    keys = bench.add_photos(12)
    bench.queue.send_many([message(key) for key in keys] * 2)

    async def run() -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(*(bench.consumer().run_until_empty() for _ in range(3)))

    asyncio.run(run())
    assert len(bench.outputs()) == 12
    digests = {bench.home.head(key).metadata["sha256"] for key in bench.outputs()}  # type: ignore[union-attr]
    assert len(digests) == 12
    assert bench.queue.depth() == Depth(0, 0, 0)
    bench.close()


def test_consumers_killed_at_random_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """A kill is a cancelled run whose leases are left behind: nothing is acked, given back or cleaned up."""
    bench = Bench(tmp_path, wrap=StoreAround, lease_s=0.4)
    bench.add_photos(40)
    spec = bench.jobs.submit({"input": {"prefix": "in/"}, "output": OUT, "recipe": RECIPE.id})
    chance = random.Random(7)

    async def killed() -> None:
        consumer = bench.consumer()
        running = asyncio.create_task(consumer.run())
        await asyncio.sleep(chance.uniform(0.1, 0.4))

        async def nothing(*arguments: Any) -> None:
            return None

        consumer._give_back = nothing  # type: ignore[method-assign]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    for _ in range(10):
        asyncio.run(killed())
    bench.run()
    progress = bench.jobs.progress(spec.id)
    assert (progress.state, progress.tally.done, progress.tally.failed) == ("succeeded", 40, 0)
    assert len(bench.outputs()) == 40
    assert set(creates(bench).values()) == {1}
    sources = [json.loads(line)["source"] for line in manifest_lines(bench.jobs, spec.id)]
    assert len(sources) == len(set(sources)) == 40
    assert bench.queue.depth() == Depth(0, 0, 0)
    bench.close()


def test_killed_between_put_and_ack_the_message_comes_again_and_is_found_done(tmp_path: Path) -> None:
    bench = Bench(tmp_path, wrap=StoreAround, lease_s=0.3)
    key = bench.add_photos(1)[0]
    bench.queue.send_many([message(key)])
    acked: list[str] = []
    original = bench.queue.ack

    def ack(message: Message) -> bool:
        acked.append(message.receipt)
        if len(acked) == 1:
            raise asyncio.CancelledError  # the process ends here
        return original(message)

    bench.queue.ack = ack  # type: ignore[method-assign]
    bench.run()
    assert len(acked) == 2
    assert set(creates(bench).values()) == {1}
    assert bench.queue.depth() == Depth(0, 0, 0)
    bench.close()


# ---- what may pass ----


def test_a_full_service_is_waited_for_in_place_and_costs_no_attempt(tmp_path: Path, counted: Recorder) -> None:
    refused = []

    async def cut_out(data: bytes, wish: Wish) -> Result:
        if len(refused) < 12:
            refused.append(1)
            raise Overloaded("full", retry_after_s=1)
        return await fake_cut_out(data, wish)

    bench = Bench(tmp_path, cut_out=cut_out, max_receive=1, in_flight=2)
    bench.add_photos(2)
    bench.queue.send_many([message("in/0000.jpg"), message("in/0001.jpg")])
    bench.run()
    assert len(bench.outputs()) == 2
    assert bench.queue.depth() == Depth(0, 0, 0)
    assert counted.counts["retry"] == 12
    bench.close()


def test_a_photo_that_fails_for_a_while_comes_back_with_growing_pauses(tmp_path: Path) -> None:
    calls = []

    async def cut_out(data: bytes, wish: Wish) -> Result:
        calls.append(1)
        if len(calls) <= 7:
            raise RuntimeError("an actor died")
        return await fake_cut_out(data, wish)

    bench = Bench(tmp_path, cut_out=cut_out)
    bench.add_photos(1)
    bench.queue.send_many([message("in/0000.jpg")])
    bench.run()
    assert len(calls) == 8
    assert len(bench.outputs()) == 1
    bench.close()


def test_what_never_passes_is_a_dead_letter_with_its_reason_and_no_error_object(tmp_path: Path) -> None:
    async def cut_out(data: bytes, wish: Wish) -> Result:
        raise StoreUnavailable("The results store refused to read (403 AccessDenied).", retry_after_s=30)

    bench = Bench(tmp_path, cut_out=cut_out, max_receive=2)
    bench.add_photos(1)
    bench.queue.send_many([message("in/0000.jpg")])
    bench.run()
    assert "403" in bench.queue.dead_letters(1)[0].reason
    assert list(bench.home.list(OUT)) == []
    bench.close()


def test_after_a_redrive_the_dead_letters_are_done(tmp_path: Path) -> None:
    broken = [True]

    async def cut_out(data: bytes, wish: Wish) -> Result:
        if broken[0]:
            raise RuntimeError("down")
        return await fake_cut_out(data, wish)

    bench = Bench(tmp_path, cut_out=cut_out, max_receive=2)
    bench.add_photos(8)
    spec = bench.jobs.submit({"input": {"prefix": "in/"}, "output": OUT, "recipe": RECIPE.id})
    bench.run()
    assert bench.queue.depth().dead == 1
    assert bench.jobs.progress(spec.id).state == "running"
    broken[0] = False
    bench.queue.redrive()
    bench.run()
    assert bench.jobs.progress(spec.id).tally.success == 8
    bench.close()


def test_one_photo_that_always_fails_does_not_hold_its_job_for_ever(tmp_path: Path, counted: Recorder) -> None:
    async def cut_out(data: bytes, wish: Wish) -> Result:
        if data == photo(3):
            raise RuntimeError("it kills its worker")
        return await fake_cut_out(data, wish)

    bench = Bench(tmp_path, cut_out=cut_out, max_receive=3)
    bench.add_photos(12)
    spec = bench.jobs.submit({"input": {"prefix": "in/"}, "output": OUT, "recipe": RECIPE.id})
    bench.run()
    progress = bench.jobs.progress(spec.id)
    assert (progress.state, progress.tally.success) == ("succeeded", 11)
    assert progress.document()["failed"] == [
        {"file": "in/0003.jpg", "error": "internal: Given up after 3 attempts: RuntimeError"}
    ]
    assert list(bench.home.list(f"{OUT}errors/")) == []
    assert counted.counts["gave_up"] == 1
    bench.close()


@pytest.mark.parametrize("slow", [False, True])
def test_a_store_that_fails_and_is_slow_loses_nothing(tmp_path: Path, slow: bool) -> None:
    class Flaky(StoreAround):
        chance = random.Random(1)

        def before(self, name: str, key: str) -> None:
            if threading.current_thread().name.startswith("bulk-store"):
                if slow:
                    time.sleep(0.005)
                if self.chance.random() < 0.12:
                    raise StoreUnavailable("503 SlowDown", retry_after_s=5)

    bench = Bench(tmp_path, wrap=Flaky, max_receive=30)
    keys = bench.add_photos(25)
    spec = bench.jobs.submit({"input": {"prefix": "in/"}, "output": OUT, "recipe": RECIPE.id})
    bench.queue.send_many([message(key) for key in keys])
    bench.run()
    progress = bench.jobs.progress(spec.id)
    assert (progress.state, progress.tally.done, progress.tally.failed) == ("succeeded", 25, 0)
    assert len(bench.outputs()) == 25
    assert set(creates(bench).values()) == {1}
    assert bench.queue.depth() == Depth(0, 0, 0)
    bench.close()


# ---- fair to others ----


def test_the_permit_is_awaited_before_each_photo_and_holds_all_of_them_back(tmp_path: Path) -> None:
    open_at = time.monotonic() + 0.4
    asked = []

    async def permit() -> None:
        asked.append(1)
        while time.monotonic() < open_at:
            await asyncio.sleep(0.02)

    begun = []

    async def cut_out(data: bytes, wish: Wish) -> Result:
        begun.append(time.monotonic())
        return await fake_cut_out(data, wish)

    bench = Bench(tmp_path, cut_out=cut_out, permit=permit)
    bench.add_photos(6)
    bench.jobs.submit({"input": {"prefix": "in/"}, "output": OUT, "recipe": RECIPE.id})
    bench.run()
    assert min(begun) >= open_at
    assert len(begun) == 6
    assert len(asked) >= 6
    bench.close()
