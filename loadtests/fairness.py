"""`python -m loadtests.fairness`: what a bulk job costs those who wait for an answer.

Starts the service and posts blocks of photos from closed-loop clients, in turn without and with a bulk job beside them,
so that both meet the same machine. Prints each block, and the busy p95 over the idle one. Results folder and queue are
a folder and a file; the job's photos are the same free ones, under many names.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx

from loadtests import photos
from loadtests.photos import Photo
from loadtests.report import parse_server_timing, percentile
from loadtests.service import ServiceError, started
from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.places import Places
from mattehorn.queue.open import open_queue
from mattehorn.settings import QueueSettings, StoreSettings

_JOB_PHOTOS = 5000  # of each job, which is cancelled when its block is over: more than any block lasts for
_STARTED = 10  # results after which a job counts as running
_WITHIN_S = 120.0  # for a job to start or to end on a busy machine
_ALONE_S = 15.0  # how long the bulk job is measured by itself
_RECIPE = "transparent-web@1"


@dataclass(frozen=True)
class Block:
    """One block of requests: its times in milliseconds, its length in seconds, and the bulk results made meanwhile."""

    times_ms: tuple[float, ...]
    stages_ms: tuple[dict[str, float], ...]
    seconds: float
    bulk: int

    def p(self, share: float) -> float:
        return percentile(list(self.times_ms), share) or 0.0


class Bulk:
    """The service's bulk work, driven through its own queue and results folder."""

    def __init__(self, folder: Path, sent: Sequence[Photo]) -> None:
        self._results = folder / "store"
        self._places = Places(StoreSettings(url=f"file://{self._results}"))
        self._queue = open_queue(**QueueSettings(url=_queue_url(folder)).model_dump())
        self._jobs = Jobs(self._places, self._queue)
        self._runs = 0
        inputs = self._results / "in"
        inputs.mkdir(parents=True)
        originals = [inputs / f"{number:06d}.jpg" for number in range(len(sent))]
        for original, photo in zip(originals, sent, strict=True):
            original.write_bytes(photo.data)
        for number in range(len(sent), _JOB_PHOTOS):
            os.link(originals[number % len(sent)], inputs / f"{number:06d}.jpg")

    @contextmanager
    def running(self) -> Iterator[Callable[[], int]]:
        """A job at work during the block; gives what counts its results so far."""
        self._runs += 1
        output = self._results / f"out-{self._runs}"
        body = {"input": {"prefix": "in/"}, "output": f"file://{output}/", "recipe": _RECIPE}
        job = self._jobs.submit(body).id

        def made() -> int:
            return sum(1 for _ in (output / "in").glob("*.webp"))

        try:
            _wait(lambda: made() >= _STARTED, "the bulk job did not start")
            yield made
        finally:
            self._jobs.cancel(job)
            _wait(self._is_quiet, "the bulk job did not end")

    def _is_quiet(self) -> bool:
        depth = self._queue.depth()
        return not depth.ready and not depth.leased

    def close(self) -> None:
        self._queue.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.fairness", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--blocks", type=int, default=5, help="of each kind, default 5")
    parser.add_argument("--requests", type=int, default=100, help="in a block, default 100")
    parser.add_argument("--clients", type=int, default=1, help="closed-loop clients, default 1")
    parser.add_argument("--photos", choices=sorted(photos.SETS), default="small", help="small: up to 0.3 MP (default)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of the service")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is stopped then, too
    sent = photos.SETS[options.photos]()
    try:
        with tempfile.TemporaryDirectory(prefix="mattehorn-fairness-") as name:
            folder = Path(name)
            settings = [f"queue.url={_queue_url(folder)}", *options.set]
            with started(folder, settings, _say) as service, closing(Bulk(folder, sent)) as bulk:
                _block(service.url, sent, 10, options.clients)  # warm-up
                _measure(service.url, sent, bulk, options)
    except ServiceError as error:
        print(f"loadtests.fairness: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(url: str, sent: Sequence[Photo], bulk: Bulk, options: argparse.Namespace) -> None:
    idle, busy = [], []
    print("| block | idle p50, p95 ms | busy p50, p95 ms | busy p95 / idle p95 | bulk images/s |")
    print("|:--|--:|--:|--:|--:|", flush=True)
    for number in range(options.blocks):
        one = _block(url, sent, options.requests, options.clients)
        with bulk.running() as made:
            other = _block(url, sent, options.requests, options.clients, made)
        idle.append(one)
        busy.append(other)
        print(_row(str(number + 1), [one], [other]), flush=True)
    print(_row("median", idle, busy), flush=True)
    print(f"\nStages, medians: idle {_stages(idle)}; busy {_stages(busy)}.", flush=True)
    with bulk.running() as made:
        before, began = made(), time.perf_counter()
        time.sleep(_ALONE_S)
        alone = (made() - before) / (time.perf_counter() - began)
    print(f"\nBulk alone: {alone:.1f} images/s. {options.clients} clients, {options.requests} requests a block.")


def _row(title: str, idle: Sequence[Block], busy: Sequence[Block]) -> str:
    def of(blocks: Sequence[Block], share: float) -> float:
        return median(block.p(share) for block in blocks)

    ratio = of(busy, 0.95) / of(idle, 0.95)
    rate = median(block.bulk / block.seconds for block in busy)
    cells = (f"{of(blocks, 0.5):.0f}, {of(blocks, 0.95):.0f}" for blocks in (idle, busy))
    return f"| {title} | {' | '.join(cells)} | {ratio:.2f} | {rate:.1f} |"


def _stages(blocks: Sequence[Block]) -> str:
    answers = [stages for block in blocks for stages in block.stages_ms]
    names = list(dict.fromkeys(name for stages in answers for name in stages))
    return ", ".join(f"{name} {median(stages.get(name, 0.0) for stages in answers):.0f}" for name in names) + " ms"


def _block(url: str, sent: Sequence[Photo], requests: int, clients: int, made: Callable[[], int] = lambda: 0) -> Block:
    """`requests` photos posted by `clients` threads. Raises ServiceError for an answer that is no picture."""
    times: list[float] = []
    stages: list[dict[str, float]] = []
    numbers, lock, refused = iter(range(requests)), threading.Lock(), []

    def client() -> None:
        with httpx.Client(timeout=60, trust_env=False) as http:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                photo = sent[number % len(sent)]
                began = time.perf_counter()
                answer = http.post(f"{url}/v1/mattes", files={"file": ("p.jpg", photo.data)})
                took = (time.perf_counter() - began) * 1000
                with lock:
                    times.append(took)
                    stages.append(parse_server_timing(answer.headers.get("Server-Timing", "")))
                    if answer.status_code != 200:
                        refused.append(answer.status_code)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    before, began = made(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if refused or len(times) != requests:
        raise ServiceError(f"{len(times)} of {requests} requests were answered, {len(refused)} refused: {refused[:5]}")
    return Block(tuple(times), tuple(stages), seconds, made() - before)


def _queue_url(folder: Path) -> str:
    return f"sqlite:///{folder}/queue.db"


def _wait(reached: Callable[[], bool], message: str) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while not reached():
        if time.monotonic() > deadline:
            raise ServiceError(f"{message} within {_WITHIN_S:g} s")
        time.sleep(0.2)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
