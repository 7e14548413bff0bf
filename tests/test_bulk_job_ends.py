"""Jobs that are cancelled, taken up again, or ended by a store that does not do everything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from mattehorn.bulk import listing
from mattehorn.bulk.job_results import JobRunning
from mattehorn.errors import MattehornError, StoreUnavailable
from mattehorn.pipeline import Result
from mattehorn.recipe.gate import Wish
from mattehorn.store.interface import Store
from tests.bulk_bench import (
    Bench,
    StoreAround,
    body,
    fake_cut_out,
    messages_of,
    rows,
    small_shards,
)

# ---- cancel, resume ----


def test_a_cancelled_job_begins_no_further_photo_and_stays_cancelled(tmp_path: Path) -> None:
    seen = []

    async def cut_out(data: bytes, wish: Wish) -> Result:
        seen.append(1)
        if len(seen) == 3:
            await asyncio.to_thread(bench.jobs.cancel, spec.id)
        return await fake_cut_out(data, wish)

    bench = Bench(tmp_path, cut_out=cut_out, in_flight=1)
    bench.add_photos(30)
    spec = bench.jobs.submit(body(output="out/"))
    bench.run()
    progress = bench.jobs.progress(spec.id)
    assert progress.state == "cancelled"
    assert progress.finished_at
    assert 3 <= len(seen) < 8
    assert len(bench.outputs()) == len(seen)
    assert bench.queue.depth().ready + bench.queue.depth().dead == 0
    assert bench.jobs.cancel(spec.id).state == "cancelled"
    bench.close()


def test_a_job_cancelled_before_it_began_does_nothing(bench: Bench) -> None:
    bench.add_photos(3)
    spec = bench.jobs.submit(body(output="out/"))
    bench.jobs.cancel(spec.id)
    bench.run()
    assert bench.outputs() == []
    assert bench.jobs.progress(spec.id).state == "cancelled"


def test_an_ended_job_cannot_be_cancelled_any_more(bench: Bench) -> None:
    bench.add_photos(1)
    spec = bench.jobs.submit(body())
    bench.run()
    assert bench.jobs.cancel(spec.id).state == "succeeded"


def test_a_job_goes_on_after_its_queue_was_lost(bench: Bench) -> None:
    keys = bench.add_photos(10)
    spec = small_shards(bench)
    listing.list_input(spec, bench.jobs.state(spec.id), bench.places, bench.queue)
    messages_of(bench)
    assert bench.jobs.resume(spec.id) == 4
    bench.run()
    assert bench.jobs.progress(spec.id).state == "succeeded"
    assert [row["source"] for row in rows(bench, spec.id)] == keys
    assert bench.jobs.resume(spec.id) == 0


def test_a_job_that_was_never_listed_is_listed_on_resume(bench: Bench) -> None:
    bench.add_photos(2)
    spec = bench.jobs.submit(body())
    messages_of(bench)
    assert bench.jobs.resume(spec.id) == 1
    bench.run()
    assert bench.jobs.progress(spec.id).tally.success == 2


# ---- the store's troubles ----


def test_a_right_to_delete_is_not_needed(tmp_path: Path) -> None:
    class Keeps(StoreAround):
        def delete(self, key: str) -> None:
            raise StoreUnavailable("403: s3:DeleteObject", retry_after_s=30)

    bench = Bench(tmp_path, wrap=Keeps)
    keys = bench.add_photos(5)
    spec = bench.jobs.submit(body())
    bench.run()
    assert bench.jobs.progress(spec.id).tally.done == 5
    assert [row["source"] for row in rows(bench, spec.id)] == keys
    bench.close()


def test_a_listing_that_lags_ends_the_job_all_the_same(tmp_path: Path) -> None:
    class Lags(StoreAround):
        """Container listings of Swift may miss what was just written."""

        def list(self, prefix: str, start_after: str | None = None) -> Iterator[str]:
            keys = list(super().list(prefix, start_after))
            return iter([key for key in keys if not key.endswith("00000.done")])

    bench = Bench(tmp_path, wrap=Lags)
    bench.add_photos(4)
    spec = bench.jobs.submit(body())
    bench.run()
    progress = bench.jobs.progress(spec.id)
    assert (progress.state, progress.tally.success) == ("succeeded", 4)
    bench.close()


def test_stores_that_are_wrapped_still_fit_the_protocol(tmp_path: Path) -> None:
    from mattehorn.store.local import LocalStore

    store: Store = StoreAround(LocalStore(tmp_path / "s"))
    assert store.head("a") is None


def test_the_error_of_a_running_zip_has_the_contracts_code() -> None:
    assert (JobRunning.code, JobRunning.status) == ("job_running", 409)
    assert issubclass(JobRunning, MattehornError)
