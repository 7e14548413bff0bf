"""The faults that bulk work has to survive, each over photos of its own, and what must hold after each."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import psutil

from mattehorn.bulk.job_results import manifest_lines
from mattehorn.bulk.job_spec import JobSpec
from tests.bulk_bench import POISON
from tests.chaos.world import OUTPUT, PHOTOS, QUIET_WITHIN_S, RESULTS, SOURCE, World, kill_all, sources, wait_until
from tests.ray.running import Running

RECIPE = "transparent-web@1"
KILLS_LEAST = 10
DEPLOYMENTS = ("Bulk", "Compose", "Matting")


@dataclass
class Run:
    """One scenario over one world: what was put in, what happened, and what came out."""

    world: World
    name: str
    images: int
    rng: random.Random
    service: Running | None = None
    good: list[str] = field(default_factory=list)
    poison: list[str] = field(default_factory=list)
    jobs: list[JobSpec] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    dead_before: int = 0

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

    def wait_for(self, share: float) -> None:
        """Until about this share of the good photos has a result."""
        wanted = share * len(self.good)
        wait_until(lambda: len(self.world.results(self.name)) >= wanted, QUIET_WITHIN_S)

    def settle(self) -> bool:
        def ended() -> bool:
            return all(self.world.jobs.progress(job.id).state == "succeeded" for job in self.jobs)

        return self.world.wait_until_quiet(ended)


class Killer(threading.Thread):
    """SIGKILLs `kills` replicas of the run's service, at random, while there is work. It never ends what is no
    descendant of that service's own process."""

    def __init__(self, run: Run, kills: int) -> None:
        super().__init__(daemon=True)
        self._run, self._left, self._over = run, kills, threading.Event()

    def run(self) -> None:
        assert self._run.service is not None
        while self._left and not self._over.wait(self._run.rng.uniform(0.5, 3.0)):
            name = self._run.rng.choice(DEPLOYMENTS)
            alive = self._run.service.replicas(name)
            if not alive or self._run.world.is_quiet():
                continue
            try:
                self._run.rng.choice(alive).kill()
            except psutil.NoSuchProcess:
                continue
            self._left -= 1
            self._run.happened[f"killed {name}"] += 1

    def stop(self) -> None:
        self._over.set()
        self.join()


def events_thrice(run: Run) -> None:
    """Every event three times and out of order, and the bad photos' as well."""
    run.add()
    run.send([*run.good, *run.poison], times=3)


def kills(run: Run) -> None:
    """Consumer, compose and matting are killed at random while events and a job are worked on."""
    run.add()
    half = run.images // 2
    killer = Killer(run, max(KILLS_LEAST, run.images // 25))
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
    run.send([*run.good, *run.poison])
    for mode, seconds in (("refusing", 10), ("slow", 10), ("deaf", 5)):
        time.sleep(1)
        before = run.world.store.failed
        with run.world.store.fault(mode, seconds):  # type: ignore[arg-type]
            pass
        run.happened[f"requests met {mode}"] += run.world.store.failed - before


def queue_away(run: Run) -> None:
    """The queue cannot be reached for a while, twice: in the middle of work, and with acks under way."""
    run.add()
    run.send([*run.good, *run.poison])
    for _ in range(2):
        time.sleep(1.5)
        before = run.world.queue_proxy.failed
        with run.world.queue_proxy.fault("away", 10):
            pass
        run.happened["requests met away"] += run.world.queue_proxy.failed - before


def changed_under_way(run: Run) -> None:
    """Photos are deleted or overwritten between their event and the read."""
    run.add()
    run.send_bodies(change(run, run.images // 3))


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
    run.send(run.good)


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
    depth = run.world.queue.depth()
    run.happened["left leased by the stop in order"] = depth.leased
    with start() as service:
        run.wait_for(0.5)
        kill_all(service)
        run.happened["left leased by the power cut"] = run.world.queue.depth().leased
    with start():
        run.settle()


def everything(run: Run, start: Callable[[], AbstractContextManager[Running]], *, power_cut: bool) -> None:
    """All faults over the same photos, shorter: what CI runs. In the end the power is cut, and it starts again."""
    run.add()
    run.send_bodies(change(run, run.images // 10) * 3)
    run.submit()
    run.submit()
    with start() as service:
        run.service = service
        killer = Killer(run, 5)
        for proxy, mode, seconds in (
            (run.world.queue_proxy, "away", 3),
            (run.world.store, "refusing", 3),
            (run.world.store, "slow", 3),
            (run.world.store, "deaf", 2),
        ):
            before = proxy.failed
            with proxy.fault(mode, seconds):  # type: ignore[arg-type]
                pass
            run.happened[f"requests met {mode}"] += proxy.failed - before
            if mode == "away":
                killer.start()  # not before: a dead consumer would not notice
            time.sleep(0.5)
        if not power_cut:
            run.settle()
        killer.stop()
        if power_cut:
            kill_all(service)
            run.happened["left leased by the power cut"] = run.world.queue.depth().leased
    if power_cut:
        with start():
            run.settle()


@dataclass(frozen=True)
class Result:
    """The counts after a scenario, and what does not hold."""

    counts: dict[str, int]
    problems: list[str]


def check(run: Run, *, exactly_one_create: bool) -> Result:
    """What must hold. `exactly_one_create`: else equal content of all creates is enough (Swift)."""
    world, problems = run.world, []
    if not run.settle():
        problems.append(f"not done after {QUIET_WITHIN_S} s: {world.queue.depth()}")
    results, errors, depth = world.results(run.name), world.errors(run.name), world.queue.depth()
    if sources(results) != Counter(run.good):
        problems.append(f"results differ from good photos: {_difference(sources(results), Counter(run.good))}")
    if sources(errors) != Counter(run.poison):
        problems.append(f"errors differ from bad photos: {_difference(sources(errors), Counter(run.poison))}")
    if depth.dead != run.dead_before:
        reasons = [letter.reason for letter in world.queue.dead_letters(3)]
        problems.append(f"{depth.dead} dead letters: {reasons}")
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
