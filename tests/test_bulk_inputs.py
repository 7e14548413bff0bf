"""What a job names, cut into shards without gap or double whatever dies; and every form of a manifest."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from mattehorn.bulk import inputs, listing
from mattehorn.bulk.job_spec import JobSpec, shard_size
from mattehorn.bulk.places import Place
from mattehorn.bulk.shard import part_size
from mattehorn.bulk.state import SHARDS_MOST
from mattehorn.errors import OptionError

from .bulk_bench import (
    Bench,
    StoreAround,
    body,
    messages_of,
    shards,
    small_shards,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


# ---- listing ----


class _Dies(Exception):
    """The lister's process is no more."""


@pytest.mark.parametrize("at", range(1, 14))
def test_a_lister_killed_at_any_step_is_taken_up_without_gap_or_double(tmp_path: Path, at: int) -> None:
    """Every write of the store and every send of the queue is a place to die: before it, and after it."""
    for after in (False, True):
        bench = Bench(tmp_path / str(after))
        keys = bench.add_photos(11)
        spec = small_shards(bench)
        messages_of(bench)
        steps = iter(range(1, 1000))

        def step(call: Callable[..., Any], after: bool = after, steps: Iterator[int] = steps) -> Callable[..., Any]:
            def stepped(*arguments: Any, **fields: Any) -> Any:
                number = next(steps)
                if number == at and not after:
                    raise _Dies
                answer = call(*arguments, **fields)
                if number == at:
                    raise _Dies
                return answer

            return stepped

        state = bench.jobs.state(spec.id)
        queue = bench.queue
        state.create = step(state.create)  # type: ignore[method-assign]
        queue.send_many = step(queue.send_many)  # type: ignore[method-assign]
        died = False
        try:
            listing.list_input(spec, state, bench.places, queue)
        except _Dies:
            died = True
        again = bench.jobs.state(spec.id)
        listing.list_input(spec, again, bench.places, bench.queue)
        assert died or at > 9
        assert [key for shard in shards(bench, spec.id) for key in shard] == keys
        assert [len(shard) for shard in shards(bench, spec.id)] == [3, 3, 3, 2]
        assert {shard for kind, shard in messages_of(bench) if kind == "shard"} == {0, 1, 2, 3}
        assert again.read_json("listing.done") == {"shards": 4, "total": 11}
        bench.close()


@pytest.mark.parametrize("photos", [0, 1, 3, 6, 7])
def test_a_full_last_shard_and_a_short_one_are_both_counted(bench: Bench, photos: int) -> None:
    bench.add_photos(photos)
    spec = small_shards(bench)
    listing.list_input(spec, bench.jobs.state(spec.id), bench.places, bench.queue)
    done = bench.jobs.state(spec.id).read_json("listing.done")
    assert done == {"shards": -(-photos // 3), "total": photos}


def test_a_second_lister_goes_on_behind_the_shard_of_the_first(bench: Bench) -> None:
    """The first one saw a photo that came later than the second one's look, so their shards differ."""
    keys = bench.add_photos(8)
    spec = small_shards(bench)
    state = bench.jobs.state(spec.id)
    original = state.create

    def create(name: str, data: bytes, *rest: Any) -> bool:
        if name == "shards/00001.jsonl":
            seen = [keys[3], "in/0003x.jpg", keys[4]]
            original(name, listing._encode([inputs.reference(Place("", key)) for key in seen]))
        return original(name, data, *rest)

    state.create = create  # type: ignore[method-assign]
    listing.list_input(spec, state, bench.places, bench.queue)
    assert shards(bench, spec.id) == [keys[:3], [keys[3], "in/0003x.jpg", keys[4]], keys[5:]]
    assert state.read_json("listing.done") == {"shards": 3, "total": 9}


def test_a_listing_stops_between_shards_when_told_and_goes_on_later(bench: Bench) -> None:
    keys = bench.add_photos(7)
    spec = small_shards(bench)
    state = bench.jobs.state(spec.id)
    answers = iter([False, True])
    assert not listing.list_input(spec, state, bench.places, bench.queue, lambda: next(answers))
    assert len(shards(bench, spec.id)) == 1
    progress = bench.jobs.progress(spec.id)
    assert (progress.state, progress.total, progress.eta_s) == ("listing", 3, None)
    assert listing.list_input(spec, state, bench.places, bench.queue)
    assert [key for shard in shards(bench, spec.id) for key in shard] == keys


def test_folder_markers_results_and_state_are_no_photos_of_a_prefix(bench: Bench) -> None:
    class Marked(StoreAround):
        def list(self, prefix: str, start_after: str | None = None) -> Iterator[str]:
            return iter(["in/", "in/a.jpg", "in/sub/", "in/sub/b.jpg"])

    bench.places._stores[""] = Marked(bench.home)
    spec = bench.jobs.submit(body())
    listing.list_input(spec, bench.jobs.state(spec.id), bench.places, bench.queue)
    assert shards(bench, spec.id) == [["in/a.jpg", "in/sub/b.jpg"]]


def test_sizes_of_shards_and_parts_follow_from_the_job_alone() -> None:
    assert [shard_size(total) for total in (1, 80, 300, 5000, 100_000)] == [10, 10, 38, 625, 1000]
    assert [part_size(lines) for lines in (1, 10, 300, 1000, 10_000)] == [1, 1, 6, 20, 100]
    assert -(-1000 // part_size(1000)) <= 9999
    assert SHARDS_MOST * 1000 >= 10_000_000


# ---- manifests as input ----


def put_manifest(bench: Bench, name: str, data: bytes) -> JobSpec:
    bench.home.put(name, data, content_type="text/plain")
    spec = bench.jobs.submit(body(input={"manifest": name}, output="out/"))
    listing.list_input(spec, bench.jobs.state(spec.id), bench.places, bench.queue)
    return spec


ODD_KEYS = ["in/a b.jpg", "in/c+d.jpg", "in/100%.jpg", 'in/è,"quoted".jpg', "in/红.jpg", "in/tab\there.jpg"]


def test_a_csv_has_url_encoded_keys_as_s3_batch_operations_writes_them(bench: Bench) -> None:
    text = "".join(f"photos,{quote_plus(key)}\n" for key in ODD_KEYS)
    spec = put_manifest(bench, "m.csv", text.encode())
    refs = listing.read_shard(bench.jobs.state(spec.id), 0)
    assert [ref.key for ref in refs] == ODD_KEYS
    assert {ref.bucket for ref in refs} == {"photos"}


def test_a_csv_may_name_versions_have_a_header_and_windows_lines(bench: Bench) -> None:
    spec = put_manifest(bench, "m.csv", b"\xef\xbb\xbfBucket,Key,Version\r\nphotos,a.jpg,v1\r\nphotos,b.jpg,\r\n\r\n")
    refs = listing.read_shard(bench.jobs.state(spec.id), 0)
    assert [(ref.key, ref.version_id) for ref in refs] == [("a.jpg", "v1"), ("b.jpg", None)]


def test_a_photo_named_twice_in_a_manifest_is_done_once(bench: Bench) -> None:
    spec = put_manifest(bench, "m.csv", b"photos,a.jpg\nphotos,b.jpg\nphotos,a.jpg\nphotos,a.jpg,v1\nphotos,b.jpg")
    assert shards(bench, spec.id) == [["a.jpg", "b.jpg", "a.jpg"]]


@pytest.mark.parametrize("zipped", [False, True])
def test_json_lines_hold_texts_or_objects_with_keys_as_they_are(bench: Bench, zipped: bool) -> None:
    lines = ["in/a b.jpg", "s3://photos/c+d.jpg", {"bucket": "photos", "key": "e%20f.jpg", "version_id": "v"}]
    lines += [{"url": "s3://photos/g.jpg"}, {"key": "in/h.jpg"}]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    spec = put_manifest(bench, "m.jsonl.gz" if zipped else "m.jsonl", gzip.compress(data) if zipped else data)
    refs = listing.read_shard(bench.jobs.state(spec.id), 0)
    assert [(ref.bucket, ref.key, ref.version_id) for ref in refs] == [
        ("", "in/a b.jpg", None),
        ("photos", "c+d.jpg", None),
        ("photos", "e%20f.jpg", "v"),
        ("photos", "g.jpg", None),
        ("", "in/h.jpg", None),
    ]


def inventory(bench: Bench, parts: list[bytes], **more: Any) -> bytes:
    """The manifest.json of an inventory in the results folder, its gzipped parts beside it."""
    files = []
    for number, part in enumerate(parts):
        key = f"inventory/data/{number}.csv.gz"
        bench.home.put(key, part, content_type="application/gzip")
        files.append({"key": key, "size": len(part), "MD5checksum": "x"})
    document = {
        "sourceBucket": "photos",
        "version": "2016-11-30",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size",
        "files": files,
        **more,
    }
    return json.dumps(document).encode()


def test_an_inventory_gives_the_latest_versions_of_all_its_parts(bench: Bench) -> None:
    first = b'"photos","a+b.jpg","v2","true","false","10"\n"photos","a+b.jpg","v1","false","false","9"\n'
    second = b'"photos","gone.jpg","v3","true","true",""\n"photos","folder/","v5","true","false","0"\n'
    third = b'"photos","c%2Bd.jpg","null","true","false","11"\n'
    data = inventory(bench, [gzip.compress(first), gzip.compress(second) + gzip.compress(third)])
    spec = put_manifest(bench, "inventory/manifest.json", data)
    refs = listing.read_shard(bench.jobs.state(spec.id), 0)
    assert [(ref.key, ref.version_id) for ref in refs] == [("a b.jpg", "v2"), ("c+d.jpg", None)]


def test_an_inventory_names_its_bucket_as_an_arn(bench: Bench) -> None:
    opened = []
    bench.places._open = lambda bucket, settings: opened.append(bucket) or bench.home  # type: ignore[func-returns-value]
    data = inventory(bench, [gzip.compress(b'"photos","a.jpg","","true","false","1"\n')])
    put_manifest(bench, "inventory/manifest.json", data[:-1] + b', "destinationBucket": "arn:aws:s3:::the-inventory"}')
    assert opened == ["the-inventory"]


BROKEN = {
    "a field too many": ("m.csv", b"photos,a.jpg,v,x\n"),
    "no key": ("m.csv", b"photos,\n"),
    "no bucket's name": ("m.csv", b"not a bucket,a.jpg\n"),
    "not utf-8": ("m.csv", b"photos,\xff\xfe.jpg\n"),
    "badly encoded": ("m.csv", b"photos,%ff.jpg\n"),
    "an endless line": ("m.csv", b"a" * 500_000),
    "no json": ("m.jsonl", b"{"),
    "json of something else": ("m.jsonl", b"[1]"),
    "half a gzip": ("m.csv.gz", gzip.compress(b"photos,a.jpg\n" * 100)[:30]),
    "no gzip behind its mark": ("m.csv.gz", b"\x1f\x8bnothing"),
    "no inventory": ("manifest.json", b'{"a": 1}'),
    "a list for an inventory": ("manifest.json", b"[]"),
    "an inventory in parquet": (
        "manifest.json",
        b'{"fileFormat": "Parquet", "fileSchema": "Bucket, Key", "files": []}',
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_manifest_fails_the_job_with_its_reason(bench: Bench, name: str) -> None:
    file, data = BROKEN[name]
    bench.home.put(file, data, content_type="text/plain")
    spec = bench.jobs.submit(body(input={"manifest": file}))
    bench.run()
    document = bench.jobs.progress(spec.id).document()
    assert (document["state"], document["failed"][0]["file"]) == ("failed", file)
    assert "manifest" in document["failed"][0]["error"].lower()
    assert bench.queue.depth().dead == 0


def test_a_manifest_changed_after_the_job_was_made_fails_it(bench: Bench) -> None:
    bench.home.put("m.csv", b"photos,a.jpg\n", content_type="text/csv")
    spec = bench.jobs.submit(body(input={"manifest": "m.csv"}))
    bench.home.put("m.csv", b"photos,b.jpg\nphotos,c.jpg\n", content_type="text/csv")
    bench.run()
    document = bench.jobs.progress(spec.id).document()
    assert document["state"] == "failed"
    assert "changed" in document["failed"][0]["error"]


def test_a_bucket_that_is_not_allowed_is_refused_wherever_it_is_named(bench: Bench) -> None:
    bench.places._allowed = frozenset(["photos", ""])
    with pytest.raises(OptionError, match="does not work on"):
        bench.jobs.submit(body(input={"prefix": "s3://others/in/"}))
    bench.home.put("m.csv", b"others,a.jpg\n", content_type="text/csv")
    spec = bench.jobs.submit(body(input={"manifest": "m.csv"}))
    bench.run()
    assert bench.jobs.progress(spec.id).state == "failed"
