"""Where a run stands: a line a minute (a bar on a terminal), and the log of one JSON line an evaluation.

Called by `training/train.py` in the process that logs; `training/curves.py` reads the log. It measures and changes
nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, SupportsFloat, TextIO

from tqdm import tqdm

from training.recipe import Stage

WINDOW = 180.0  # seconds that speed and time left are measured over: three lines, and an evaluation counts as it costs
LINE_EVERY = 60.0  # seconds between lines where the output is no terminal
BAR_EVERY = 0.5  # seconds between the bar's moves


@dataclass(frozen=True)
class Standing:
    """A moment of a run. `done` is the share 0..1 of its pixels; rates are None until the clock has moved."""

    done: float
    stage: int
    stages: int
    side: int
    samples: int
    per_second: float | None
    seconds_left: float | None
    loss: float

    def __str__(self) -> str:
        speed = "?" if self.per_second is None else f"{self.per_second:.1f}"
        left = "?" if self.seconds_left is None else str(timedelta(seconds=round(self.seconds_left)))
        return (
            f"{self.done:.1%} stage {self.stage}/{self.stages} ({self.side} px) {self.samples} samples "
            f"{speed}/s loss {self.loss:.3f} ETA {left}"
        )


def pixels(samples: int, stages: Sequence[Stage]) -> int:
    """Pixels of one channel in a run's first samples: a sample at 512 px is worth seven at 192 px."""
    total = 0
    for stage in stages:
        total += min(max(samples, 0), stage.samples) * stage.side**2
        samples -= stage.samples
    return total


def stage_number(samples: int, stages: Sequence[Stage]) -> int:
    """Index of the stage that the next sample belongs to; the last one at the end."""
    for number, stage in enumerate(stages):
        if samples < stage.samples:
            return number
        samples -= stage.samples
    return len(stages) - 1


class Progress:
    """Tells where the run stands as it goes: `tick` after every step, `close` at the end."""

    def __init__(
        self,
        stages: Sequence[Stage],
        samples: int,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stages, self.clock, self.out = stages, clock, out or sys.stderr
        self.total = pixels(sum(stage.samples for stage in stages), stages)
        self.seen = deque([(clock(), samples, pixels(samples, stages))])
        self.told = clock()
        self.bar = self._make_bar() if self.out.isatty() else None

    def tick(self, samples: int, loss: SupportsFloat) -> None:
        """Reports if it is time to; only then is `loss` read, which may wait for a device."""
        now = self.clock()
        if now - self.told < (LINE_EVERY if self.bar is None else BAR_EVERY):
            return
        self.told = now
        standing = self.standing(samples, float(loss))
        if self.bar is None:
            print(standing, file=self.out, flush=True)
        else:
            self.bar.n = round(standing.done * 100, 1)
            self.bar.set_description_str(str(standing))

    def standing(self, samples: int, loss: float) -> Standing:
        """The moment of `samples`; speed and time left over the last WINDOW seconds."""
        now, done = self.clock(), pixels(samples, self.stages)
        self.seen.append((now, samples, done))
        while len(self.seen) > 2 and now - self.seen[1][0] >= WINDOW:
            self.seen.popleft()
        then, samples_then, done_then = self.seen[0]
        moved = now > then and done > done_then
        number = stage_number(samples, self.stages)
        return Standing(
            done=done / self.total,
            stage=number + 1,
            stages=len(self.stages),
            side=self.stages[number].side,
            samples=samples,
            per_second=(samples - samples_then) / (now - then) if moved else None,
            seconds_left=(self.total - done) * (now - then) / (done - done_then) if moved else None,
            loss=loss,
        )

    def close(self) -> None:
        """Leaves the last state of the bar on the terminal."""
        if self.bar is not None:
            self.bar.close()

    def _make_bar(self) -> tqdm[Any]:
        return tqdm(total=100, file=self.out, bar_format="{desc} |{bar:20}|", dynamic_ncols=True)


def evaluation_row(
    samples: int, stage: Stage, losses: Mapping[str, float], seconds: float, seen: int
) -> dict[str, Any]:
    """What the log says of training at an evaluation; `losses` are means since the last, `seen` this run's samples."""
    return {
        "samples": samples,
        "stage": stage.side,
        "seconds": round(seconds),
        "per_second": round(seen / max(seconds, 1e-9), 1),
        "losses": {name: round(value, 4) for name, value in losses.items()},
    }


def append_row(path: Path, row: Mapping[str, Any], out: TextIO | None = None) -> None:
    """Adds a JSON line to the log and shows it."""
    line = json.dumps(row)
    print(line, file=out or sys.stdout, flush=True)
    with path.open("a", encoding="utf-8") as log:
        log.write(line + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line cut short by a kill is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def rewind_log(path: Path, samples: int) -> None:
    """Takes back what a killed run logged after its last checkpoint, which the resumed run will log again."""
    if not path.is_file():
        return
    kept = [row for row in read_log(path) if row["samples"] <= samples]
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    os.replace(part, path)
