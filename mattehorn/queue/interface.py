"""What every kind of queue offers: the protocol `Queue`, its values and its own error.

The kinds are SqliteQueue (sqlite.py, embedded, one machine) and SqsQueue (sqs.py); open.py opens either.
Both deliver at least once: a message is leased, not removed, and comes back when its worker dies or its lease runs
out. Only `ack` removes it. So a worker acks last, and doing a message twice must do no harm.

An outage is errors.QueueUnavailable (503, worth a later try); QueueMessageError is a body that no queue can take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mattehorn.errors import MattehornError

BODY_BYTES = 256 * 2**10  # what every SQS account and look-alike takes; the webhook's limit on a body, too
LEASE_MAX_S = 43_200.0  # 12 hours, SQS's own limit on one lease
# So many workers in a row may die with a message, or lose it, before it is taken for their killer. Far more than
# failures (`max_receive`), for a death says little of one message: a worker holds many.
LEASES_MOST = 20
OUTAGE_RETRY_S = 5  # a short trouble, which boto3 or SQLite has already waited for when we give up
REFUSED_RETRY_S = 30  # a person has to change a policy or a disk


class QueueMessageError(MattehornError):
    """The body can never be queued: too long, or with characters that the queue refuses."""


@dataclass(frozen=True)
class Message:
    """A leased message; `receipt` belongs to this lease.

    `attempt`: one more than its failures so far. `leases`: those since it was sent or last failed, this one included,
    so more than 1 says that workers died with it or lost it. SQS cannot tell: there both count the receives.
    """

    id: str
    body: str
    attempt: int
    receipt: str
    leases: int = 1

    @property
    def came_back(self) -> bool:
        """Somebody had it before."""
        return self.attempt > 1 or self.leases > 1


@dataclass(frozen=True)
class Depth:
    """How many messages there are. `leased` are in work or wait out the delay of a `fail`."""

    ready: int
    leased: int
    dead: int


@dataclass(frozen=True)
class DeadLetter:
    """A message that was given up. `enqueued_at`: seconds since 1970, UTC. `reason`: empty where nobody kept it.

    `attempt`: its failures, and the leases that were lost after the last of them.
    """

    id: str
    body: str
    attempt: int
    reason: str
    enqueued_at: float


class Queue(Protocol):
    """Threads may share an opened queue. Every call blocks, so an event loop runs it in a thread.

    Lease and number of attempts are given at opening (queues.open_queue). All but `close` raise QueueUnavailable.
    """

    def receive(self, limit: int, wait_s: float = 0.0) -> list[Message]:
        """Leases up to `limit` messages; waits up to `wait_s` for the first one. Order is not promised."""

    def extend(self, message: Message, seconds: float) -> bool:
        """The lease now ends `seconds` from now (more than 0, up to LEASE_MAX_S). False: it is lost, stop working."""

    def ack(self, message: Message) -> bool:
        """The message is done and gone. False: the lease was lost, and somebody else does it again."""

    def fail(self, message: Message, delay_s: float = 0.0, reason: str = "") -> bool:
        """Gives the message back; it is ready again after `delay_s`, or a dead letter if this was its last attempt.

        False: the lease was lost.
        """

    def release(self, message: Message) -> bool:
        """Gives the message back at once; nothing failed, its worker only stops. False: the lease was lost."""

    def send_many(self, bodies: Sequence[str]) -> None:
        """All are durable when it returns. When it raises, some may have been queued: send them all again.

        Raises QueueMessageError, before it sends any, for a body of more than BODY_BYTES in UTF-8.
        """

    def depth(self) -> Depth:
        """A count of this moment; SQS calls its own approximate, up to a minute old."""

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Up to `limit` of the messages given up, which stay where they are."""

    def redrive(self, limit: int | None = None) -> int:
        """Gives up to `limit` dead letters (None: all) a fresh set of attempts; how many they were."""

    def close(self) -> None:
        """Ends it; a second call does nothing. Leases of this process run out by themselves."""


def check_bodies(bodies: Sequence[str]) -> list[bytes]:
    """The bodies in UTF-8. Raises QueueMessageError for one that is too long or no valid Unicode."""
    encoded = []
    for number, body in enumerate(bodies):
        try:
            data = body.encode()
        except UnicodeEncodeError as exc:
            raise QueueMessageError(f"Message {number} is not valid Unicode.") from exc
        if len(data) > BODY_BYTES:
            raise QueueMessageError(
                f"Message {number} has {len(data)} bytes; at most {BODY_BYTES} are allowed. Put less into one message."
            )
        encoded.append(data)
    return encoded


def check_lease(seconds: float, name: str = "lease_s") -> float:
    """`seconds` itself, when it can be the length of a lease. Raises ValueError."""
    if not 0 < seconds <= LEASE_MAX_S:
        raise ValueError(f"{name} is {seconds:g}; allowed is more than 0 up to {LEASE_MAX_S:g} seconds.")
    return seconds
