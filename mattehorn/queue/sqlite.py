"""The embedded queue: one SQLite file in WAL mode, shared by any number of processes of one machine.

Opened by queues.open_queue() for `sqlite:///` URLs. Not for network file systems: WAL needs memory that the
processes share. A message is a row; a lease is a time in `visible_at` and a random `receipt` that no later lease knows.

Times are the wall clock's, because processes and restarts have to agree on them. A clock set forward by J ends
leases J early: work is done twice. A clock set back by J holds leases, delays and new messages up to J longer. Nothing
is lost either way. Clocks that are slewed (NTP, chrony) do no harm.

One connection and one lock serve all threads of a process: SQLite lets one writer at a time into a file anyhow, so
connections per thread would only make them wait in SQLite's sleep-and-retry, which may last 100 ms, instead of on a
lock, and would stay open behind threads that ended. Nothing is held while `receive` waits. Open it after a fork, never
before.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mattehorn.queue.interface import LEASES_MOST, DeadLetter, Depth, Message, check_bodies, check_lease
from mattehorn.queue.sqlite_file import check_place, open_file, sqlite_errors

log = logging.getLogger(__name__)

_READY, _DEAD = "bulk", "bulk.dead"  # values of the column `queue`
_POLL_S = 0.1  # between two looks for messages: short beside a picture, and a look costs microseconds
_REASON_CHARS = 2000  # a code and a sentence; a trace belongs into the log

_LEASE = """
UPDATE msg SET visible_at = :now + :lease, leases = leases + 1, receipt = lower(hex(randomblob(16)))
 WHERE id IN (SELECT id FROM msg WHERE queue = :queue AND visible_at <= :now ORDER BY visible_at, id LIMIT :limit)
RETURNING id, body, failures + 1, receipt, leases
"""
# What nobody finished and nobody failed: worker after worker died with it, or lost its lease.
_GIVE_UP = """
UPDATE msg SET queue = :dead, receipt = NULL, leases = leases - 1, visible_at = :now,
  reason = 'The lease ran out ' || (leases - 1) || ' times in a row; it may have killed its workers.'
    || coalesce(' Before that: ' || reason, '')
 WHERE id = :id
"""
_FAIL = """
UPDATE msg SET receipt = NULL, reason = :reason, leases = 0, failures = failures + 1,
  queue = CASE WHEN failures + 1 >= :max THEN :dead ELSE queue END,
  visible_at = CASE WHEN failures + 1 >= :max THEN :now ELSE :now + :delay END
 WHERE id = :id AND receipt = :receipt
"""
_RELEASE = "UPDATE msg SET receipt = NULL, leases = leases - 1, visible_at = ? WHERE id = ? AND receipt = ?"
_REDRIVE = """
UPDATE msg SET queue = :ready, visible_at = :now, leases = 0, failures = 0, reason = NULL
 WHERE id IN (SELECT id FROM msg WHERE queue = :dead ORDER BY visible_at, id LIMIT :limit)
"""


class SqliteQueue:
    """A queue in the file `path`. A lease whose time is over stays the worker's until another one takes the message.

    A message becomes a dead letter by its `max_receive`th failure, or after `max_leases` leases without a word: deaths
    of workers are no failures.
    """

    def __init__(
        self,
        path: Path,
        *,
        lease_s: float,
        max_receive: int,
        max_leases: int = LEASES_MOST,
        must_exist: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises ValueError for a place that cannot hold a queue, QueueUnavailable when it stays locked."""
        if max_receive < 1:
            raise ValueError(f"max_receive is {max_receive}; allowed is 1 or more.")
        self._lease_s = check_lease(lease_s)
        self._max_receive, self._max_leases = max_receive, max_leases
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = threading.Event()
        check_place(path, must_exist)
        self._db = open_file(path)

    def receive(self, limit: int, wait_s: float = 0.0) -> list[Message]:
        """Oldest first. An empty look takes no write lock."""
        if limit < 1:
            raise ValueError(f"limit is {limit}; allowed is 1 or more.")
        until = time.monotonic() + wait_s
        while True:
            if self._is_any_ready() and (messages := self._lease(limit)):
                return messages
            left = until - time.monotonic()
            if left <= 0 or self._closed.wait(min(_POLL_S, left)):
                return []

    def extend(self, message: Message, seconds: float) -> bool:
        seconds = check_lease(seconds, "seconds")
        sql = "UPDATE msg SET visible_at = ? WHERE id = ? AND receipt = ?"
        with self._write("extend a lease") as db:
            return db.execute(sql, (self._clock() + seconds, int(message.id), message.receipt)).rowcount == 1

    def ack(self, message: Message) -> bool:
        sql = "DELETE FROM msg WHERE id = ? AND receipt = ?"
        with self._write("ack") as db:
            return db.execute(sql, (int(message.id), message.receipt)).rowcount == 1

    def fail(self, message: Message, delay_s: float = 0.0, reason: str = "") -> bool:
        fields = {
            "id": int(message.id),
            "receipt": message.receipt,
            "reason": reason[:_REASON_CHARS].encode("utf-8", "replace").decode() or None,
            "max": self._max_receive,
            "dead": _DEAD,
            "now": self._clock(),
            "delay": max(0.0, delay_s),
        }
        with self._write("give a message back") as db:
            return db.execute(_FAIL, fields).rowcount == 1

    def release(self, message: Message) -> bool:
        with self._write("release a message") as db:
            return db.execute(_RELEASE, (self._clock(), int(message.id), message.receipt)).rowcount == 1

    def send_many(self, bodies: Sequence[str]) -> None:
        """In one transaction, synced to the disk: all or none of them."""
        check_bodies(bodies)
        if not bodies:
            return
        now = self._clock()
        sql = "INSERT INTO msg(queue, body, visible_at, enqueued_at) VALUES (?, ?, ?, ?)"
        with self._write("send", durable=True) as db:
            db.executemany(sql, ((_READY, body, now, now) for body in bodies))

    def depth(self) -> Depth:
        sql = "SELECT count(*) FROM msg WHERE queue = ?"
        with self._read("count") as db:
            ready = db.execute(f"{sql} AND visible_at <= ?", (_READY, self._clock())).fetchone()[0]
            alive = db.execute(sql, (_READY,)).fetchone()[0]
            dead = db.execute(sql, (_DEAD,)).fetchone()[0]
        return Depth(ready=ready, leased=max(0, alive - ready), dead=dead)

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The longest dead first."""
        sql = (
            "SELECT id, body, failures + leases, coalesce(reason, ''), enqueued_at FROM msg WHERE queue = ? "
            "ORDER BY visible_at, id LIMIT ?"
        )
        with self._read("read dead letters") as db:
            rows = db.execute(sql, (_DEAD, max(0, limit))).fetchall()
        return [DeadLetter(str(number), *rest) for number, *rest in rows]

    def redrive(self, limit: int | None = None) -> int:
        every = -1  # SQLite's word for no limit
        fields = {"ready": _READY, "dead": _DEAD, "now": self._clock(), "limit": every if limit is None else limit}
        if limit is not None and limit < 1:
            return 0
        with self._write("redrive") as db:
            return db.execute(_REDRIVE, fields).rowcount

    def close(self) -> None:
        """Ends waiting `receive` calls, too."""
        self._closed.set()
        with self._lock:
            self._db.close()

    def _is_any_ready(self) -> bool:
        sql = "SELECT 1 FROM msg WHERE queue = ? AND visible_at <= ? LIMIT 1"
        with self._read("receive") as db:
            return db.execute(sql, (_READY, self._clock())).fetchone() is not None

    def _lease(self, limit: int) -> list[Message]:
        """Up to `limit` ready messages; those that no worker brought to an end become dead letters on the way."""
        now = self._clock()
        fields = {"now": now, "lease": self._lease_s, "queue": _READY}
        leased: list[Message] = []
        given_up: list[int] = []
        with self._write("receive") as db:
            while len(leased) < limit:
                rows = db.execute(_LEASE, {**fields, "limit": limit - len(leased)}).fetchall()
                over = [row[0] for row in rows if row[4] > self._max_leases]
                db.executemany(_GIVE_UP, ({"dead": _DEAD, "now": now, "id": number} for number in over))
                rows.sort()  # RETURNING has no order
                leased += [Message(str(row[0]), *row[1:]) for row in rows if row[4] <= self._max_leases]
                given_up += over
                if not over:
                    break
        for number in given_up:
            log.warning("queue_dead_letter id=%s reason=lease_ran_out", number)
        return leased

    @contextmanager
    def _read(self, action: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._closed.is_set():
                raise ValueError("The queue is closed.")
            with sqlite_errors(action):
                yield self._db

    @contextmanager
    def _write(self, action: str, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction, which has the write lock from its start, so that it never fails half-way for want of it.

        Not `durable`: it survives the death of every process but perhaps not that of the machine, whereafter leases
        and acks of the last moments may be undone and their messages come again.
        """
        with self._read(action) as db:
            if durable:
                db.execute("PRAGMA synchronous = FULL")
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                if durable:
                    db.execute("PRAGMA synchronous = NORMAL")
