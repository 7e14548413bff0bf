"""Bulk work on real S3 servers: moto counts strictly, Swift lets several racing creators win. And what both stores and
a folder have in common of the calls that only bulk work makes."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mattehorn.bulk.item import run_item
from mattehorn.bulk.job_results import manifest_lines, results_zip
from mattehorn.bulk.messages import object_message
from mattehorn.bulk.places import Place, Places, refuse_loop
from mattehorn.bulk.plan import Plan
from mattehorn.errors import OptionError
from mattehorn.settings import StoreSettings
from mattehorn.store.open import (
    LocalStore,
    S3Store,
    Store,
    StoreKeyChanged,
    StoreKeyMissing,
    bucket_and_key,
    open_bucket,
    s3_client,
)

from ..bulk_bench import JPEG, POISON, RECIPE, Bench, event, fake_cut_out, photo
from .conftest import BUCKET, SetKeys, settings_for
from .swift import S3Server

PNG = "image/png"
ODD_KEYS = ["a b.jpg", "c+d.jpg", "100%.jpg", "e%20f.jpg", "红 裙/ü.jpg", "q?x=1&y.jpg"]


@pytest.fixture(params=["folder", "moto", "swift"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return LocalStore(tmp_path / "store")
    set_keys: SetKeys = request.getfixturevalue("set_keys")
    server: S3Server = request.getfixturevalue(f"{request.param}_s3")
    set_keys(server)
    settings = settings_for(server)
    return S3Store(s3_client(settings), *bucket_and_key(settings.url, settings))


@pytest.fixture
def bench(s3_server: S3Server, tmp_path: Path) -> Iterator[Bench]:
    """Results, photos and jobs in one bucket, under a prefix of the test's own."""
    made = Bench(tmp_path, settings=settings_for(s3_server), in_flight=8)
    yield made
    made.close()


# ---- what every home of objects has in common ----


def test_an_open_object_tells_its_head_before_its_bytes(store: Store) -> None:
    data = bytes(range(256)) * 3000
    store.put("k/a.bin", data, content_type=PNG, metadata={"n": "ü"})
    head = store.head("k/a.bin")
    assert head is not None
    with store.open("k/a.bin", head.etag) as opened:
        assert (opened.head.size, opened.head.etag, opened.head.metadata) == (len(data), head.etag, {"n": "ü"})
        assert opened.read() == data
    with store.open("k/a.bin") as opened:
        pieces = list(opened.chunks(100_000))
    assert b"".join(pieces) == data
    assert len(pieces) > 3


def test_opening_what_is_not_there_or_has_changed_is_refused(store: Store) -> None:
    with pytest.raises(StoreKeyMissing):
        store.open("none")
    store.put("k", b"x", content_type=PNG)
    with pytest.raises(StoreKeyChanged):
        store.open("k", "another-etag")


def test_folders_are_one_level_in_order_and_in_pages(store: Store) -> None:
    for key in ("j/a/1", "j/a/2/x", "j/b-c/1", "j/b/1", "j/file", "other/z"):
        store.put(key, b"", content_type=PNG)
    assert list(store.folders("j/")) == ["a", "b-c", "b"]
    assert list(store.folders("j/", "a")) == ["b-c", "b"]
    assert list(store.folders("j/a/")) == ["2"]
    assert list(store.folders("nothing/")) == []


def test_the_probe_lies_where_the_result_goes_and_is_gone_again(store: Store) -> None:
    store.put("deep/er/photo.png", b"x", create=True, content_type=PNG)
    assert list(store.list("")) == ["deep/er/photo.png"]


@pytest.mark.s3
def test_a_probe_beside_a_very_long_key_still_fits(s3_server: S3Server) -> None:
    settings = settings_for(s3_server)
    store = S3Store(s3_client(settings), *bucket_and_key(settings.url, settings))
    key = "/".join(["d" * 120] * 8)
    assert store.put(key, b"x", create=True, content_type=PNG)


# ---- places ----


def test_places_are_read_and_written_back(tmp_path: Path) -> None:
    places = Places(StoreSettings(url=f"file://{tmp_path}/results"))
    assert places.parse("s3://photos/in/a b+%.jpg", "x") == Place("photos", "in/a b+%.jpg")
    assert places.parse(f"file://{tmp_path}/results/in/a.jpg", "x") == Place("", "in/a.jpg")
    assert places.parse(f"file://{tmp_path}/results/in/", "x") == Place("", "in/")
    assert places.parse(f"file://{tmp_path}/results/", "x") == Place("", "")
    assert places.parse("in/a.jpg", "x") == Place("", "in/a.jpg")
    assert str(Place("photos", "in/a.jpg")) == "s3://photos/in/a.jpg"
    in_bucket = Places(StoreSettings(url="s3://home/pre/fix", endpoint_url="http://127.0.0.1:1"))
    assert in_bucket.parse("in/a.jpg", "x") == Place("home", "pre/fix/in/a.jpg")
    assert in_bucket.is_state("home", "pre/fix/jobs/x/spec.json")
    assert not in_bucket.is_state("home", "jobs/x/spec.json")


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd",
        "file://{root}/results/../secret",
        "file://{root}/results-too/a.jpg",
        "file://relative/a.jpg",
        "s3://",
        "s3://b/a.jpg",
        "https://host/a.jpg",
    ],
)
def test_a_place_outside_is_refused(tmp_path: Path, text: str) -> None:
    places = Places(StoreSettings(url=f"file://{tmp_path}/results"))
    with pytest.raises(OptionError) as refused:
        places.parse(text.replace("{root}", str(tmp_path)), "input")
    assert refused.value.data["field"] == "input"


def test_a_link_out_of_the_results_folder_is_no_way_out(tmp_path: Path) -> None:
    places = Places(StoreSettings(url=f"file://{tmp_path}/results"))
    (tmp_path / "secret").mkdir()
    (tmp_path / "results" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OptionError):
        places.parse(f"file://{tmp_path}/results/link/a.jpg", "input")


def test_only_allowed_buckets_are_named(tmp_path: Path) -> None:
    places = Places(StoreSettings(url="s3://home/x", endpoint_url="http://127.0.0.1:1"), allowed=["photos"])
    assert places.parse("s3://home/a", "x").bucket == "home"
    assert places.parse("s3://photos/a", "x").bucket == "photos"
    with pytest.raises(OptionError):
        places.parse("s3://other/a", "x")


def test_a_folder_without_its_name_cannot_be_opened_beside_a_bucket() -> None:
    with pytest.raises(ValueError, match="bucket"):
        open_bucket("", StoreSettings(url="s3://home/x"))


@pytest.mark.parametrize("output", ["in/", "in/out/", "in", ""])
def test_a_loop_is_seen_in_one_bucket_and_not_between_two(output: str) -> None:
    with pytest.raises(OptionError):
        refuse_loop(Place("a", "in/"), Place("a", output))
    refuse_loop(Place("a", "in/"), Place("b", output))


# ---- the whole way ----


@pytest.mark.s3
def test_a_job_over_a_bucket_with_odd_keys_and_poison(bench: Bench) -> None:
    for number, key in enumerate(ODD_KEYS):
        bench.home.put(f"in/{key}", photo(number), content_type=JPEG)
    for name, data in POISON.items():
        bench.home.put(f"in/{name}", data, content_type=JPEG)
    base = f"s3://{BUCKET}/{bench.places.home_place.key}"
    spec = bench.jobs.submit(
        {"input": {"prefix": f"{base}in/"}, "output": f"{base}out/", "recipe": "marketplace-white"}
    )
    bench.run(within_s=120)
    progress = bench.jobs.progress(spec.id)
    assert (progress.state, progress.tally.success, progress.tally.failed) == ("succeeded", len(ODD_KEYS), len(POISON))
    assert len(bench.outputs()) == len(ODD_KEYS)
    lines = [json.loads(line) for line in manifest_lines(bench.jobs, spec.id)]
    assert {line["source"] for line in lines if line["output"]} == {f"{base}in/{key}" for key in ODD_KEYS}
    assert sum(1 for _ in results_zip(bench.jobs, spec.id)) > len(ODD_KEYS)
    assert bench.queue.depth().ready + bench.queue.depth().leased + bench.queue.depth().dead == 0
    assert list(bench.jobs.ids()) == [spec.id]


@pytest.mark.s3
def test_every_message_three_times_with_three_consumers_makes_one_object_a_photo(bench: Bench) -> None:
    keys = bench.add_photos(10)
    base = bench.places.home_place
    bodies = [object_message(event(base.key + key, bucket=BUCKET), RECIPE.id, "out/") for key in keys]
    bench.queue.send_many(bodies * 3)

    async def run() -> None:
        async with asyncio.timeout(120):
            await asyncio.gather(*(bench.consumer().run_until_empty() for _ in range(3)))

    asyncio.run(run())
    assert len(bench.outputs()) == 10
    assert bench.queue.depth().ready + bench.queue.depth().leased + bench.queue.depth().dead == 0


@pytest.mark.s3
def test_sixteen_workers_on_one_photo_leave_one_whole_object(bench: Bench) -> None:
    bench.add_photos(1)
    base = bench.places.home_place
    plan = Plan(RECIPE, base.below("out/"), "model")
    whole = bench.places.store(BUCKET)
    ref = event(f"{base.key}in/0000.jpg", bucket=BUCKET)

    async def race() -> set[tuple[str | None, str | None]]:
        with ThreadPoolExecutor(16) as threads:
            work = (run_item(ref, plan, whole, whole, fake_cut_out, threads=threads) for _ in range(16))
            return {(outcome.output, outcome.sha256) for outcome in await asyncio.gather(*work)}

    ((output, _),) = asyncio.run(race())
    assert [base.key + key for key in bench.outputs()] == [output]


@pytest.mark.s3
def test_in_a_versioned_bucket_each_version_is_read_as_its_event_named_it(
    moto_s3: S3Server, set_keys: SetKeys, tmp_path: Path
) -> None:
    set_keys(moto_s3)
    settings = settings_for(moto_s3)
    bucket = f"versioned-{secrets.token_hex(4)}"
    client = s3_client(settings)
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    versions = [client.put_object(Bucket=bucket, Key="in/a.jpg", Body=photo(n))["VersionId"] for n in range(2)]
    places = Places(settings)
    store = places.store(bucket)
    plan = Plan(RECIPE, Place(bucket, "out/"), "model")

    def done(version: str | None) -> str:
        ref = event("in/a.jpg", bucket=bucket, version=version)
        return asyncio.run(run_item(ref, plan, store, store, fake_cut_out)).status

    assert [done(versions[0]), done(versions[1]), done(None), done(versions[0])] == [
        "done",
        "done",
        "skipped",
        "skipped",
    ]
    assert len(list(store.list("out/"))) == 2


@pytest.mark.s3
def test_a_missing_bucket_is_no_error_of_the_photo(bench: Bench) -> None:
    bench.queue.send_many([object_message(event("a.jpg", bucket="no-such-bucket"), RECIPE.id, "out/")])
    bench.run()
    assert "NoSuchBucket" in bench.queue.dead_letters(1)[0].reason
    assert bench.outputs() == []
