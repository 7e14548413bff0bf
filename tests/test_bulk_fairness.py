"""Bulk beside interactive work: who goes first in each pool, what bulk may hold at most, and that it never stops.

No time is measured: batches run when the test says so, and the clock is the test's.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from deployments.calls import Lane
from deployments.matting.batcher import BULK_AT_LEAST_S, Batched, DrainBatcher, NoRoom
from mattehorn import telemetry
from tests.test_batcher import HandExecutor, Network, picture, settle, values


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

    async def submit(self, *values: int, lane: Lane = "interactive", size: int = 2) -> list[asyncio.Task[Batched[Any]]]:
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
                    assert int(done.answer[0, 0]) == value
                    return

            lanes: tuple[Lane, ...] = ("interactive", "bulk")
            await asyncio.gather(*(one(value, lanes[value % 2]) for value in range(20, 220)))

    asyncio.run(check())
