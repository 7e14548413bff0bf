"""How busy the GPU is while a load test runs, and its memory: asked of `nvidia-smi` by a thread.

Busy is the driver's word: the share of its last sample, up to a second, in which a kernel ran. A card that is 100 %
busy may still have idle multiprocessors. Nothing here changes the card.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from statistics import fmean
from types import TracebackType

_EVERY_S = 0.5
_ASK_WITHIN_S = 10
_PROGRAM = "nvidia-smi"


@dataclass(frozen=True)
class _Sample:
    at: float  # seconds since the epoch
    busy: float  # percent
    mb: float


def has_card() -> bool:
    """A driver is there and lists a GPU."""
    return shutil.which(_PROGRAM) is not None and bool(ask("name"))


def ask(fields: str) -> list[str]:
    """`nvidia-smi`'s answer for the first GPU, a string a field; empty when it gives none."""
    command = [_PROGRAM, f"--query-gpu={fields}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_WITHIN_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [value.strip() for value in done.stdout.strip().split(",")] if done.stdout.strip() else []


class CardUsage:
    """Samples the first GPU of this machine while it is entered; all its processes count."""

    def __init__(self) -> None:
        self._samples: list[_Sample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="card", daemon=True)

    def __enter__(self) -> CardUsage:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def busy(self, began: float, ended: float) -> float | None:
        """Mean percent between two times since the epoch; None without a sample."""
        found = [sample.busy for sample in self._samples if began <= sample.at <= ended]
        return fmean(found) if found else None

    def peak_mb(self, began: float, ended: float) -> float | None:
        """The most memory in use then, in MB of 10^6 bytes; None without a sample."""
        return max((sample.mb for sample in self._samples if began <= sample.at <= ended), default=None)

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            at = time.time()
            answer = ask("utilization.gpu,memory.used")
            if len(answer) == 2 and all(value.isdigit() for value in answer):  # else "[N/A]", or an error
                self._samples.append(_Sample(at, float(answer[0]), int(answer[1]) * 2**20 / 1e6))
