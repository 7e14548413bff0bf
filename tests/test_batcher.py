"""Dynamic batching by draining: who shares a batch, in which order, and that nobody gets another's matte.

The executors are fakes whose batches run when the test says so; no time is measured.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.matting.batcher import Batched, DrainBatcher

Pixels = NDArray[np.uint8]


class HandExecutor(Executor):
    """Keeps what is submitted until `step()` runs the oldest."""

    def __init__(self) -> None:
        self.queue: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.queue.append((future, lambda: fn(*args, **kwargs)))
        return future

    def step(self) -> None:
        future, work = self.queue.pop(0)
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)


class Network:
    """Gives back each picture's red channel, so that a result names its picture; refuses the value 13."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, images: Pixels) -> Pixels:
        self.batches.append([int(image[0, 0, 0]) for image in images])
        if 13 in self.batches[-1]:
            raise ValueError("an unlucky picture")
        return images[..., 0].copy()


def picture(value: int, size: int = 2) -> Pixels:
    return np.full((size, size, 3), value, np.uint8)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Bench:
    """A batcher of `max_batch`, its network, its executor and everything that it reported."""

    def __init__(self, max_batch: int) -> None:
        self.network, self.executor = Network(), HandExecutor()
        self.sizes: list[int] = []
        self.depths: list[int] = []
        self.batcher = DrainBatcher(
            self.network, self.executor, max_batch, on_batch=self.sizes.append, on_depth=self.depths.append
        )

    def submit(self, value: int, size: int = 2) -> asyncio.Task[Batched[Any]]:
        return asyncio.ensure_future(self.batcher.submit(picture(value, size)))

    async def run_to_end(self) -> None:
        await settle()
        while self.executor.queue:
            self.executor.step()
            await settle()


def values(tasks: list[asyncio.Task[Batched[Any]]]) -> list[int]:
    return [int(task.result().answer[0, 0]) for task in tasks]


def test_a_lone_picture_waits_for_nothing() -> None:
    async def check() -> None:
        bench = Bench(8)
        task = bench.submit(5)
        await settle()
        assert len(bench.executor.queue) == 1  # on the device before anything else came, and without a timer
        bench.executor.step()
        done = await task
        assert (int(done.answer[0, 0]), done.batch_size) == (5, 1)
        assert done.answer.shape == (2, 2)

    asyncio.run(check())


def test_a_backlog_drains_into_full_batches_in_the_order_of_arrival() -> None:
    async def check() -> None:
        bench = Bench(4)
        tasks = [bench.submit(1)]
        await settle()
        tasks += [bench.submit(value) for value in range(2, 12)]
        await bench.run_to_end()
        assert bench.network.batches == [[1], [2, 3, 4, 5], [6, 7, 8, 9], [10, 11]]
        assert values(tasks) == list(range(1, 12))
        assert [task.result().batch_size for task in tasks] == [1, 4, 4, 4, 4, 4, 4, 4, 4, 2, 2]

    asyncio.run(check())


def test_one_batch_runs_at_a_time() -> None:
    async def check() -> None:
        bench = Bench(2)
        for value in range(6):
            bench.submit(value)
            await settle()
            assert len(bench.executor.queue) == 1
        await bench.run_to_end()
        assert len(bench.network.batches) == 4

    asyncio.run(check())


def test_shapes_do_not_mix_and_the_oldest_goes_first() -> None:
    async def check() -> None:
        bench = Bench(4)
        tasks = [bench.submit(0)]
        await settle()
        for value, size in ((1, 2), (2, 3), (3, 2), (4, 3), (5, 2)):
            tasks.append(bench.submit(value, size))
        await bench.run_to_end()
        assert bench.network.batches == [[0], [1, 3, 5], [2, 4]]
        assert [task.result().answer.shape for task in tasks] == [(2, 2), (2, 2), (3, 3), (2, 2), (3, 3), (2, 2)]
        assert values(tasks) == [0, 1, 2, 3, 4, 5]

    asyncio.run(check())


def test_a_failed_batch_is_tried_again_picture_by_picture() -> None:
    async def check() -> None:
        bench = Bench(4)
        bench.submit(0)
        await settle()
        tasks = [bench.submit(value) for value in (1, 13, 3)]
        await bench.run_to_end()
        assert bench.network.batches == [[0], [1, 13, 3], [1], [13], [3]]
        assert values([tasks[0], tasks[2]]) == [1, 3]
        with pytest.raises(ValueError, match="unlucky"):
            tasks[1].result()
        assert bench.sizes == [1, 1, 1]  # batches that succeeded

    asyncio.run(check())


def test_a_network_that_loses_a_matte_spoils_no_other_picture() -> None:
    async def check() -> None:
        executor = HandExecutor()
        batcher = DrainBatcher(lambda images: images[:1, ..., 0], executor, 4)
        tasks = [asyncio.ensure_future(batcher.submit(picture(value))) for value in (1, 2, 3)]
        await settle()
        while executor.queue:
            executor.step()
            await settle()
        assert values(tasks) == [1, 2, 3]

    asyncio.run(check())


def test_callers_that_left_are_not_computed() -> None:
    async def check() -> None:
        bench = Bench(2)
        first = bench.submit(0)
        await settle()
        tasks = [bench.submit(value) for value in (1, 2, 3)]
        await settle()
        tasks[0].cancel()
        await bench.run_to_end()
        assert bench.network.batches == [[0], [2, 3]]
        assert values([first, tasks[1], tasks[2]]) == [0, 2, 3]
        assert tasks[0].cancelled()

    asyncio.run(check())


def test_a_caller_that_leaves_during_its_batch_harms_nobody() -> None:
    async def check() -> None:
        bench = Bench(2)
        tasks = [bench.submit(value) for value in (1, 2)]
        await settle()
        tasks[0].cancel()
        await bench.run_to_end()
        assert values([tasks[1]]) == [2]
        late = bench.submit(7)
        await bench.run_to_end()
        assert values([late]) == [7]

    asyncio.run(check())


def test_when_everybody_left_nothing_is_computed_and_the_next_picture_is() -> None:
    async def check() -> None:
        bench = Bench(2)
        first = bench.submit(0)
        await settle()
        waiting = [bench.submit(value) for value in (1, 2)]
        await settle()
        for task in waiting:
            task.cancel()
        await bench.run_to_end()
        assert bench.network.batches == [[0]]
        late = bench.submit(9)
        await bench.run_to_end()
        assert values([first, late]) == [0, 9]

    asyncio.run(check())


def test_the_worker_starts_again_after_an_idle_time() -> None:
    async def check() -> None:
        bench = Bench(2)
        for value in (1, 2, 3):
            task = bench.submit(value)
            await bench.run_to_end()
            assert values([task]) == [value]
        assert bench.sizes == [1, 1, 1]

    asyncio.run(check())


def test_a_listener_that_fails_keeps_nobody_waiting() -> None:
    async def check() -> None:
        def fail(size: int) -> None:
            raise RuntimeError("no metrics today")

        executor = HandExecutor()
        batcher = DrainBatcher(Network(), executor, 1, on_batch=fail)
        for value in (1, 2):
            task = asyncio.ensure_future(batcher.submit(picture(value)))
            await settle()
            executor.step()
            await settle()
            assert values([task]) == [value]

    asyncio.run(check())


def test_the_depth_counts_who_waits_and_who_is_in_work_and_ends_at_zero() -> None:
    async def check() -> None:
        bench = Bench(2)
        for value in range(5):
            bench.submit(value)
            await settle()
        assert bench.depths[-1] == 5
        await bench.run_to_end()
        assert bench.depths[-1] == 0
        assert max(bench.depths) == 5

    asyncio.run(check())


def test_the_worker_carries_no_callers_context() -> None:
    """A request's context holds its id and Serve's own state; the worker serves everybody."""

    async def check() -> None:
        request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="nobody")
        seen: list[str] = []

        def listen(size: int) -> None:
            seen.append(request_id.get())

        batcher = DrainBatcher(Network(), ThreadPoolExecutor(1), 2, on_batch=listen)
        request_id.set("first")
        await batcher.submit(picture(1))
        assert seen == ["nobody"]

    asyncio.run(check())


def test_a_picture_that_hangs_on_the_device_shows_as_the_oldest_wait() -> None:
    """The health check reads this: a device that hangs with one picture in work must not look idle."""

    async def check() -> None:
        bench = Bench(2)
        assert bench.batcher.oldest_wait_s() == 0
        bench.submit(1)
        await settle()
        assert bench.batcher.oldest_wait_s() > 0
        await bench.run_to_end()
        assert bench.batcher.oldest_wait_s() == 0

    asyncio.run(check())


def test_under_load_from_many_callers_results_are_never_swapped() -> None:
    async def check() -> None:
        network = Network()
        sizes: list[int] = []
        with ThreadPoolExecutor(1) as executor:
            batcher = DrainBatcher(network, executor, 8, on_batch=sizes.append)
            sent = [value for value in range(250) if value != 13]
            done = await asyncio.gather(*(batcher.submit(picture(value, 2 + value % 3)) for value in sent))
        assert [int(one.answer[0, 0]) for one in done] == sent
        assert [one.answer.shape[0] for one in done] == [2 + value % 3 for value in sent]
        assert sum(sizes) == len(sent)
        assert max(sizes) == 8

    asyncio.run(check())
