"""One message: what it asks for, who does it, and what shall become of it.

What it is not: it receives, extends and acks nothing (consumer.py), and works on no photo itself (item.py). One worker
serves all messages of a process.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mattehorn import telemetry
from mattehorn.bulk.job_spec import JobSpec
from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.listing import list_input
from mattehorn.bulk.messages import JobWork, Notification, ObjectWork, parse_message
from mattehorn.bulk.patience import Border, Patience, Permit, PhotoRunner
from mattehorn.bulk.places import Place, Places, refuse_loop
from mattehorn.bulk.plan import SOURCE_BYTES, Accounts, CutOut, Plan, free
from mattehorn.bulk.shard import ShardTools, ShardWork
from mattehorn.bulk.verdict import Verdict
from mattehorn.bulk.webhook import Webhook
from mattehorn.errors import EventError, MattehornError, NotFound, OptionError
from mattehorn.queue.interface import Message, Queue
from mattehorn.recipe.recipe import Recipe, find_recipe
from mattehorn.recipe.result_keys import needs_job

log = logging.getLogger(__name__)

T = TypeVar("T")

SPARE_THREADS = 4  # listings and shards' own objects, beside the photos
PLANS_KEPT = 256


@dataclass(frozen=True)
class Route:
    """What happens to photos that a store's notification names: those under `source` go by `recipe` to `output`."""

    source: Place
    recipe: Recipe
    output: Place


@dataclass(frozen=True)
class WorkerSettings:
    """`model`: keys.service_digest() of what runs. `in_flight`: photos at once. `max_receive`: the queue's."""

    model: str
    in_flight: int = 8
    max_receive: int = 5
    item_s: float = 120.0
    max_source_bytes: int = SOURCE_BYTES
    patience: Patience = field(default_factory=Patience)


async def always() -> None:
    """The permit where nothing goes before bulk work."""


class Worker:
    """Does what messages ask for. `permit` is awaited before each photo: it may hold bulk work back for a while.
    `accounts` knows who pays for a job's photos; those of events are the operator's own."""

    def __init__(
        self,
        jobs: Jobs,
        queue: Queue,
        cut_out: CutOut,
        settings: WorkerSettings,
        *,
        routes: Sequence[Route] = (),
        permit: Permit = always,
        webhook: Webhook | None = None,
        accounts: Accounts = free,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises OptionError for a route whose results would come in as photos again."""
        check_routes(routes, jobs.places)
        self._jobs, self._queue, self._settings, self._routes = jobs, queue, settings, tuple(routes)
        self._places: Places = jobs.places
        self._webhook = webhook or Webhook(None)
        self._accounts = accounts
        self._threads = ThreadPoolExecutor(settings.in_flight + SPARE_THREADS, thread_name_prefix="bulk-store")
        self._runner = PhotoRunner(
            self._places,
            cut_out,
            in_flight=settings.in_flight,
            threads=self._threads,
            permit=permit,
            patience=settings.patience,
            item_s=settings.item_s,
        )
        self._shard_tools = ShardTools(
            self._runner, self._in_thread, settings.patience, settings.in_flight, settings.max_receive, clock
        )
        self._plan = functools.lru_cache(PLANS_KEPT)(self._make_plan)
        self.permit = permit

    async def handle(self, message: Message, border: Border) -> Verdict:
        """What shall become of the message. Faults of its photos end as results, errors or another attempt; it raises
        only what nobody foresaw."""
        try:
            work = parse_message(message.body)
            if isinstance(work, Notification):
                return await self._notification(work, message, border)
            if isinstance(work, ObjectWork):
                return await self._object(work, message, border)
            return await self._job(work, message, border)
        except (EventError, NotFound, OptionError) as error:  # no message of ours names what is not there
            return Verdict.poison(f"{error.code}: {error.message}")
        except MattehornError as error:
            return self._later(message, error)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _notification(self, work: Notification, message: Message, border: Border) -> Verdict:
        found = []
        ignored = len(work.ignored)
        for ref in work.objects:
            route = next((route for route in self._routes if route.source.covers(ref.bucket, ref.key)), None)
            if route is None or ref.key.endswith("/"):  # a folder's marker is no photo
                ignored += 1
            else:
                plan = self._plan_of(route.recipe, route.output)
                found.append(self._runner.run(ref, plan, border, follow=False))
        telemetry.add(telemetry.BULK_ITEMS, ignored, outcome="ignored")
        results = await asyncio.gather(*found, return_exceptions=True)
        return self._after(message, [result for result in results if isinstance(result, BaseException)])

    async def _object(self, work: ObjectWork, message: Message, border: Border) -> Verdict:
        if work.job is not None and await self._in_thread(self._jobs.is_cancelled, work.job):
            telemetry.add(telemetry.BULK_ITEMS, outcome="cancelled")
            return Verdict.ack()
        plan = self._plan(work.recipe, work.output, json.dumps(work.options, sort_keys=True))
        results = await asyncio.gather(self._runner.run(work.ref, plan, border, follow=False), return_exceptions=True)
        return self._after(message, [result for result in results if isinstance(result, BaseException)])

    def _after(self, message: Message, faults: list[BaseException]) -> Verdict:
        for fault in faults:
            if not isinstance(fault, Exception):
                raise fault
        return self._later(message, faults[0]) if faults else Verdict.ack()

    def _later(self, message: Message, error: BaseException) -> Verdict:
        said = f"{error.code}: {error.message}" if isinstance(error, MattehornError) else type(error).__name__
        return Verdict.retry(self._settings.patience.for_message(message.attempt), said)

    async def _job(self, work: JobWork, message: Message, border: Border) -> Verdict:
        spec: JobSpec = await self._in_thread(self._jobs.spec, work.job)
        if work.kind == "webhook":
            return await self._tell(work.job)
        if await self._in_thread(self._jobs.is_cancelled, work.job):
            return Verdict.ack()
        if work.kind == "listing":
            return await self._list(spec, message, border)
        assert work.shard is not None  # messages.parse_message has seen to it
        plan = self._plan_of(spec.recipe, spec.output, spec)
        state = self._jobs.state(spec.id)
        shard = ShardWork(
            self._shard_tools, spec, plan, state, work.shard, message.attempt, border, came_back=message.came_back
        )
        verdict = await shard.run()
        if verdict.kind == "ack":
            await self._in_thread(lambda: self._jobs.finish(spec.id, again=message.came_back))
        return verdict

    async def _list(self, spec: JobSpec, message: Message, border: Border) -> Verdict:
        state = self._jobs.state(spec.id)

        def should_stop() -> bool:
            return border.over() or self._jobs.is_cancelled(spec.id)

        try:
            ended = await self._in_thread(list_input, spec, state, self._places, self._queue, should_stop)
        except (OptionError, NotFound) as error:
            await self._in_thread(self._jobs.fail, spec.id, error)
            return Verdict.ack()
        if not ended:
            return Verdict.again()
        await self._in_thread(lambda: self._jobs.finish(spec.id, again=message.came_back))
        return Verdict.ack()

    async def _tell(self, job: str) -> Verdict:
        try:
            await self._in_thread(self._webhook.deliver, self._jobs, job)
        except OptionError as error:
            log.warning("bulk_webhook_refused job=%s reason=%s", job, error.message)
        return Verdict.ack()

    def _make_plan(self, recipe: str, output: str, options: str) -> Plan:
        """The plan of an object message. Raises OptionError."""
        chosen = find_recipe(recipe, self._jobs.recipes).with_options(json.loads(options))
        _require_no_job(chosen)
        return self._plan_of(chosen, self._places.parse(output, "output").folder)

    def _plan_of(self, recipe: Recipe, output: Place, spec: JobSpec | None = None) -> Plan:
        account = self._accounts(spec.owner.tenant) if spec else None
        most = self._settings.max_source_bytes
        own = account.source_bytes if account else None
        return Plan(
            recipe,
            output,
            self._settings.model,
            job=spec.id if spec else None,
            run=spec.run if spec else None,
            max_source_bytes=most if own is None else min(most, own),
            account=account,
        )

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def check_routes(routes: Sequence[Route], places: Places) -> None:
    """Raises OptionError when results of any route could come in by any route, or its recipe needs a job."""
    for route in routes:
        _require_no_job(route.recipe)
        if places.is_state(route.output.bucket, route.output.key):
            raise OptionError(f"The output {route.output} lies among the service's own state.", field="output")
        for other in routes:
            refuse_loop(other.source, route.output)


def _require_no_job(recipe: Recipe) -> None:
    if needs_job(recipe.key_template):
        raise OptionError(
            f"The recipe {recipe.id} has {{job}} or {{run}} in its key template; single photos have neither.",
            field="recipe",
        )
