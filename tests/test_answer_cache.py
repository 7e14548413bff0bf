"""Equal requests are computed and charged once: one after another, at once, across replicas, whoever dies."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.ingress.once import answer_cache
from deployments.tally import turns
from mattehorn import telemetry
from mattehorn.cache.kept import CACHE, Kept
from mattehorn.errors import (
    DeadlineExceeded,
    ModelError,
    NoForeground,
    Overloaded,
    RateLimited,
)
from mattehorn.store.records import delete_record
from tests.api_client import EMPTY
from tests.cache_bench import SHOP, Pool, Replica, run, spent, until
from tests.service import encoded, photo

OTHER = encoded(photo(80, 60))


@pytest.fixture(autouse=True)
def keep_the_metrics_back_end() -> Iterator[None]:
    before = telemetry._backend
    yield
    telemetry._backend = before


def counted(pool: Pool, **labels: str) -> float:
    return pool.backend.registry.get_sample_value("mattehorn_cache_requests_total", labels) or 0


# ---- one after another


def test_the_same_photo_again_is_a_hit_for_nothing_and_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        replica = Replica(pool)
        first, second = await replica.cut_out(), await replica.cut_out(name="another name")
        assert (first.cache, second.cache, pool.matting.asked) == ("miss", "hit", 1)
        assert second.answer.result.data == first.answer.result.data
        assert await spent(pool) == 1
        assert "infer" in first.answer.result.timings_ms
        assert list(second.answer.result.timings_ms) == ["cache"]
        plain = dataclasses.replace(first.answer.result, timings_ms=second.answer.result.timings_ms)
        assert second.answer.result == plain

    run(story())


def test_another_photo_option_or_tenant_is_a_miss(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        replica = Replica(pool)
        await replica.cut_out()
        other = dataclasses.replace(SHOP, name="other shop")
        served = [
            await replica.cut_out(OTHER),
            await replica.cut_out(feather_px=1),
            await replica.cut_out(tenant=other),
        ]
        assert [one.cache for one in served] == ["miss"] * 3
        assert pool.asked == 4
        assert await spent(pool, other) == 1

    run(story())


def test_without_a_cache_nothing_is_looked_up_joined_or_kept(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path, max_bytes=0)
        replica = Replica(pool)
        served = await asyncio.gather(*(replica.cut_out() for _ in range(3)))
        assert [one.cache for one in served] == [None] * 3
        assert pool.asked == 3
        assert list(pool.store.list(CACHE)) == []

    run(story())


def test_a_stored_result_is_given_again_under_its_id_while_it_is_stored(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        replica = Replica(pool)
        wish = {"store": True, "store_alpha": True, "store_source": True}
        first, second = await replica.cut_out(**wish), await replica.cut_out(**wish)
        assert first.answer.stored is not None
        assert (second.cache, second.answer.stored) == ("hit", first.answer.stored)
        assert (await replica.cut_out(**wish, name="mug")).cache == "miss"
        delete_record(pool.store, first.answer.stored)
        third = await replica.cut_out(**wish)
        assert third.cache == "miss"
        assert third.answer.stored is not None
        assert third.answer.stored.id != first.answer.stored.id
        assert (await replica.cut_out(**wish)).answer.stored == third.answer.stored

    run(story())


def test_an_asked_matte_is_in_the_hit_too(tmp_path: Path) -> None:
    async def story() -> None:
        replica = Replica(Pool(tmp_path))
        first, second = await replica.cut_out(include="alpha"), await replica.cut_out(include="alpha")
        assert second.cache == "hit"
        assert first.answer.result.alpha_png == second.answer.result.alpha_png is not None

    run(story())


def test_errors_are_not_kept(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        replica = Replica(pool)
        for _ in range(2):
            with pytest.raises(NoForeground):
                await replica.cut_out(EMPTY)
        assert pool.asked == 2
        assert await spent(pool) == 0

    run(story())


def test_an_answer_of_a_model_that_is_not_ours_is_not_kept(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        replica = Replica(pool)
        pool.matting.name = "fake@0"
        assert (await replica.cut_out()).answer.result.model == "fake@0"
        await replica.settled()
        assert list(pool.store.list(CACHE)) == []

    run(story())


def test_a_damaged_object_is_a_miss_and_is_replaced(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        replica = Replica(pool)
        await replica.cut_out()
        await replica.settled()
        (key,) = pool.store.list(f"{CACHE}objects/")
        whole = pool.store.get(key)
        pool.store.put(key, whole[:-1] + b"!", content_type="x/y")
        assert (await replica.cut_out()).cache == "miss"
        assert (await replica.cut_out()).cache == "hit"

    run(story())


def test_weights_out_of_reach_turn_the_cache_off_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(settings: Any) -> str:
        raise ModelError("No weights could be read.")

    monkeypatch.setattr(answer_cache, "maker", missing)
    assert Replica(Pool(tmp_path)).work._cache is None
    assert "cache_off" in caplog.text


# ---- at once


def test_three_equal_requests_in_flight_are_one_inference_one_charge_and_three_equal_answers(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        here, there = Replica(pool), Replica(pool)
        pool.gate.clear()
        asked = [here.start(), here.start(), there.start()]
        await until(lambda: pool.asked == 1)
        await asyncio.sleep(0.05)  # all the time the others need to ask a second time, were they to
        pool.gate.set()
        served = await asyncio.gather(*asked)
        assert (pool.asked, pool.matting.asked, await spent(pool)) == (1, 1, 1)
        assert len({one.answer.result.data for one in served}) == 1
        assert sorted(str(one.cache) for one in served) == ["hit", "hit", "miss"]
        assert counted(pool, outcome="joined") == 2
        assert (await there.cut_out()).cache == "hit"

    run(story())


def test_requests_that_come_while_the_answer_is_on_its_way_to_the_store_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        here, there = Replica(pool), Replica(pool)
        loop, release = asyncio.get_running_loop(), asyncio.Event()
        put = Kept.put

        def slow(self: Kept, *arguments: Any) -> int:
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
            return put(self, *arguments)

        monkeypatch.setattr(Kept, "put", slow)
        await here.cut_out()  # is not held up by it
        waiting = [here.start(), there.start()]
        await asyncio.sleep(0.05)
        release.set()
        assert [(await one).cache for one in waiting] == ["hit", "hit"]
        assert pool.asked == 1

    run(story())


@pytest.mark.parametrize("elsewhere", [False, True])
def test_when_the_first_fails_one_of_the_others_takes_over(tmp_path: Path, elsewhere: bool) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        here = Replica(pool)
        others = Replica(pool) if elsewhere else here
        pool.gate.clear()
        pool.failures = [Overloaded("The service is at its limit; try again.", retry_after_s=2)]
        first = here.start()
        await until(lambda: pool.asked == 1)
        waiting = [others.start() for _ in range(3)]
        await asyncio.sleep(0.05)
        pool.gate.set()
        with pytest.raises(Overloaded):
            await first
        served = await asyncio.gather(*waiting)
        assert pool.asked == 2
        assert await spent(pool) == 1
        assert sorted(str(one.cache) for one in served) == ["hit", "hit", "miss"]

    run(story())


@pytest.mark.parametrize("elsewhere", [False, True])
def test_when_the_first_client_leaves_one_of_the_others_takes_over(tmp_path: Path, elsewhere: bool) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        here = Replica(pool)
        others = Replica(pool) if elsewhere else here
        pool.gate.clear()
        first = here.start()
        await until(lambda: pool.asked == 1)
        waiting = others.start()
        await asyncio.sleep(0.05)
        first.cancel()
        await until(lambda: pool.asked == 2)
        pool.gate.set()
        assert (await waiting).cache == "miss"
        assert await spent(pool) == 1

    run(story())


def test_one_who_leaves_while_it_waits_changes_nothing_for_the_others(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        here = Replica(pool)
        pool.gate.clear()
        first = here.start()
        await until(lambda: pool.asked == 1)
        leaves, stays = here.start(), here.start()
        await asyncio.sleep(0.05)
        leaves.cancel()
        await asyncio.sleep(0)
        pool.gate.set()
        assert [(await one).cache for one in (first, stays)] == ["miss", "hit"]
        assert pool.asked == 1

    run(story())


def test_all_who_wait_get_the_error_that_the_photo_itself_causes(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        here = Replica(pool)
        pool.gate.clear()
        first = here.start(EMPTY)
        await until(lambda: pool.asked == 1)
        waiting = [here.start(EMPTY) for _ in range(3)]
        await asyncio.sleep(0.05)
        pool.gate.set()
        outcomes = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert [type(one) for one in outcomes] == [NoForeground] * 4
        assert pool.asked == 1

    run(story())


def test_who_waits_ends_at_its_own_deadline(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        here, there = Replica(pool), Replica(pool)
        pool.gate.clear()
        first = here.start()
        await until(lambda: pool.asked == 1)
        waiting = [here.start(left_s=0.1), there.start(left_s=0.1)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in outcomes] == [DeadlineExceeded] * 2
        pool.gate.set()
        await first
        assert pool.asked == 1

    run(story())


def test_a_dead_replicas_lease_runs_out_and_another_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LEASE_S", 0.2)
    monkeypatch.setattr(turns, "RENEW_S", 1000.0)  # the holder's process is gone: nobody renews

    async def story() -> None:
        pool = Pool(tmp_path)
        dead, alive = Replica(pool), Replica(pool)
        pool.gate.clear()
        doomed = dead.start()
        await until(lambda: pool.asked == 1)
        waiting = alive.start()
        await until(lambda: pool.asked == 2)
        pool.gate.set()
        assert (await waiting).cache == "miss"
        await doomed

    run(story())


def test_a_long_work_is_not_taken_over_while_its_holder_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LEASE_S", 0.4)
    monkeypatch.setattr(turns, "RENEW_S", 0.05)

    async def story() -> None:
        pool = Pool(tmp_path)
        here, there = Replica(pool), Replica(pool)
        pool.gate.clear()
        first = here.start()
        await until(lambda: pool.asked == 1)
        waiting = there.start()
        await asyncio.sleep(1.0)  # two leases and a half
        pool.gate.set()
        assert [(await one).cache for one in (first, waiting)] == ["miss", "hit"]
        assert pool.asked == 1

    run(story())


def test_a_budget_that_is_spent_refuses_work_but_not_what_is_known(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        replica = Replica(pool)
        await replica.cut_out()
        await pool.tally.charge(SHOP.name, 99, SHOP.budget)
        assert (await replica.cut_out()).cache == "hit"
        with pytest.raises(RateLimited):
            await replica.cut_out(OTHER)

    run(story())
