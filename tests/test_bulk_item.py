"""One photo, exactly once: the order of the steps, every place to be killed at, and what a job hears of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mattehorn.bulk.item import run_item
from mattehorn.bulk.plan import Outcome, Plan
from mattehorn.errors import (
    StoreUnavailable,
)
from mattehorn.pipeline import Result
from mattehorn.recipe.gate import Wish
from mattehorn.store.interface import Head, OpenObject
from mattehorn.store.local import LocalStore

from .bulk_bench import (
    JPEG,
    RECIPE,
    EveryCreatorWins,
    StoreAround,
    event,
    fake_cut_out,
    photo,
    telling_cut_out,
)
from .bulk_item import PLAN, never, raising, store_with_photo, work


@pytest.fixture
def store(tmp_path: Path) -> StoreAround:
    return store_with_photo(tmp_path)


# ---- the path ----


def test_a_photo_becomes_one_result_under_its_deterministic_key(store: StoreAround) -> None:
    outcome = work(store)
    head = store.inner.head("in/a.jpg")
    assert head is not None
    h = PLAN.identity(head.etag)
    assert (outcome.status, outcome.output) == ("done", f"out/in/a.jpg.{h}.webp")
    assert list(store.inner.list("out/")) == [outcome.output]
    made = store.inner.head(outcome.output or "")
    assert made is not None
    assert (made.content_type, made.size) == ("image/webp", outcome.size)
    assert made.metadata["sha256"] == outcome.sha256
    assert made.metadata["recipe"] == RECIPE.id
    assert (outcome.width, outcome.height, outcome.version) == (48, 40, head.etag)


def test_the_steps_come_in_the_one_order_that_survives_a_crash(store: StoreAround) -> None:
    async def cut_out(data: bytes, wish: Wish) -> Result:
        store.before("cut out", "")
        return await fake_cut_out(data, wish)

    outcome = work(store, cut_out=cut_out)
    assert store.calls == [
        ("open", "in/a.jpg"),
        ("head", outcome.output),
        ("cut out", ""),
        ("put", outcome.output),
    ]


def test_a_second_time_nothing_is_read_worked_on_or_written(store: StoreAround) -> None:
    first = work(store)
    store.calls.clear()
    again = work(store, cut_out=never)
    assert again.status == "skipped"
    assert (again.output, again.sha256, again.size) == (first.output, first.sha256, first.size)
    assert (again.quality, again.model, again.width) == (first.quality, first.model, first.width)
    assert [name for name, _ in store.calls] == ["open", "head"]


def test_what_a_photo_shows_is_told_with_its_result_and_again_when_that_is_found(store: StoreAround) -> None:
    first = work(store, cut_out=telling_cut_out)
    made = store.inner.head(first.output or "")
    assert made is not None
    assert first.subject == made.metadata["subject"] == "product"
    again = work(store, cut_out=never)
    assert (again.status, again.subject) == ("skipped", "product")


def test_a_model_that_tells_no_subject_leaves_no_note_of_one(store: StoreAround) -> None:
    outcome = work(store)
    made = store.inner.head(outcome.output or "")
    assert made is not None
    assert outcome.subject is None
    assert "subject" not in made.metadata


def test_three_deliveries_at_once_and_sixteen_workers_make_one_object(store: StoreAround) -> None:
    async def all_at_once() -> list[Outcome]:
        with ThreadPoolExecutor(16) as threads:
            work = (run_item(event("in/a.jpg"), PLAN, store, store, fake_cut_out, threads=threads) for _ in range(16))
            return list(await asyncio.gather(*work))

    outcomes = asyncio.run(all_at_once())
    assert sorted({outcome.status for outcome in outcomes}) == ["done", "skipped"]
    assert sum(outcome.status == "done" for outcome in outcomes) == 1
    assert list(store.created.values()) == [1]
    assert len({outcome.sha256 for outcome in outcomes if outcome.sha256}) == 1  # a note may come after its object


def test_where_several_racing_creators_win_the_object_is_the_same(tmp_path: Path) -> None:
    store = EveryCreatorWins(LocalStore(tmp_path / "store"), gap=lambda: all_create.wait(60))
    store.put("in/a.jpg", photo(), content_type=JPEG)
    all_create = threading.Barrier(8)

    async def all_at_once() -> list[Outcome]:
        all_work = asyncio.Barrier(8)

        async def together(data: bytes, wish: Wish) -> Result:
            await all_work.wait()  # so nobody finds another one's result before it works
            return await fake_cut_out(data, wish)

        with ThreadPoolExecutor(8) as threads:
            work = (run_item(event("in/a.jpg"), PLAN, store, store, together, threads=threads) for _ in range(8))
            return list(await asyncio.gather(*work))

    outcomes = asyncio.run(all_at_once())
    assert [outcome.status for outcome in outcomes] == ["done"] * 8
    assert len({(outcome.output, outcome.sha256) for outcome in outcomes if outcome.sha256}) == 1
    assert len(list(store.inner.list("out/"))) == 1


def test_another_version_model_or_recipe_makes_another_result(store: StoreAround) -> None:
    work(store)
    work(store, plan=Plan(RECIPE, PLAN.output, "another model"))
    work(store, plan=Plan(RECIPE.with_options({"encode_quality": 50}), PLAN.output, PLAN.model))
    store.put("in/a.jpg", photo(7), content_type=JPEG)
    assert work(store).status == "done"
    assert len(list(store.inner.list("out/"))) == 4


# ---- killed on the way ----


class _Killed(BaseException):
    """The process is no more."""


def test_killed_between_put_and_ack_the_next_one_finds_it_done(store: StoreAround) -> None:
    class Dies(StoreAround):
        def put(self, key: str, data: bytes, **fields: Any) -> bool:
            super().put(key, data, **fields)
            raise _Killed

    with pytest.raises(_Killed):
        work(Dies(store))
    assert work(store, cut_out=never).status == "skipped"
    assert list(store.created.values()) == [1]


def test_killed_before_the_put_nothing_lies_there_and_the_next_one_does_it(store: StoreAround) -> None:
    with pytest.raises(_Killed):
        asyncio.run(run_item(event("in/a.jpg"), PLAN, store, store, raising(_Killed())))  # type: ignore[arg-type]
    assert list(store.inner.list("out/")) == []
    assert work(store).status == "done"


def test_a_put_whose_answer_was_lost_is_found_done_by_its_own_retry(store: StoreAround) -> None:
    class LosesAnswers(StoreAround):
        def put(self, key: str, data: bytes, **fields: Any) -> bool:
            super().put(key, data, **fields)
            return super().put(key, data, **fields)

    outcome = work(LosesAnswers(store))
    assert outcome.status == "skipped"
    assert outcome.sha256
    assert list(store.created.values()) == [1]


def test_a_put_refused_as_existing_with_nothing_there_is_tried_again_later(store: StoreAround) -> None:
    class SaysNo(StoreAround):
        def put(self, key: str, data: bytes, **fields: Any) -> bool:
            return False

    with pytest.raises(StoreUnavailable):
        work(SaysNo(store))


# ---- the source in flight ----


def test_a_photo_that_is_gone_is_done_with(store: StoreAround) -> None:
    assert work(store, event("in/none.jpg"), cut_out=never).status == "gone"


def test_a_photo_overwritten_since_its_event_is_left_to_its_own_event(store: StoreAround) -> None:
    head = store.inner.head("in/a.jpg")
    assert head is not None
    store.put("in/a.jpg", photo(9) + b"\0", content_type=JPEG)
    assert work(store, event("in/a.jpg", etag=head.etag), cut_out=never).status == "superseded"
    assert list(store.inner.list("out/")) == []


def test_a_photo_that_a_job_listed_is_read_as_it_is_now(store: StoreAround) -> None:
    head = store.inner.head("in/a.jpg")
    assert head is not None
    store.put("in/a.jpg", photo(9) + b"\0", content_type=JPEG)
    outcome = work(store, event("in/a.jpg", etag=head.etag), follow=True)
    now = store.inner.head("in/a.jpg")
    assert now is not None
    assert (outcome.status, outcome.version) == ("done", now.etag)


class _Versioned(StoreAround):
    """Keeps versions: the head says which, and `open` is asked for one."""

    asked: str | None = None

    def open(self, key: str, if_match: str | None = None, version_id: str | None = None) -> OpenObject:
        self.asked = version_id
        opened = self.inner.open(key, if_match)
        opened.head = Head(**{**vars(opened.head), "version_id": version_id or "v-now"})
        return opened


def test_where_versions_are_kept_the_version_is_read_and_makes_the_key(store: StoreAround) -> None:
    versioned = _Versioned(store)
    outcome = work(versioned, event("in/a.jpg", version="v7"))
    assert (versioned.asked, outcome.version) == ("v7", "v7")
    assert f".{PLAN.identity('v7')}." in (outcome.output or "")


def test_an_event_without_a_version_and_one_with_it_make_one_result(store: StoreAround) -> None:
    versioned = _Versioned(store)
    assert work(versioned, event("in/a.jpg")).status == "done"
    assert work(versioned, event("in/a.jpg", version="v-now"), cut_out=never).status == "skipped"


def test_googles_generations_and_digests_are_no_conditions_for_the_s3_side(store: StoreAround) -> None:
    versioned = _Versioned(store)
    ref = event("in/a.jpg", version="1712345678901234", etag="d41d8cd98f00b204e9800998ecf8427e", provider="gcs")
    assert work(versioned, ref).status == "done"
    assert versioned.asked is None


def test_a_file_that_changes_while_it_is_read_is_no_mixed_result(store: StoreAround, tmp_path: Path) -> None:
    class Writes(StoreAround):
        """Another program writes into the file between the head and the bytes."""

        def head(self, key: str) -> Head | None:
            with (tmp_path / "store/in/a.jpg").open("ab") as file:
                file.write(b"more")
            return super().head(key)

    with pytest.raises(StoreUnavailable, match="changed"):
        work(Writes(store), cut_out=never)


# ---- loops ----


@pytest.mark.parametrize("key", ["out/in/a.jpg.0123456789ab.webp", "out/errors/in/a.jpg.0123456789ab.json", "out/x"])
def test_results_and_errors_are_never_photos(store: StoreAround, key: str) -> None:
    assert work(store, event(key), cut_out=never).status == "loop"
    assert store.calls == []


def test_the_services_own_state_is_never_a_photo(store: StoreAround) -> None:
    outcome = work(store, event("jobs/x/spec.json"), cut_out=never, is_state=lambda _, key: key.startswith("jobs/"))
    assert outcome.status == "loop"


def test_the_same_key_in_another_bucket_is_a_photo(store: StoreAround) -> None:
    store.put("out/a.jpg", photo(), content_type=JPEG)
    assert work(store, event("out/a.jpg", bucket="other")).status == "done"


# ---- what a job hears ----


def test_a_skipped_result_of_the_same_job_counts_as_its_own(store: StoreAround) -> None:
    mine = Plan(RECIPE, PLAN.output, PLAN.model, job="job-1")
    assert work(store, plan=mine).status == "done"
    assert work(store, plan=mine).own
    assert not work(store, plan=Plan(RECIPE, PLAN.output, PLAN.model, job="job-2")).own


def test_where_the_note_was_lost_a_job_still_hears_the_digest(store: StoreAround) -> None:
    class Forgets(StoreAround):
        def head(self, key: str) -> Head | None:
            found = super().head(key)
            return Head(**{**vars(found), "metadata": {}}) if found else None

    first = work(store)
    again = work(Forgets(store), plan=Plan(RECIPE, PLAN.output, PLAN.model, job="job-1"))
    assert (again.status, again.sha256) == ("skipped", first.sha256)


def test_a_note_written_by_somebody_else_does_no_harm(store: StoreAround) -> None:
    class Odd(StoreAround):
        def head(self, key: str) -> Head | None:
            found = super().head(key)
            odd: Mapping[str, str] = {"quality": "no json", "pixels": "wide", "sha256": "s"}
            return Head(**{**vars(found), "metadata": dict(odd)}) if found else None

    work(store)
    again = work(Odd(store))
    assert (again.status, again.quality, again.width) == ("skipped", None, None)
