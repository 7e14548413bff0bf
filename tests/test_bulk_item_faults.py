"""One photo that cannot be done, and one that cannot be done now: which is which, and what each leaves behind."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from mattehorn.errors import (
    DeadlineExceeded,
    MattehornError,
    ModelLoading,
    NoForeground,
    Overloaded,
    StoreUnavailable,
    UnknownModel,
)
from mattehorn.pipeline import Result
from mattehorn.recipe.gate import Wish
from mattehorn.store.local import LocalStore

from .bulk_bench import (
    JPEG,
    POISON,
    POISON_CODES,
    StoreAround,
    Written,
    event,
    fake_cut_out,
    photo,
    plan,
)
from .bulk_item import never, raising, store_with_photo, work


@pytest.fixture
def store(tmp_path: Path) -> StoreAround:
    return store_with_photo(tmp_path)


# ---- poison ----


@pytest.mark.parametrize("name", POISON)
def test_a_poison_image_becomes_one_error_with_its_reason_counted_once(store: StoreAround, name: str) -> None:
    store.put(f"in/{name}", POISON[name], content_type=JPEG)
    first, second = (work(store, event(f"in/{name}")) for _ in range(2))
    assert (first.status, first.code, first.first) == ("error", POISON_CODES[name], True)
    assert (second.status, second.first, second.output) == ("error", False, first.output)
    assert list(store.inner.list("out/")) == [first.output]
    assert (first.output or "").startswith(f"out/errors/in/{name}.")
    record = json.loads(store.inner.get(first.output or ""))
    assert (record["code"], record["source"]) == (POISON_CODES[name], f"in/{name}")
    assert record["reason"] == first.reason


@pytest.mark.parametrize("name", POISON)
def test_two_jobs_and_an_event_write_equal_records_of_one_bad_photo(tmp_path: Path, name: str) -> None:
    """Where racing creators all win, the last one's record stays: it must be the first one's, too."""
    store = Written(LocalStore(tmp_path / "store"))
    store.put(f"in/{name}", POISON[name], content_type=JPEG)
    head = store.inner.head(f"in/{name}")
    assert head is not None
    for number, run in enumerate(("2026-01-02T03:04:05+00:00", "2026-05-06T07:08:09+00:00")):
        work(store, event(f"in/{name}"), plan(job=f"job-{number}", run=datetime.fromisoformat(run)), follow=True)
    work(store, event(f"in/{name}", etag=head.etag, size=3, event_time="2026-01-01T00:00:00Z"))
    ((key, records),) = [(key, data) for key, data in store.written.items() if key.startswith("out/")]
    assert key.startswith("out/errors/")
    assert (len(records), len(set(records))) == (3, 1)


def test_a_photo_without_a_subject_is_an_error_of_the_photo(store: StoreAround) -> None:
    outcome = work(store, cut_out=raising(NoForeground("Nothing was found.")))
    assert (outcome.status, outcome.code) == ("error", "no_foreground")


def test_a_photo_of_too_many_bytes_is_not_even_read(store: StoreAround) -> None:
    outcome = work(store, plan=plan(max_source_bytes=10), cut_out=never)
    assert (outcome.status, outcome.code) == ("error", "body_too_large")


def test_a_result_whose_key_is_too_long_is_an_error_under_a_short_key(store: StoreAround) -> None:
    key = "in/" + "/".join(["d" * 200] * 5)
    store.put(key, photo(), content_type=JPEG)
    first, second = (work(store, event(key), cut_out=never) for _ in range(2))
    assert (first.status, first.code, first.first) == ("error", "invalid_key", True)
    assert (first.output or "").startswith("out/errors/by-hash/")
    assert (second.output, second.first) == (first.output, False)


@pytest.mark.parametrize("key", ["/rooted.jpg", "a/../b.jpg", "k" * 2000])
def test_a_photo_whose_own_key_can_be_none_is_an_error_and_no_loop(store: StoreAround, key: str) -> None:
    outcome = work(store, event(key), cut_out=never)
    assert (outcome.status, outcome.code) == ("error", "invalid_key")


# ---- what may pass ----


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("full", retry_after_s=1),
        ModelLoading("loading", retry_after_s=1),
        StoreUnavailable("403", retry_after_s=30),
        DeadlineExceeded("late"),
        UnknownModel("this service runs another"),
        MattehornError("broken"),
        RuntimeError("an actor died"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_pass_is_raised_and_leaves_nothing_behind(store: StoreAround, error: Exception) -> None:
    with pytest.raises(type(error)):
        work(store, cut_out=raising(error))
    assert list(store.inner.list("out/")) == []


@pytest.mark.parametrize("call", ["open", "head", "put"])
def test_a_store_that_fails_at_any_step_is_raised_and_the_next_attempt_succeeds(store: StoreAround, call: str) -> None:
    class FailsOnce(StoreAround):
        failed = False

        def before(self, name: str, key: str) -> None:
            if name == call and not self.failed:
                self.failed = True
                raise StoreUnavailable("503", retry_after_s=5)

    flaky = FailsOnce(store)
    with pytest.raises(StoreUnavailable):
        work(flaky)
    assert work(flaky).status == "done"
    assert list(store.created.values()) == [1]


def test_work_that_takes_too_long_may_pass(store: StoreAround) -> None:
    async def slow(data: bytes, wish: Wish) -> Result:
        await asyncio.sleep(30)
        raise AssertionError("it was cancelled")

    with pytest.raises(DeadlineExceeded):
        work(store, cut_out=slow, item_s=0.05)


def test_a_result_of_another_format_than_its_key_promises_is_not_stored(store: StoreAround) -> None:
    async def png(data: bytes, wish: Wish) -> Result:
        return await fake_cut_out(data, replace(wish, options=wish.options.model_copy(update={"format": "png"})))

    with pytest.raises(MattehornError, match="webp"):
        work(store, cut_out=png)
    assert list(store.inner.list("out/")) == []
