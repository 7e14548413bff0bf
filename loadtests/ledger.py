"""`python -m loadtests.ledger`: what exactly-once costs by itself, in one process.

Photos go through the whole of bulk work (queue, lease, read, look, create, manifest) with a stub in place of the
matting, the SQLite queue and a results folder. Prints photos per second, once as single messages and once as a job.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mattehorn.bulk.consumer import Consumer, ConsumerLimits
from mattehorn.bulk.inputs import reference
from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.messages import object_message
from mattehorn.bulk.places import Place, Places
from mattehorn.bulk.worker import Worker, WorkerSettings
from mattehorn.quality import Quality
from mattehorn.queue.sqlite import SqliteQueue
from mattehorn.recipe.gate import Route, Wish
from mattehorn.settings import StoreSettings

_RECIPE = "transparent-web@1"
_PHOTO_BYTES, _RESULT_BYTES = 60_000, 40_000  # a web picture and its cutout


@dataclass(frozen=True)
class _Stub:
    """A result that cost nothing."""

    data: bytes
    content_type: str = "image/webp"
    extension: str = "webp"
    width: int = 640
    height: int = 480
    quality: Quality = field(default_factory=lambda: Quality(1.0))
    model: str = "stub@1"
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    route: Route | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.ledger", description=__doc__)
    parser.add_argument("--photos", type=int, default=3000, help="of each run, default 3000")
    parser.add_argument("--in-flight", type=int, default=8, help="photos at once, default 8")
    parser.add_argument("--folder", type=Path, help="where the store and the queue lie; default: the temporary folder")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mattehorn-ledger-", dir=options.folder) as folder:
        for name in ("messages", "job"):
            place = Path(folder) / name
            place.mkdir()
            rate, cpu_ms = asyncio.run(_measure(name, place, options.photos, options.in_flight))
            print(f"{name}: {options.photos} photos, {rate:.0f} photos/s, {cpu_ms:.2f} ms of CPU each", flush=True)
    return 0


async def _measure(name: str, folder: Path, photos: int, in_flight: int) -> tuple[float, float]:
    """(photos per second, milliseconds of CPU a photo) of one run, its input made before the clock starts."""
    places = Places(StoreSettings(url=f"file://{folder}/results"))
    queue = SqliteQueue(folder / "queue.db", lease_s=60, max_receive=5)
    jobs = Jobs(places, queue)
    worker = Worker(jobs, queue, _cut_out, WorkerSettings(model="stub", in_flight=in_flight))
    _make_input(folder / "results" / "in", photos)
    if name == "job":
        jobs.submit({"input": {"prefix": "in/"}, "output": f"file://{folder}/results/out/", "recipe": _RECIPE})
    else:
        refs = [reference(Place("", f"in/{number:06d}.jpg")) for number in range(photos)]
        queue.send_many([object_message(ref, _RECIPE, f"file://{folder}/results/out/") for ref in refs])
    cpu, began = time.process_time(), time.perf_counter()
    await Consumer(queue, worker, ConsumerLimits(in_flight=in_flight, lease_s=60, wait_s=0.1)).run_until_empty()
    took, used = time.perf_counter() - began, time.process_time() - cpu
    made = sum(not key.startswith("out/errors/") for key in places.home.list("out/"))
    worker.close()
    queue.close()
    if made != photos:
        raise SystemExit(f"ledger: {made} results of {photos} photos")
    return photos / took, used / photos * 1000


def _make_input(folder: Path, photos: int) -> None:
    folder.mkdir(parents=True)
    for number in range(photos):
        (folder / f"{number:06d}.jpg").write_bytes(number.to_bytes(4, "big") + bytes(_PHOTO_BYTES))
    os.sync()  # so that their writing does not go on the run's bill


async def _cut_out(data: bytes, wish: Wish) -> _Stub:
    return _Stub(data[:4] + bytes(_RESULT_BYTES - 4))


if __name__ == "__main__":
    sys.exit(main())
