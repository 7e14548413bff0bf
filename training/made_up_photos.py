"""Draws photos with exact mattes, so that a run needs no pictures of anyone's: for `make train-smoke` and tests.

Subjects are bright and striped before dull blotches: what a small network learns in a minute. Some photos and labels
are spoilt on purpose; `FAULTS` says which gate must find them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from training.procedural import made_up_alpha

Pixels = NDArray[np.uint8]
Alpha = NDArray[np.float32]
Gate = tuple[Literal["quality", "trust"], Literal["keep", "review", "drop"]]
SIDE = 160  # px: above the smoke recipe's largest stage
TINY = 60  # px: under its `min_side`
TEACHER_SIDE = 320  # px, as U2NetP answers
GRAIN = 8.0  # grey levels sigma: without it a backdrop is as smooth as a blurred photo
STRIPE = 12  # px: survives a view at 64 px

# Names of spoilt photos in `made_up_shapes`, and what must be said of them.
FAULTS: Mapping[str, Gate] = {
    "tiny": ("quality", "drop"),
    "black": ("quality", "drop"),
    "blurred": ("quality", "drop"),
    "misplaced": ("trust", "drop"),
    "generous": ("trust", "review"),
}


def write_sets(data_dir: Path, work_dir: Path, count: int) -> None:
    """The smoke recipe's three sets of `count` photos, and a teacher's answers of two where a teacher puts them."""
    for number, (name, folder) in enumerate(
        (("made_up_shapes", "mask"), ("made_up_mattes", "alpha"), ("made_up_unlabelled", None))
    ):
        for place in range(count):
            rng = np.random.default_rng((number, place))
            alpha = made_up_alpha(SIDE, rng) if folder == "alpha" else shape(rng)
            image = photograph(alpha, rng)
            _save(data_dir / name, work_dir / "teacher" / name, f"photo {place:03}", image, alpha, folder)
    for place, fault in enumerate(FAULTS):
        rng = np.random.default_rng((9, place))
        image, alpha, judged = spoil(fault, rng)
        _save(data_dir / "made_up_shapes", work_dir / "teacher" / "made_up_shapes", fault, image, alpha, "mask", judged)


def shape(rng: Generator) -> Alpha:
    """A solid wavy disc, alpha float32 [S, S], its edge one pixel soft."""
    turn = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = rng.uniform(0.18, 0.34) * SIDE * (1 + 0.2 * np.sin(int(rng.integers(2, 6)) * turn + rng.uniform(0, 6)))
    centre = rng.uniform(0.4, 0.6, 2) * SIDE
    points = np.stack((np.cos(turn), np.sin(turn)), axis=1) * radius[:, None] + centre
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], 255, cv2.LINE_AA)
    return np.asarray(canvas / np.float32(255), np.float32)


def photograph(alpha: Alpha, rng: Generator) -> Pixels:
    """aF + (1-a)B, uint8 [S, S, 3]: bright stripes before dull blotches, with a little noise."""
    side = alpha.shape[0]
    coarse = rng.integers(25, 110, (6, 6, 1)) + rng.integers(-10, 11, (6, 6, 3))
    backdrop = cv2.resize(coarse.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    stripes = (np.add.outer(np.arange(side), np.arange(side)) // STRIPE) % 2
    colours = rng.integers(150, 245, (2, 3)).astype(np.float32)
    colours[:, rng.integers(3)] *= 0.4  # saturated: grey would be a backdrop
    front = colours[stripes]
    mixed = front * alpha[..., None] + backdrop * (1 - alpha[..., None]) + rng.normal(0, GRAIN, (side, side, 3))
    return np.asarray(np.clip(mixed, 0, 255), np.uint8)


def spoil(fault: str, rng: Generator) -> tuple[Pixels, Alpha, Alpha]:
    """Photo, label and the teacher's answer of one of FAULTS."""
    truth = shape(rng)
    image = photograph(truth, rng)
    label = truth
    if fault == "tiny":
        image = cv2.resize(image, (TINY, TINY), interpolation=cv2.INTER_AREA).astype(np.uint8)
        label = truth = cv2.resize(truth, (TINY, TINY), interpolation=cv2.INTER_AREA).astype(np.float32)
    if fault == "black":
        image = np.where(truth[..., None] > 0, 0, image).astype(np.uint8)
    if fault == "blurred":
        image = cv2.GaussianBlur(image, (0, 0), 12).astype(np.uint8)
    if fault == "misplaced":
        label = np.roll(truth, SIDE // 2, axis=1)
    if fault == "generous":
        label = cv2.dilate(truth, np.ones((21, 21), np.uint8)).astype(np.float32)
    return image, label, truth


def _save(
    folder: Path,
    teacher: Path,
    stem: str,
    image: Pixels,
    alpha: Alpha,
    labels: str | None,
    judged: Alpha | None = None,
) -> None:
    targets = {folder / "image" / f"{stem}.jpg": image}
    if labels != "alpha":  # hair and gauze: no teacher that gives blobs can judge these
        blob = cv2.GaussianBlur(alpha if judged is None else judged, (0, 0), 2)
        targets[teacher / f"{stem}.png"] = _bytes(cv2.resize(blob, (TEACHER_SIDE, TEACHER_SIDE)))
    if labels is not None:
        targets[folder / labels / f"{stem}.png"] = _bytes((alpha > 0.5) if labels == "mask" else alpha)
    for path, pixels in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=92)


def _bytes(alpha: NDArray[np.generic]) -> Pixels:
    return np.asarray(np.asarray(alpha, np.float32) * 255 + 0.5, np.uint8)
