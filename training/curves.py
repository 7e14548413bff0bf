"""Draws logs of training as a picture: losses and validation scores against samples, several runs side by side.

`python -m training.curves WORK/log.jsonl [OTHER/log.jsonl ..] -o curves.png`, at any time, also while a run goes on.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.progress import read_log

SHADES = ("#eef2f7", "#ffffff")  # alternate stages
THIN, THICK = 1.2, 3.5  # points
INCHES, DPI = (15, 8), 90  # 1350 x 720 px: fits a laptop and a review


@dataclass(frozen=True)
class Curves:
    """One run's rows by what they hold, each in the order of samples."""

    name: str
    trained: list[dict[str, Any]]
    scored: list[dict[str, Any]]


def curves_of(path: Path, name: str) -> Curves:
    """A log's rows; what a run logged before it was resumed further back counts no more.

    A row at a side or at a sample number given twice replaces the first: the last validation of a run is the one at
    the product's size.
    """
    rows: list[dict[str, Any]] = []
    for row in read_log(path):
        while rows and rows[-1]["samples"] > row["samples"]:
            rows.pop()
        rows.append(row)
    trained = {row["samples"]: row for row in rows if "losses" in row}
    scored = {row["samples"]: row for row in rows if "iou" in row}
    return Curves(name, list(trained.values()), list(scored.values()))


def loss_parts(row: dict[str, Any]) -> dict[str, float]:
    """A row's losses by name; logs of before they were named give a list."""
    losses = row["losses"]
    return dict(losses) if isinstance(losses, dict) else {f"part {n}": value for n, value in enumerate(losses, 1)}


def stage_spans(rows: Sequence[dict[str, Any]]) -> list[tuple[int, int, int]]:
    """First sample, last sample and side of each stage, as exactly as the evaluations tell."""
    spans: list[tuple[int, int, int]] = []
    before = 0
    for row in rows:
        if spans and spans[-1][2] == row["stage"]:
            spans[-1] = (spans[-1][0], row["samples"], row["stage"])
        else:
            spans.append((before, row["samples"], row["stage"]))
        before = row["samples"]
    return spans


def draw(runs: Sequence[Curves], out: Path) -> None:
    """The picture. Stages, loss parts and the sets' IoU are the last run's; the rest compares all runs."""
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    axes = figure.subplots(2, 3)
    (loss, iou, mae), (parts, missed, by_set) = axes
    for run in runs:
        width = THIN if run is runs[-1] else THICK  # where two runs agree, both are seen
        _line(loss, run.name, [(row["samples"], sum(loss_parts(row).values())) for row in run.trained], width)
        for plot, key in ((iou, "iou"), (mae, "mae"), (missed, "missed")):
            _line(plot, run.name, [(row["samples"], row[key]) for row in run.scored], width)
    last = runs[-1]
    for name in loss_parts(last.trained[-1]) if last.trained else ():
        _line(parts, name, [(row["samples"], loss_parts(row).get(name) or math.nan) for row in last.trained])
    for name in last.scored[-1].get("iou_by_set", {}) if last.scored else ():
        points = [(row["samples"], row["iou_by_set"][name]) for row in last.scored if name in row["iou_by_set"]]
        _line(by_set, name, points)
    titles: tuple[str, ...] = ("loss", "IoU, validation", "MAE, validation", f"loss parts, {last.name}")
    titles += ("missed (IoU under 0.3), validation", f"IoU by set, {last.name}")
    for plot, title in zip(axes.flat, titles, strict=True):
        _finish(plot, title, stage_spans(last.trained))
    parts.set_yscale("log")  # a part that is not asked of any sample yet is 0: a gap
    missed.yaxis.get_major_locator().set_params(integer=True)
    figure.savefig(out)


def _line(plot: Axes, name: str, points: Sequence[tuple[int, float]], width: float = THIN) -> None:
    if points:
        plot.plot(*zip(*points, strict=True), marker=".", linewidth=width, label=name)


def _finish(plot: Axes, title: str, spans: Sequence[tuple[int, int, int]]) -> None:
    for number, (first, last, side) in enumerate(spans):
        plot.axvspan(first, last, color=SHADES[number % 2], zorder=0)
        plot.text(
            (first + last) / 2,
            0.995,
            f"{side}",
            ha="center",
            va="top",
            fontsize=7,
            transform=plot.get_xaxis_transform(),
        )
    plot.set_title(title, fontsize=10)
    plot.set_xlabel("samples (shaded: stages, px)", fontsize=8)
    plot.tick_params(labelsize=8)
    plot.grid(alpha=0.3)
    if plot.get_lines():
        plot.legend(fontsize=7)


def names_of(logs: Sequence[Path]) -> list[str]:
    """The runs' names: the folders of their logs, or the whole paths where two folders share a name."""
    names = [path.resolve().parent.name for path in logs]
    return names if len(set(names)) == len(names) else [str(path) for path in logs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path, nargs="+", help="log.jsonl of a run; the last is shown in detail")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the picture: .png, .svg or .pdf")
    arguments = parser.parse_args()
    logs = arguments.logs
    draw([curves_of(path, name) for path, name in zip(logs, names_of(logs), strict=True)], arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
