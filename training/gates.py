"""The first two cleaning gates: is the photo good enough to learn from, and is its label credible.

Every photo gets a decision a gate: keep, review or drop, with the value it was decided by. The third gate is a human
eye: `training/gate_sheet.py`. Called by `training/dataset.py`; the limits are the recipe's table `gates`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from training.recipe import Gates, Kind
from training.sources import SUBJECT, UNSURE, Photo, read_label, shrink, stretch

Pixels = NDArray[np.uint8]
Verdict = Literal["keep", "review", "drop"]
MEASURED_SIDE = 256  # px: sharpness depends on size, so photos are compared at one; smaller ones are not enlarged
CLIPPED = (3, 252)  # grey levels: below or above, JPEG and the sensor left no detail
EDGE_REACH = 7  # px side of the dilation that takes a subject's outline into its sharpness


@dataclass(frozen=True)
class Measures:
    """A photo in numbers, over its subject at 256 px.

    luminance: mean, 0 black to 1 white (low before a bright scene is back-lit). sharpness: variance of the Laplacian,
    grey levels squared. area: share of the picture. clipped: share of subject pixels that are black or white.
    """

    luminance: float
    sharpness: float
    area: float
    clipped: float


@dataclass(frozen=True)
class Decision:
    """What one gate said of one photo; `value` is the number it decided by."""

    set: str
    file: str
    gate: Literal["quality", "trust"]
    value: float
    decision: Verdict
    reason: str


def measure(photo: Photo) -> Measures:
    """Luminance, sharpness, area and clipping of the subject; of the whole photo where the label holds none."""
    image = shrink(photo.image, MEASURED_SIDE)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    subject = stretch(photo.label, grey.shape) > SUBJECT
    area = float(subject.mean())
    if not subject.any():
        subject = np.ones_like(subject)
    near = cv2.dilate(subject.astype(np.uint8), np.ones((EDGE_REACH, EDGE_REACH), np.uint8)) > 0
    inside = grey[subject]
    return Measures(
        luminance=round(float(inside.mean()) / 255, 4),
        sharpness=round(float(cv2.Laplacian(grey, cv2.CV_32F)[near].var()), 1),
        area=round(area, 4),
        clipped=round(float(((inside <= CLIPPED[0]) | (inside >= CLIPPED[1])).mean()), 4),
    )


def quality_gate(short_side: int, measures: Measures, gates: Gates) -> tuple[float, Verdict, str]:
    """Value, decision and reason: too small, too dark or bright to show anything, or blurred throughout."""
    if short_side < gates.min_side:
        return short_side, "drop", f"short side {short_side} px is under {gates.min_side}"
    if measures.clipped > gates.clipped_max:
        return measures.clipped, "drop", f"{measures.clipped:.0%} of the subject is plain black or white"
    if measures.sharpness < gates.sharpness_min:
        return measures.sharpness, "drop", f"sharpness {measures.sharpness:.0f} is under {gates.sharpness_min:.0f}"
    return measures.sharpness, "keep", ""


def trust_gate(label: Pixels, kind: Kind, judge: Path, gates: Gates) -> tuple[float, Verdict, str]:
    """Value, decision and reason: a made label by its agreement with the teacher, a teacher's by its own certainty."""
    if kind == "teacher":
        return certainty(label, gates)
    if not (label > SUBJECT).any():
        return 0.0, "drop", "the label is empty"
    if not judge.is_file():
        return 1.0, "keep", "not judged: the teacher was not asked"
    agreement = dice(label, judge)
    if agreement < gates.drop_floor:
        return agreement, "drop", f"agreement {agreement:.2f} with the teacher is under {gates.drop_floor}"
    if agreement < gates.trust_floor:
        return agreement, "review", f"agreement {agreement:.2f} with the teacher is under {gates.trust_floor}"
    return agreement, "keep", ""


def certainty(label: Pixels, gates: Gates) -> tuple[float, Verdict, str]:
    """Share of a teacher's label that it is sure of, and whether that and its subject's size are enough, or why not."""
    cover = float((label > SUBJECT).mean())
    unsure = (label > 255 * UNSURE[0]) & (label < 255 * UNSURE[1])
    certain = round(1 - float(unsure.mean()), 4)
    if not gates.cover_min <= cover <= gates.cover_max:
        allowed = f"{gates.cover_min:.0%} to {gates.cover_max:.0%}"
        return certain, "drop", f"the teacher's subject is {cover:.1%} of the picture, allowed {allowed}"
    if certain < gates.certain_floor:
        return certain, "drop", f"the teacher is sure of {certain:.0%} of the picture only"
    return certain, "keep", ""


def dice(label: Pixels, judge: Path) -> float:
    """Dice at 0.5 of a label [H, W] and the teacher's answer, a PNG of any size; 1 where both are empty."""
    other, own = stretch(read_label(judge), label.shape) > SUBJECT, label > SUBJECT
    total = int(own.sum()) + int(other.sum())
    return round(2 * int((own & other).sum()) / total, 4) if total else 1.0


def write_decisions(decisions: Iterable[Decision], path: Path) -> None:
    """One JSON line a decision; a file that says the same already is left alone, so that processes may share it."""
    text = "".join(json.dumps(asdict(decision), ensure_ascii=False) + "\n" for decision in decisions)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)


def gate_table(decisions: Sequence[Decision]) -> str:
    """Counts and shares a set and gate, as lines of text for the terminal."""
    counts = Counter((one.set, one.gate, one.decision) for one in decisions)
    lines = [f"{'set':24}{'gate':9}{'photos':>7}{'review':>14}{'drop':>14}"]
    for name, gate in dict.fromkeys((one.set, one.gate) for one in decisions):
        total = sum(counts[name, gate, verdict] for verdict in ("keep", "review", "drop"))
        cells = [f"{counts[name, gate, v]} ({counts[name, gate, v] / total:.1%})" for v in ("review", "drop")]
        lines.append(f"{name:24}{gate:9}{total:>7}{cells[0]:>14}{cells[1]:>14}")
    return "\n".join(lines)
