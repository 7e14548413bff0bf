"""What messages say: poison ones, a store's own notifications, and the routes that those take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mattehorn.bulk.messages import listing_message, object_message, parse_message, shard_message, webhook_message
from mattehorn.bulk.worker import Route, check_routes
from mattehorn.errors import EventError, OptionError
from mattehorn.queue.interface import Depth
from mattehorn.recipe.recipe import Recipe

from .bulk_bench import (
    JPEG,
    OUT,
    RECIPE,
    Bench,
    Recorder,
    StoreAround,
    event,
    message,
    recorded,
)


def notification(*keys: str, name: str = "ObjectCreated:Put") -> str:
    """An S3 notification of objects in the bucket `photos`."""
    records = [
        {"eventName": name, "eventSource": "aws:s3", "s3": {"bucket": {"name": "photos"}, "object": {"key": key}}}
        for key in keys
    ]
    return json.dumps({"Records": records})


@pytest.fixture(autouse=True)
def counted() -> Iterator[Recorder]:
    with recorded() as recorder:
        yield recorder


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, wrap=StoreAround)
    yield made
    made.close()


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
