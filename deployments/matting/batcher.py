"""Dynamic batching that drains the backlog whenever the device is idle. Pure asyncio: no Ray, no torch.

A lone request starts at once; while a batch runs, what arrives waits in one line and becomes the next batch. A
collecting timer (serve.batch) instead freezes small batches while the device is busy: docs/adr/0003 has the figures.

There are two lines. Interactive pictures go first, at every batch's border; bulk pictures take what they leave, and
one batch a second in any case.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from deployments.calls import LANES, Lane

Pixels = NDArray[np.uint8]
T = TypeVar("T")  # what the network gives for one picture

BULK_AT_LEAST_S = 1.0  # between bulk batches while interactive pictures wait all the time: slow, but never stopped


class NoRoom(Exception):
    """The bulk line is as long as it may be; try again."""


@dataclass(frozen=True)
class Batched(Generic[T]):
    """One picture's share of a batch: the network's answer and what it waited for."""

    answer: T
    queue_ms: float
    infer_ms: float
    batch_size: int


@dataclass
class _Waiting(Generic[T]):
    pixels: Pixels
    future: asyncio.Future[Batched[T]]
    since: float
    lane: Lane


class DrainBatcher(Generic[T]):
    """Runs `predict` on [N, H, W, 3] stacks of whatever waits, at most `max_batch`, one batch at a time.

    `predict` gives an answer a picture, in their order. A batch is of one lane. One of bulk has at most `bulk_batch`
    pictures (None: as many), for that is what an interactive picture waits for; the bulk line holds 2 x max_batch, so
    that it never takes all of a replica's places.
    `executor` has one thread, and so has `bulk_executor` (None: the same), which may have a lower priority.
    `on_batch` hears each batch's size, `on_depth` the number waiting or in work.
    """

    def __init__(
        self,
        predict: Callable[[Pixels], Iterable[T]],
        executor: Executor,
        max_batch: int,
        *,
        bulk_batch: int | None = None,
        bulk_executor: Executor | None = None,
        on_batch: Callable[[int], None] = lambda size: None,
        on_depth: Callable[[int], None] = lambda depth: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._predict, self._clock = predict, clock
        self._executors: dict[Lane, Executor] = {"interactive": executor, "bulk": bulk_executor or executor}
        self._most: dict[Lane, int] = {"interactive": max_batch, "bulk": bulk_batch or max_batch}
        self._bulk_line = 2 * max_batch
        self._bulk_ran = 0.0
        self._on_batch, self._on_depth = on_batch, on_depth
        self._lines: dict[Lane, deque[_Waiting[T]]] = {lane: deque() for lane in LANES}
        self._in_work: list[_Waiting[T]] = []
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, pixels: Pixels, lane: Lane = "interactive") -> Batched[T]:
        """The answer for uint8 [H, W, 3]. Raises NoRoom for bulk, and what `predict` raised for this picture alone."""
        line = self._lines[lane]
        if lane == "bulk" and sum(not item.future.done() for item in line) >= self._bulk_line:
            raise NoRoom
        item: _Waiting[T] = _Waiting(pixels, asyncio.get_running_loop().create_future(), self._clock(), lane)
        line.append(item)
        self._report_depth()
        if self._worker is None or self._worker.done():
            # an empty context: the worker serves many requests and must not carry the first one's
            self._worker = asyncio.create_task(self._drain(), context=contextvars.Context())
        return await item.future

    def oldest_wait_s(self) -> float:
        """Seconds that the oldest picture has waited or been in work; 0 when idle."""
        oldest = [*self._in_work[:1], *(item for line in self._lines.values() for item in islice(line, 1))]
        return self._clock() - min(item.since for item in oldest) if oldest else 0.0

    async def _drain(self) -> None:
        while any(self._lines.values()):
            items = self._take()
            if not items:
                continue
            self._in_work = items
            try:
                await self._run(items)
            finally:
                self._in_work = []
                self._report_depth()

    def _take(self) -> list[_Waiting[T]]:
        """The next lane's oldest picture and those of its shape that follow it; who left is dropped."""
        lane = self._next_lane()
        line = self._lines[lane]
        taken: list[_Waiting[T]] = []
        kept: deque[_Waiting[T]] = deque()
        while line and len(taken) < self._most[lane]:
            item = line.popleft()
            if item.future.done():
                continue
            if taken and item.pixels.shape != taken[0].pixels.shape:
                kept.append(item)
            else:
                taken.append(item)
        line.extendleft(reversed(kept))
        if lane == "bulk" and taken:
            self._bulk_ran = self._clock()
        return taken

    def _next_lane(self) -> Lane:
        """Interactive, unless there is none, or bulk has had to wait for too long."""
        bulk = self._lines["bulk"]
        if not bulk or not self._lines["interactive"]:
            return "bulk" if bulk else "interactive"
        waited = self._clock() - max(bulk[0].since, self._bulk_ran)
        return "bulk" if waited >= BULK_AT_LEAST_S else "interactive"

    async def _run(self, items: Sequence[_Waiting[T]]) -> None:
        """One batch; when it fails, each picture alone, so that one cannot spoil the others'."""
        started = self._clock()
        try:
            answers = await self._forward([item.pixels for item in items], items[0].lane)
        except Exception as error:
            if len(items) == 1:
                _settle(items[0], error)
                return
            for item in items:
                await self._run([item])
            return
        took = (self._clock() - started) * 1000
        for item, answer in zip(items, answers, strict=True):
            _settle(item, Batched(answer, (started - item.since) * 1000, took, len(items)))
        self._on_batch(len(items))  # last: a listener's failure must not keep the answers

    async def _forward(self, pixels: list[Pixels], lane: Lane) -> list[T]:
        def work() -> list[T]:
            answers = list(self._predict(np.stack(pixels)))
            if len(answers) != len(pixels):
                raise RuntimeError(f"the model gave {len(answers)} answers for {len(pixels)} pictures")
            return answers

        return await asyncio.get_running_loop().run_in_executor(self._executors[lane], work)

    def _report_depth(self) -> None:
        self._on_depth(sum(map(len, self._lines.values())) + len(self._in_work))


def _settle(item: _Waiting[T], outcome: Batched[T] | Exception) -> None:
    if item.future.done():
        return
    if isinstance(outcome, Exception):
        item.future.set_exception(outcome)
    else:
        item.future.set_result(outcome)
