"""The embedded queue's own promises: one file, many processes, deaths at any moment, clocks that jump, full disks."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mattehorn.errors import QueueUnavailable
from mattehorn.queue import sqlite_file
from mattehorn.queue.interface import LEASES_MOST, Depth
from mattehorn.queue.sqlite import SqliteQueue
from tests.clock import Clock
from tests.queue_workers import BATCH

ROOT = Path(__file__).parent.parent


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def queue(path: Path, clock: Clock) -> Iterator[SqliteQueue]:
    queue = SqliteQueue(path, lease_s=100, max_receive=3, clock=clock)
    yield queue
    queue.close()


def opened(path: Path) -> SqliteQueue:
    return SqliteQueue(path, lease_s=60, max_receive=5)


@contextmanager
def worker(what: str, path: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program of queue_workers.py, killed at the end if it still runs."""
    command = [sys.executable, "-m", "tests.queue_workers", what, str(path), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


# leases


def test_messages_come_in_the_order_they_were_sent(queue: SqliteQueue, clock: Clock) -> None:
    queue.send_many(["a", "b"])
    clock.now += 1
    queue.send_many(["c"])
    assert [message.body for message in queue.receive(10)] == ["a", "b", "c"]


def test_a_failed_message_stands_behind_those_that_waited(queue: SqliteQueue, clock: Clock) -> None:
    queue.send_many(["a", "b"])
    (first,) = queue.receive(1)
    clock.now += 1
    queue.fail(first)
    assert [message.body for message in queue.receive(1)] == ["b"]


def test_a_late_worker_keeps_what_nobody_took(queue: SqliteQueue, clock: Clock) -> None:
    queue.send_many(["a", "b"])
    late, done = queue.receive(2)
    clock.now += 101
    assert queue.extend(late, 50) is True
    assert queue.ack(done) is True
    assert queue.receive(2) == []
    clock.now += 51
    assert [(message.attempt, message.leases) for message in queue.receive(2)] == [(1, 2)]


def test_a_receipt_fits_only_its_own_message(queue: SqliteQueue) -> None:
    queue.send_many(["a", "b"])
    one, other = queue.receive(2)
    forged = type(one)(one.id, one.body, one.attempt, other.receipt)
    assert (queue.ack(forged), queue.extend(forged, 9), queue.fail(forged)) == (False, False, False)


def test_a_message_that_kills_every_worker_is_a_dead_letter_at_last_and_makes_room(
    queue: SqliteQueue, clock: Clock
) -> None:
    queue.send_many(["poison"])
    for number in range(1, LEASES_MOST + 1):
        (message,) = queue.receive(1)
        assert (message.body, message.attempt, message.leases) == ("poison", 1, number)
        clock.now += 101
    queue.send_many(["good"])
    assert [message.body for message in queue.receive(1)] == ["good"]
    (letter,) = queue.dead_letters(10)
    assert (letter.body, letter.attempt) == ("poison", LEASES_MOST)
    assert f"lease ran out {LEASES_MOST} times" in letter.reason


def test_deaths_of_workers_are_no_failures_and_a_failure_starts_their_count_anew(
    queue: SqliteQueue, clock: Clock
) -> None:
    queue.send_many(["a"])
    for failures in range(3):
        for deaths in range(LEASES_MOST - 1):
            (message,) = queue.receive(1)
            assert (message.attempt, message.leases) == (failures + 1, deaths + 1)
            clock.now += 101
        assert queue.fail(queue.receive(1)[0], reason="busy") is True
    assert queue.receive(1) == []
    assert [(letter.reason, letter.attempt) for letter in queue.dead_letters(2)] == [("busy", 3)]


def test_released_for_ever_a_message_is_no_dead_letter(queue: SqliteQueue) -> None:
    queue.send_many(["a"])
    for _ in range(3 * LEASES_MOST):
        assert queue.release(queue.receive(1)[0]) is True
    assert queue.depth() == Depth(ready=1, leased=0, dead=0)


def test_a_dead_letter_of_a_dead_worker_keeps_the_reason_of_the_attempt_before(
    queue: SqliteQueue, clock: Clock
) -> None:
    queue.send_many(["a"])
    queue.fail(queue.receive(1)[0], reason="first")
    queue.fail(queue.receive(1)[0], reason="503 from the store")
    for _ in range(LEASES_MOST):
        assert len(queue.receive(1)) == 1
        clock.now += 101
    assert queue.receive(1) == []
    assert queue.dead_letters(1)[0].reason.endswith("Before that: 503 from the store")


@pytest.mark.parametrize(("reason", "kept"), [("x" * 9000, "x" * 2000), ("half \ud800", "half ?"), ("", "")])
def test_a_long_reason_is_cut_and_a_broken_one_kept(queue: SqliteQueue, reason: str, kept: str) -> None:
    queue.send_many(["a"])
    for _ in range(3):
        queue.fail(queue.receive(1)[0], reason=reason)
    assert [letter.reason for letter in queue.dead_letters(2)] == [kept]


def test_a_clock_set_forward_ends_leases_early_and_loses_nothing(queue: SqliteQueue, clock: Clock) -> None:
    queue.send_many(["a"])
    (early,) = queue.receive(1)
    clock.now += 3600
    (again,) = queue.receive(1)
    assert again.leases == 2
    assert queue.ack(early) is False
    assert queue.ack(again) is True


def test_a_clock_set_back_makes_messages_wait_and_loses_nothing(queue: SqliteQueue, clock: Clock) -> None:
    queue.send_many(["a", "b"])
    (held,) = queue.receive(1)
    clock.now -= 3600
    assert queue.receive(10) == []
    queue.send_many(["sent at the new time"])
    assert [message.body for message in queue.receive(10)] == ["sent at the new time"]
    assert queue.extend(held, 100) is True  # by the new time
    clock.now += 101
    assert [message.body for message in queue.receive(10)] == ["a", "sent at the new time"]
    clock.now += 3600
    assert "b" in [message.body for message in queue.receive(10)]


# files


def test_everything_is_there_after_closing_and_opening(path: Path) -> None:
    first = opened(path)
    first.send_many(["ready", "leased"])
    (held,) = first.receive(1)
    first.close()
    second = opened(path)
    assert second.depth() == Depth(ready=1, leased=1, dead=0)
    assert second.ack(held) is True
    second.close()


def test_a_closed_queue_says_so(path: Path) -> None:
    queue = opened(path)
    queue.close()
    for call in (queue.depth, queue.redrive, lambda: queue.receive(1), lambda: queue.send_many(["a"])):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_closing_ends_a_waiting_receive(path: Path) -> None:
    queue = opened(path)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(queue.receive(1, wait_s=600)), daemon=True)
    thread.start()
    timer = threading.Timer(0.2, queue.close)
    timer.start()
    thread.join(timeout=60)
    assert got == [[]]
    timer.join()


# trouble while it runs


def test_a_full_disk_is_unavailable_and_sends_nothing(queue: SqliteQueue) -> None:
    queue.send_many(["before"])
    pages = queue._db.execute("PRAGMA page_count").fetchone()[0]
    queue._db.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(QueueUnavailable, match="SQLITE_FULL") as full:
        queue.send_many(["x" * 1000] * 1000)
    assert full.value.retry_after_s == 30
    assert queue.depth().ready == 1
    assert [message.body for message in queue.receive(10)] == ["before"]


def test_a_file_that_another_process_keeps_locked_is_unavailable_for_now(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_BUSY_S", 0.05)
    queue = opened(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(QueueUnavailable, match="busy") as busy:
        queue.send_many(["a"])
    assert busy.value.retry_after_s == 5
    other.execute("ROLLBACK")
    queue.send_many(["a"])
    assert len(queue.receive(1)) == 1
    queue.close()
    other.close()


def test_a_new_file_that_stays_locked_is_unavailable_not_wrong(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "_BUSY_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(QueueUnavailable, match="stays locked"):
        opened(path)
    other.close()


# several processes, and their deaths


def test_processes_that_open_a_new_file_at_once_share_it(path: Path) -> None:
    with ExitStack() as stack:
        makers = [stack.enter_context(worker("make", path)) for _ in range(4)]
        assert [line(maker) for maker in makers] == ["ready"] * 4
        for maker in makers:
            begin(maker)
        assert [line(maker) for maker in makers] == ["made"] * 4
    queue = opened(path)
    assert queue.depth().ready == 4
    assert queue._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    queue.close()


def test_opening_waits_where_sqlite_itself_does_not(path: Path) -> None:
    """A new file between its making and its change to WAL, while another process writes: SQLite refuses at once."""
    opened(path).close()
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    assert writer.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    writer.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.2, writer.execute, ("ROLLBACK",))
    timer.start()
    queue = opened(path)
    assert queue._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    queue.close()
    timer.join()
    writer.close()


def test_the_message_of_a_killed_worker_comes_back_after_its_lease(path: Path) -> None:
    queue = opened(path)
    queue.send_many(["survivor"])
    with worker("hold", path, "3") as holder:
        assert line(holder) == "survivor"
        assert queue.receive(1) == []
        holder.send_signal(signal.SIGKILL)
        assert holder.wait(30) == -signal.SIGKILL
    (message,) = queue.receive(1, wait_s=30)
    assert (message.body, message.attempt, message.leases) == ("survivor", 1, 2)
    assert queue.ack(message) is True
    assert queue.depth() == Depth(ready=0, leased=0, dead=0)
    queue.close()


def test_a_killed_sender_has_sent_whole_batches_and_all_that_it_said(tmp_path: Path) -> None:
    for delay_ms in (0, 2, 5, 9, 14):  # a batch takes some 10 ms, so that most of these fall into the middle of one
        path = tmp_path / f"{delay_ms}.db"
        with worker("send", path) as sender:
            said = [line(sender) for _ in range(3)]
            time.sleep(delay_ms / 1000)
            sender.send_signal(signal.SIGKILL)
            said += (sender.stdout.read() if sender.stdout else "").split()
        queue = opened(path)
        assert queue._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        counts = Counter(message.body.split(":")[0] for message in queue.receive(1_000_000))
        queue.close()
        assert set(counts.values()) == {BATCH}
        assert set(said) <= set(counts)
        assert len(set(counts) - set(said)) <= 1  # committed, and killed before it could say so


def test_two_processes_do_every_message_once_when_nobody_dies(path: Path) -> None:
    queue = opened(path)
    sent = [f"m{n}" for n in range(500)]
    queue.send_many(sent)
    with worker("drain", path) as one, worker("drain", path) as two:
        assert (line(one), line(two)) == ("ready", "ready")
        begin(one)
        begin(two)
        done = [(process.stdout.read() if process.stdout else "").split() for process in (one, two)]
    assert sorted(done[0] + done[1]) == sorted(sent)
    assert queue.depth() == Depth(ready=0, leased=0, dead=0)
    queue.close()
