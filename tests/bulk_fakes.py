"""A queue over a list and a worker that does what a test says: for the loop around the queue, without Ray or files."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mattehorn.bulk.consumer import Consumer, ConsumerLimits
from mattehorn.bulk.patience import Border
from mattehorn.bulk.verdict import Verdict
from mattehorn.queue.interface import DeadLetter, Depth, Message


class CountingQueue:
    """The queue's protocol over a list; knows how many messages were out at once, and does as a test tells it."""

    def __init__(self, bodies: Sequence[str] = (), max_receive: int = 4) -> None:
        self.ready = [Message(str(number), body, 0, "") for number, body in enumerate(bodies)]
        self.out: dict[str, Message] = {}
        self.most_out = 0
        self.extended: Counter[str] = Counter()
        self.failed: list[tuple[str, float, str]] = []
        self.released: list[str] = []
        self.dead: list[str] = []
        self.sent: list[str] = []
        self.max_receive = max_receive
        self.lock = threading.Lock()
        self.on_extend: Callable[[Message], bool] = lambda message: True
        self.trouble: Callable[[str], None] = lambda call: None

    def receive(self, limit: int, wait_s: float = 0.0) -> list[Message]:
        self.trouble("receive")
        if not self.ready:
            time.sleep(min(wait_s, 0.01))
        with self.lock:
            taken = self.ready[:limit]
            del self.ready[:limit]
            leased = [Message(m.id, m.body, m.attempt + 1, f"{m.id}.{m.attempt + 1}") for m in taken]
            self.out |= {m.id: m for m in leased}
            self.most_out = max(self.most_out, len(self.out))
        return leased

    def extend(self, message: Message, seconds: float) -> bool:
        self.trouble("extend")
        self.extended[message.id] += 1
        return self.on_extend(message)

    def ack(self, message: Message) -> bool:
        self.trouble("ack")
        return self.out.pop(message.id, None) is not None

    def fail(self, message: Message, delay_s: float = 0.0, reason: str = "") -> bool:
        self.trouble("fail")
        self.failed.append((message.id, delay_s, reason))
        if (held := self.out.pop(message.id, None)) is None:
            return False
        if held.attempt >= self.max_receive:
            self.dead.append(reason)
        else:
            self.ready.append(held)
        return True

    def release(self, message: Message) -> bool:
        self.trouble("release")
        self.released.append(message.id)
        if (held := self.out.pop(message.id, None)) is None:
            return False
        self.ready.append(Message(held.id, held.body, held.attempt - 1, ""))
        return True

    def send_many(self, bodies: Sequence[str]) -> None:
        self.trouble("send_many")
        self.sent += bodies
        self.ready += [Message(f"new-{len(self.sent)}", body, 0, "") for body in bodies]

    def depth(self) -> Depth:
        return Depth(len(self.ready), len(self.out), len(self.dead))

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        return []

    def redrive(self, limit: int | None = None) -> int:
        return 0

    def close(self) -> None:
        pass


class FakeWorker:
    """Does what a function says."""

    def __init__(self, do: Callable[[Message, Border], Any], permit: Callable[[], Any] | None = None) -> None:
        self._do = do
        self._permit = permit
        self.begun: list[str] = []
        self.ended: list[str] = []

    async def permit(self) -> None:
        if self._permit:
            await self._permit()

    async def handle(self, message: Message, border: Border) -> Verdict:
        self.begun.append(message.body)
        verdict: Verdict = await self._do(message, border)
        self.ended.append(message.body)
        return verdict


def consume(queue: Any, worker: FakeWorker, within_s: float = 20, **limits: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(within_s):
            chosen = ConsumerLimits(**{"in_flight": 3, "lease_s": 0.3, "max_receive": 4, "wait_s": 0.02, **limits})
            await Consumer(queue, worker, chosen).run_until_empty()

    asyncio.run(run())
