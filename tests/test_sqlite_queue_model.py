"""Property test: whatever is done in whatever order, the SQLite queue answers as a simple model of it does.

The model is a dictionary. So no message is lost, none is acked twice, none is handed out while it is leased, and stale
receipts have no effect, also when the file is closed and opened in between.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mattehorn.queue.interface import Depth, Message
from mattehorn.queue.sqlite import SqliteQueue

LEASE_S = 10.0
MAX_RECEIVE, MAX_LEASES = 2, 2
MOST = 6  # messages at a time, so that each of them goes through much


@dataclass
class Entry:
    """What the model knows of one message; `receipt` None: no lease is valid."""

    id: int
    body: str
    visible_at: float
    leases: int = 0
    failures: int = 0
    receipt: str | None = None
    dead: bool = False


class QueueAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1_000_000.0
        self.entries: dict[int, Entry] = {}
        self.seen: list[Message] = []  # every message ever handed out, stale ones included
        self.sent = self.acked = 0
        self.queue = self.opened()

    def opened(self) -> SqliteQueue:
        path = Path(self.folder.name) / "queue.db"
        limits = {"max_receive": MAX_RECEIVE, "max_leases": MAX_LEASES}
        return SqliteQueue(path, lease_s=LEASE_S, **limits, clock=lambda: self.now)

    def teardown(self) -> None:
        self.queue.close()
        self.folder.cleanup()

    def held(self, message: Message) -> Entry | None:
        """The entry whose valid lease `message` is."""
        entry = self.entries.get(int(message.id))
        return entry if entry and entry.receipt == message.receipt else None

    @precondition(lambda self: len(self.entries) < MOST)
    @rule(count=st.integers(1, 3))
    def send(self, count: int) -> None:
        bodies = [f"body {self.sent + n}" for n in range(count)]
        self.queue.send_many(bodies)
        for n, body in enumerate(bodies, self.sent + 1):  # ids count up and are never used again
            self.entries[n] = Entry(n, body, self.now)
        self.sent += count

    @rule(limit=st.integers(1, 6))
    def receive(self, limit: int) -> None:
        got = self.queue.receive(limit)
        expected: list[Entry] = []
        ready = [e for e in self.entries.values() if not e.dead and e.visible_at <= self.now]
        for entry in sorted(ready, key=lambda e: (e.visible_at, e.id)):
            if len(expected) == limit:
                break
            if entry.leases >= MAX_LEASES:
                entry.dead, entry.receipt, entry.visible_at = True, None, self.now
            else:
                expected.append(entry)
        assert sorted((int(m.id), m.body, m.attempt, m.leases) for m in got) == sorted(
            (e.id, e.body, e.failures + 1, e.leases + 1) for e in expected
        )
        for message in got:
            entry = self.entries[int(message.id)]
            assert message.receipt not in {seen.receipt for seen in self.seen}
            entry.leases, entry.receipt, entry.visible_at = message.leases, message.receipt, self.now + LEASE_S
        self.seen += got

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.seen))
        entry = self.held(message)
        assert self.queue.ack(message) is (entry is not None)
        if entry:
            del self.entries[entry.id]
            self.acked += 1

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), seconds=st.floats(0.5, 30))
    def extend(self, data: st.DataObject, seconds: float) -> None:
        message = data.draw(st.sampled_from(self.seen))
        entry = self.held(message)
        assert self.queue.extend(message, seconds) is (entry is not None)
        if entry:
            entry.visible_at = self.now + seconds

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), delay_s=st.sampled_from([0.0, 3.0, 20.0]))
    def fail(self, data: st.DataObject, delay_s: float) -> None:
        message = data.draw(st.sampled_from(self.seen))
        entry = self.held(message)
        assert self.queue.fail(message, delay_s, "reason") is (entry is not None)
        if entry:
            entry.failures, entry.leases, entry.receipt = entry.failures + 1, 0, None
            entry.dead = entry.failures >= MAX_RECEIVE
            entry.visible_at = self.now + (0 if entry.dead else delay_s)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.seen))
        entry = self.held(message)
        assert self.queue.release(message) is (entry is not None)
        if entry:
            entry.leases, entry.receipt, entry.visible_at = entry.leases - 1, None, self.now

    @rule()
    def every_lease_and_delay_runs_out(self) -> None:
        self.now += 31

    @rule(seconds=st.sampled_from([0.5, 4.0, 11.0, -4.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.seen)
    @rule()
    def a_lease_is_lost_to_another_worker(self) -> None:
        """Then its receipt must do nothing."""
        self.now += 31
        self.receive(MOST)
        for message in self.seen[-3 * MOST :]:
            if self.held(message) is None:
                assert (self.queue.ack(message), self.queue.extend(message, 9), self.queue.fail(message)) == (
                    False,
                ) * 3

    @rule(limit=st.none() | st.integers(1, 3))
    def redrive(self, limit: int | None) -> None:
        dead = sorted((e for e in self.entries.values() if e.dead), key=lambda e: (e.visible_at, e.id))[:limit]
        assert self.queue.redrive(limit) == len(dead)
        for entry in dead:
            entry.dead, entry.leases, entry.failures, entry.visible_at = False, 0, 0, self.now

    @rule()
    def close_and_open(self) -> None:
        self.queue.close()
        self.queue = self.opened()

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.entries) + self.acked == self.sent
        alive = [e for e in self.entries.values() if not e.dead]
        ready = sum(e.visible_at <= self.now for e in alive)
        dead = len(self.entries) - len(alive)
        assert self.queue.depth() == Depth(ready=ready, leased=len(alive) - ready, dead=dead)
        letters = {(int(x.id), x.body, x.attempt) for x in self.queue.dead_letters(1000)}
        assert letters == {(e.id, e.body, e.failures + e.leases) for e in self.entries.values() if e.dead}


TestQueueAgainstModel = QueueAgainstModel.TestCase
TestQueueAgainstModel.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
