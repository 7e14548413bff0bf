"""The loop around a queue: receive no more than can be worked on, keep the leases alive, ack last, end in order.

What it is not: it does not know what messages say (worker.py), and no Ray: a deployment runs one in its event loop, the
command line another. Two consumers with a queue each make one kind of work go before another.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mattehorn import telemetry
from mattehorn.bulk.patience import Border, Permit
from mattehorn.bulk.verdict import Verdict
from mattehorn.errors import QueueUnavailable
from mattehorn.queue.interface import Message, Queue

log = logging.getLogger(__name__)

T = TypeVar("T")

QUEUE_THREADS = 4  # one waits for messages, the others extend and ack meanwhile
BEATS = 3  # in one lease, so that two may fail
RECEIVE_MOST = 10  # what SQS gives at once
OUTAGE_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0)  # while the queue is away
ACK_TRIES = 4
# A message that came back so often may have killed its workers. Such ones are worked on one at a time, in any order:
# the killer takes only those down again that stand behind it, about half, so no other comes to LEASES_MOST.
SUSPECT_LEASES = 8
CLOSING_S = 5.0  # for giving messages back at the end


class MessageWorker(Protocol):
    """worker.Worker, or a fake one."""

    @property
    def permit(self) -> Permit: ...
    async def handle(self, message: Message, border: Border) -> Verdict: ...


@dataclass(frozen=True)
class ConsumerLimits:
    """Seconds but for `in_flight`: the messages held at once. `lease_s` and `max_receive` are the queue's own.

    deadline_s: after so long a message is given up. border_s: after so long a shard ends at its next slice and is
    queued as new. wait_s: one receive's patience, also how late a stop may be seen; up to 20 on SQS saves requests.
    drain_s: below Serve's graceful_shutdown_timeout_s of 100.
    """

    in_flight: int = 8
    lease_s: float = 120.0
    max_receive: int = 5
    deadline_s: float = 900.0
    border_s: float = 600.0
    wait_s: float = 2.0
    drain_s: float = 60.0


class LeaseLost(Exception):
    """Another worker may have the message by now."""


class Consumer:
    """Works on one queue until it is stopped. `run` once."""

    def __init__(
        self,
        queue: Queue,
        worker: MessageWorker,
        limits: ConsumerLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue, self._worker, self._limits, self._clock = queue, worker, limits, clock
        self._threads = ThreadPoolExecutor(QUEUE_THREADS, thread_name_prefix="bulk-queue")
        self._stopping = asyncio.Event()
        self._free = asyncio.Event()
        self._suspect = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def held(self) -> int:
        """Messages in work now."""
        return len(self._tasks)

    def stop(self) -> None:
        """Receives no more; `run` returns when what is in work has ended, at the latest after `drain_s`."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`. A cancelled run gives its messages back and leaves at once."""
        try:
            while not self._stopping.is_set():
                await self._room()
                if not self._stopping.is_set():
                    await self._receive()
            await self._drain()
        finally:
            await self._abandon()
            self._threads.shutdown(wait=False)

    async def run_until_empty(self) -> None:
        """Until there is no message, ready or leased. For the command line and for tests."""
        running = asyncio.create_task(self.run())
        try:
            while not running.done():
                if not self.held and await self._is_empty():
                    break
                await asyncio.wait([running], timeout=min(0.2, self._limits.wait_s))
        finally:
            self.stop()
            await running

    async def _is_empty(self) -> bool:
        try:
            depth = await self._in_thread(self._queue.depth)
        except QueueUnavailable:
            return False
        return not depth.ready and not depth.leased and not self.held

    async def _room(self) -> None:
        """Waits for a free place, and for the permit: leased messages that may not be worked on only age."""
        while len(self._tasks) >= self._limits.in_flight and not self._stopping.is_set():
            self._free.clear()
            await self._first(self._free.wait())
        await self._first(self._worker.permit())

    async def _receive(self) -> None:
        limit = min(RECEIVE_MOST, self._limits.in_flight - len(self._tasks))
        for pause_s in (*OUTAGE_PAUSES_S, None):
            try:
                messages = await self._in_thread(self._queue.receive, limit, self._limits.wait_s)
                break
            except QueueUnavailable as error:
                log.warning("bulk_queue_unavailable reason=%s", error.message)
                if await self._first(asyncio.sleep((pause_s or OUTAGE_PAUSES_S[-1]) * random.uniform(0.5, 1.0))):
                    return
        else:
            return
        random.shuffle(messages)
        for message in messages:
            task = asyncio.create_task(self._message(message))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("bulk_message_failed error=%s", type(error).__name__, exc_info=error)

    async def _message(self, message: Message) -> None:
        """One message from lease to verdict; its end is told to the queue only while the lease is held."""
        began = self._clock()
        border = Border(lambda: self._stopping.is_set() or self._clock() - began > self._limits.border_s)
        work = asyncio.create_task(self._verdict(message, border))
        beat = asyncio.create_task(self._beat(message))
        try:
            await asyncio.wait([work, beat], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise LeaseLost
            await self._tell(message, work.result())
        except LeaseLost:
            telemetry.add(telemetry.BULK_ITEMS, outcome="lost")
            log.info("bulk_lease_lost message=%s lease=%d attempt=%d", message.id, message.leases, message.attempt)
        except asyncio.CancelledError:
            await _end(work)
            await self._give_back(message)
            raise
        finally:
            await _end(work, beat)

    async def _verdict(self, message: Message, border: Border) -> Verdict:
        async with self._suspect if message.leases >= SUSPECT_LEASES else nullcontext():
            return await self._handle(message, border)

    async def _handle(self, message: Message, border: Border) -> Verdict:
        handling = asyncio.create_task(self._worker.handle(message, border))
        try:
            if not (await asyncio.wait([handling], timeout=self._limits.deadline_s))[0]:
                if border.is_idle:  # it only waited for others: no fault of the message
                    return Verdict.again()
                return Verdict.retry(0.0, f"not done within {self._limits.deadline_s:g} s")
            return handling.result()
        except Exception as error:  # the loop outlives whatever a message does; the queue bounds how often
            log.error("bulk_message_failed message=%s", message.id, exc_info=error)
            return Verdict.retry(self._limits.lease_s / BEATS, f"{type(error).__name__}: {error}")
        finally:
            await _end(handling)

    async def _beat(self, message: Message) -> None:
        """Keeps the lease; returns when it is lost. An unreachable queue is asked again until the lease has run out."""
        every = self._limits.lease_s / BEATS
        until, pause = self._clock() + self._limits.lease_s, every
        while True:
            await asyncio.sleep(pause)
            asked = self._clock()
            try:
                if not await self._in_thread(self._queue.extend, message, self._limits.lease_s):
                    return
                until, pause = asked + self._limits.lease_s, every
            except QueueUnavailable:
                if self._clock() >= until:
                    return
                pause = every / BEATS

    async def _tell(self, message: Message, verdict: Verdict) -> None:
        """Raises LeaseLost. What the queue is told while it is away is told again."""
        if verdict.kind == "ack":
            held = await self._insist(self._queue.ack, message)
        elif verdict.kind == "again":
            await self._insist(self._queue.send_many, [message.body])
            held = await self._insist(self._queue.ack, message)
        else:
            if verdict.kind == "poison" and message.attempt == self._limits.max_receive:  # once a message
                telemetry.add(telemetry.BULK_ITEMS, outcome="poison")
            log.info("bulk_message_back id=%s kind=%s reason=%s", message.id, verdict.kind, verdict.reason[:200])
            held = await self._insist(self._queue.fail, message, verdict.delay_s, verdict.reason)
        if held is False:
            raise LeaseLost

    async def _insist(self, call: Callable[..., T], *arguments: Any) -> T:
        """Raises LeaseLost when the queue stays away: the message comes again, and its work is found done."""
        for number in range(ACK_TRIES):
            try:
                return await self._in_thread(call, *arguments)
            except QueueUnavailable:
                await asyncio.sleep(OUTAGE_PAUSES_S[number] * random.uniform(0.5, 1.0))
        raise LeaseLost

    async def _give_back(self, message: Message) -> None:
        try:
            async with asyncio.timeout(CLOSING_S):
                await self._in_thread(self._queue.release, message)
        except (QueueUnavailable, TimeoutError):  # then its lease runs out
            return

    async def _drain(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self._limits.drain_s)

    async def _abandon(self) -> None:
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2 * CLOSING_S)

    async def _first(self, waiting: Awaitable[Any]) -> bool:
        """Waits for `waiting` or the stop, whichever comes first; True for the stop."""
        tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self._stopping.is_set()

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancels what still runs, and waits until it has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
