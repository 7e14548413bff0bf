"""Bulk in a compose replica beside interactive work, and the bulk replica itself. No time is measured."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deployments.bulk.deployment import Bulk
from deployments.calls import Answer, Full, Job, Lane
from deployments.compose import lanes as lanes_module
from deployments.compose.lanes import BULK_AT_ONCE, BULK_MEMORY, LINGER_S, Lanes, full_pause_s
from deployments.compose.permits import Permits
from mattehorn import telemetry
from mattehorn.errors import MattehornError, Overloaded, UnknownModel
from mattehorn.options import Options
from mattehorn.recipe.gate import Gate, Wish
from mattehorn.settings import Settings
from tests.service import InProcessService, Method, encoded, photo
from tests.test_batcher import settle

PHOTO = encoded(photo())


@pytest.fixture(autouse=True)
def keep_the_metrics_back_end() -> Iterator[None]:
    before = telemetry._backend
    yield
    telemetry._backend = before


def executor(lanes: Lanes, lane: Lane) -> ThreadPoolExecutor:
    return asyncio.run(threads(lanes, lane))


async def threads(lanes: Lanes, lane: Lane) -> ThreadPoolExecutor:
    """Where a step of that lane runs, once it may begin."""
    async with lanes.step(lane, 0) as threads:
        return threads


def test_bulk_has_fewer_threads_and_its_photos_keep_no_interactive_one_waiting() -> None:
    lanes, release = Lanes(2, Permits(10), 10), threading.Event()
    held = [executor(lanes, "bulk").submit(release.wait) for _ in range(5)]
    own = [executor(lanes, "interactive").submit(lambda: 7) for _ in range(2)]
    assert [task.result(30) for task in own] == [7, 7]
    assert sum(task.running() for task in held) == 1
    release.set()
    assert all(task.result(30) for task in held)


def test_with_one_thread_bulk_still_has_one() -> None:
    assert executor(Lanes(1, Permits(10), 10), "bulk").submit(lambda: 7).result(30) == 7


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="only Linux has priorities of threads")
def test_bulk_threads_have_a_lower_priority_than_the_process() -> None:
    lanes = Lanes(2, Permits(10), 10)

    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert executor(lanes, "bulk").submit(priority).result(30) == 19
    assert executor(lanes, "interactive").submit(priority).result(30) == os.getpriority(os.PRIO_PROCESS, 0)


def test_bulk_begins_no_step_while_an_interactive_photo_is_in_work() -> None:
    async def check() -> None:
        lanes = Lanes(2, Permits(10), 10)
        with lanes.place("bulk"):
            await threads(lanes, "bulk")
            with lanes.place("interactive"):
                step = asyncio.ensure_future(threads(lanes, "bulk"))
                await settle()
                assert not step.done()
                await threads(lanes, "interactive")
            async with asyncio.timeout(30):
                await step

    asyncio.run(check())


def test_bulk_steps_pass_one_by_one_where_interactive_photos_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "COURTESY_S", 0.05)

    async def check() -> None:
        lanes, passed = Lanes(2, Permits(10), 10), []

        async def step(number: int) -> None:
            began = time.monotonic()
            await threads(lanes, "bulk")
            passed.append((number, time.monotonic() - began))

        with lanes.place("interactive"):
            async with asyncio.timeout(30):
                await asyncio.gather(*(step(number) for number in range(4)))
        assert [number for number, _ in passed] == [0, 1, 2, 3]
        assert all(waited >= 0.05 * (number + 1) - 0.01 for number, waited in passed)

    asyncio.run(check())


def test_bulk_shrinks_to_one_photo_beside_interactive_ones_and_grows_again() -> None:
    async def check() -> None:
        now, release = [100.0], asyncio.Event()
        lanes, at_work = Lanes(2, Permits(100), 100, clock=lambda: now[0]), []

        async def bulk(number: int) -> None:
            async with lanes.hold(1, "bulk"):
                at_work.append(number)
                await release.wait()

        with lanes.place("interactive"):
            tasks = [asyncio.ensure_future(bulk(number)) for number in range(BULK_AT_ONCE)]
            await asyncio.sleep(3 * lanes_module._LOOK_S)
            assert at_work == [0]
        await asyncio.sleep(3 * lanes_module._LOOK_S)
        assert at_work == [0]  # the client's next photo is likely
        now[0] += LINGER_S
        async with asyncio.timeout(30):
            while len(at_work) < BULK_AT_ONCE:
                await asyncio.sleep(0.01)
            release.set()
            await asyncio.gather(*tasks)
        assert at_work == list(range(BULK_AT_ONCE))

    asyncio.run(check())


def test_a_bulk_job_that_is_cancelled_in_the_line_leaves_no_trace() -> None:
    async def check() -> None:
        lanes, release = Lanes(2, Permits(100), 100), asyncio.Event()

        async def bulk() -> None:
            async with lanes.hold(1, "bulk"):
                await release.wait()

        with lanes.place("interactive"):
            tasks = [asyncio.ensure_future(bulk()) for _ in range(3)]
            await settle()
            tasks[1].cancel()
            tasks[0].cancel()
            release.set()
            async with asyncio.timeout(30):
                await tasks[2]
        assert lanes._bulk_at_work == 0

    asyncio.run(check())


def test_bulk_never_holds_all_of_the_memory() -> None:
    async def check() -> None:
        permits = Permits(10)
        lanes, entered = Lanes(2, permits, 10), asyncio.Event()

        async def bulk() -> None:
            async with lanes.hold(3, "bulk"):
                await entered.wait()

        tasks = [asyncio.ensure_future(bulk()) for _ in range(4)]
        await settle()
        assert permits.held == 3  # 6 would be above its half
        async with asyncio.timeout(30), lanes.hold(10 * (1 - BULK_MEMORY), "interactive"):
            entered.set()
            await settle()
        await asyncio.gather(*tasks)
        assert permits.held == 0

    asyncio.run(check())


def test_pauses_before_a_full_pool_is_asked_again_grow_up_to_a_second() -> None:
    pauses = [max(full_pause_s(number) for _ in range(50)) for number in range(1, 8)]
    assert pauses[0] <= 0.1
    assert pauses == sorted(pauses) or max(pauses) <= 1.0
    assert max(full_pause_s(number) for number in range(1, 60)) <= 1.0


def bulk_job(left_s: float = 30) -> Job:
    return Job(PHOTO, Options(), "id-1", time.time() + left_s, "photo", lane="bulk")


def test_bulk_beyond_the_replicas_share_is_told_to_come_again(tmp_path: Path) -> None:
    service = InProcessService(tmp_path)
    service.matting.model._batch_s = 0.05

    async def check() -> None:
        tasks = [asyncio.ensure_future(service.compose.cut_out(bulk_job())) for _ in range(BULK_AT_ONCE)]
        await settle()
        assert await service.compose.cut_out(bulk_job()) == Full()
        own = Job(PHOTO, Options(), "id-2", time.time() + 30, "photo")
        assert isinstance(await service.compose.cut_out(own), Answer)
        assert all(isinstance(answer, Answer) for answer in await asyncio.gather(*tasks))
        assert isinstance(await service.compose.cut_out(bulk_job()), Answer)

    asyncio.run(check())


def test_bulk_waits_in_compose_for_a_matting_pool_that_is_full(tmp_path: Path) -> None:
    service = InProcessService(tmp_path)
    real, asked = service.matting.predict.remote, []

    async def full_at_first(pixels: Any, lane: Lane) -> Any:
        asked.append(lane)
        return Full() if len(asked) < 3 else await real(pixels, lane)

    service.matting.predict.remote = full_at_first
    answer = asyncio.run(service.compose.cut_out(bulk_job()))
    assert answer.result.model == "fake@1"
    assert asked == ["bulk"] * 3
    assert service.compose._permits.held == 0


# ---- the bulk replica ----


class FakeCompose:
    """What the bulk replica calls; answers with `answers` in turn."""

    def __init__(self, *answers: Any) -> None:
        self.jobs: list[Job] = []
        self._answers = list(answers)
        self.cut_out = Method(self._cut_out)

    async def _cut_out(self, job: Job) -> Any:
        self.jobs.append(job)
        return self._answers.pop(0)


def replica(folder: Path, compose: FakeCompose, **args: Any) -> Any:
    settings = {"model": "fake", "store": {"url": folder.as_uri()}, "queue": {"url": f"sqlite:///{folder}/q.db"}}
    return Bulk.func_or_class(Settings.model_validate({**settings, **args}), compose, None)


@pytest.fixture
def _process_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A replica has a process of its own: it lowers its priority and sends the library's log where its own goes."""
    library = logging.getLogger("mattehorn")
    level, handlers = library.level, library.handlers
    monkeypatch.setattr(os, "nice", lambda step: 0)
    yield
    library.setLevel(level)
    library.handlers = handlers


@pytest.mark.usefixtures("_process_as_before")
def test_a_photo_goes_to_compose_in_the_bulk_lane_with_its_own_deadline(tmp_path: Path) -> None:
    result = object()
    compose = FakeCompose(Answer(result))  # type: ignore[arg-type]

    async def check() -> None:
        bulk = replica(tmp_path, compose, bulk={"photo_s": 200})
        assert await bulk.cut_out(b"photo", Wish(Options(), Gate(), "mine@1;0")) is result
        (job,) = compose.jobs
        assert (job.photo, job.lane, job.wish) == (b"photo", "bulk", Wish(Options(), Gate(), "mine@1;0"))
        assert job.deadline > time.time() + 100
        await bulk.__del__()

    asyncio.run(check())


@pytest.mark.usefixtures("_process_as_before")
def test_a_full_compose_pool_is_overloaded_and_another_model_unknown(tmp_path: Path) -> None:
    async def check() -> None:
        bulk = replica(tmp_path, FakeCompose(Full()))
        with pytest.raises(Overloaded):
            await bulk.cut_out(b"photo", Wish(Options()))
        with pytest.raises(UnknownModel):
            await bulk.cut_out(b"photo", Wish(Options(model="another")))
        await bulk.__del__()

    asyncio.run(check())


@pytest.mark.usefixtures("_process_as_before")
def test_a_replica_whose_loop_has_died_is_ill_and_one_that_was_drained_is_not(tmp_path: Path) -> None:
    async def check() -> None:
        drained = replica(tmp_path, FakeCompose())
        drained.check_health()
        assert await drained.drain(30)
        drained.check_health()
        await drained.__del__()
        ill = replica(tmp_path, FakeCompose())
        ill._running.cancel()
        await asyncio.wait([ill._running])
        with pytest.raises(MattehornError, match="ended"):
            ill.check_health()
        await ill.__del__()

    asyncio.run(check())
