"""`make chaos`: bulk work under faults on the real service, with moto's and with Swift's S3; prints what was counted.

Each scenario of scenarios.py, then a full stop and restart. Exit code 1 when anything does not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.scenarios import SCENARIOS, Result, Run, check, stopped
from tests.chaos.world import ENVIRONMENT, NOT_SET, World, made_world

IMAGES = 100  # of a scenario
KILL_IMAGES = 300
STOP = "stop"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", choices=["moto", "swift"], action="append", help="default: both")
    parser.add_argument("--only", choices=[*SCENARIOS, STOP], action="append", help="default: all")
    parser.add_argument("--images", type=int, help=f"of each scenario; default {IMAGES}, {KILL_IMAGES} for kills")
    parser.add_argument("--kills", type=int, help=f"of the scenario kills; default {KILL_IMAGES // 25}")
    parser.add_argument("--seed", type=int, default=4, help="of the order of events and of who is killed")
    options = parser.parse_args(arguments)
    for name in NOT_SET:
        os.environ.pop(name, None)
    os.environ.update(ENVIRONMENT)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="mattehorn-chaos-") as folder:
        for store in options.store or ["moto", "swift"]:
            place = Path(folder) / store
            place.mkdir()
            with made_world(store, place) as world:
                failed += _all(world, place, options)
    print("all held" if not failed else f"{failed} scenarios failed", flush=True)
    return 1 if failed else 0


def _all(world: World, folder: Path, options: argparse.Namespace) -> int:
    """How many scenarios failed."""
    names = [name for name in SCENARIOS if not options.only or name in options.only]
    failed = 0
    if names:
        with world.service(folder) as service:
            for name in names:
                images = options.images or (KILL_IMAGES if name == "kills" else IMAGES)
                run = Run(world, name, images, random.Random(options.seed), service, options.kills)
                began = time.monotonic()
                SCENARIOS[name](run)
                failed += not report(run, check(run, exactly_one_create=world.name == "moto"), began)
    if not options.only or STOP in options.only:
        began = time.monotonic()
        run = Run(world, STOP, options.images or IMAGES, random.Random(options.seed))
        stopped(run, lambda: world.service(folder))
        failed += not report(run, check(run, exactly_one_create=world.name == "moto"), began)
    return failed


def report(run: Run, result: Result, began: float) -> bool:
    """Prints one scenario's counts; whether all held."""
    verdict = "held" if not result.problems else "FAILED"
    print(f"{run.world.name} {run.name}: {verdict} after {time.monotonic() - began:.0f} s", flush=True)
    for title, counts in (("did", dict(sorted(run.happened.items()))), ("got", result.counts)):
        print(f"    {title}: " + ", ".join(f"{what} {number}" for what, number in counts.items()), flush=True)
    for problem in result.problems:
        print(f"    PROBLEM: {problem}", flush=True)
    return not result.problems


if __name__ == "__main__":
    sys.exit(main())
