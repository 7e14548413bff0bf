"""The Ray Data engine beside the queue engine: one set of results, one form of manifest, whoever does the work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.bulk.shard_actor import ShardActor
from mattehorn.bulk.job_results import manifest_lines
from mattehorn.bulk.listing import list_input
from mattehorn.cli.main import main
from mattehorn.recipe.result_keys import model_digest
from mattehorn.settings import BulkSettings, Settings, StoreSettings
from tests.bulk_bench import POISON, Bench
from tests.ray.load import photo
from tests.ray.running import ROOT
from tests.s3.conftest import SetKeys, settings_for
from tests.s3.swift import S3Server

PHOTOS = 20
WITHIN_S = 300  # Ray's start takes 10 s on a quiet machine


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A results folder with 20 photos and one that is none under `in/`."""
    made = Bench(tmp_path)
    for number in range(PHOTOS):
        made.home.put(f"in/{number:03d}.jpg", photo(number), content_type="image/jpeg")
    made.home.put("in/text.jpg", POISON["text.jpg"], content_type="image/jpeg")
    yield made
    made.close()


def flags(bench: Bench, *more: str) -> list[str]:
    store = f"store.url=file://{bench.folder}/results"
    return ["--output", "out/", "--set", store, "--set", "model=fake", *more]


def by_queue(bench: Bench, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    """What `submit --local` says of its job."""
    main(["submit", *more, "--recipe", "transparent-web", "--json", "--local", *flags(bench)])
    return dict(json.loads(capsys.readouterr().out))


def run_bulk(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """(exit code, the job's body, what was said) of `mattehorn bulk`."""
    command = [sys.executable, "-m", "deployments.bulk.ray_data", "--engine", "ray-data", *arguments]
    command += ["--recipe", "transparent-web", "--json"]
    # what a service that runs in this process's environment would have set
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=WITHIN_S)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def rows(bench: Bench, job: str) -> dict[str, dict[str, Any]]:
    """The manifest by source; a source that comes twice fails."""
    found = [json.loads(line) for line in manifest_lines(bench.jobs, job)]
    assert len({row["source"] for row in found}) == len(found)
    return {row["source"]: row for row in found}


def made(row: dict[str, Any]) -> tuple[str, str, int, Any]:
    return row["output"], row["sha256"], row["size"], row["quality"]


@pytest.mark.ray
@pytest.mark.slow
def test_either_engine_skips_what_the_other_has_done_and_their_manifests_agree(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    half = bench.folder / "half.txt"
    half.write_text("".join(f"in/{number:03d}.jpg\n" for number in range(PHOTOS // 2)))
    first = by_queue(bench, capsys, "--keys-file", str(half))
    assert first["success"] == PHOTOS // 2
    written = {key: (bench.folder / "results" / key).stat().st_mtime_ns for key in bench.outputs()}

    code, second, _ = run_bulk("--input", "in/", "--workers", "2", *flags(bench))
    assert (code, second["state"]) == (1, "succeeded")  # one photo is none
    assert (second["total"], second["success"], second["skipped"]) == (PHOTOS + 1, PHOTOS // 2, PHOTOS // 2)
    assert [entry["file"] for entry in second["failed"]] == ["in/text.jpg"]
    assert len(bench.outputs()) == PHOTOS
    assert {key: (bench.folder / "results" / key).stat().st_mtime_ns for key in written} == written
    assert len(list(bench.home.list("out/errors/"))) == 1

    third = by_queue(bench, capsys, "in/")
    assert (third["success"], third["skipped"]) == (0, PHOTOS)
    one, two, three = (rows(bench, job["id"]) for job in (first, second, third))
    assert {source: made(row) for source, row in one.items()} == {source: made(two[source]) for source in one}
    assert {source: made(row) for source, row in two.items()} == {source: made(three[source]) for source in two}
    worked = two["in/015.jpg"]
    assert worked["cost"]["compute_s"] > 0
    assert {"decode", "infer", "refine", "encode"} <= set(worked["timings_ms"])


@pytest.mark.ray
@pytest.mark.s3
@pytest.mark.slow
def test_ray_data_goes_on_with_a_job_in_a_bucket_that_the_other_engine_began(
    moto_s3: S3Server, set_keys: SetKeys, tmp_path: Path
) -> None:
    set_keys(moto_s3)
    settings = settings_for(moto_s3)
    bench = Bench(tmp_path, settings=settings)
    photos, output = f"{settings.url}/in/", f"{settings.url}/out/"
    for number in range(4):
        bench.home.put(f"in/{number}.jpg", photo(number), content_type="image/jpeg")
    begun = bench.jobs.submit({"input": {"prefix": photos}, "output": output, "recipe": "transparent-web"})
    pairs = [f"store.url={settings.url}", f"store.endpoint_url={settings.endpoint_url}", "model=fake"]
    code, job, said = run_bulk(
        "--input", photos, "--output", output, *(part for pair in pairs for part in ("--set", pair))
    )
    assert (code, job["id"], job["success"]) == (0, begun.id, 4)
    assert f"job {begun.id} goes on" in said
    assert len(bench.outputs()) == 4
    bench.close()


def test_wrong_wishes_end_before_ray_starts(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deployments.bulk import ray_data

    recipe = ["--recipe", "transparent-web"]
    assert ray_data.main([*recipe, *flags(bench)]) == 2
    assert "Name the photos once" in capsys.readouterr().err
    assert ray_data.main([*recipe, "--input", "in/", *flags(bench, "--set", "colour=red")]) == 2
    assert "colour" in capsys.readouterr().err
    monkeypatch.setattr(ray_data, "_NEEDED", ("pyarrow", "no_such_package"))
    assert ray_data.main([*recipe, "--input", "in/", *flags(bench)]) == 2
    assert "needs no_such_package; install" in capsys.readouterr().err


def test_the_command_line_hands_the_engine_its_arguments_and_its_exit_code() -> None:
    code = "import sys; from mattehorn.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "bulk", "--engine", "queue", "--recipe", "transparent-web"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S)
    assert done.returncode == 2
    assert "ray-data" in done.stderr


# ---- an actor's work, without Ray ----


def actor(bench: Bench, **more: Any) -> tuple[ShardActor, str]:
    """An actor over a listed job of one shard, and the job's id."""
    store = StoreSettings(url=f"file://{bench.folder}/results")
    settings = Settings(model="fake", store=store, bulk=BulkSettings(in_flight=3), **more)
    spec = bench.jobs.submit({"input": {"prefix": "in/"}, "output": "out/", "recipe": "transparent-web"})
    list_input(spec, bench.jobs.state(spec.id), bench.places, bench.queue)
    return ShardActor(settings, spec, model_digest("fake"), "cpu"), spec.id


def work(actor: ShardActor, *shards: int) -> list[str]:
    import numpy as np

    batch = actor({"id": np.array(shards)})
    assert batch["id"].tolist() == list(shards)
    return list(batch["problem"])


def test_a_shard_is_done_once_and_then_found_done(bench: Bench) -> None:
    doing, job = actor(bench)
    assert work(doing, 0) == [""]
    first = rows(bench, job)
    assert sum(row["status"] == "done" for row in first.values()) == PHOTOS
    assert work(doing, 0) == [""]
    assert rows(bench, job) == first
    assert bench.jobs.progress(job).state == "succeeded"


def test_a_cancelled_job_is_not_begun(bench: Bench) -> None:
    doing, job = actor(bench)
    bench.jobs.cancel(job)
    assert work(doing, 0) == [""]
    assert bench.outputs() == []


def test_a_shard_that_cannot_be_read_says_why_and_stops_nobody(bench: Bench) -> None:
    doing, _ = actor(bench, queue={"max_receive": 1})
    missing, there = work(doing, 7, 0)
    assert "no shard 7" in missing
    assert there == ""
