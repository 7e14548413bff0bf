"""What shall become of a message: the one answer that its work gives to the loop around the queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self


@dataclass(frozen=True)
class Verdict:
    """ack: done, remove it. retry: give it back, which counts as an attempt. again: queue a fresh copy, then ack.
    poison: it can never be done; the queue makes it a dead letter with `reason`."""

    kind: Literal["ack", "retry", "again", "poison"]
    delay_s: float = 0.0
    reason: str = ""

    @classmethod
    def ack(cls) -> Self:
        return cls("ack")

    @classmethod
    def again(cls) -> Self:
        return cls("again")

    @classmethod
    def retry(cls, delay_s: float, reason: str) -> Self:
        return cls("retry", delay_s, reason)

    @classmethod
    def poison(cls, reason: str) -> Self:
        return cls("poison", 0.0, reason)
