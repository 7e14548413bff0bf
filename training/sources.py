"""Finds the photos and labels of a data folder and reads them; every fault is named, none is repaired.

Called by `training/dataset.py`, `training/teacher.py` and `training/gate_sheet.py`. What a label is worth is decided in
`training/gates.py`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mattehorn.resize import Fitted, restore_alpha
from training.recipe import Pack, SetChoice

Pixels = NDArray[np.uint8]
LISTED_PROBLEMS = 40  # more than a screen helps nobody
UNSURE = (0.1, 0.9)  # a probability between these is doubt
SUBJECT = 127  # labels above count as subject
# What Pillow raises for a file that is no picture, is cut short, or claims a size no photo has.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


class DataError(ValueError):
    """The data directory cannot be trained on; the message lists every offending file."""


@dataclass(frozen=True)
class Source:
    """An image file and its label file, both absolute."""

    image: Path
    label: Path


@dataclass(frozen=True)
class Photo:
    """Image uint8 [H, W, 3] and label uint8 [H, W] as they are packed, and the file's own short side in px."""

    image: Pixels
    label: Pixels
    short_side: int


def image_folder(folder: Path) -> Path:
    """Where a set keeps its photos: in `image/`, or in the folder itself where nothing else is kept."""
    return folder / "image" if (folder / "image").is_dir() else folder


def find_sources(folder: Path, choice: SetChoice, teacher: Path) -> tuple[list[Source], list[str]]:
    """The set's image and label files, and a line for each photo without label, label without photo, or shared name."""
    images = image_folder(folder)
    if not images.is_dir():
        return [], [f"{folder}: no such folder"]
    labels = {"matte": folder / "alpha", "mask": folder / "mask", "teacher": teacher}[choice.kind]
    paths = [path for path in _files(images) if path.stem not in choice.exclude]
    found = [Source(path, labels / f"{path.stem}.png") for path in paths]
    problems = [f"{source.image}: no {source.label}" for source in found if not source.label.is_file()]
    stems = Counter(path.stem for path in paths)
    problems += [f"{images}: {count} photos are named {stem!r}" for stem, count in stems.items() if count > 1]
    if choice.kind != "teacher" and labels.is_dir():
        spare = [path for path in _files(labels) if path.stem not in stems.keys() | set(choice.exclude)]
        problems += [f"{path}: no photo of that name in {images}" for path in spare]
    return [source for source in found if source.label.is_file()], problems


def _files(folder: Path) -> list[Path]:
    """A folder's files by name, without what file managers leave there."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]


def refuse_problems(problems: list[str]) -> None:
    """Raises DataError that lists the problems, if any."""
    if problems:
        rest = len(problems) - LISTED_PROBLEMS
        lines = problems[:LISTED_PROBLEMS] + ([f"and {rest} more"] if rest > 0 else [])
        raise DataError(f"{len(problems)} problems with the data; nothing was trained:\n" + "\n".join(lines))


def read_image(path: Path) -> Pixels:
    """RGB uint8 [H, W, 3], upright; raises one of UNREADABLE."""
    with Image.open(path) as file:
        return np.asarray(ImageOps.exif_transpose(file).convert("RGB"), np.uint8)


def read_label(path: Path) -> Pixels:
    """Grey uint8 [H, W], 255 = subject; raises DataError for a file that would be misread, else one of UNREADABLE."""
    with Image.open(path) as file:
        if file.mode not in ("1", "L"):
            raise DataError(f"the label is {file.mode}; save it as an 8-bit grey PNG, 255 = subject")
        label = np.asarray(file.convert("L"), np.uint8)
    if label.max(initial=0) == 1:
        raise DataError("the label's largest value is 1; write the subject as 255")
    return label


def read_photo(source: Source, choice: SetChoice, pack: Pack) -> Photo:
    """A pair, its long side reduced to the pack's; a teacher's square answer is stretched to its photo.

    Raises DataError for a hand-made label of another size than its photo, else what `read_image` and `read_label` do.
    """
    image, label = read_image(source.image), read_label(source.label)
    short_side = min(image.shape[:2])
    if choice.kind != "teacher" and image.shape[:2] != label.shape:
        raise DataError(f"{image.shape[1]}x{image.shape[0]} px, but its label is {label.shape[1]}x{label.shape[0]}")
    image = shrink(image, pack.long_side)
    if choice.kind == "teacher" and pack.sharpen_teacher:
        return Photo(image, sharpen(image, label), short_side)
    return Photo(image, stretch(label, image.shape[:2]), short_side)


def shrink(image: Pixels, long_side: int) -> Pixels:
    """The picture with its long side at most `long_side`; never enlarged."""
    scale = min(1.0, long_side / max(image.shape[:2]))
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8) if scale < 1 else image


def stretch(label: Pixels, shape: tuple[int, ...]) -> Pixels:
    """The label at height and width `shape`, whatever its aspect was."""
    if label.shape == shape:
        return label
    method = cv2.INTER_AREA if label.shape[0] > shape[0] else cv2.INTER_LINEAR
    return cv2.resize(label, (shape[1], shape[0]), interpolation=method).astype(np.uint8)


def sharpen(image: Pixels, label: Pixels) -> Pixels:
    """A teacher's small square answer [S, S] at the photo's size, its edge drawn to the photo's by a guided filter.

    Fast guided filter: He and Sun, 2015; the same code restores the product's own alphas.
    """
    height, width = label.shape
    guide = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    alpha = restore_alpha(image, Fitted(guide, height, width), label, "guided")
    return np.asarray(alpha * 255 + 0.5, np.uint8)
