"""How far a job is: counted, estimated, and cheap to ask for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mattehorn.bulk import manifest
from mattehorn.pipeline import Result
from mattehorn.recipe.gate import Wish
from tests.bulk_bench import (
    JPEG,
    Bench,
    StoreAround,
    body,
    fake_cut_out,
    rows,
    small_shards,
)


def test_progress_counts_parts_of_a_running_shard_and_estimates_the_rest(tmp_path: Path) -> None:
    gate = asyncio.Event()
    seen = []

    async def cut_out(data: bytes, wish: Wish) -> Result:
        if len(seen) >= 6:
            await gate.wait()
        seen.append(1)
        return await fake_cut_out(data, wish)

    bench = Bench(tmp_path, cut_out=cut_out, in_flight=2)
    bench.add_photos(10)
    spec = bench.jobs.submit(body(output="out/"))

    async def watch() -> list[dict[str, Any]]:
        running = asyncio.create_task(bench.consumer().run_until_empty())
        found = []
        async with asyncio.timeout(30):
            while not found or found[-1]["done"] < 6:
                await asyncio.sleep(0.05)
                found.append((await asyncio.to_thread(bench.jobs.progress, spec.id)).document())
            gate.set()
            await running
        return found

    last = asyncio.run(watch())[-1]
    assert (last["state"], last["total"], last["done"], last["success"]) == ("running", 10, 6, 6)
    assert last["eta_s"] is not None
    assert 0 <= last["eta_s"] < 30
    assert bench.jobs.progress(spec.id).document()["eta_s"] is None
    bench.close()


def test_progress_reads_nothing_twice_that_cannot_change(tmp_path: Path) -> None:
    bench = Bench(tmp_path, wrap=StoreAround)
    bench.add_photos(9)
    spec = small_shards(bench)
    store: Any = bench.places.home
    bench.run()
    bench.home.delete(f"jobs/{spec.id}/finished.json")  # as if its last worker had not come so far
    bench.jobs.progress(spec.id)
    store.calls.clear()
    bench.home.delete(f"jobs/{spec.id}/finished.json")
    bench.jobs._progress(bench.jobs.spec(spec.id), bench.jobs.state(spec.id))
    assert not [key for name, key in store.calls if name == "get" and "/shards/" in key]
    bench.close()


def test_a_job_whose_last_worker_died_before_the_end_is_ended_by_whoever_asks(bench: Bench) -> None:
    bench.add_photos(3)
    spec = bench.jobs.submit(body())
    bench.run()
    bench.home.delete(f"jobs/{spec.id}/finished.json")
    assert bench.jobs.progress(spec.id).state == "succeeded"
    assert bench.home.head(f"jobs/{spec.id}/finished.json") is not None


def test_the_estimate_leaves_a_nights_stop_out() -> None:
    from mattehorn.bulk.manifest import Tally
    from mattehorn.bulk.progress import _eta

    evening = Tally(success=100, worked=100, seconds=100, first_at=1000, last_at=1100)
    morning = Tally(success=10, worked=10, seconds=10, first_at=40_000, last_at=40_020)
    assert _eta([evening, morning], 50) == pytest.approx(100)
    assert _eta([], 50) is None
    assert _eta([evening], 0) == 0


def test_tallies_add_up_and_come_back(bench: Bench) -> None:
    bench.add_photos(4)
    bench.home.put("in/text.jpg", b"text", content_type=JPEG)
    spec = bench.jobs.submit(body())
    bench.run()
    lines = rows(bench, spec.id)
    whole = manifest.tally(lines)
    assert whole.done == 5
    halves = manifest.tally(lines[:2]) + manifest.tally(lines[2:])
    assert (halves.success, halves.failed, halves.first_at) == (whole.success, whole.failed, whole.first_at)
    assert manifest.tally_from(json.loads(json.dumps(whole.document()))).document() == whole.document()
    assert manifest.Tally() + whole == whole + manifest.Tally() == whole


def test_many_watchers_of_one_job_cost_no_more_than_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, wrap=StoreAround)
    spec = bench.jobs.submit(body())
    store: Any = bench.places.home
    first = bench.jobs.progress(spec.id)
    store.calls.clear()
    assert all(bench.jobs.progress(spec.id, max_age_s=60) is first for _ in range(20))
    assert store.calls == []
    assert bench.jobs.progress(spec.id) is not first
    bench.close()
