"""`python -m loadtests.soak`: thousands of small photos through bulk work; does memory grow, and what does it cost?

Makes the photos, puts them through a service (or with --in-process through `mattehorn submit --local`), and prints how
the memory of each process grew with the photos, the throughput beside `mattehorn batch` on the same files, taken before
and after, and where the CPU time went. Exit code 1 when a result is missing or there twice. Not a test of anything:
the figures go to docs/performance.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from PIL import Image

from loadtests import photos
from loadtests.processes import Lives
from loadtests.report import table
from loadtests.service import ServiceError, started
from mattehorn.bulk.embedded import own_queue
from mattehorn.bulk.job_results import manifest_rows
from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.places import Places
from mattehorn.bulk.progress import ENDED
from mattehorn.client import Client
from mattehorn.settings import StoreSettings

RECIPE = "transparent-web"
BATCH_FLAGS = ("--output", "cutout", "--format", "webp", "--encode-quality", "90")  # what the recipe says
SIZE = (320, 240)  # pixels: the network's work is the same for any size, the rest is small, so the ledger's cost shows
BAR, AIM = 0.55, 0.70  # of batch's throughput
_FOLDER_PHOTOS = 500  # of one folder; batch runs on the first one
_LOOK_EVERY_S = 2.0
_MATTEHORN = (sys.executable, "-c", "import sys; from mattehorn.cli.main import main; sys.exit(main())")


@dataclass(frozen=True)
class Rate:
    """Photos per second, and milliseconds of CPU a photo."""

    photos_s: float
    cpu_ms: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description="Bulk work for a long time.")
    parser.add_argument("--photos", type=int, default=10_000, metavar="N", help="default 10000")
    parser.add_argument("--in-process", action="store_true", help="`submit --local` with one worker, not a service")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, e.g. model=fake")
    parser.add_argument("--folder", type=Path, help="where everything lies, on a local disk; default: a temporary one")
    options = parser.parse_args(arguments)
    if options.photos < 1:
        parser.error("--photos is 1 or more.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is stopped then, too
    with tempfile.TemporaryDirectory(prefix="mattehorn-soak-", dir=options.folder) as name:
        try:
            return _soak(Path(name), options)
        except ServiceError as error:
            print(f"soak: {error}", file=sys.stderr)
            return 2


def _soak(folder: Path, options: argparse.Namespace) -> int:
    store = folder / "store"
    make_photos(store / "in", options.photos)
    before = _batch(folder, options.set)
    with (_own_process if options.in_process else _service)(folder, options.set) as (pid, job, documents):
        lives, began, last = Lives(pid), time.monotonic(), {}
        looked = -_LOOK_EVERY_S
        for last in documents:
            if time.monotonic() - looked >= _LOOK_EVERY_S or last["state"] in ENDED:
                lives.look(last["done"])
                looked = time.monotonic()
                _say(f"{last['done']} of {options.photos}")
        took = time.monotonic() - began
    after = _batch(folder, options.set)
    batch = Rate(mean([before.photos_s, after.photos_s]), mean([before.cpu_ms, after.cpu_ms]))
    print(_memory_table(lives, options.photos))
    print(_cost_text(lives, options.photos, took, batch, _stages_ms(store, job)))
    faults = _faults(store, job, last, options.photos)
    for fault in faults:
        print(f"FAULT: {fault}")
    return 1 if faults else 0


def make_photos(folder: Path, count: int) -> None:
    """Crops of the free photos, each other than all before, in folders of 500: the same call gives the same bytes."""
    sources = [Image.open(io.BytesIO(photo.data)).convert("RGB") for photo in photos.small()]
    dice = np.random.default_rng(2026)
    for number in range(count):
        source = sources[number % len(sources)]
        width, height = source.size
        scale = min(width / SIZE[0], height / SIZE[1]) * dice.uniform(0.75, 1.0)
        wide, tall = int(SIZE[0] * scale), int(SIZE[1] * scale)
        left, top = (int(dice.integers(0, room + 1)) for room in (width - wide, height - tall))
        crop = source.resize(SIZE, Image.Resampling.BILINEAR, (left, top, left + wide, top + tall))
        path = folder / f"{number // _FOLDER_PHOTOS:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        crop.save(path, "JPEG", quality=90, comment=str(number))  # so that no two are alike


def _batch(folder: Path, settings: Sequence[str]) -> Rate:
    """`mattehorn batch` on the first folder of photos; its start and the model's loading are not counted."""
    model = next((pair.partition("=")[2] for pair in settings if pair.startswith("model=")), None)
    flags = (*BATCH_FLAGS, *(("--model", model) if model else ()))
    with tempfile.TemporaryDirectory(dir=folder) as target:
        _say("mattehorn batch")
        began = _cpu_of_children()
        done = subprocess.run(
            [*_MATTEHORN, "batch", str(folder / "store" / "in" / "000"), target, "--json", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        cpu_s = _cpu_of_children() - began
    summary = json.loads(done.stdout)
    return Rate(1 / summary["seconds_per_image"], cpu_s / summary["total"] * 1000)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


Run = tuple[int, str, Iterator[dict[str, Any]]]


@contextmanager
def _service(folder: Path, settings: Sequence[str]) -> Iterator[Run]:
    """(first process, job, its bodies until its end) of a job in a service of our own."""
    with started(folder, settings, _say) as service, Client(service.url) as client:
        assert service.pid is not None  # we have just started it
        body = {"input": {"prefix": "in/"}, "output": "out/", "recipe": RECIPE}
        job = str(client.submit(body)["id"])
        yield service.pid, job, client.follow(job)


@contextmanager
def _own_process(folder: Path, settings: Sequence[str]) -> Iterator[Run]:
    """The same of `mattehorn submit --local`, with one worker as batch has."""
    pairs = [part for pair in (f"store.url=file://{folder}/store", *settings) for part in ("--set", pair)]
    command = [
        *_MATTEHORN,
        "submit",
        "in/",
        "--recipe",
        RECIPE,
        "--output",
        "out/",
        "--local",
        "--workers",
        "1",
        *pairs,
    ]
    with (folder / "submit.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        with own_queue() as queue:
            jobs = Jobs(_places(folder / "store"), queue)
            while not (found := next(jobs.ids(), None)):
                if process.poll() is not None:
                    raise ServiceError(f"submit ended:\n{(folder / 'submit.log').read_text('utf-8', 'replace')}")
                time.sleep(0.1)
            yield process.pid, found, _documents(jobs, found, process)
    finally:
        process.terminate()
        process.wait()


def _documents(jobs: Jobs, job: str, process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    while True:
        document = jobs.progress(job).document()
        yield document
        if document["state"] in ENDED or process.poll() is not None:
            return
        time.sleep(0.5)


def _memory_table(lives: Lives, total: int) -> str:
    rows = []
    for life in lives.lives():
        slope, private = life.slope(total, lives.looks), life.slope(total, lives.looks, private=True)
        if slope is not None and private is not None:
            sizes = [f"{life.rss_mb[0]:,.0f}", f"{life.rss_mb[-1]:,.0f}", f"{max(life.rss_mb):,.0f}"]
            rows.append([life.role, *sizes, f"{slope:+.2f}", f"{private:+.2f}", f"{life.cpu_s / total * 1000:.1f}"])
    head = ["process", "RSS MB at first", "at last", "peak", "MB / 1,000 photos", "private", "CPU ms / photo"]
    return table(head, rows)


def _cost_text(lives: Lives, total: int, took: float, batch: Rate, stages_ms: dict[str, float]) -> str:
    """Throughput beside batch's, and the CPU time beside what the photos' own stages took."""
    rate, cpu_ms = total / took, sum(life.cpu_s for life in lives.lives()) / total * 1000
    share = rate / batch.photos_s
    verdict = "the aim is met" if share >= AIM else "the bar is met" if share >= BAR else "BELOW THE BAR"
    stages = ", ".join(f"{name} {ms:.1f}" for name, ms in stages_ms.items())
    return (
        f"bulk:  {rate:.2f} photos/s, {cpu_ms:.0f} ms of CPU each ({total} photos in {took:.0f} s)\n"
        f"batch: {batch.photos_s:.2f} photos/s, {batch.cpu_ms:.0f} ms of CPU each\n"
        f"share of batch's throughput: {share:.0%} (bar {BAR:.0%}, aim {AIM:.0%}): {verdict}\n"
        f"CPU beyond batch's: {cpu_ms - batch.cpu_ms:+.0f} ms a photo; by process above\n"
        f"wall time of a photo's stages in bulk, ms: {stages}\n"
        f"cores: {len(os.sched_getaffinity(0))}, load now {os.getloadavg()[0]:.1f}"
    )


def _stages_ms(store: Path, job: str) -> dict[str, float]:
    """The mean of each stage over the job's manifest; `rest` is what bulk work itself added, waiting included."""
    with own_queue() as queue:
        rows = [row for row in manifest_rows(Jobs(_places(store), queue).state(job)) if row["cost"] is not None]
    names = sorted({name for row in rows for name in row["timings_ms"]})
    found = {name: mean(row["timings_ms"].get(name, 0.0) for row in rows) for name in names}
    if rows:
        found["rest"] = mean(row["seconds"] * 1000 - sum(row["timings_ms"].values()) for row in rows)
    return found


def _faults(store: Path, job: str, last: dict[str, Any], total: int) -> list[str]:
    """What is not as it must be: one result and one line of the manifest a photo, no failure, nothing left over."""
    places = _places(store)
    with own_queue() as queue:
        sources = [row["source"] for row in manifest_rows(Jobs(places, queue).state(job))]
    results = sum(not key.startswith("out/errors/") for key in places.home.list("out/"))
    checks = {
        f"the job is {last.get('state')}": last.get("state") == "succeeded",
        f"{len(last.get('failed', []))} photos failed": not last.get("failed"),
        f"{results} results of {total} photos": results == total,
        f"{len(sources)} lines in the manifest, {len(set(sources))} of them different": len(sources)
        == len(set(sources))
        == total,
    }
    return [text for text, is_right in checks.items() if not is_right]


def _places(store: Path) -> Places:
    return Places(StoreSettings(url=f"file://{store}"))


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
