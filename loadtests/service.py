"""Starts the service for a load test and ends it by its process id, as a terminal would; asks it over HTTP only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from mattehorn.ports import free_ports

READY_WITHIN_S = 240  # a busy two-core machine; about 20 s on a quiet one
STOPPED_WITHIN_S = 60  # requests under way may take 30 s
_SETTLED_AFTER_S = 3  # HAProxy reloads once more when the last ingress replica has come, and drops what it accepted
_METRICS_WITHIN_S = 40  # node agents lag up to 15 s, the ingress keeps them for 5 s
_LOG_TAIL = 3000  # characters: the last error and a little before it


class ServiceError(Exception):
    """The service did not start, or does not answer."""


@dataclass(frozen=True)
class Service:
    """A service that answers at `url`; `pid` is its first process, None where somebody else started it."""

    url: str
    pid: int | None = None


@contextmanager
def started(
    folder: Path, settings: Sequence[str], say: Callable[[str], None], *, config: Path | None = None
) -> Iterator[Service]:
    """The service on a free port of 127.0.0.1 with its results in `folder`; gone afterwards. Raises ServiceError.

    `config`: a file instead of the packaged serve_config.yaml.
    """
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "deployments", "--host", "127.0.0.1", "--port", str(port)]
    if config is not None:
        command += ["--config", str(config)]
    # the same photos are sent again and again: kept answers would be timed in place of work
    for pair in (f"store.url=file://{folder}/store", "cache.max_bytes=0", *settings):
        command += ["--set", pair]
    log = folder / "service.log"
    with log.open("wb") as sink:
        # a session of its own: Ctrl-C reaches us alone, and we end it in order
        process = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, cwd=folder, env=os.environ, start_new_session=True
        )
    try:
        say(f"starting the service on port {port} (log: {log})")
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, lambda: _why_ended(process, log))
        time.sleep(_SETTLED_AFTER_S)
        yield Service(url, process.pid)
    finally:
        say("stopping the service")
        _stop(process)


def wait_until_ready(url: str, why_ended: Callable[[], str] = lambda: "", within_s: float = READY_WITHIN_S) -> None:
    """Returns when /readyz answers 200. Raises ServiceError when `why_ended()` says something or time is up."""
    deadline = time.monotonic() + within_s
    last = "no answer"
    while time.monotonic() < deadline:
        ended = why_ended()
        if ended:
            raise ServiceError(ended)
        try:
            answer = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
            if answer.status_code == 200:
                return
            last = f"{answer.status_code} {answer.text[:200]}"
        except httpx.HTTPError as error:
            last = type(error).__name__
        time.sleep(0.5)
    raise ServiceError(f"{url}/readyz was not 200 within {within_s:g} s; the last answer: {last}")


def _why_ended(process: subprocess.Popen[bytes], log: Path) -> str:
    if process.poll() is None:
        return ""
    tail = log.read_text("utf-8", errors="replace")[-_LOG_TAIL:]
    return f"the service ended with {process.returncode}:\n{tail}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM; what outlives it is killed, one by one."""
    family = []
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOPPED_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        _, alive = psutil.wait_procs(family, timeout=10)
        for child in alive:
            child.kill()


def batches(url: str) -> tuple[float, float]:
    """(pictures, forward passes) so far, over all matting replicas. Raises ServiceError when /metrics fails."""
    try:
        answer = httpx.get(f"{url}/metrics", timeout=20, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise ServiceError(f"GET {url}/metrics failed: {type(error).__name__}") from error
    sums = {"mattehorn_batch_size_sum": 0.0, "mattehorn_batch_size_count": 0.0}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name in sums:
                sums[sample.name] += sample.value
    return sums["mattehorn_batch_size_sum"], sums["mattehorn_batch_size_count"]


def batches_after(url: str, pictures: float) -> tuple[float, float]:
    """`batches` once at least `pictures` are counted; the last figures seen when they never are."""
    deadline = time.monotonic() + _METRICS_WITHIN_S
    while True:
        seen = batches(url)
        if seen[0] >= pictures or time.monotonic() > deadline:
            return seen
        time.sleep(1)
