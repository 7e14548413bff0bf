"""A job's results as lines: one JSON object per photo, and the counts that follow from them.

What it is not: it knows no store; jobs.py places the lines. A line is {source, version, status, output, sha256, size,
width, height, model, subject, quality, timings_ms, cost, seconds, at} and, where the photo failed, `error` {code,
reason}; where its result is to be reviewed, `review` true.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from mattehorn.bulk.places import Place
from mattehorn.bulk.plan import Outcome
from mattehorn.errors import MattehornError
from mattehorn.events import ObjectRef

FAILED_SHOWN = 1000  # in answers; the manifest has all
WAITING_STAGES = frozenset(("queue", "total"))  # no work of this photo


@dataclass(frozen=True)
class Tally:
    """Counts over lines. `seconds` over the `worked`, which were computed for the line itself; `first_at` and `last_at`
    are Unix times, 0 without lines."""

    success: int = 0
    skipped: int = 0
    failed: int = 0
    worked: int = 0
    seconds: float = 0.0
    first_at: float = 0.0
    last_at: float = 0.0
    failures: tuple[Mapping[str, str], ...] = ()
    review: int = 0  # of success and skipped

    @property
    def done(self) -> int:
        return self.success + self.skipped + self.failed

    def __add__(self, other: Tally) -> Tally:
        if not self.done or not other.done:
            return self if self.done else other
        return Tally(
            self.success + other.success,
            self.skipped + other.skipped,
            self.failed + other.failed,
            self.worked + other.worked,
            self.seconds + other.seconds,
            min(self.first_at, other.first_at),
            max(self.last_at, other.last_at),
            (self.failures + other.failures)[:FAILED_SHOWN],
            self.review + other.review,
        )

    def document(self) -> dict[str, Any]:
        return {
            "success": self.success,
            "skipped": self.skipped,
            "failed": self.failed,
            "worked": self.worked,
            "seconds": round(self.seconds, 3),
            "first_at": round(self.first_at, 3),
            "last_at": round(self.last_at, 3),
            "failures": [dict(failure) for failure in self.failures],
            "review": self.review,
        }


def tally_from(document: Mapping[str, Any]) -> Tally:
    """The tally that `document()` wrote, of this release or an older one, which counted no reviews."""
    values = {item.name: document[item.name] for item in fields(Tally) if item.name in document}
    return Tally(**values | {"failures": tuple(document["failures"])})


def line(outcome: Outcome, output_bucket: str, at: float) -> dict[str, Any]:
    """The manifest's line of one photo, finished at `at` (Unix time)."""
    made = outcome.status in ("done", "skipped")
    entry: dict[str, Any] = {
        "source": str(Place(outcome.ref.bucket, outcome.ref.key)),
        "version": outcome.version or None,
        "status": "done" if outcome.own else outcome.status if made else "failed",
        "output": str(Place(output_bucket, outcome.output)) if made and outcome.output else None,
        "sha256": outcome.sha256,
        "size": outcome.size,
        "width": outcome.width,
        "height": outcome.height,
        "model": outcome.model,
        "subject": outcome.subject,
        "quality": outcome.quality,
        "timings_ms": {stage: round(ms, 1) for stage, ms in outcome.timings_ms.items()},
        "cost": _cost(outcome),
        "seconds": round(outcome.seconds, 3),
        "at": round(at, 3),
    }
    if made and outcome.review:
        entry["review"] = True
    if not made:
        entry["error"] = {"code": outcome.code, "reason": outcome.reason}
    return entry


def gave_up(ref: ObjectRef, error: BaseException, attempts: int, at: float) -> dict[str, Any]:
    """The line of a photo that failed again and again for a reason that might have passed."""
    code = error.code if isinstance(error, MattehornError) else "internal"
    said = error.message if isinstance(error, MattehornError) else type(error).__name__
    reason = f"Given up after {attempts} attempts: {said}"
    outcome = Outcome(ref, "error", ref.version_id or ref.etag or "", code=code, reason=reason)
    return line(outcome, "", at)


def encode(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for entry in lines)


def decode(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(text) for text in data.split(b"\n") if text]


def tally(lines: Iterable[Mapping[str, Any]]) -> Tally:
    """The counts over `lines`."""
    total = Tally()
    for entry in lines:
        status, at, worked = entry["status"], entry["at"], entry["cost"] is not None
        total += Tally(
            success=int(status == "done"),
            skipped=int(status == "skipped"),
            failed=int(status == "failed"),
            worked=int(worked),
            seconds=entry["seconds"] if worked else 0.0,
            first_at=at - entry["seconds"],
            last_at=at,
            failures=(failure(entry),) if status == "failed" else (),
            review=int(entry.get("review", False)),
        )
    return total


def failure(entry: Mapping[str, Any]) -> dict[str, str]:
    """A failed line as the API shows it."""
    error = entry["error"]
    return {"file": str(entry["source"]), "error": f"{error['code']}: {error['reason']}"}


def _cost(outcome: Outcome) -> dict[str, float] | None:
    """What the photo cost: its megapixels, and seconds of work in all stages; None where nothing was computed."""
    if outcome.status != "done":
        return None
    worked = sum(ms for stage, ms in outcome.timings_ms.items() if stage not in WAITING_STAGES)
    return {
        "megapixels": round((outcome.width or 0) * (outcome.height or 0) / 1e6, 3),
        "compute_s": round(worked / 1000, 4),
    }
