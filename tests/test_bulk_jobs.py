"""Jobs as objects: made and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mattehorn.bulk.job_spec import JobSpec
from mattehorn.bulk.jobs import Jobs
from mattehorn.errors import NotFound, OptionError, UnknownOption
from tests.bulk_bench import (
    JPEG,
    POISON,
    POISON_CODES,
    Bench,
    EveryCreatorWins,
    StoreAround,
    body,
    photo,
    rows,
    telling_cut_out,
)
from tests.job_bench import FIELDS

# ---- from request to result ----


def test_a_job_makes_every_photo_once_and_its_answer_has_the_contracts_fields(bench: Bench) -> None:
    bench.add_photos(12)
    for name, data in POISON.items():
        bench.home.put(f"in/{name}", data, content_type=JPEG)
    spec = bench.jobs.submit(body(output="out/"))
    before = bench.jobs.progress(spec.id).document()
    bench.run()
    after = bench.jobs.progress(spec.id).document()
    assert set(before) == set(after) == FIELDS
    assert (before["state"], before["done"], before["finished_at"]) == ("queued", 0, None)
    assert (after["state"], after["total"], after["done"], after["success"]) == ("succeeded", 16, 16, 12)
    assert {row["file"]: row["error"].split(":")[0] for row in after["failed"]} == {
        f"in/{name}": code for name, code in POISON_CODES.items()
    }
    assert after["seconds_per_image"] > 0
    assert after["finished_at"] >= after["created_at"]
    assert len(bench.outputs()) == 12
    assert len(list(bench.home.list("out/errors/"))) == 4
    assert bench.queue.depth().ready + bench.queue.depth().leased + bench.queue.depth().dead == 0


def test_the_manifest_has_one_line_a_photo_with_what_was_made(bench: Bench) -> None:
    keys = bench.add_photos(7)
    bench.home.put("in/text.jpg", b"text", content_type=JPEG)
    spec = bench.jobs.submit(body(output="out/"))
    bench.run()
    lines = rows(bench, spec.id)
    assert [line["source"] for line in lines] == [*keys, "in/text.jpg"]
    for line in lines[:-1]:
        head = bench.home.head(line["output"])
        assert head is not None
        assert (line["status"], line["size"], line["sha256"]) == ("done", head.size, head.metadata["sha256"])
        assert set(line["quality"]) == {"score", "reasons"}
        assert line["timings_ms"]["infer"] >= 0
        assert line["cost"]["megapixels"] == pytest.approx(0.002, abs=1e-3)
    assert lines[-1]["status"] == "failed"
    assert lines[-1]["error"]["code"] == "unsupported_image"


def test_the_manifest_tells_what_a_photo_shows_where_the_model_does(tmp_path: Path) -> None:
    bench = Bench(tmp_path, cut_out=telling_cut_out)
    try:
        bench.add_photos(2)
        bench.home.put("in/text.jpg", b"text", content_type=JPEG)
        for _ in range(2):  # the second job finds the first one's results, and tells the same
            spec = bench.jobs.submit(body(output="out/"))
            bench.run()
            assert [line["subject"] for line in rows(bench, spec.id)] == ["product", "product", None]
    finally:
        bench.close()


def test_inline_keys_are_done_once_each_whatever_form_names_them(bench: Bench) -> None:
    keys = bench.add_photos(3)
    url = f"file://{bench.folder}/results/{keys[2]}"
    spec = bench.jobs.submit(body(input={"keys": [keys[0], keys[1], keys[0], url]}, output="out/"))
    assert spec.total == 3
    assert bench.jobs.progress(spec.id).total == 3
    bench.run()
    assert [row["source"] for row in rows(bench, spec.id)] == keys


def test_without_an_output_the_results_are_kept_in_the_results_store(bench: Bench) -> None:
    bench.add_photos(1)
    spec = bench.jobs.submit(body())
    bench.run()
    assert len(bench.outputs(f"bulk/{spec.id}/")) == 1


def test_uploads_have_keys_of_their_own_and_are_photos(bench: Bench) -> None:
    job = bench.jobs.new_id()
    keys = [bench.jobs.upload_key(job, number, name) for number, name in enumerate(["Ä b.JPG", "../../x", "Ä b.JPG"])]
    assert len(set(keys)) == 3
    assert keys[0] == f"uploads/{job}/00000_Ä b.jpg"
    for number, key in enumerate(keys):
        bench.home.put(key, photo(number), content_type=JPEG)
    spec = bench.jobs.submit(body(input={"keys": keys}), job=job)
    bench.run()
    assert bench.jobs.progress(spec.id).tally.success == 3


def test_a_photo_that_is_not_there_is_failed_and_names_itself(bench: Bench) -> None:
    spec = bench.jobs.submit(body(input={"keys": ["in/none.jpg"]}))
    bench.run()
    document = bench.jobs.progress(spec.id).document()
    assert (document["state"], document["success"]) == ("succeeded", 0)
    assert document["failed"][0]["file"] == "in/none.jpg"
    assert document["failed"][0]["error"].startswith("gone: ")


def test_dates_in_keys_are_the_jobs_not_the_clocks(bench: Bench) -> None:
    bench.add_photos(1)
    recipe = {"name": "dated", "version": 1, "key_template": "{run:%Y%m%d-%H%M%S}/{stem}_{h}.{ext}"}
    spec = bench.jobs.submit(body(recipe=recipe, output="out/"))
    bench.run()
    assert bench.outputs()[0].startswith(f"out/{spec.run:%Y%m%d-%H%M%S}/0000_")


def test_an_empty_prefix_is_a_job_that_ends(bench: Bench) -> None:
    spec = bench.jobs.submit(body(input={"prefix": "nothing/"}))
    bench.run()
    progress = bench.jobs.progress(spec.id)
    assert (progress.state, progress.total) == ("succeeded", 0)


@pytest.mark.parametrize("racing", [False, True])
def test_two_jobs_over_one_prefix_at_once_both_succeed_and_make_each_result_once(tmp_path: Path, racing: bool) -> None:
    bench = Bench(tmp_path, in_flight=8, wrap=EveryCreatorWins if racing else StoreAround)
    bench.add_photos(20)
    jobs = [bench.jobs.submit(body(output="out/")).id for _ in range(2)]
    bench.run()
    found = [bench.jobs.progress(job) for job in jobs]
    assert [(p.state, p.tally.done, p.tally.failed) for p in found] == [("succeeded", 20, 0)] * 2
    assert len(bench.outputs()) == 20
    if not racing:
        assert sum(p.tally.success for p in found) == 20
        created = bench.places.home.created  # type: ignore[attr-defined]
        assert {key: n for key, n in created.items() if key.startswith("out/")} == dict.fromkeys(bench.outputs(), 1)
    bench.close()


def test_a_job_over_finished_work_skips_and_still_knows_every_digest(bench: Bench) -> None:
    bench.add_photos(5)
    first = bench.jobs.submit(body(output="out/"))
    bench.run()
    second = bench.jobs.submit(body(output="out/"))
    bench.run()
    assert bench.jobs.progress(second.id).tally.skipped == 5
    assert [row["sha256"] for row in rows(bench, second.id)] == [row["sha256"] for row in rows(bench, first.id)]
    assert all(row["cost"] is None for row in rows(bench, second.id))


# ---- what is refused ----


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"input": None}, "input"),
        ({"input": {}}, "input"),
        ({"input": {"keys": ["a"], "prefix": "b"}}, "input"),
        ({"input": {"keys": []}}, "input.keys"),
        ({"input": {"keys": "a.jpg"}}, "input.keys"),
        ({"input": {"keys": [1]}}, "input.keys"),
        ({"input": {"keys": ["s3://x/a.jpg"]}}, "input.keys"),
        ({"input": {"keys": ["http://host/a.jpg"]}}, "input.keys"),
        ({"input": {"keys": ["file:///etc/passwd"]}}, "input.keys"),
        ({"input": {"keys": ["out/a.jpg"]}, "output": "out/"}, "input.keys"),
        ({"input": {"prefix": ""}}, "input.prefix"),
        ({"input": {"manifest": "none.csv"}}, "input.manifest"),
        ({"input": {"manifest": "../x.csv"}}, "input.manifest"),
        ({"recipe": None}, "recipe"),
        ({"recipe": "nothing"}, "recipe"),
        ({"options": {"formt": "png"}}, "formt"),
        ({"options": {"store": True}}, "store"),
        ({"options": []}, "options"),
        ({"output": "ftp://x/y"}, "output"),
        ({"output": "jobs/mine/"}, "output"),
        ({"output": 3}, "output"),
        ({"webhook": "https://x"}, "webhook"),
    ],
)
def test_a_wrong_request_is_refused_and_names_the_field(bench: Bench, wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(OptionError) as refused:
        bench.jobs.submit(body(**wrong))
    assert refused.value.data["field"] == field
    assert bench.queue.depth().ready == 0


@pytest.mark.parametrize(
    ("prefix", "output"), [("in/", "in/out/"), ("in", "inner/"), ("in/out/x/", "in/out/"), ("i", "in/"), ("in/", "in/")]
)
def test_results_that_would_come_in_again_are_refused_at_the_start(bench: Bench, prefix: str, output: str) -> None:
    with pytest.raises(OptionError, match="overlap") as refused:
        bench.jobs.submit(body(input={"prefix": prefix}, output=output))
    assert refused.value.data["field"] == "output"


def test_prefixes_side_by_side_are_no_loop(bench: Bench) -> None:
    bench.jobs.submit(body(input={"prefix": "in/"}, output="in-done/"))


def test_an_unknown_field_says_what_a_job_has(bench: Bench) -> None:
    with pytest.raises(UnknownOption, match="webhook_url"):
        bench.jobs.submit(body(foo=1))


@pytest.mark.parametrize("job", ["", "x", "../spec", "0" * 26])
def test_an_unknown_job_is_not_found(bench: Bench, job: str) -> None:
    for ask in (bench.jobs.progress, bench.jobs.cancel, bench.jobs.spec, bench.jobs.resume):
        with pytest.raises(NotFound):
            ask(job)


def test_without_a_way_to_check_addresses_no_job_has_a_webhook(bench: Bench) -> None:
    strict = Jobs(bench.places, bench.queue)
    with pytest.raises(OptionError):
        strict.submit(body(webhook_url="https://example.com/"))


def test_a_spec_comes_back_as_it_was_written(bench: Bench) -> None:
    spec = bench.jobs.submit(body(output="out/", options={"encode_quality": 70}, webhook_url=None))
    assert JobSpec.read(json.loads(json.dumps(spec.document()))) == spec
    assert bench.jobs.spec(spec.id) == spec


def test_jobs_are_listed_latest_first_and_in_pages(bench: Bench) -> None:
    times = iter(range(1_700_000_000, 1_700_000_100))
    bench.jobs._clock = lambda: float(next(times))
    made = [bench.jobs.submit(body()).id for _ in range(5)]
    assert list(bench.jobs.ids()) == made[::-1]
    page = list(bench.jobs.ids(limit=2))
    assert page + list(bench.jobs.ids(after=page[-1])) == made[::-1]
