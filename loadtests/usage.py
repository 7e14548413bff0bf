"""CPU time and memory of a whole process tree while a load test runs, read from /proc by a thread."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import psutil  # type: ignore[import-untyped]

_EVERY_S = 1.0  # one look takes about 50 ms of CPU beside a dozen processes of 200 MB: 5 % of a core
_REPLICA = "ServeReplica:"


@dataclass(frozen=True)
class _Sample:
    at: float  # seconds since the epoch
    cpu_s: float
    pss_mb: float


class Usage:
    """Samples the tree under `pid` while it is entered. Memory is PSS: shared pages count once in all."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._cpu_s: dict[tuple[int, float], float] = {}  # by process; those that ended keep their last value
        self._samples: list[_Sample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def __enter__(self) -> Usage:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def cpu_s(self, began: float, ended: float) -> float:
        """CPU seconds between two times since the epoch, interpolated between samples."""
        at = [sample.at for sample in self._samples]
        total = [sample.cpu_s for sample in self._samples]
        return float(np.interp(ended, at, total) - np.interp(began, at, total))

    def peak_mb(self, began: float, ended: float) -> float:
        """The largest PSS of the whole tree seen in that time; the nearest sample's when none fell into it."""
        inside = [sample.pss_mb for sample in self._samples if began <= sample.at <= ended]
        return max(inside) if inside else min(self._samples, key=lambda sample: abs(sample.at - ended)).pss_mb

    def replicas(self) -> str:
        """How many replicas of each deployment live now, e.g. `2 Compose, 1 Matting`."""
        counts = Counter(name for process in self._processes() if (name := _deployment(process)))
        return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._look()

    def _processes(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _look(self) -> None:
        pss = 0
        at = time.time()
        for process in self._processes():
            try:
                times = process.cpu_times()
                self._cpu_s[process.pid, process.create_time()] = times.user + times.system
                pss += process.memory_full_info().pss
            except psutil.Error:
                continue  # ended between two lines
        self._samples.append(_Sample(at, sum(self._cpu_s.values()), pss / 1e6))


def _deployment(process: psutil.Process) -> str:
    """`Matting` of a process titled `ray::ServeReplica:mattehorn:Matting`; empty for any other."""
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return ""
    return title.partition(_REPLICA)[2].split(":")[-1].split(".")[0].strip() if _REPLICA in title else ""
