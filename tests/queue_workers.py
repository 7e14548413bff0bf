"""Programs that the queue's crash tests run as processes of their own: `python -m tests.queue_workers WHAT FILE ...`.

Each says on stdout, line by line, what it has done, so that a test can kill it at a known point.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mattehorn.queue.sqlite import SqliteQueue

BATCH = 2000  # so many that sending them takes longer than saying so


def say(text: str) -> None:
    print(text, flush=True)


def hold(path: Path, lease_s: float) -> None:
    """Leases one message and never comes back."""
    queue = SqliteQueue(path, lease_s=lease_s, max_receive=5)
    (message,) = queue.receive(1, wait_s=30)
    say(message.body)
    time.sleep(600)


def send(path: Path) -> None:
    """Sends batches for ever; says each one's number once it is sent."""
    queue = SqliteQueue(path, lease_s=60, max_receive=5)
    number = 0
    while True:
        queue.send_many([f"{number}:{n}" for n in range(BATCH)])
        say(str(number))
        number += 1


def drain(path: Path) -> None:
    """Waits until told on stdin to begin, then does messages until there are none."""
    queue = SqliteQueue(path, lease_s=600, max_receive=5)
    say("ready")
    sys.stdin.readline()
    while messages := queue.receive(3):
        for message in messages:
            if queue.ack(message):
                say(message.body)


def make(path: Path) -> None:
    """Waits until told on stdin to begin, then opens the file, new or not, and sends one message."""
    say("ready")
    sys.stdin.readline()
    queue = SqliteQueue(path, lease_s=60, max_receive=5)
    queue.send_many(["hello"])
    queue.close()
    say("made")


if __name__ == "__main__":
    what, file = sys.argv[1], Path(sys.argv[2])
    if what == "hold":
        hold(file, float(sys.argv[3]))
    else:
        {"send": send, "drain": drain, "make": make}[what](file)
