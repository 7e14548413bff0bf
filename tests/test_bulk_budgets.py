"""Photos of a tenant's jobs are paid: each once, within the month, under the tenant's own limits, whatever crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.bulk.accounts import SPENT_FOR_S, make_accounts
from deployments.tally.book import Book
from mattehorn.access.keys import set_limits
from mattehorn.access.keys_file import edit_keys
from mattehorn.bulk.item import run_item
from mattehorn.bulk.job_spec import JobSpec, Owner
from mattehorn.bulk.listing import list_input
from mattehorn.bulk.messages import shard_message
from mattehorn.bulk.plan import Outcome
from mattehorn.errors import MattehornError, NoForeground, Overloaded, Unavailable
from mattehorn.pipeline import Result
from mattehorn.recipe.gate import Wish
from mattehorn.settings import Settings
from tests.bulk_bench import (
    Bench,
    EveryCreatorWins,
    StoreAround,
    body,
    event,
    fake_cut_out,
    message,
    plan,
    recorded,
    rows,
)
from tests.bulk_item import never, raising, store_with_photo
from tests.clock import Clock
from tests.service import encoded, photo

OUTPUT = {"output": "out/"}
LEASE_S = 600.0  # twice bulk.photo_s


class CountingBook(Book):
    """Knows how often it was asked; while `away` it does not answer."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__()
        if clock is not None:
            self.budgets._clock = clock
        self.asked: list[str] = []
        self.away: set[str] = set()

    def _answers(self, call: str) -> None:
        self.asked.append(call)
        if call in self.away:
            raise Unavailable("Tally was restarted too often.", retry_after_s=1)

    async def hold(self, *arguments: Any) -> Any:
        self._answers("hold")
        return await super().hold(*arguments)

    async def settle(self, *arguments: Any) -> None:
        self._answers("settle")
        await super().settle(*arguments)

    async def drop(self, *arguments: Any) -> None:
        self._answers("drop")
        await super().drop(*arguments)


class Shop:
    """The tenant `shop` with these limits, its account and one photo's store."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.keys, self.clock = folder / "keys.json", Clock(1_795_000_000.0)
        self.book = CountingBook(self.clock)
        self.looks = Clock()
        settings = Settings.model_validate({"model": "fake", "keys_file": str(self.keys)})
        self.accounts = make_accounts(settings, self.book, self.looks)
        self.limit(**limits)

    def limit(self, **limits: int) -> None:
        edit_keys(self.keys, lambda document: set_limits(document, "shop", limits))
        if (account := self.accounts("shop")) is not None:
            account._keys._looked = float("-inf")  # type: ignore[attr-defined]

    @property
    def spent(self) -> int:
        return self.book.budgets.spent("shop").month

    @property
    def held(self) -> int:
        return self.book.budgets._holds.total("shop")

    async def item(self, store: StoreAround, cut_out: Any = fake_cut_out) -> Outcome:
        paying = plan(account=self.accounts("shop"))
        return await run_item(event("in/a.jpg"), paying, store, store, cut_out)


@pytest.fixture
def store(tmp_path: Path) -> StoreAround:
    return store_with_photo(tmp_path)


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**more: Any) -> Bench:
        made.append(Bench(tmp_path, **more))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def submitted(bench: Bench, **more: Any) -> JobSpec:
    return bench.jobs.submit(body(**OUTPUT, **more), owner=Owner("shop"))


def codes(bench: Bench, job: JobSpec) -> list[str]:
    """Each photo's status or, where it failed, its code; sorted."""
    return sorted(row["error"]["code"] if row["status"] == "failed" else row["status"] for row in rows(bench, job.id))


# what is paid


def test_each_photo_of_a_job_is_charged_once_and_what_is_there_costs_nothing(
    tmp_path: Path, make_bench: Callable[..., Bench]
) -> None:
    shop = Shop(tmp_path)
    bench = make_bench(accounts=shop.accounts)
    bench.add_photos(12)
    bench.home.put("in/large.png", encoded(photo(1600, 1000)), content_type="image/png")
    submitted(bench)
    bench.run()
    assert (shop.spent, shop.held) == (14, 0)
    second = submitted(bench)
    bench.run()
    assert codes(bench, second) == ["skipped"] * 13
    assert shop.spent == 14


def test_a_job_of_nobody_and_photos_of_events_ask_the_tally_nothing(
    tmp_path: Path, make_bench: Callable[..., Bench]
) -> None:
    shop = Shop(tmp_path)
    bench = make_bench(accounts=shop.accounts)
    first, *_ = bench.add_photos(3)
    bench.queue.send_many([message(first)])
    job = bench.jobs.submit(body())
    bench.run()
    assert codes(bench, job) == ["done"] * 3
    assert shop.book.asked == []


def test_without_keys_a_tenants_job_of_before_asks_nothing(tmp_path: Path, make_bench: Callable[..., Bench]) -> None:
    book = CountingBook()
    bench = make_bench(accounts=make_accounts(Settings.model_validate({"model": "fake"}), book))
    bench.add_photos(2)
    job = submitted(bench)
    bench.run()
    assert (codes(bench, job), book.asked) == (["done"] * 2, [])


@pytest.mark.parametrize("error", [NoForeground("None."), Overloaded("Full.", retry_after_s=1), RuntimeError("a bug")])
def test_what_fails_costs_nothing(tmp_path: Path, store: StoreAround, error: Exception) -> None:
    shop = Shop(tmp_path, megapixels_per_month=1)
    if isinstance(error, NoForeground):
        assert asyncio.run(shop.item(store, raising(error))).code == "no_foreground"
    else:
        with pytest.raises(type(error)):
            asyncio.run(shop.item(store, raising(error)))
    assert (shop.spent, shop.held) == (0, 0)
    assert asyncio.run(shop.item(store)).status == "done"


# once, whatever crashes


@pytest.mark.parametrize("around", [StoreAround, EveryCreatorWins], ids=["one-creator", "every-creator-wins"])
def test_a_photo_that_two_workers_do_at_once_is_paid_once(tmp_path: Path, around: Callable[..., StoreAround]) -> None:
    shop = Shop(tmp_path, megapixels_per_month=1)
    store = around(store_with_photo(tmp_path).inner)
    both = asyncio.Barrier(2)

    async def together(data: bytes, wish: Wish) -> Result:
        await both.wait()
        return await fake_cut_out(data, wish)

    async def race() -> list[Outcome]:
        return list(await asyncio.gather(*(shop.item(store, together) for _ in range(2))))

    statuses = sorted(outcome.status for outcome in asyncio.run(race()))
    assert statuses in (["done", "skipped"], ["done", "done"])
    assert (shop.spent, shop.held) == (1, 0)


def test_who_finds_the_result_made_by_somebody_else_meanwhile_pays_nothing(tmp_path: Path, store: StoreAround) -> None:
    shop = Shop(tmp_path)

    async def overtaken(data: bytes, wish: Wish) -> Result:
        assert (await run_item(event("in/a.jpg"), plan(), store, store, fake_cut_out)).status == "done"
        return await fake_cut_out(data, wish)

    assert asyncio.run(shop.item(store, overtaken)).status == "skipped"
    assert (shop.spent, shop.held) == (0, 0)


def test_messages_that_come_twice_charge_no_photo_twice(tmp_path: Path, make_bench: Callable[..., Bench]) -> None:
    shop = Shop(tmp_path)
    bench = make_bench(accounts=shop.accounts)
    bench.add_photos(30)
    job = submitted(bench)

    async def work() -> None:
        async with asyncio.timeout(60):
            await bench.consumer().run_until_empty()

    async def twice() -> None:
        await asyncio.gather(work(), work())

    state = bench.jobs.state(job.id)
    assert list_input(job, state, bench.places, bench.queue, lambda: False)
    bench.queue.send_many([shard_message(job.id, shard) for shard in state.shards()[0]])
    asyncio.run(twice())
    assert set(codes(bench, job)) <= {"done", "skipped"}  # skipped where another's note came after its result
    assert (shop.spent, shop.held) == (30, 0)


async def _killed(work: Any, when: asyncio.Event) -> None:
    """As a replica dies: nothing of it is told to anybody."""
    task = asyncio.ensure_future(work)
    await when.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


def test_a_death_before_the_result_leaves_a_hold_that_the_next_attempt_takes_over(
    tmp_path: Path, store: StoreAround
) -> None:
    shop = Shop(tmp_path, megapixels_per_month=1)

    async def run() -> Outcome:
        at_work = asyncio.Event()

        async def hangs(data: bytes, wish: Wish) -> Result:
            at_work.set()
            await asyncio.Event().wait()
            raise AssertionError

        await _killed(shop.item(store, hangs), at_work)
        assert (shop.spent, shop.held) == (0, 1)
        return await shop.item(store)

    assert asyncio.run(run()).status == "done"
    assert (shop.spent, shop.held) == (1, 0)


def test_a_death_between_the_result_and_its_charge_makes_it_free_and_never_paid_twice(
    tmp_path: Path, store: StoreAround, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path, megapixels_per_month=1)

    async def run() -> Outcome:
        made = asyncio.Event()

        async def dies(*arguments: Any) -> None:
            made.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patched:
            patched.setattr(shop.book, "settle", dies)
            await _killed(shop.item(store), made)
        return await shop.item(store, never)

    assert asyncio.run(run()).status == "skipped"
    assert (shop.spent, shop.held) == (0, 1)
    shop.clock.now += LEASE_S
    shop.book.budgets._holds.expire(shop.clock.now)
    assert (shop.spent, shop.held) == (0, 0)


def test_a_result_whose_charge_the_tally_does_not_take_is_done_all_the_same(tmp_path: Path, store: StoreAround) -> None:
    shop = Shop(tmp_path, megapixels_per_month=5)
    shop.book.away = {"settle", "drop"}
    assert asyncio.run(shop.item(store)).status == "done"
    with pytest.raises(RuntimeError, match="a bug"):  # the fault itself, not that of the drop
        asyncio.run(shop.item(store_with_photo(tmp_path / "other"), raising(RuntimeError("a bug"))))


# the month's end


def test_beyond_the_month_photos_fail_by_name_and_a_later_job_does_them(
    tmp_path: Path, make_bench: Callable[..., Bench]
) -> None:
    shop = Shop(tmp_path, megapixels_per_month=5, megapixels_per_minute=1)
    bench = make_bench(accounts=shop.accounts)
    bench.add_photos(12)
    with recorded() as counted:
        job = submitted(bench)
        bench.run()
    assert codes(bench, job) == ["done"] * 5 + ["quota_exceeded"] * 7
    assert (shop.spent, shop.held) == (5, 0)
    assert (counted.counts["done"], counted.counts["over_quota"], counted.counts["error"]) == (5, 7, 0)
    progress = bench.jobs.progress(job.id)
    assert (progress.state, progress.tally.failed) == ("succeeded", 7)
    said = progress.document()["failed"][0]["error"]
    assert said.startswith("quota_exceeded: ")
    assert "of 5 megapixel images a month are left. Send it in a new job after 2026-12-01T00:00:00Z" in said
    assert list(bench.home.list("out/errors/")) == []
    assert bench.queue.depth().dead == 0
    shop.limit(megapixels_per_month=100)
    shop.looks.now += SPENT_FOR_S
    second = submitted(bench)
    bench.run()
    assert codes(bench, second) == ["done"] * 7 + ["skipped"] * 5
    assert shop.spent == 12


def test_of_two_workers_that_race_for_the_last_megapixels_exactly_the_budget_passes(
    tmp_path: Path, make_bench: Callable[..., Bench]
) -> None:
    shop = Shop(tmp_path, megapixels_per_month=9)
    bench = make_bench(accounts=shop.accounts)
    bench.add_photos(40)
    job = submitted(bench)

    async def race() -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(*(bench.consumer().run_until_empty() for _ in range(2)))

    asyncio.run(race())
    assert codes(bench, job) == ["done"] * 9 + ["quota_exceeded"] * 31
    assert (len(bench.outputs()), shop.spent, shop.held) == (9, 9, 0)


def test_a_spent_month_is_not_asked_for_again_at_every_photo_but_soon(tmp_path: Path, store: StoreAround) -> None:
    shop = Shop(tmp_path, megapixels_per_month=1)
    asyncio.run(shop.book.charge("shop", 1, shop.accounts("shop")._tenant().budget))  # type: ignore[union-attr]
    first, second = (asyncio.run(shop.item(store, never)) for _ in range(2))
    assert (first.code, second.code) == ("quota_exceeded", "quota_exceeded")
    assert (first.reason or "").startswith("This photo costs 1 megapixel images: 0 of 1")
    assert (second.reason or "").startswith("The month's budget is spent: 0 of 1")
    assert shop.book.asked == ["hold"]
    shop.looks.now += SPENT_FOR_S
    asyncio.run(shop.item(store, never))
    assert shop.book.asked == ["hold", "hold"]


def test_a_photo_that_no_month_could_hold_is_an_error_of_its_own(tmp_path: Path, store: StoreAround) -> None:
    shop = Shop(tmp_path, megapixels_per_month=1)
    store.put("in/a.jpg", encoded(photo(1600, 1000)), content_type="image/png")
    outcome = asyncio.run(shop.item(store, never))
    assert (outcome.code, bool(outcome.output)) == ("image_too_large", True)
    assert "whole budget of 1" in (outcome.reason or "")


# its own limits


@pytest.mark.parametrize(
    ("limits", "code", "allowed"),
    [({"pixels": 48 * 40 - 1}, "image_too_large", str(48 * 40 - 1)), ({"body_bytes": 30}, "body_too_large", "30")],
    ids=["pixels", "bytes"],
)
def test_a_tenants_own_limits_hold_for_photos_of_its_jobs(
    tmp_path: Path, make_bench: Callable[..., Bench], limits: dict[str, int], code: str, allowed: str
) -> None:
    shop = Shop(tmp_path, **limits)
    bench = make_bench(accounts=shop.accounts)
    bench.add_photos(1)
    job, free_of_them = submitted(bench), bench.jobs.submit(body())
    bench.run()
    (row,) = rows(bench, job.id)
    assert row["error"]["code"] == code
    assert allowed in row["error"]["reason"]
    assert codes(bench, free_of_them) == ["done"]
    assert shop.spent == 0


# what is away


def test_without_the_tally_a_limited_photo_waits_and_an_unlimited_one_is_done(
    tmp_path: Path, store: StoreAround
) -> None:
    shop = Shop(tmp_path, megapixels_per_month=5)
    shop.book.away = {"hold", "settle", "drop"}
    with pytest.raises(Unavailable):
        asyncio.run(shop.item(store, never))
    (tmp_path / "free").mkdir()
    free = Shop(tmp_path / "free", megapixels_per_minute=1)  # which is for requests
    free.book.away = shop.book.away
    assert asyncio.run(free.item(store)).status == "done"


def test_a_keys_file_that_was_never_read_is_no_file_without_limits(tmp_path: Path, store: StoreAround) -> None:
    shop = Shop(tmp_path, pixels=1)
    shop.keys.rename(tmp_path / "away.json")
    settings = Settings.model_validate({"model": "fake", "keys_file": str(shop.keys)})
    shop.accounts = make_accounts(settings, shop.book)
    with pytest.raises(MattehornError, match="keys file"):
        asyncio.run(shop.item(store, never))
    (tmp_path / "away.json").rename(shop.keys)
    shop.limit()
    assert asyncio.run(shop.item(store, never)).code == "image_too_large"
