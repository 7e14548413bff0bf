"""Jobs: made, looked at, cancelled, taken up again, ended. All their state is objects in the results store (state.py).

What it is not: it works on no photo (shard.py) and lists no input (listing.py). Called by the HTTP API, the command
line and the worker; every call blocks, and any process may make any of them at any time.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mattehorn.bulk import messages
from mattehorn.bulk.job_spec import NOBODYS, JobSpec, Owner, parse_request
from mattehorn.bulk.places import JOBS, UPLOADS, Places
from mattehorn.bulk.progress import ENDED, Progress, ProgressReader, final_document
from mattehorn.bulk.state import JobState, done_name
from mattehorn.errors import MattehornError, NotFound, OptionError
from mattehorn.queue.interface import Queue
from mattehorn.recipe.recipe import Recipe
from mattehorn.store.key_template import clean_stem
from mattehorn.store.records import ID_FORM, new_id

SPECS_KEPT = 256  # specs never change
HEADS_MOST = 16  # a listing may lag behind (Swift); so few missing shards are asked for one by one
SEND_AT_ONCE = 1000  # messages


class Jobs:
    """The jobs of one results store and one queue. Threads may share it."""

    def __init__(
        self,
        places: Places,
        queue: Queue,
        *,
        check_webhook: Callable[[str], None] | None = None,
        recipes: Sequence[Recipe] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`check_webhook` is Webhook.check_url, which raises OptionError for an address that may not be called; without
        it no job may have a webhook. `recipes` are the operator's own."""
        self.places, self.recipes = places, tuple(recipes)
        self._queue = queue
        self._check_webhook = check_webhook or _no_webhooks
        self._clock = clock
        self._reader = ProgressReader()
        self._spec = functools.lru_cache(SPECS_KEPT)(self._read_spec)

    def new_id(self) -> str:
        """An id for `submit`, for a caller that has to place uploads first. Later ids sort first."""
        return new_id(self._moment())

    def upload_key(self, job: str, number: int, name: str) -> str:
        """Where the upload `number` of a request is kept, as a key of the results store; also its `input.keys` text."""
        suffix = re.search(r"\.[A-Za-z0-9]{1,8}$", name)
        return f"{UPLOADS}{job}/{number:05d}_{clean_stem(name)}{suffix[0].lower() if suffix else ''}"

    def submit(self, body: Mapping[str, Any], *, job: str | None = None, owner: Owner = NOBODYS) -> JobSpec:
        """Makes a job of `owner` from the JSON of `POST /v1/jobs`; it is durable and queued when this returns.

        Raises OptionError and its kinds, StoreUnavailable, QueueUnavailable.
        """
        created_at = self._moment().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        spec, keys = self.parse(body, job=job or self.new_id(), created_at=created_at, owner=owner)
        if spec.webhook_url is not None:
            self._check_webhook(spec.webhook_url)
        state = self.state(spec.id)
        if spec.kind == "keys":
            lines = "".join(json.dumps(key) + "\n" for key in keys)
            state.create("input.jsonl", lines.encode("ascii"))
        state.create_json("spec.json", spec.document())
        self._queue.send_many([messages.listing_message(spec.id)])
        return spec

    def parse(
        self, body: Mapping[str, Any], *, job: str, created_at: str, owner: Owner = NOBODYS
    ) -> tuple[JobSpec, tuple[str, ...]]:
        """(the spec, inline keys) of a request's JSON, with the recipes that there are. Raises OptionError."""
        return parse_request(body, self.places, job=job, created_at=created_at, owner=owner, recipes=self.recipes)

    def spec(self, job: str) -> JobSpec:
        """Raises NotFound, also for what can be no id."""
        return self._spec(job)

    def state(self, job: str) -> JobState:
        return JobState(self.places.home, job)

    def progress(self, job: str, *, max_age_s: float = 0.0) -> Progress:
        """How far the job is; ends it when all is done and its last worker died before it could. Raises NotFound.

        `max_age_s`: an answer of this process that is no older will do, so that many watchers cost no more than one.
        """
        spec, state = self.spec(job), self.state(job)
        progress = self._reader.read(spec, state, max_age_s=max_age_s)
        if progress.complete and progress.state not in ENDED and self.finish(job):
            progress = self._progress(spec, state)
        return progress

    def ids(self, limit: int = 50, after: str | None = None) -> Iterator[str]:
        """Ids of jobs, the latest first, after the id `after`."""
        for number, name in enumerate(self.places.home.folders(JOBS, after)):
            if number >= limit:
                return
            yield name

    def cancel(self, job: str) -> Progress:
        """Stops the job: no further photo is begun once its workers have seen it, within seconds. Harmless when it has
        ended already."""
        spec, state = self.spec(job), self.state(job)
        if not state.exists("finished.json"):
            now = self._now()
            state.create_json("cancel", {"at": now})
            if state.create_json("finished.json", {"state": "cancelled", "finished_at": now}):
                self._announce(spec)
        return self._progress(spec, state)

    def is_cancelled(self, job: str) -> bool:
        return self.state(job).exists("cancel")

    def finish(self, job: str, *, again: bool = False) -> bool:
        """Ends the job when every shard is done; False when it is not. `again`: the caller's message came once more, so
        whoever ended it may have died before the webhook was queued."""
        spec, state = self.spec(job), self.state(job)
        if not self._all_done(state):
            return False
        won = False
        if not state.exists("finished.json"):
            progress = self._progress(spec, state, all_done=True)
            won = state.create_json("finished.json", final_document("succeeded", self._now(), progress))
        if won or again:
            self._announce(spec)
        return True

    def fail(self, job: str, error: MattehornError) -> None:
        """Ends the job as failed: its input cannot be listed. What was listed already is not begun."""
        spec, state = self.spec(job), self.state(job)
        state.create_json("cancel", {"at": self._now()})
        progress = self._progress(spec, state)
        file = str(spec.source) if spec.source is not None else "input.keys"
        said = {"file": file, "error": f"{error.code}: {error.message}"}
        document = final_document("failed", self._now(), progress) | {"failed": [said]}
        if state.create_json("finished.json", document):
            self._announce(spec)

    def resume(self, job: str) -> int:
        """Queues what an unfinished job still needs, for a queue that was lost; how many messages. Messages that are
        still there, too, do no harm: their work is found done."""
        state = self.state(job)
        self.spec(job)
        if state.exists("finished.json") or self.finish(job, again=True):
            return 0
        placed, done = state.shards()
        bodies = [messages.shard_message(job, shard) for shard in sorted(placed - done)]
        if not state.exists("listing.done"):
            bodies.append(messages.listing_message(job))
        for start in range(0, len(bodies), SEND_AT_ONCE):
            self._queue.send_many(bodies[start : start + SEND_AT_ONCE])
        return len(bodies)

    def _all_done(self, state: JobState) -> bool:
        listing = state.read_json("listing.done")
        if listing is None:
            return False
        missing = set(range(listing["shards"])) - state.shards()[1]
        return len(missing) <= HEADS_MOST and all(state.exists(done_name(shard)) for shard in missing)

    def _announce(self, spec: JobSpec) -> None:
        if spec.webhook_url is not None and not self.state(spec.id).exists("webhook.done"):
            self._queue.send_many([messages.webhook_message(spec.id)])

    def _progress(self, spec: JobSpec, state: JobState, *, all_done: bool = False) -> Progress:
        return self._reader.read(spec, state, all_done=all_done)

    def _read_spec(self, job: str) -> JobSpec:
        document = self.state(job).read_json("spec.json") if ID_FORM.fullmatch(job) else None
        if document is None:
            raise no_job()
        return JobSpec.read(document)

    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _now(self) -> str:
        return self._moment().isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _no_webhooks(url: str) -> None:
    raise OptionError("webhook_url is not possible here: this service tells no webhooks.", field="webhook_url")


def no_job() -> NotFound:
    """The one answer to an id that is none, or is another tenant's."""
    return NotFound("There is no job with this id. Ids come in the answer to POST /v1/jobs.")
