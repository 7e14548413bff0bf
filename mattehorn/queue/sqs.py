"""The production queue: Amazon SQS or a server that speaks its API, through boto3.

Opened by queues.open_queue() for `sqs://` URLs. A standard queue with a redrive policy to a dead-letter queue (DLQ) of
the same account and region; SQS itself moves a message there at the first receive after its last attempt. It counts
receives, so the death of a worker counts as a failure does: the policy's maxReceiveCount should be LEASES_MOST or more.

SQS keeps no promise about stale receipts: some are refused, some still work. So each SqsQueue remembers when its own
leases end, by a clock that does not jump, and answers False to `extend`, `ack` and `fail` of a lease that has run out,
or that another object received. `reason` has no place in SQS and goes to the log.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mattehorn.errors import QueueUnavailable
from mattehorn.queue.interface import (
    BODY_BYTES,
    LEASE_MAX_S,
    LEASES_MOST,
    OUTAGE_RETRY_S,
    DeadLetter,
    Depth,
    Message,
    QueueMessageError,
    check_bodies,
    check_lease,
)
from mattehorn.queue.sqs_client import POLL_S, SqsRefused, short_code, sqs_errors

log = logging.getLogger(__name__)

_BATCH = 10  # SQS's limit on messages in one request
_DEAD_POLL_S = 1  # more than 0, so that SQS asks all its servers and not a sample of them
_PEEK_S = 30  # hides a dead letter from the same look's next request; given back at once afterwards
_MOVE_S = 60  # the same while ten are sent, retries included
_SEND_PAUSES_S = (0.2, 1.0)  # before a second and a third try of the entries that SQS refused within a batch
_LOST = frozenset(("ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"))  # the last: also at 12 h
_BAD_MESSAGE = frozenset(("InvalidMessageContents", "InvalidParameterValue", "MessageTooLong", "BatchRequestTooLong"))
_BAD_TEXT = (
    "The queue refused a message ({}). Its text may hold control characters, or be longer than the queue's "
    "MaximumMessageSize."
)


class SqsQueue:
    """One queue. Threads share the client; each waiting `receive` holds one of its connections."""

    def __init__(self, client: Any, address: str, *, lease_s: float) -> None:
        """`address`: the queue's own URL."""
        self._client = client
        self._address = address
        self._lease_s = _whole_seconds(check_lease(lease_s))
        self._ends: dict[str, float] = {}  # receipt: when its lease ends, in monotonic seconds
        self._lock = threading.Lock()
        self._is_policy_checked = False

    def receive(self, limit: int, wait_s: float = 0.0) -> list[Message]:
        """`wait_s` is rounded up to whole seconds."""
        if limit < 1:
            raise ValueError(f"limit is {limit}; allowed is 1 or more.")
        until = time.monotonic() + wait_s
        messages: list[Message] = []
        while True:
            left = 0.0 if messages else max(0.0, until - time.monotonic())
            try:
                raw = self._take(self._address, limit - len(messages), self._lease_s, math.ceil(left))
            except QueueUnavailable:
                if messages:  # their leases run already
                    return messages
                raise
            self._remember(raw)
            messages += [_message(one) for one in raw]
            if len(messages) >= limit or (not raw and (messages or time.monotonic() >= until)):
                return messages

    def extend(self, message: Message, seconds: float) -> bool:
        return self._hold(message, _whole_seconds(check_lease(seconds, "seconds")))

    def ack(self, message: Message) -> bool:
        """True says that SQS took it; a redelivery now and then is in the nature of a standard queue."""
        if not self._is_held(message):
            return False
        is_known = self._is_accepted("delete", self._client.delete_message, ReceiptHandle=message.receipt)
        self._forget(message)
        return is_known

    def fail(self, message: Message, delay_s: float = 0.0, reason: str = "") -> bool:
        log.info("queue_failed id=%s attempt=%d reason=%r", message.id, message.attempt, reason)
        return self._let_go(message, _whole_seconds(min(max(0.0, delay_s), LEASE_MAX_S)))

    def release(self, message: Message) -> bool:
        """The receive stays counted."""
        return self._let_go(message, 0)

    def send_many(self, bodies: Sequence[str]) -> None:
        sizes = [len(data) for data in check_bodies(bodies)]
        for batch in _batches(bodies, sizes):
            self._send(batch)

    def depth(self) -> Depth:
        alive = self._attributes(self._address)
        dead_address = self._dead_address(alive)
        dead = self._attributes(dead_address) if dead_address else {}
        return Depth(
            ready=_count(alive, ""),
            leased=_count(alive, "NotVisible") + _count(alive, "Delayed"),
            dead=_count(dead, "") + _count(dead, "NotVisible"),
        )

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Read by receiving and giving back, so `attempt` grows with each look. Two at once hide letters briefly."""
        address = self._dead_address(self._attributes(self._address))
        found: dict[str, dict[str, Any]] = {}
        receipts: list[str] = []
        try:
            while address and len(found) < limit:
                raw = self._take(address, limit - len(found), _PEEK_S, _DEAD_POLL_S)
                fresh = {one["MessageId"]: one for one in raw if one["MessageId"] not in found}
                receipts += [one["ReceiptHandle"] for one in raw]
                if not fresh:  # seen all, or so slow that the first ones come again
                    break
                found |= fresh
        finally:
            if address:
                self._give_back(address, receipts)
        return [DeadLetter(id_, one["Body"], _attempt(one), "", _sent_at(one)) for id_, one in found.items()]

    def redrive(self, limit: int | None = None) -> int:
        """Receives from the DLQ, sends to the queue, deletes from the DLQ, ten at a time.

        Not StartMessageMoveTask: that knows no limit, ends some time later without a count, and look-alikes lack it.
        A crash between sending and deleting leaves a message in both queues, to be done twice. Letters younger
        than this call stay: a worker may have failed again what was just sent.
        """
        address = self._dead_address(self._attributes(self._address))
        began, moved = time.time(), 0
        while address and (limit is None or moved < limit):
            raw = self._take(address, _BATCH if limit is None else limit - moved, _MOVE_S, _DEAD_POLL_S)
            old = [one for one in raw if _sent_at(one) <= began]
            young = [one["ReceiptHandle"] for one in raw if _sent_at(one) > began]
            bodies = [one["Body"] for one in old]
            for batch in _batches(bodies, [len(body.encode()) for body in bodies]):
                self._send(batch)
            self._delete_all(address, [one["ReceiptHandle"] for one in old])
            moved += len(old)
            if young or not raw:
                self._give_back(address, young)
                break
        return moved

    def close(self) -> None:
        """A `receive` that waits in SQS goes on for up to 20 s."""
        self._client.close()

    def _take(self, address: str, limit: int, hidden_s: int, wait_s: int) -> list[dict[str, Any]]:
        """At most ten raw messages, after at most one long poll."""
        with sqs_errors("receive"):
            answer = self._client.receive_message(
                QueueUrl=address,
                MaxNumberOfMessages=min(_BATCH, limit),
                VisibilityTimeout=hidden_s,
                WaitTimeSeconds=min(POLL_S, wait_s),
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _hold(self, message: Message, seconds: int) -> bool:
        """The lease ends after `seconds` from now. False when it has ended already."""
        if not self._is_held(message):
            return False
        began = time.monotonic()
        change = self._client.change_message_visibility
        if not self._is_accepted("hold", change, ReceiptHandle=message.receipt, VisibilityTimeout=seconds):
            self._forget(message)
            return False
        with self._lock:
            self._ends[message.receipt] = began + seconds
        return True

    def _let_go(self, message: Message, seconds: int) -> bool:
        """The message comes again after `seconds`. False when its lease has ended already."""
        is_held = self._hold(message, seconds)
        if is_held:
            self._forget(message)
        return is_held

    def _is_accepted(self, action: str, call: Any, **fields: Any) -> bool:
        """False when SQS says that the receipt is not good any more."""
        try:
            with sqs_errors(action):
                call(QueueUrl=self._address, **fields)
        except SqsRefused as exc:
            if exc.data["sqs_code"] not in _LOST:
                raise
            return False
        return True

    def _remember(self, raw: list[dict[str, Any]]) -> None:
        """Notes the new leases and drops those that ended, so that the notes do not grow."""
        now = time.monotonic()
        with self._lock:
            self._ends = {receipt: end for receipt, end in self._ends.items() if end > now}
            self._ends |= {one["ReceiptHandle"]: now + self._lease_s for one in raw}

    def _is_held(self, message: Message) -> bool:
        with self._lock:
            return self._ends.get(message.receipt, -math.inf) > time.monotonic()

    def _forget(self, message: Message) -> None:
        with self._lock:
            self._ends.pop(message.receipt, None)

    def _send(self, bodies: Sequence[str]) -> None:
        """One request, and up to two more for the entries that SQS did not take."""
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        for pause_s in (*_SEND_PAUSES_S, None):
            failed = self._send_once(entries)
            if not failed:
                return
            log.warning("queue_send_failed entries=%d codes=%s", len(failed), sorted(set(failed.values())))
            if bad := _BAD_MESSAGE.intersection(failed.values()):
                raise QueueMessageError(_BAD_TEXT.format(min(bad)))
            entries = [entry for entry in entries if entry["Id"] in failed]
            if pause_s is not None:
                time.sleep(pause_s)
        message = f"The queue did not take {len(entries)} of {len(bodies)} messages. Send them again."
        raise QueueUnavailable(message, retry_after_s=OUTAGE_RETRY_S)

    def _send_once(self, entries: list[dict[str, str]]) -> dict[str, str]:
        """The code of each entry that SQS refused, by the entry's id."""
        try:
            with sqs_errors("send"):
                answer = self._client.send_message_batch(QueueUrl=self._address, Entries=entries)
        except SqsRefused as exc:
            if (code := exc.data["sqs_code"]) not in _BAD_MESSAGE:
                raise
            raise QueueMessageError(_BAD_TEXT.format(code)) from exc
        return {entry["Id"]: short_code(entry.get("Code", "")) for entry in answer.get("Failed", ())}

    def _delete_all(self, address: str, receipts: list[str]) -> None:
        for chunk in _chunks(receipts):
            entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(chunk)]
            with sqs_errors("delete"):
                answer = self._client.delete_message_batch(QueueUrl=address, Entries=entries)
            if failed := answer.get("Failed", ()):
                log.warning("queue_redriven_twice entries=%d: sent, but still dead letters", len(failed))

    def _give_back(self, address: str, receipts: list[str]) -> None:
        """Those that SQS does not take back come back by themselves within seconds."""
        for chunk in _chunks(receipts):
            entries = [
                {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                for number, receipt in enumerate(chunk)
            ]
            with sqs_errors("hold"):
                self._client.change_message_visibility_batch(QueueUrl=address, Entries=entries)

    def _attributes(self, address: str) -> dict[str, str]:
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        with sqs_errors("inspect"):
            answer = self._client.get_queue_attributes(QueueUrl=address, AttributeNames=[*names, "RedrivePolicy"])
        attributes: dict[str, str] = answer.get("Attributes", {})
        return attributes

    def _dead_address(self, attributes: Mapping[str, str]) -> str | None:
        """The DLQ's URL: it has the queue's account and region, so only the name differs. None without a policy."""
        policy = json.loads(attributes.get("RedrivePolicy") or "{}")
        if not self._is_policy_checked:
            self._is_policy_checked = True
            self._say_policy(policy)
        arn = policy.get("deadLetterTargetArn")
        return f"{self._address.rsplit('/', 1)[0]}/{arn.rsplit(':', 1)[1]}" if arn else None

    def _say_policy(self, policy: Mapping[str, Any]) -> None:
        count = policy.get("maxReceiveCount")
        if count is None:
            log.warning("queue_without_redrive_policy: what cannot be done comes back until SQS drops it by age")
        elif int(count) < LEASES_MOST:
            log.warning(
                "queue_policy_is_short maxReceiveCount=%s: deaths of workers count, advised is %d", count, LEASES_MOST
            )


def _whole_seconds(seconds: float) -> int:
    return math.ceil(seconds)


def _message(raw: Mapping[str, Any]) -> Message:
    receives = _attempt(raw)
    return Message(raw["MessageId"], raw["Body"], receives, raw["ReceiptHandle"], receives)


def _attempt(raw: Mapping[str, Any]) -> int:
    return int(raw.get("Attributes", {}).get("ApproximateReceiveCount", 1))


def _sent_at(raw: Mapping[str, Any]) -> float:
    """Seconds since 1970; SQS counts milliseconds."""
    return int(raw.get("Attributes", {}).get("SentTimestamp", 0)) / 1000


def _count(attributes: Mapping[str, str], kind: str) -> int:
    return int(attributes.get(f"ApproximateNumberOfMessages{kind}", 0))


def _chunks(items: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def _batches(bodies: Sequence[str], sizes: Sequence[int]) -> Iterator[list[str]]:
    """Groups of at most ten that together fit into one request; a longer body goes alone."""
    batch: list[str] = []
    room = BODY_BYTES
    for body, size in zip(bodies, sizes, strict=True):
        if batch and (len(batch) == _BATCH or size > room):
            yield batch
            batch, room = [], BODY_BYTES
        batch.append(body)
        room -= size
    if batch:
        yield batch
