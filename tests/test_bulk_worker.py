"""Messages worked on, on the real SQLite queue: nothing lost, nothing double, poison set aside, others let go first."""

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

from mattehorn import telemetry
from mattehorn.bulk.job_results import manifest_lines
from mattehorn.bulk.messages import listing_message, object_message, parse_message, shard_message, webhook_message
from mattehorn.bulk.worker import Route, check_routes
from mattehorn.errors import EventError, OptionError, Overloaded, StoreUnavailable
from mattehorn.options import Options
from mattehorn.pipeline import Result
from mattehorn.queue_interface import Depth, Message
from mattehorn.recipe import Recipe

from .bulk_bench import (
    JPEG,
    POISON,
    POISON_CODES,
    RECIPE,
    Bench,
    EveryCreatorWins,
    Recorder,
    StoreAround,
    event,
    fake_cut_out,
    photo,
)

OUT = "out/"


def notification(*keys: str, name: str = "ObjectCreated:Put") -> str:
    """An S3 notification of objects in the bucket `photos`."""
    records = [
        {"eventName": name, "eventSource": "aws:s3", "s3": {"bucket": {"name": "photos"}, "object": {"key": key}}}
        for key in keys
    ]
    return json.dumps({"Records": records})


def message(key: str, **more: Any) -> str:
    return object_message(event(key, **more), RECIPE.id, OUT)


@pytest.fixture(autouse=True)
def counted() -> Iterator[Recorder]:
    before = telemetry._backend
    recorder = Recorder()
    telemetry.use(recorder)
    yield recorder
    telemetry._backend = before


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, wrap=StoreAround)
    yield made
    made.close()


def creates(bench: Bench, folder: str = OUT) -> dict[str, int]:
    """Successful creates by key, as the store counted them."""
    store: Any = bench.places.home
    return {key: count for key, count in store.created.items() if key.startswith(folder)}


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
    bench = Bench(tmp_path, wrap=StoreAround, lease_s=0.4, max_receive=50)
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


# ---- poison messages, notifications ----


@pytest.mark.parametrize(
    "body",
    [
        "no json",
        "{}",
        "[1]",
        '"text"',
        '{"mattehorn": 2, "kind": "object"}',
        '{"mattehorn": 1, "kind": "dance"}',
        '{"mattehorn": 1, "kind": "shard", "job": "x"}',
        '{"mattehorn": 1, "kind": "shard", "job": "x", "shard": true}',
        '{"mattehorn": 1, "kind": "listing", "job": "00000000000000000000000000"}',
        '{"mattehorn": 1, "kind": "object", "ref": {}, "recipe": "transparent-web", "output": "out/"}',
        object_message(event("a.jpg"), "no-recipe", OUT),
        object_message(event("a.jpg"), RECIPE.id, "http://out/"),
        object_message(event("a.jpg"), RECIPE.id, OUT, {"formt": 1}),
        "[" * 100_000,
    ],
    ids=lambda body: body[:50],
)
def test_a_poison_message_becomes_a_dead_letter_with_its_reason(bench: Bench, counted: Recorder, body: str) -> None:
    bench.queue.send_many([body])
    bench.run()
    (letter,) = bench.queue.dead_letters(10)
    assert letter.body == body
    assert letter.reason.startswith(("invalid_", "not_found", "unknown_"))
    assert bench.queue.depth() == Depth(0, 0, 1)
    assert counted.counts["poison"] == 1


def test_our_messages_come_back_as_they_were_written() -> None:
    ref = event("in/红 +%.jpg", bucket="photos", etag="e", version="v", size=3)
    work = parse_message(object_message(ref, "a@1", "s3://b/o/", {"encode_quality": 80}))
    assert (work.ref, work.recipe, work.output, work.options) == (  # type: ignore[union-attr]
        ref,
        "a@1",
        "s3://b/o/",
        {"encode_quality": 80},
    )
    for body, kind in ((listing_message("j"), "listing"), (webhook_message("j"), "webhook")):
        assert (parse_message(body).kind, parse_message(body).job) == (kind, "j")  # type: ignore[union-attr]
    assert parse_message(shard_message("j", 7)).shard == 7  # type: ignore[union-attr]
    with pytest.raises(EventError):
        parse_message("{")


def routed(folder: Path, *routes: tuple[str, str], **more: Any) -> Bench:
    """A bench whose bucket `photos` is a store of its own."""
    bench = Bench(folder, **more)
    bench.places._stores["photos"] = bench.home
    bench.routes = [
        Route(bench.places.parse(source, "x"), RECIPE, bench.places.parse(output, "x").folder)
        for source, output in routes
    ]
    return bench


def test_a_stores_own_notification_goes_by_its_route(tmp_path: Path, counted: Recorder) -> None:
    bench = routed(tmp_path, ("s3://photos/in/", "s3://photos/out/"))
    bench.add_photos(3)
    bench.queue.send_many(
        [
            notification("in/0000.jpg", "in/0001.jpg", "other/x.jpg", "in/folder/"),
            notification("in/0002.jpg", name="ObjectRemoved:Delete"),
            json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "now", "Bucket": "photos"}),
        ]
    )
    bench.run()
    assert [key.split(".")[0] for key in bench.outputs()] == ["out/in/0000", "out/in/0001"]
    assert (counted.counts["done"], counted.counts["ignored"]) == (2, 4)
    assert bench.queue.depth() == Depth(0, 0, 0)
    bench.close()


def test_of_a_notification_with_a_bad_and_a_good_photo_both_end_and_the_message_too(tmp_path: Path) -> None:
    bench = routed(tmp_path, ("s3://photos/in/", "s3://photos/out/"))
    bench.add_photos(1)
    bench.home.put("in/text.jpg", b"text", content_type=JPEG)
    bench.queue.send_many([notification("in/0000.jpg", "in/text.jpg", "in/gone.jpg")])
    bench.run()
    assert len(bench.outputs()) == 1
    assert len(list(bench.home.list("out/errors/"))) == 1
    assert bench.queue.depth() == Depth(0, 0, 0)
    bench.close()


def test_an_event_of_a_result_is_no_photo_even_if_somebody_sends_it(bench: Bench, counted: Recorder) -> None:
    bench.queue.send_many([message("out/in/0000.jpg.0123456789ab.webp"), message("jobs/x/spec.json")])
    bench.run()
    assert counted.counts["loop"] == 2
    assert bench.outputs() == []


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ([("s3://photos/", "s3://photos/out/")], "overlap"),
        ([("s3://photos/a/", "s3://photos/b/"), ("s3://photos/b/", "s3://photos/c/")], "overlap"),
        ([("s3://photos/in/", "jobs/mine/")], "state"),
    ],
)
def test_routes_that_would_feed_themselves_are_refused_at_the_start(
    bench: Bench, routes: list[tuple[str, str]], said: str
) -> None:
    made = [Route(bench.places.parse(a, "x"), RECIPE, bench.places.parse(b, "x")) for a, b in routes]
    with pytest.raises(OptionError, match=said):
        check_routes(made, bench.places)


def test_a_route_whose_keys_need_a_job_is_refused_at_the_start(bench: Bench) -> None:
    dated = Recipe("dated", 1, {}, "{run:%Y}/{key}.{h}.{ext}")
    with pytest.raises(OptionError, match="key template"):
        check_routes(
            [Route(bench.places.parse("s3://photos/", "x"), dated, bench.places.parse("out/", "x"))], bench.places
        )


# ---- what may pass ----


def test_a_full_service_is_waited_for_in_place_and_costs_no_attempt(tmp_path: Path, counted: Recorder) -> None:
    refused = []

    async def cut_out(data: bytes, options: Options) -> Result:
        if len(refused) < 12:
            refused.append(1)
            raise Overloaded("full", retry_after_s=1)
        return await fake_cut_out(data, options)

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

    async def cut_out(data: bytes, options: Options) -> Result:
        calls.append(1)
        if len(calls) <= 7:
            raise RuntimeError("an actor died")
        return await fake_cut_out(data, options)

    bench = Bench(tmp_path, cut_out=cut_out)
    bench.add_photos(1)
    bench.queue.send_many([message("in/0000.jpg")])
    bench.run()
    assert len(calls) == 8
    assert len(bench.outputs()) == 1
    bench.close()


def test_what_never_passes_is_a_dead_letter_with_its_reason_and_no_error_object(tmp_path: Path) -> None:
    async def cut_out(data: bytes, options: Options) -> Result:
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

    async def cut_out(data: bytes, options: Options) -> Result:
        if broken[0]:
            raise RuntimeError("down")
        return await fake_cut_out(data, options)

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
    async def cut_out(data: bytes, options: Options) -> Result:
        if data == photo(3):
            raise RuntimeError("it kills its worker")
        return await fake_cut_out(data, options)

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

    async def cut_out(data: bytes, options: Options) -> Result:
        begun.append(time.monotonic())
        return await fake_cut_out(data, options)

    bench = Bench(tmp_path, cut_out=cut_out, permit=permit)
    bench.add_photos(6)
    bench.jobs.submit({"input": {"prefix": "in/"}, "output": OUT, "recipe": RECIPE.id})
    bench.run()
    assert min(begun) >= open_at
    assert len(begun) == 6
    assert len(asked) >= 6
    bench.close()
