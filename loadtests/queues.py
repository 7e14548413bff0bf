"""`python -m loadtests.queues`: what the embedded queue itself costs, in messages per second, on this machine.

Prints a table: enqueueing by one and by many, leasing and acking alone and with several processes on one file. Not a
test of anything; the figures go to docs/performance.md. (Not named queue.py: locust puts this folder on the path.)
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from loadtests.report import table
from mattehorn.queue.interface import Queue
from mattehorn.queue.open import open_queue

_BODY = '{"mattehorn": 1, "kind": "shard", "job": "01J00000000000000000000000", "shard": 1234}'
_LEASE = 10  # messages of one receive, as SQS has it
_BATCH = 1000  # bodies of one send_many
_SINGLE = 300  # sends of one body: each waits for the disk


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.queues", description="Speed of the embedded queue.")
    parser.add_argument("--messages", type=int, default=50_000, metavar="N", help="default 50000")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="that share one file; default 2")
    parser.add_argument("--folder", type=Path, help="where the file lies, on a local disk; default: a temporary folder")
    options = parser.parse_args(arguments)
    if min(options.messages, options.processes) < 1:
        parser.error("--messages and --processes are 1 or more.")
    with tempfile.TemporaryDirectory(prefix="mattehorn-queue-", dir=options.folder) as folder:
        rows = _measure(f"sqlite:///{folder}/queue.db", options.messages, options.processes)
    print(table(["what", "messages", "seconds", "messages/s"], rows))
    return 0


def _measure(url: str, messages: int, processes: int) -> list[list[str]]:
    with closing(_open(url)) as queue:
        rows = [_row("send one at a time", *_send(queue, min(messages, _SINGLE), 1))]
        _drain(url)
        rows.append(_row(f"send {_BATCH:,} at a time", *_send(queue, messages, _BATCH)))
        rows.append(_row(f"lease {_LEASE}, ack each", *_drain(url)))
        _send(queue, messages, _BATCH)
        rows.append(_row(f"the same, {processes} processes", *_drain_together(url, processes)))
    return rows


def _open(url: str) -> Queue:
    return open_queue(url, lease_s=600, max_receive=5)


def _send(queue: Queue, messages: int, batch: int) -> tuple[int, float]:
    began = time.perf_counter()
    for start in range(0, messages, batch):
        queue.send_many([_BODY] * min(batch, messages - start))
    return messages, time.perf_counter() - began


def _drain(url: str) -> tuple[int, float]:
    """Messages done until the queue was empty, and the seconds that took."""
    done = 0
    with closing(_open(url)) as queue:
        began = time.perf_counter()
        while leased := queue.receive(_LEASE):
            done += sum(queue.ack(message) for message in leased)
        return done, time.perf_counter() - began


def _drain_together(url: str, processes: int) -> tuple[int, float]:
    """All their messages, and the seconds of the slowest."""
    context = multiprocessing.get_context("spawn")  # an open queue does not survive a fork
    with context.Pool(processes) as pool:
        results = pool.map(_drain, [url] * processes, chunksize=1)
    return sum(done for done, _ in results), max(seconds for _, seconds in results)


def _row(what: str, messages: int, seconds: float) -> list[str]:
    return [what, f"{messages:,}", f"{seconds:.2f}", f"{messages / seconds:,.0f}"]


if __name__ == "__main__":
    sys.exit(main())
