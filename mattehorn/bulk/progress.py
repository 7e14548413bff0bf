"""How far a job is: counts, the measured rate and what is left, from a few listings and small objects.

What it is not: it changes nothing. Any process may ask; what can never change again (a done shard's counts, a part's)
is read once per process. Called by jobs.py.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from mattehorn.bulk import manifest
from mattehorn.bulk.job_spec import JobSpec
from mattehorn.bulk.manifest import Tally
from mattehorn.bulk.state import JobState, done_name, part_name

State = Literal["queued", "listing", "running", "succeeded", "failed", "cancelled"]
ENDED = frozenset(("succeeded", "failed", "cancelled"))
RECENT_S = 300.0  # the rate is measured over the last results of so long, so that a night's stop is not counted
JOBS_KEPT = 64  # whose counts a process remembers


@dataclass(frozen=True)
class Progress:
    """`total` is what was listed so far; None rates: not known yet. `failed` names the first of `failed_count`."""

    id: str
    state: State
    total: int
    tally: Tally
    created_at: str
    finished_at: str | None = None
    eta_s: float | None = None
    failed: tuple[dict[str, str], ...] = ()
    complete: bool = False  # every photo has its result, whether or not somebody has written finished.json

    def document(self) -> dict[str, Any]:
        """The body of `GET /v1/jobs/{id}`."""
        worked, seconds = self.tally.worked, self.tally.seconds
        return {
            "id": self.id,
            "state": self.state,
            "total": self.total,
            "done": self.tally.done,
            "success": self.tally.success,
            "skipped": self.tally.skipped,
            "review": self.tally.review,
            "failed": [*self.failed, *(dict(failure) for failure in self.tally.failures)],
            "seconds_per_image": round(seconds / worked, 3) if worked else None,
            "eta_s": None if self.eta_s is None else round(self.eta_s, 1),
            "created_at": self.created_at,
            "finished_at": self.finished_at,
        }


@dataclass
class _Seen:
    """What a process knows of a job for good."""

    listing: dict[str, Any] | None = None
    shards: dict[int, Tally] = field(default_factory=dict)
    parts: dict[tuple[int, int], Tally] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    answer: Progress | None = None
    answered: float = 0.0


class ProgressReader:
    """Reads jobs' progress; one per process, shared by its threads."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, spec: JobSpec, state: JobState, *, all_done: bool = False, max_age_s: float = 0.0) -> Progress:
        """Five small requests, one per 500 shards, and one per part or shard that ended since the last call.

        `all_done`: the caller knows that every shard is done, even if a listing that lags does not show it yet.
        `max_age_s`: an answer no older than that is given again.
        """
        seen = self._seen(spec.id)
        with seen.lock:
            if seen.answer is None or time.monotonic() - seen.answered >= max_age_s:
                seen.answer, seen.answered = self._read(spec, state, seen, all_done), time.monotonic()
            return seen.answer

    def _read(self, spec: JobSpec, state: JobState, seen: _Seen, all_done: bool) -> Progress:
        finished = state.read_json("finished.json")
        if finished is not None and "tally" in finished:
            return _from_finished(spec, finished)
        placed, done = state.shards()
        seen.listing = seen.listing or state.read_json("listing.done")
        if all_done and seen.listing is not None:
            done = set(range(seen.listing["shards"]))
        tallies = [*self._shards(seen, state, done), *self._parts(seen, state, done)]
        total = _total(spec, seen.listing, placed)
        counts = _sum(tallies)
        if finished is not None:
            return Progress(spec.id, finished["state"], total, counts, spec.created_at, finished["finished_at"])
        complete = seen.listing is not None and len(done) >= seen.listing["shards"]
        name: State = "running" if seen.listing else "listing" if placed else "queued"
        eta_s = _eta(tallies, total - counts.done) if seen.listing else None
        return Progress(spec.id, name, total, counts, spec.created_at, eta_s=eta_s, complete=complete)

    def _seen(self, job: str) -> _Seen:
        with self._lock:
            seen = self._jobs.setdefault(job, _Seen())
            self._jobs.move_to_end(job)
            if len(self._jobs) > JOBS_KEPT:
                self._jobs.popitem(last=False)
            return seen

    def _shards(self, seen: _Seen, state: JobState, done: set[int]) -> Iterable[Tally]:
        for shard in sorted(done - set(seen.shards)):
            document = state.read_json(done_name(shard))
            if document is not None:
                seen.shards[shard] = manifest.tally_from(document)
        return [seen.shards[shard] for shard in sorted(seen.shards)]

    def _parts(self, seen: _Seen, state: JobState, done: set[int]) -> Iterable[Tally]:
        """Of shards at work. A part that has just gone belongs to a shard that is now done: counted next time."""
        lying = [name for name in state.parts() if name[0] not in done]
        seen.parts = {name: tally for name, tally in seen.parts.items() if name[0] not in done}
        for name in lying:
            if name not in seen.parts:
                data = state.read(part_name(*name))
                if data is not None:
                    seen.parts[name] = manifest.tally(manifest.decode(data))
        return [seen.parts[name] for name in sorted(seen.parts)]


def final_document(state: State, finished_at: str, progress: Progress) -> dict[str, Any]:
    """What finished.json says of a job that came to its end; read back by ProgressReader in one request."""
    return {
        "state": state,
        "finished_at": finished_at,
        "total": progress.total,
        "tally": progress.tally.document(),
        "failed": list(progress.failed),
    }


def _from_finished(spec: JobSpec, finished: dict[str, Any]) -> Progress:
    return Progress(
        spec.id,
        finished["state"],
        finished["total"],
        manifest.tally_from(finished["tally"]),
        spec.created_at,
        finished["finished_at"],
        failed=tuple(finished["failed"]),
        complete=True,
    )


def _total(spec: JobSpec, listing: dict[str, Any] | None, placed: set[int]) -> int:
    """Only the last shard may be short, and `listing.done` follows it."""
    if listing is not None:
        return int(listing["total"])
    return spec.total if spec.total is not None else len(placed) * spec.shard_keys


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total += tally
    return total


def _eta(tallies: list[Tally], left: int) -> float | None:
    """Seconds for `left` photos at the rate of the last results; None before there are any."""
    if left <= 0:
        return 0.0
    newest = max((tally.last_at for tally in tallies), default=0.0)
    recent = [tally for tally in tallies if tally.done and tally.last_at >= newest - RECENT_S]
    took = newest - min((tally.first_at for tally in recent), default=newest)
    done = sum(tally.done for tally in recent)
    return left * took / done if done and took > 0 else None
