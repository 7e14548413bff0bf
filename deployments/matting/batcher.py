"""Dynamic batching that drains the backlog whenever the device is idle. Pure asyncio: no Ray, no torch.

A lone request starts at once; while a batch runs, what arrives waits in one line and becomes the next batch. A
collecting timer (serve.batch) instead freezes small batches while the device is busy: docs/adr/0003 has the figures.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Mattes = NDArray[np.uint8]


@dataclass(frozen=True)
class Batched:
    """One picture's share of a batch: its alpha and what it waited for."""

    alpha: Mattes
    queue_ms: float
    infer_ms: float
    batch_size: int


@dataclass
class _Waiting:
    pixels: Pixels
    future: asyncio.Future[Batched]
    since: float = field(default_factory=time.perf_counter)


class DrainBatcher:
    """Runs `predict` on [N, H, W, 3] stacks of whatever waits, at most `max_batch`, one batch at a time.

    `executor` has one thread. `on_batch` hears the size of each batch, `on_depth` the number waiting or in work.
    """

    def __init__(
        self,
        predict: Callable[[Pixels], Mattes],
        executor: Executor,
        max_batch: int,
        *,
        on_batch: Callable[[int], None] = lambda size: None,
        on_depth: Callable[[int], None] = lambda depth: None,
    ) -> None:
        self._predict, self._executor, self._max_batch = predict, executor, max_batch
        self._on_batch, self._on_depth = on_batch, on_depth
        self._waiting: deque[_Waiting] = deque()
        self._in_work: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, pixels: Pixels) -> Batched:
        """The alpha of uint8 [H, W, 3]. Raises what `predict` raised for this picture alone."""
        item = _Waiting(pixels, asyncio.get_running_loop().create_future())
        self._waiting.append(item)
        self._report_depth()
        if self._worker is None or self._worker.done():
            # an empty context: the worker serves many requests and must not carry the first one's
            self._worker = asyncio.create_task(self._drain(), context=contextvars.Context())
        return await item.future

    def oldest_wait_s(self) -> float:
        """Seconds that the oldest picture has waited or been in work; 0 when idle."""
        oldest = [*self._in_work[:1], *islice(self._waiting, 1)]
        return time.perf_counter() - min(item.since for item in oldest) if oldest else 0.0

    async def _drain(self) -> None:
        while self._waiting:
            items = self._take()
            if not items:
                continue
            self._in_work = items
            try:
                await self._run(items)
            finally:
                self._in_work = []
                self._report_depth()

    def _take(self) -> list[_Waiting]:
        """The oldest picture and those of its shape that follow it, at most `max_batch`; who left is dropped."""
        taken: list[_Waiting] = []
        kept: deque[_Waiting] = deque()
        while self._waiting and len(taken) < self._max_batch:
            item = self._waiting.popleft()
            if item.future.done():
                continue
            if taken and item.pixels.shape != taken[0].pixels.shape:
                kept.append(item)
            else:
                taken.append(item)
        self._waiting.extendleft(reversed(kept))
        return taken

    async def _run(self, items: Sequence[_Waiting]) -> None:
        """One batch; when it fails, each picture alone, so that one cannot spoil the others'."""
        started = time.perf_counter()
        try:
            mattes = await self._forward([item.pixels for item in items])
        except Exception as error:
            if len(items) == 1:
                _settle(items[0], error)
                return
            for item in items:
                await self._run([item])
            return
        took = (time.perf_counter() - started) * 1000
        for item, alpha in zip(items, mattes, strict=True):
            _settle(item, Batched(alpha, (started - item.since) * 1000, took, len(items)))
        self._on_batch(len(items))  # last: a listener's failure must not keep the answers

    async def _forward(self, pixels: list[Pixels]) -> list[Mattes]:
        def work() -> list[Mattes]:
            mattes = self._predict(np.stack(pixels))
            if len(mattes) != len(pixels):
                raise RuntimeError(f"the model gave {len(mattes)} mattes for {len(pixels)} pictures")
            return list(mattes)

        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _report_depth(self) -> None:
        self._on_depth(len(self._waiting) + len(self._in_work))


def _settle(item: _Waiting, outcome: Batched | Exception) -> None:
    if item.future.done():
        return
    if isinstance(outcome, Exception):
        item.future.set_exception(outcome)
    else:
        item.future.set_result(outcome)
