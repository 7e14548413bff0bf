"""Photos of web batches are removed after their job's end, and never before; twice and in the middle does no harm."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.ingress.api import build_api
from deployments.ingress.bulk.bulk_access import BulkAccess
from deployments.ingress.bulk.upload_sweep import PAUSE_LEAST_S, PAUSE_MOST_S, UploadSweep
from mattehorn.bulk.uploads import ORPHAN_S, born_at, remove_old_uploads
from mattehorn.errors import StoreUnavailable
from mattehorn.settings import BulkSettings
from mattehorn.store.records import new_id
from tests.bulk_bench import JPEG, Bench, body, photo
from tests.bulk_http import RECIPE, Site, form, part, service_over

HOUR = timedelta(hours=1)


def batch(bench: Bench, photos: int = 2) -> str:
    """The id of a web batch's job."""
    job = bench.jobs.new_id()
    keys = [bench.jobs.upload_key(job, number, f"{number}.jpg") for number in range(photos)]
    for number, key in enumerate(keys):
        bench.home.put(key, photo(number), content_type=JPEG)
    bench.jobs.submit(body(input={"keys": keys}), job=job)
    return job


def uploads(bench: Bench) -> list[str]:
    return list(bench.home.list("uploads/"))


def sweep(bench: Bench, later: timedelta = HOUR, kept_s: float = 3600.0) -> int:
    return remove_old_uploads(bench.jobs, kept_s=kept_s, now=datetime.now(UTC) + later)


def test_uploads_go_once_their_job_has_ended_and_its_results_stay(bench: Bench) -> None:
    job = batch(bench)
    bench.run()
    assert sweep(bench, HOUR / 2) == 0
    assert len(uploads(bench)) == 2
    assert sweep(bench) == 2
    assert uploads(bench) == []
    assert len(bench.outputs(f"bulk/{job}/")) == 2
    assert bench.jobs.progress(job).state == "succeeded"
    assert sweep(bench) == 0


def test_uploads_of_a_job_that_goes_on_stay_however_old(bench: Bench) -> None:
    batch(bench)
    assert sweep(bench, timedelta(days=400)) == 0
    assert len(uploads(bench)) == 2
    bench.run()
    assert sweep(bench, timedelta(days=400)) == 2


def test_a_cancelled_jobs_uploads_go_too(bench: Bench) -> None:
    bench.jobs.cancel(batch(bench))
    assert sweep(bench, HOUR / 2) == 0
    assert sweep(bench) == 2


def test_a_job_whose_last_worker_died_before_its_end_is_ended_and_then_tidied(bench: Bench) -> None:
    job = batch(bench)
    bench.run()
    bench.home.delete(f"jobs/{job}/finished.json")
    assert sweep(bench, timedelta(), kept_s=3600) == 0
    assert bench.home.head(f"jobs/{job}/finished.json") is not None
    assert sweep(bench) == 2


def test_photos_that_never_became_a_job_go_after_a_day(bench: Bench) -> None:
    bench.home.put(bench.jobs.upload_key(bench.jobs.new_id(), 1, "a.jpg"), photo(), content_type=JPEG)
    assert sweep(bench, timedelta(seconds=ORPHAN_S - 60), kept_s=0) == 0
    assert sweep(bench, timedelta(seconds=ORPHAN_S + 60), kept_s=0) == 1


def test_what_is_no_jobs_folder_is_left_alone(bench: Bench) -> None:
    mine = ["uploads/mine/a.jpg", "uploads/b.jpg", f"uploaded/{bench.jobs.new_id()}/c.jpg"]
    for key in mine:
        bench.home.put(key, photo(), content_type=JPEG)
    assert sweep(bench, timedelta(days=400)) == 0
    assert [key for key in mine if bench.home.head(key) is None] == []


def test_a_sweep_that_was_stopped_in_the_middle_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    batch(bench, photos=5)
    bench.run()
    delete, left = bench.home.delete, [3]

    def failing(key: str) -> None:
        if left[0] == 0:
            raise StoreUnavailable("The store is away.", retry_after_s=5)
        left[0] -= 1
        delete(key)

    monkeypatch.setattr(bench.home, "delete", failing)
    with pytest.raises(StoreUnavailable):
        sweep(bench)
    assert len(uploads(bench)) == 2
    left[0] = 100
    assert sweep(bench) == 2


def test_a_message_that_comes_once_more_after_the_sweep_changes_nothing(bench: Bench) -> None:
    from mattehorn.bulk.messages import listing_message, shard_message

    job = batch(bench)
    bench.run()
    before = bench.jobs.progress(job).document()
    sweep(bench)
    bench.queue.send_many([listing_message(job), shard_message(job, 0)])
    bench.run()
    assert bench.jobs.progress(job).document() == before
    assert bench.queue.depth().dead == 0


@pytest.mark.parametrize("moment", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 11, 20, 8, 0, 0, 123000, UTC)])
def test_an_id_tells_when_it_was_made(moment: datetime) -> None:
    assert born_at(new_id(moment)) == moment


# ---- in the service


def test_a_replica_removes_what_is_old_and_says_a_fault_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    assert site.client.post("/v1/jobs", **form(RECIPE, part("files", photo(), "a.png"))).status_code == 202
    site.bench.run()
    bulk = BulkAccess(site.client.service.settings)
    old = UploadSweep(BulkSettings(uploads_kept_s=0), bulk)
    fault: Any = StoreUnavailable("The store is away.", retry_after_s=5)

    async def away(call: Any) -> Any:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(bulk, "ask", away)
        assert [asyncio.run(old.once()) for _ in range(3)] == [0, 0, 0]
    assert len([record for record in caplog.records if "bulk_uploads_not_removed" in record.message]) == 1
    assert asyncio.run(UploadSweep(BulkSettings(), bulk).once()) == 0
    assert asyncio.run(old.once()) == 1
    assert site.uploads() == []
    site.close()


def test_looks_are_as_frequent_as_the_age_asks_for(tmp_path: Path) -> None:
    bulk = BulkAccess(service_over(tmp_path).settings)
    pauses = [UploadSweep(BulkSettings(uploads_kept_s=kept), bulk).pause_s for kept in (0, 600, 3600, 86_400)]
    assert pauses == [PAUSE_LEAST_S, 100, PAUSE_MOST_S, PAUSE_MOST_S]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_application_sweeps_while_it_lives_and_only_where_bulk_work_is_on(tmp_path: Path, enabled: bool) -> None:
    app = build_api(service_over(tmp_path, bulk={"enabled": enabled}))

    async def tasks_while_alive() -> int:
        before = asyncio.all_tasks()
        async with app.router.lifespan_context(app):
            alive = asyncio.all_tasks() - before
        assert all(task.done() for task in alive)
        return len([task for task in alive if "UploadSweep.run" in repr(task)])

    assert asyncio.run(tasks_while_alive()) == int(enabled)
