"""`python -m loadtests.cache`: what a hit costs beside a miss, and a miss beside a service without a cache.

Two services run side by side, one without a cache, and are asked in turns, so that whatever else the machine does
falls on both. A few bytes behind a JPEG's end make another photo of the same pixels.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from loadtests import photos
from loadtests.service import ServiceError, started
from mattehorn.settings import CacheSettings

_TIMEOUT_S = 100.0  # the service answers within 95 s whatever happens
_SIZES = ("2 MP", "12 MP")


@dataclass
class Times:
    """Milliseconds of requests for one photo, as a client sees them."""

    without: list[float] = field(default_factory=list)
    miss: list[float] = field(default_factory=list)
    hit: list[float] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the services are stopped then, too
    parser = argparse.ArgumentParser(prog="python -m loadtests.cache", description="Times hits beside misses.")
    parser.add_argument("--rounds", type=int, default=10, help="of each photo, default 10")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of both services")
    options = parser.parse_args(arguments)
    sent = (*photos.small(), *(photos.made(size) for size in _SIZES))
    try:
        with ExitStack() as stack:
            urls = []
            for bound in (0, CacheSettings().max_bytes):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mattehorn-cache-")))
                settings = ["bulk.enabled=false", f"cache.max_bytes={bound}", *options.set]
                urls.append(stack.enter_context(started(folder, settings, _say)).url)
            http = stack.enter_context(httpx.Client(timeout=_TIMEOUT_S, trust_env=False))
            print(_heading())
            for photo in sent:
                print(_line(photo, _measure(http, urls[0], urls[1], photo, options.rounds)), flush=True)
    except ServiceError as error:
        print(f"loadtests.cache: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(http: httpx.Client, without: str, cached: str, photo: photos.Photo, rounds: int) -> Times:
    times = Times()
    _timed(http, cached, _variant(photo, 0), "miss")
    for number in range(rounds + 1):
        off = _timed(http, without, _variant(photo, number + 1), None)
        miss = _timed(http, cached, _variant(photo, number + 1), "miss")
        hit = _timed(
            http, cached, _variant(photo, number), "hit"
        )  # the last one's: this one is on its way to the store
        if number:  # the first round warms up
            times.without.append(off)
            times.miss.append(miss)
            times.hit.append(hit)
    return times


def _variant(photo: photos.Photo, number: int) -> bytes:
    return photo.data + number.to_bytes(4, "big")


def _timed(http: httpx.Client, url: str, data: bytes, cache: str | None) -> float:
    """Milliseconds until the answer is here. Raises ServiceError for another answer than was expected."""
    began = time.perf_counter()
    answer = http.post(f"{url}/v1/mattes", files={"file": data})
    took = (time.perf_counter() - began) * 1000
    if answer.status_code != httpx.codes.OK or answer.headers.get("X-Mattehorn-Cache") != cache:
        came = f"{answer.status_code}, X-Mattehorn-Cache {answer.headers.get('X-Mattehorn-Cache')}"
        raise ServiceError(f"a picture with X-Mattehorn-Cache {cache} was expected; {came} came")
    return took


def _heading() -> str:
    return (
        "| photo | MP | no cache ms | miss ms | hit ms | miss : no cache | hit : miss |\n|---|---|---|---|---|---|---|"
    )


def _line(photo: photos.Photo, times: Times) -> str:
    """Medians, and the medians of each round's own ratio."""
    shown = [f"{statistics.median(values):.0f}" for values in (times.without, times.miss, times.hit)]
    ratios = [
        statistics.median(one / other for one, other in zip(above, below, strict=True))
        for above, below in ((times.miss, times.without), (times.hit, times.miss))
    ]
    size = f"{photo.width * photo.height / 1e6:.2f}"
    return f"| {photo.name} | {size} | {' | '.join(shown)} | {ratios[0]:.2f} | {ratios[1]:.3f} |"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
