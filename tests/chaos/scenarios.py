"""The faults that bulk work has to survive, each over photos of its own, and what must hold after each."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import PurePath

import psutil

from mattehorn.bulk.job_results import manifest_lines
from mattehorn.bulk.job_spec import JobSpec
from tests.bulk_bench import POISON, POISON_CODES
from tests.chaos.proxy import FaultProxy, Mode
from tests.chaos.world import (
    OUTPUT,
    PHOTOS,
    QUIET_WITHIN_S,
    RESULTS,
    SOURCE,
    World,
    kill_all,
    source,
    sources,
    wait_until,
)
from tests.ray.running import Running

RECIPE = "transparent-web@1"
KILLS_LEAST = 10
MET_WITHIN_S = 60
MUST_BE = ("left to do", "requests met")  # counts that are to be more than 0
DEPLOYMENTS = ("Bulk", "Compose", "Matting")


@dataclass
class Run:
    """One scenario over one world: what was put in, what happened, and what came out."""

    world: World
    name: str
    images: int
    rng: random.Random
    service: Running | None = None
    kills: int | None = None  # None: as many as the scenario asks for
    kills_least: int = 0
    good: list[str] = field(default_factory=list)
    poison: list[str] = field(default_factory=list)
    jobs: list[JobSpec] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    dead_before: int = 0
    within_s: float = QUIET_WITHIN_S
    gave_up: bool = False

    def add(self) -> None:
        """Good photos, and all kinds of bad ones."""
        self.dead_before = self.world.queue.depth().dead
        self.good = self.world.add_photos(self.name, self.images)
        for name, data in POISON.items():
            key = f"{SOURCE}{self.name}/{name}"
            self.world.put(key, data)
            self.poison.append(key)

    def send(self, keys: list[str], times: int = 1) -> None:
        """Events of `keys`, each `times` times, in any order."""
        self.send_bodies([self.world.event(key) for key in keys] * times)

    def send_bodies(self, bodies: list[str]) -> None:
        self.rng.shuffle(bodies)
        self.world.queue.send_many(bodies)
        self.happened["events"] += len(bodies)

    def submit(self) -> JobSpec:
        """A job over all photos, into the same place as their events' results."""
        body = {
            "input": {"prefix": f"s3://{PHOTOS}/{SOURCE}{self.name}/"},
            "output": f"s3://{RESULTS}/{OUTPUT}",
            "recipe": RECIPE,
        }
        self.jobs.append(self.world.jobs.submit(body))
        return self.jobs[-1]

    def meet(self, proxy: FaultProxy, mode: Mode, seconds: float) -> None:
        """The fault, for `seconds` and, after a kill, until somebody is there again to meet it."""
        before = proxy.failed
        with proxy.fault(mode, seconds):
            wait_until(lambda: proxy.failed > before or self.world.is_quiet(), MET_WITHIN_S)
        self.happened.update({f"requests met {mode}": proxy.failed - before})

    def note_stop(self, stop: str, done_is_well: bool = False) -> None:
        """What was not done when the service went; `done_is_well`: it may have been nothing."""
        left = len(self.good) - len(self.world.results(self.name))
        if left or not done_is_well:
            self.happened.update({f"left to do by the {stop}": left})
        self.happened[f"left leased by the {stop}"] = self.world.queue.depth().leased

    def wait_for(self, share: float) -> None:
        """Until about this share of the good photos has a result."""
        wanted = share * len(self.good)
        wait_until(lambda: len(self.world.results(self.name)) >= wanted, self.within_s)

    def missed(self) -> Iterator[str]:
        """Faults that were to happen and did not: they would prove nothing."""
        for what, number in self.happened.items():
            if not number and what.startswith(MUST_BE):
                yield f"{what}: none"
        killed = sum(number for what, number in self.happened.items() if what.startswith("killed"))
        if killed < self.kills_least:
            yield f"only {killed} processes were killed; the scenario asks for {self.kills_least}"

    def settle(self) -> bool:
        """Whether all was done within `within_s`, which is waited for once."""

        def ended() -> bool:
            return self.world.is_quiet() and all(
                self.world.jobs.progress(job.id).state == "succeeded" for job in self.jobs
            )

        self.gave_up = self.gave_up or not wait_until(ended, self.within_s)
        return not self.gave_up


class Killer(threading.Thread):
    """SIGKILLs `kills` replicas of the run's service at random, each kind as often, while there is work. It never ends
    what is no descendant of that service's own process."""

    def __init__(self, run: Run, kills: int) -> None:
        super().__init__(daemon=True)
        self._run, self._left, self._over = run, kills, threading.Event()

    def run(self) -> None:
        names: list[str] = []
        while self._left and not self._over.wait(self._run.rng.uniform(0.5, 3.0)):
            names = names or self._run.rng.sample(DEPLOYMENTS, len(DEPLOYMENTS))
            if not self._run.world.is_quiet() and self.kill_one(names[0]):
                names.pop(0)
                self._left -= 1

    def kill_one(self, name: str) -> bool:
        """A replica of the deployment `name`, now; False when there is none."""
        assert self._run.service is not None
        try:
            self._run.rng.choice(self._run.service.replicas(name)).kill()
        except (IndexError, psutil.NoSuchProcess):
            return False
        self._run.happened[f"killed {name}"] += 1
        return True

    def stop(self) -> None:
        self._over.set()
        self.join()


def events_thrice(run: Run) -> None:
    """Every event three times and out of order, and the bad photos' as well; a job finds its work done."""
    run.add()
    run.send([*run.good, *run.poison], times=3)
    run.submit()


def kills(run: Run) -> None:
    """Consumer, compose and matting are killed at random while events and a job are worked on."""
    run.add()
    half, run.kills_least = run.images // 2, KILLS_LEAST
    killer = Killer(run, run.kills or max(KILLS_LEAST, run.images // 25))
    run.send([*run.good[:half], *run.poison], times=2)
    run.submit()
    killer.start()
    try:
        run.settle()
    finally:
        killer.stop()


def store_away(run: Run) -> None:
    """The store answers 503 for a while, is slow for a while, and loses answers for a while."""
    run.add()
    run.send([*run.good[::2], *run.poison])
    run.submit()
    faults: tuple[tuple[Mode, float], ...] = (("refusing", 10), ("slow", 10), ("deaf", 5))
    for mode, seconds in faults:
        time.sleep(1)
        run.meet(run.world.store, mode, seconds)


def queue_away(run: Run) -> None:
    """The queue cannot be reached for a while, twice: in the middle of work, and with acks under way."""
    run.add()
    run.send([*run.good[::2], *run.poison])
    run.submit()
    for _ in range(2):
        time.sleep(1.5)
        run.meet(run.world.queue_proxy, "away", 10)


def changed_under_way(run: Run) -> None:
    """Photos are deleted or overwritten between their event and the read."""
    run.add()
    run.send_bodies(change(run, run.images // 3))
    run.submit()


def change(run: Run, share: int) -> list[str]:
    """Deletes `share` photos and overwrites as many; the events of all before that, and of the new ones."""
    before = [run.world.event(key) for key in run.good]
    deleted, overwritten = run.good[:share], run.good[share : 2 * share]
    for key in deleted:
        run.world.client.delete_object(Bucket=PHOTOS, Key=key)
    for key in overwritten:
        run.world.put(key)
    run.good = run.good[share:]
    run.happened.update(deleted=len(deleted), overwritten=len(overwritten))
    return [*before, *(run.world.event(key) for key in (*overwritten, *run.poison))]


def two_jobs(run: Run) -> None:
    """Two jobs over one prefix at once, and the events of the same photos."""
    run.add()
    run.submit()
    run.submit()
    run.send([*run.good, *run.poison])


SCENARIOS: dict[str, Callable[[Run], None]] = {
    "events-thrice": events_thrice,
    "kills": kills,
    "store-away": store_away,
    "queue-away": queue_away,
    "changed": changed_under_way,
    "two-jobs": two_jobs,
}


def stopped(run: Run, start: Callable[[], AbstractContextManager[Running]]) -> None:
    """A full stop in the middle, twice: in order (Ctrl-C), and as if the power went."""
    run.add()
    run.submit()
    run.send(run.good[: run.images // 2])
    with start():
        run.wait_for(0.25)
    run.note_stop("stop in order")
    with start() as service:
        run.wait_for(0.5)
        kill_all(service)
        run.note_stop("power cut")
    with start():
        run.settle()


def everything(run: Run, start: Callable[[], AbstractContextManager[Running]], *, whole: bool) -> None:
    """All faults over the same photos, shorter: what CI runs. Not `whole`: kills and the store's only; the queue's, and
    the power cut with the start after it, are the same whatever the store is."""
    run.add()
    run.kills_least = 1
    events = change(run, run.images // 10) * 3
    run.submit()
    run.submit()
    faults: list[tuple[FaultProxy, Mode, float]] = [
        (run.world.store, "refusing", 3),
        (run.world.store, "slow", 3),
        (run.world.store, "deaf", 2),
    ]
    with start() as service:
        run.service = service
        killer = Killer(run, 4)
        if whole:
            run.wait_for(0.05)
            killer.kill_one("Bulk")  # with the jobs' shards in its hands, which no event brings again
            faults.insert(0, (run.world.queue_proxy, "away", 3))
        run.send_bodies(events)
        killer.start()
        for proxy, mode, seconds in faults:
            run.meet(proxy, mode, seconds)
            time.sleep(0.5)
        if not whole:
            run.settle()
        killer.stop()
        if whole:
            kill_all(service)
            run.note_stop("power cut", done_is_well=True)  # a fast machine may be done by now
    if whole:
        with start():
            run.settle()


@dataclass(frozen=True)
class Result:
    """The counts after a scenario, and what does not hold."""

    counts: dict[str, int]
    problems: list[str]


def check(run: Run, *, exactly_one_create: bool) -> Result:
    """What must hold. `exactly_one_create`: else equal content of all creates is enough (Swift)."""
    world, problems = run.world, list(run.missed())
    if not run.settle():
        problems.append(f"not done after {run.within_s:g} s: {world.queue.depth()}")
    results, errors, depth = world.results(run.name), world.errors(run.name), world.queue.depth()
    if sources(results) != Counter(run.good):
        problems.append(f"results differ from good photos: {_difference(sources(results), Counter(run.good))}")
    if sources(errors) != Counter(run.poison):
        problems.append(f"errors differ from bad photos: {_difference(sources(errors), Counter(run.poison))}")
    reasons = {key: world.error_code(key) for key in errors}
    if wrong := {key: code for key, code in reasons.items() if code != POISON_CODES[PurePath(source(key)).name]}:
        problems.append(f"errors with another reason than their photo's: {wrong}")
    if depth.dead != run.dead_before:
        letters = [letter.body[:300] for letter in world.queue.dead_letters(3)]
        problems.append(f"{depth.dead - run.dead_before} dead letters, such as {letters}")
    written = {**results, **errors}
    for job in run.jobs:
        written |= world.versions(f"home/jobs/{job.id}/")
    twice = {key: etags for key, etags in written.items() if len(etags) > 1}
    unequal = {key for key, etags in twice.items() if len(set(etags)) > 1}
    if twice and exactly_one_create:
        problems.append(f"created more than once: {sorted(twice)[:5]}")
    if unequal:
        problems.append(f"created with unequal content: {sorted(unequal)[:5]}")
    lines = 0
    for job in run.jobs:
        rows = [json.loads(line) for line in manifest_lines(world.jobs, job.id)]
        lines += len(rows)
        said = Counter(row["source"] for row in rows)
        expected = Counter(f"s3://{PHOTOS}/{key}" for key in (*run.good, *run.poison))
        if said != expected:
            problems.append(f"the manifest of {job.id} differs: {_difference(said, expected)}")
    counts = {
        "good": len(run.good),
        "results": len(results),
        "creates": sum(map(len, results.values())),
        "bad": len(run.poison),
        "errors": len(errors),
        "manifest lines": lines,
        "left in the queue": depth.ready + depth.leased,
        "dead letters": depth.dead - run.dead_before,
    }
    return Result(counts, problems)


def _difference(found: Counter[str], wanted: Counter[str]) -> str:
    missing, surplus = list((wanted - found).elements()), list((found - wanted).elements())
    return f"{len(missing)} missing {missing[:3]}, {len(surplus)} too many {surplus[:3]}"
