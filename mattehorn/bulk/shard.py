"""A shard of a job: its photos in slices, each slice's results one create-only object, so no line is written twice.

A slice (a part) is a fixed range of the shard's lines. Whoever takes the shard up again does only the parts that are
missing, and in them only the photos without a result. When all parts lie there they become one object of results, and
`shards/N.done`. What it is not: it knows no queue; it says what shall become of its message. Called by worker.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mattehorn import telemetry
from mattehorn.bulk import manifest
from mattehorn.bulk.job_spec import JobSpec
from mattehorn.bulk.listing import read_shard
from mattehorn.bulk.patience import Border, Patience, PhotoRunner, patiently
from mattehorn.bulk.plan import Plan
from mattehorn.bulk.state import JobState, done_name, part_name, results_name
from mattehorn.bulk.verdict import Verdict
from mattehorn.errors import StoreUnavailable
from mattehorn.events import ObjectRef

T = TypeVar("T")
InThread = Callable[..., Awaitable[Any]]

PARTS = 50  # of a shard: progress in steps of 2 %, and one more write for twenty photos
PART_MOST = 100
# A photo that keeps failing must not hold its job for ever; an outage must not turn a job into errors.
FEW, FEW_SHARE = 3, 0.02
AWAY_S = 5


@dataclass(frozen=True)
class ShardTools:
    """What the work on shards needs of its process. `in_thread(function, *arguments)` runs a blocking call."""

    runner: PhotoRunner
    in_thread: InThread
    patience: Patience
    in_flight: int
    max_receive: int
    clock: Callable[[], float] = time.time


@dataclass(frozen=True)
class _Trouble:
    """A photo that failed for a reason that might pass."""

    ref: ObjectRef
    error: Exception


Row = dict[str, Any] | _Trouble


def part_size(photos: int) -> int:
    """Lines a part of a shard with `photos` lines; it follows from the shard alone."""
    return max(1, min(PART_MOST, photos // PARTS))


class ShardWork:
    """The work on one shard under one lease."""

    def __init__(
        self,
        tools: ShardTools,
        spec: JobSpec,
        plan: Plan,
        state: JobState,
        shard: int,
        attempt: int,
        border: Border,
        *,
        came_back: bool = False,
    ) -> None:
        """`attempt`: one more than the shard's failures. `came_back`: a worker had it before, and may have died."""
        self._came_back = came_back or attempt > 1
        self._tools, self._spec, self._plan, self._state = tools, spec, plan, state
        self._shard, self._attempt, self._border = shard, attempt, border
        self._troubled: dict[int, list[Row]] = {}
        self._made: set[int] = set()
        self._outage: StoreUnavailable | None = None
        self._progressed = self._cancelled = False

    async def run(self) -> Verdict:
        """What shall become of the message; `ack` when the shard is done or its job was cancelled."""
        if await self._ask(self._state.exists, done_name(self._shard)):
            await self._ask(self._state.remove_parts, self._shard)
            return Verdict.ack()
        refs: list[ObjectRef] = await self._ask(read_shard, self._state, self._shard)
        size = part_size(len(refs))
        slices = {number: refs[start : start + size] for number, start in enumerate(range(0, len(refs), size))}
        self._made = {part for _, part in await self._ask(lambda: list(self._state.parts(self._shard)))}
        await self._all_parts({number: rows for number, rows in slices.items() if number not in self._made}, size)
        if self._cancelled:
            return Verdict.ack()
        if self._attempt >= self._tools.max_receive and self._is_few(len(refs)):
            await self._give_up()
        if self._made >= set(slices):
            await self._ask(self._close, len(slices))
            return Verdict.ack()
        return self._unfinished()

    def _unfinished(self) -> Verdict:
        """Progress is a fresh start: only a shard that comes to nothing again and again becomes a dead letter."""
        errors = [row.error for rows in self._troubled.values() for row in rows if isinstance(row, _Trouble)]
        errors += [self._outage] if self._outage else []
        reason = f"{len(errors)} faults, the first: {errors[0]!s}" if errors else "stopped at a border"
        if self._border.over() and (self._progressed or not errors):
            return Verdict.again()
        if self._progressed and self._came_back:
            return Verdict.again()
        return Verdict.retry(self._tools.patience.for_message(self._attempt), reason)

    async def _all_parts(self, todo: dict[int, list[ObjectRef]], size: int) -> None:
        """A few parts at once, so that the photos in flight do not run dry at a part's end."""
        window = asyncio.Semaphore(1 + self._tools.in_flight // size)

        async def one(number: int, refs: list[ObjectRef]) -> None:
            async with window:
                try:
                    if not await self._shall_stop():
                        await self._part(number, refs)
                except StoreUnavailable as error:
                    self._outage = error

        async with asyncio.TaskGroup() as group:
            for number, refs in todo.items():
                group.create_task(one(number, refs))

    async def _shall_stop(self) -> bool:
        """At a part's border: the time is up, the job was cancelled, or a shard that came back has made progress and
        can be queued as new, before too many deaths of workers make it a dead letter."""
        if self._cancelled or self._outage or self._border.over() or (self._progressed and self._came_back):
            return True
        self._cancelled = await self._ask(self._state.exists, "cancel")
        if self._cancelled:
            telemetry.add(telemetry.BULK_ITEMS, outcome="cancelled")
        return self._cancelled

    async def _part(self, number: int, refs: list[ObjectRef]) -> None:
        if await self._ask(self._state.exists, part_name(self._shard, number)):  # of a second message for this shard
            self._made.add(number)
            return
        rows = await asyncio.gather(*(self._photo(ref) for ref in refs))
        if any(isinstance(row, _Trouble) for row in rows):
            self._troubled[number] = rows
            return
        await self._write_part(number, [row for row in rows if not isinstance(row, _Trouble)])
        self._progressed = True

    async def _photo(self, ref: ObjectRef) -> Row:
        try:
            outcome = await self._tools.runner.run(ref, self._plan, self._border, follow=True)
        except Exception as error:  # the runner has logged it; the photo comes again with its shard
            return _Trouble(ref, error)
        return manifest.line(outcome, self._spec.output.bucket, self._tools.clock())

    def _is_few(self, photos: int) -> bool:
        """Whether the photos that stay without a result are so few that the fault is theirs."""
        failed = sum(isinstance(row, _Trouble) for rows in self._troubled.values() for row in rows)
        return 0 < failed <= max(FEW, FEW_SHARE * photos)

    async def _give_up(self) -> None:
        """On the last attempt: they end as failed. No error object is written, so a later job tries them again."""
        for number, rows in self._troubled.items():
            lines = [self._gave_up(row) if isinstance(row, _Trouble) else row for row in rows]
            await self._write_part(number, lines)
        self._progressed = True

    def _gave_up(self, row: _Trouble) -> dict[str, Any]:
        telemetry.add(telemetry.BULK_ITEMS, outcome="gave_up")
        return manifest.gave_up(row.ref, row.error, self._attempt, self._tools.clock())

    async def _write_part(self, number: int, lines: list[dict[str, Any]]) -> None:
        await self._ask(self._state.create, part_name(self._shard, number), manifest.encode(lines))
        self._made.add(number)

    def _close(self, parts: int) -> None:
        """All parts as one object, then the mark that they are, then the parts may go."""
        found = [self._state.read(part_name(self._shard, number)) for number in range(parts)]
        data = b"".join(part for part in found if part is not None)
        if None in found:
            if self._state.exists(done_name(self._shard)):  # another worker has closed it and tidied up
                return
            raise StoreUnavailable("A part of the shard's results is not to be seen yet.", retry_after_s=AWAY_S)
        if not self._state.create(results_name(self._shard), data):
            data = self._state.read(results_name(self._shard)) or data
        counts = manifest.tally(manifest.decode(data))
        self._state.create_json(done_name(self._shard), counts.document())
        self._state.remove_parts(self._shard)

    async def _ask(self, call: Callable[..., T], *arguments: Any) -> T:
        """A blocking call of the store, in a thread, again while the store is away."""
        answer: T = await patiently(lambda: self._tools.in_thread(call, *arguments), self._tools.patience)
        return answer
