"""The cache is a help: nothing that is away fails a request, sweeps hold its size, and the answer says what it was."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.ingress.api import build_api
from deployments.ingress.once import answer_cache
from deployments.ingress.once.cache_sweep import AGAIN_S, PAUSE_MOST_S, KeptSweep
from mattehorn import telemetry
from mattehorn.cache.kept import CACHE, IDEMPOTENCY, Kept
from mattehorn.errors import (
    StoreUnavailable,
    Unavailable,
)
from tests.api_client import JSON, PHOTO, Client, post
from tests.cache_bench import SHOP, AwayStore, AwayTally, Pool, Replica, run, until
from tests.service import encoded, photo

OTHER = encoded(photo(80, 60))


@pytest.fixture(autouse=True)
def keep_the_metrics_back_end() -> Iterator[None]:
    before = telemetry._backend
    yield
    telemetry._backend = before


# ---- what is away


def test_a_store_that_is_away_fails_nothing_is_asked_seldom_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> AwayStore:
        pool = Pool(tmp_path)
        pool.store = away = AwayStore()  # type: ignore[assignment]
        replica = Replica(pool)
        served = [await replica.cut_out() for _ in range(3)]
        assert [one.cache for one in served] == ["miss"] * 3
        await replica.settled()
        together = await asyncio.gather(*(replica.cut_out(OTHER) for _ in range(3)))
        assert sorted(str(one.cache) for one in together) == ["hit", "hit", "miss"]
        return away

    with caplog.at_level(logging.WARNING):
        away = run(story())
    assert away.asked == 1
    assert [record.message for record in caplog.records if "cache_store_away" in record.message] == [
        "cache_store_away reason=The results store did not answer. Try again."
    ]


def test_a_store_that_hangs_costs_one_request_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_cache, "FIND_S", 0.05)

    async def story() -> None:
        pool = Pool(tmp_path)
        loop, release = asyncio.get_running_loop(), asyncio.Event()

        class Hanging:
            def __getattr__(self, name: str) -> Any:
                return lambda *_, **__: asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)

        pool.store = Hanging()  # type: ignore[assignment]
        replica = Replica(pool)
        assert (await replica.cut_out()).cache == "miss"
        release.set()

    run(story())


def test_without_the_tally_nothing_is_joined_across_replicas_and_all_is_answered(tmp_path: Path) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        pool.tally = AwayTally()  # type: ignore[assignment]
        here, there = Replica(pool), Replica(pool)
        free = dataclasses.replace(SHOP, budget=dataclasses.replace(SHOP.budget, per_minute=None))
        pool.gate.clear()
        asked = [here.start(tenant=free), here.start(tenant=free), there.start(tenant=free)]
        await until(lambda: pool.asked == 2)
        pool.gate.set()
        served = await asyncio.gather(*asked)
        assert sorted(str(one.cache) for one in served) == ["hit", "miss", "miss"]
        await here.settled()
        assert (await here.cut_out(tenant=free)).cache == "hit"

    run(story())


def test_a_tally_that_dies_while_one_waits_ends_the_wait_and_not_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        pool = Pool(tmp_path)
        here, there = Replica(pool), Replica(pool)
        pool.gate.clear()
        first = here.start()
        await until(lambda: pool.asked == 1)

        async def dies(work: str, within_s: float) -> bool:
            raise Unavailable("Tally was restarted too often.", retry_after_s=2)

        monkeypatch.setattr(pool.tally, "released", dies)
        waiting = there.start()
        await until(lambda: pool.asked == 2)
        pool.gate.set()
        assert {(await one).cache for one in (first, waiting)} == {"miss"}

    run(story())


# ---- sweeps


def test_a_sweep_is_due_at_the_start_in_time_and_when_much_was_kept(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    kept = Kept(pool.store, CACHE, ttl_s=86_400, max_bytes=8000)
    now = 0.0
    sweep = KeptSweep(kept, clock=lambda: now)
    assert sweep.is_due
    assert run(sweep.once()) == 0
    assert not sweep.is_due
    kept.put("ab" * 32, "", [b"x" * 2000])
    assert sweep.is_due
    assert run(sweep.once()) == 0
    assert not sweep.is_due
    now += PAUSE_MOST_S
    assert sweep.is_due
    assert pool.backend.registry.get_sample_value("mattehorn_cache_size_bytes") > 2000


def test_a_sweep_that_fails_says_so_once_and_nothing_is_kept_until_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any) -> None:
        raise StoreUnavailable("The results store refused to delete.", retry_after_s=30)

    async def story() -> None:
        pool = Pool(tmp_path, max_bytes=1)
        replica = Replica(pool)
        await replica.cut_out()
        await replica.settled()
        now = 0.0
        sweep = KeptSweep(replica.work.kept, clock=lambda: now)
        with monkeypatch.context() as patched:
            patched.setattr(type(pool.store), "delete", refused)
            assert [await sweep.once() for _ in range(3)] == [0, 0, 0]
            await replica.cut_out(OTHER)
            await replica.settled()
        assert len(list(pool.store.list(f"{CACHE}objects/"))) == 1
        assert not sweep.is_due
        now += AGAIN_S
        assert sweep.is_due
        assert await sweep.once() == 1
        await replica.cut_out(OTHER)
        await replica.settled()
        assert len(list(pool.store.list(f"{CACHE}objects/"))) == 1

    run(story())
    assert len([record for record in caplog.records if "kept_not_swept" in record.message]) == 1


@pytest.mark.parametrize("max_bytes", [0, 1000])
def test_the_application_sweeps_both_places_while_it_lives_also_what_a_cache_left_that_is_off(
    tmp_path: Path, max_bytes: int
) -> None:
    app = build_api(Pool(tmp_path, max_bytes=max_bytes))

    async def story() -> int:
        async with app.router.lifespan_context(app):
            return len([task for task in asyncio.all_tasks() if "KeptSweep.run" in repr(task)])

    assert run(story()) == 2


# ---- over HTTP


def test_the_header_the_json_and_the_stage_times_tell_of_hits(tmp_path: Path) -> None:
    with Client(Pool(tmp_path)) as client:
        first, second = post(client), post(client)
        assert [one.headers["x-mattehorn-cache"] for one in (first, second)] == ["miss", "hit"]
        assert second.content == first.content
        stages = [part.split(";")[0].strip() for part in second.headers["server-timing"].split(",")]
        assert stages == ["cache", "total"]
        changing = ("server-timing", "x-request-id", "x-mattehorn-cache")
        same = [{k: v for k, v in one.headers.items() if k not in changing} for one in (first, second)]
        assert same[0] == same[1]
        document = post(client, headers=JSON).json()
        assert document["cache"] == "hit"
        assert set(document["timings_ms"]) == {"cache", "total"}
        assert client.service.matting.asked == 1


def test_other_contracts_share_the_cache(tmp_path: Path) -> None:
    with Client(Pool(tmp_path)) as client:
        for path, part in (("/api/matting", "image"), ("/remove_background", "image"), ("/v1/mattes", "file")):
            answer = client.post(path, files={part: ("p.png", PHOTO)})
            assert answer.status_code == 200
        assert answer.headers["x-mattehorn-cache"] == "hit"
        assert client.service.matting.asked == 1
        assert client.post("/api/remove", files={"file": ("p.png", PHOTO)}).headers["x-mattehorn-cache"] == "miss"


def test_kept_answers_are_no_photos_of_jobs_nor_places_for_their_results(tmp_path: Path) -> None:
    from mattehorn.bulk.places import Places

    places = Places(Pool(tmp_path).settings.store)
    assert all(places.is_state("", f"{place}objects/ab/x") for place in (CACHE, IDEMPOTENCY))
    assert not places.is_state("", "photos/.cache/a.jpg")
