"""Bulk beside interactive work: who goes first in each pool, what bulk may hold at most, and that it never stops.

No time is measured: batches run when the test says so, and the clock is the test's.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.bulk.deployment import Bulk
from deployments.calls import Answer, Full, Job, Lane
from deployments.compose import lanes as lanes_module
from deployments.compose.lanes import BULK_AT_ONCE, BULK_MEMORY, LINGER_S, Lanes, full_pause_s
from deployments.compose.permits import Permits
from deployments.matting.batcher import BULK_AT_LEAST_S, Batched, DrainBatcher, NoRoom
from mattehorn import telemetry
from mattehorn.errors import MattehornError, Overloaded, UnknownModel
from mattehorn.options import Options
from mattehorn.settings import Settings
from tests.service import InProcessService, Method, encoded, photo
from tests.test_batcher import HandExecutor, Network, picture, settle, values

PHOTO = encoded(photo())


@pytest.fixture(autouse=True)
def keep_the_metrics_back_end() -> Iterator[None]:
    before = telemetry._backend
    yield
    telemetry._backend = before


class Line:
    """A batcher of `max_batch` whose clock and device the test moves by hand."""

    def __init__(self, max_batch: int = 4, bulk_batch: int | None = None) -> None:
        self.now = 100.0
        self.network, self.executor = Network(), HandExecutor()
        self.batcher = DrainBatcher(
            self.network, self.executor, max_batch, bulk_batch=bulk_batch, clock=lambda: self.now
        )

    async def submit(self, *values: int, lane: Lane = "interactive", size: int = 2) -> list[asyncio.Task[Batched]]:
        tasks = [asyncio.ensure_future(self.batcher.submit(picture(value, size), lane)) for value in values]
        await settle()
        return tasks

    async def step(self) -> None:
        self.executor.step()
        await settle()

    async def run_to_end(self) -> None:
        while self.executor.queue:
            await self.step()


def test_interactive_pictures_that_came_later_go_first_at_the_next_border() -> None:
    async def check() -> None:
        line = Line()
        bulk = [*await line.submit(1, lane="bulk"), *await line.submit(2, 3, lane="bulk")]
        own = await line.submit(11, 12)
        await line.run_to_end()
        assert line.network.batches == [[1], [11, 12], [2, 3]]
        assert (values(bulk), values(own)) == ([1, 2, 3], [11, 12])

    asyncio.run(check())


def test_a_batch_is_of_one_lane_and_one_of_bulk_is_no_larger_than_allowed() -> None:
    async def check() -> None:
        line = Line(bulk_batch=1)
        await line.submit(1, 2, 3, lane="bulk")
        await line.submit(11)
        await line.run_to_end()
        assert line.network.batches == [[1], [11], [2], [3]]

    asyncio.run(check())


def test_without_interactive_pictures_bulk_has_the_whole_device() -> None:
    async def check() -> None:
        line = Line(max_batch=4)
        await line.submit(0, lane="bulk")
        await line.submit(1, 2, 3, 4, 5, lane="bulk")
        await line.run_to_end()
        assert line.network.batches == [[0], [1, 2, 3, 4], [5]]

    asyncio.run(check())


def test_bulk_runs_now_and_then_however_many_interactive_pictures_wait() -> None:
    async def check() -> None:
        line = Line(max_batch=1)
        await line.submit(*range(100, 120))
        await line.submit(1, 2, 3, lane="bulk")
        for _ in range(20):
            line.now += BULK_AT_LEAST_S / 4
            await line.step()
        seen = [batch[0] for batch in line.network.batches]
        assert [value for value in seen if value < 100] == [1, 2]
        places = [place for place, value in enumerate(seen) if value < 100]
        assert all(second - first >= 4 for first, second in itertools.pairwise(places))

    asyncio.run(check())


def test_the_bulk_line_has_an_end_and_the_interactive_one_does_not() -> None:
    async def check() -> None:
        line = Line(max_batch=2)
        await line.submit(0, lane="bulk")  # on the device
        await line.submit(1, 2, 3, 4, lane="bulk")
        (refused,) = await line.submit(5, lane="bulk")
        assert isinstance(refused.exception(), NoRoom)
        own = await line.submit(*range(20, 40))
        await line.run_to_end()
        assert values(own) == list(range(20, 40))

    asyncio.run(check())


def test_bulk_batches_run_on_their_own_executor() -> None:
    async def check() -> None:
        own, other = HandExecutor(), HandExecutor()
        batcher = DrainBatcher(Network(), own, 2, bulk_executor=other)
        tasks = [asyncio.ensure_future(batcher.submit(picture(1), "bulk"))]
        await settle()
        tasks.append(asyncio.ensure_future(batcher.submit(picture(2))))
        await settle()
        assert (len(own.queue), len(other.queue)) == (0, 1)  # one batch at a time all the same
        other.step()
        await settle()
        assert (len(own.queue), len(other.queue)) == (1, 0)
        own.step()
        await asyncio.gather(*tasks)
        assert values(tasks) == [1, 2]

    asyncio.run(check())


def test_bulk_callers_that_left_take_no_place_in_the_line() -> None:
    async def check() -> None:
        line = Line(max_batch=1)
        await line.submit(0, lane="bulk")
        for task in await line.submit(1, 2, lane="bulk"):
            task.cancel()
        await settle()
        (late,) = await line.submit(3, lane="bulk")
        await line.run_to_end()
        assert values([late]) == [3]
        assert line.network.batches == [[0], [3]]

    asyncio.run(check())


def test_the_oldest_wait_is_that_of_either_lane() -> None:
    async def check() -> None:
        line = Line(max_batch=1)
        await line.submit(1)
        line.now += 5
        await line.submit(2, lane="bulk")
        assert line.batcher.oldest_wait_s() == 5
        await line.step()
        line.now += 2
        assert line.batcher.oldest_wait_s() == 2
        await line.run_to_end()
        assert line.batcher.oldest_wait_s() == 0

    asyncio.run(check())


def executor(lanes: Lanes, lane: Lane) -> ThreadPoolExecutor:
    return asyncio.run(lanes.threads(lane))


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
            await lanes.threads("bulk")
            with lanes.place("interactive"):
                step = asyncio.ensure_future(lanes.threads("bulk"))
                await settle()
                assert not step.done()
                await lanes.threads("interactive")
            async with asyncio.timeout(30):
                await step

    asyncio.run(check())


def test_bulk_steps_pass_one_by_one_where_interactive_photos_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "COURTESY_S", 0.05)

    async def check() -> None:
        lanes, passed = Lanes(2, Permits(10), 10), []

        async def step(number: int) -> None:
            began = time.monotonic()
            await lanes.threads("bulk")
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
    return Bulk.func_or_class(Settings.model_validate({**settings, **args}), compose)


@pytest.fixture
def _as_nice_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "nice", lambda step: 0)


@pytest.mark.usefixtures("_as_nice_as_before")
def test_a_photo_goes_to_compose_in_the_bulk_lane_with_its_own_deadline(tmp_path: Path) -> None:
    result = object()
    compose = FakeCompose(Answer(result))  # type: ignore[arg-type]

    async def check() -> None:
        bulk = replica(tmp_path, compose, bulk={"photo_s": 200})
        assert await bulk.cut_out(b"photo", Options()) is result
        (job,) = compose.jobs
        assert (job.photo, job.lane) == (b"photo", "bulk")
        assert job.deadline > time.time() + 100
        await bulk.__del__()

    asyncio.run(check())


@pytest.mark.usefixtures("_as_nice_as_before")
def test_a_full_compose_pool_is_overloaded_and_another_model_unknown(tmp_path: Path) -> None:
    async def check() -> None:
        bulk = replica(tmp_path, FakeCompose(Full()))
        with pytest.raises(Overloaded):
            await bulk.cut_out(b"photo", Options())
        with pytest.raises(UnknownModel):
            await bulk.cut_out(b"photo", Options(model="another"))
        await bulk.__del__()

    asyncio.run(check())


@pytest.mark.usefixtures("_as_nice_as_before")
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


def test_pictures_of_both_lanes_get_their_own_mattes() -> None:
    """Many callers of both lanes at once, on a real thread."""

    async def check() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher = DrainBatcher(Network(), executor, 4, bulk_batch=2)

            async def one(value: int, lane: Lane) -> None:
                while True:
                    try:
                        done = await batcher.submit(np.full((2, 2, 3), value, np.uint8), lane)
                    except NoRoom:
                        await asyncio.sleep(0.001)
                        continue
                    assert int(done.alpha[0, 0]) == value
                    return

            lanes: tuple[Lane, ...] = ("interactive", "bulk")
            await asyncio.gather(*(one(value, lanes[value % 2]) for value in range(20, 220)))

    asyncio.run(check())
