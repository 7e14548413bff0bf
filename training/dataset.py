"""Finds, checks, groups, splits and packs the photos; draws samples from the pack.

A pack is one flat uint8 array of RGBA pixels a set (A = label) with an index beside it, so that a run reads photos
from the page cache without decoding. `pack_sets` refuses a folder with missing pairs or corrupt files before any
training starts and lists them all.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from training.recipe import Kind, Pack, Recipe, SetChoice

Pixels = NDArray[np.uint8]
LISTED_PROBLEMS = 40  # more than a screen helps nobody
UNSURE = (0.1, 0.9)  # a probability between these is doubt
SUBJECT = 127  # labels above count as subject


class DataError(ValueError):
    """The data directory cannot be trained on; the message lists every offending file."""


@dataclass(frozen=True)
class Entry:
    """One packed photo: where its RGBA pixels begin and what they are."""

    name: str
    group: str
    offset: int
    height: int
    width: int
    kind: Kind
    validation: bool


@dataclass(frozen=True)
class Source:
    """An image file and its label file, both absolute."""

    image: Path
    label: Path


@dataclass(frozen=True)
class PackedSet:
    """One set ready to draw from: entries of the training side and their probabilities, validation entries."""

    name: str
    pixels: Pixels
    train: tuple[Entry, ...]
    probabilities: NDArray[np.float64]
    validation: tuple[Entry, ...]

    def rgba(self, entry: Entry) -> Pixels:
        """uint8 [H, W, 4], a view: copy before writing."""
        area = entry.height * entry.width
        return self.pixels[entry.offset : entry.offset + area].reshape(entry.height, entry.width, 4)


def pack_sets(recipe: Recipe, data_dir: Path, work_dir: Path) -> list[PackedSet]:
    """Every set of the recipe, packed now or by an earlier run with the same choices."""
    sources, problems = {}, []
    for name, choice in recipe.sets.items():
        found, bad = find_sources(data_dir / name, choice, work_dir / "teacher" / name)
        sources[name] = found
        problems += bad
    refuse_problems(problems)
    return [_open_or_pack(name, choice, sources[name], recipe.pack, work_dir) for name, choice in recipe.sets.items()]


def find_sources(folder: Path, choice: SetChoice, teacher: Path) -> tuple[list[Source], list[str]]:
    """The set's image and label files, and a line for each missing pair."""
    images = folder / "image" if (folder / "image").is_dir() else folder
    if not images.is_dir():
        return [], [f"{folder}: no such folder"]
    labels = {"matte": folder / "alpha", "mask": folder / "mask", "teacher": teacher}[choice.kind]
    found, problems = [], []
    for path in sorted(images.iterdir()):
        if path.stem in choice.exclude or not path.is_file():
            continue
        label = labels / f"{path.stem}.png"
        if label.is_file():
            found.append(Source(path, label))
        else:
            problems.append(f"{path}: no {label}")
    if not found and not problems:
        problems.append(f"{images}: no pictures")
    return found, problems


def refuse_problems(problems: list[str]) -> None:
    """Raises DataError that lists the problems, if any."""
    if problems:
        rest = len(problems) - LISTED_PROBLEMS
        lines = problems[:LISTED_PROBLEMS] + ([f"and {rest} more"] if rest > 0 else [])
        raise DataError(f"{len(problems)} files cannot be used:\n" + "\n".join(lines))


def group_name(set_name: str, stem: str) -> str:
    """The name photos of one scene share: cats by the name before `.rf.`, Faces and Faces_easy by their number."""
    scene = re.sub(r"^Faces(_easy)?__", "Faces__", stem.split(".rf.")[0])
    return f"{set_name}/{scene}"


def is_validation(group: str, modulus: int) -> bool:
    """Whether a group validates: a fixed draw by its name, so that every run has the same split."""
    return int(hashlib.sha1(group.encode()).hexdigest()[:8], 16) % modulus == 0


def merge_alike(groups: list[str], hashes: list[int], distance: int) -> list[str]:
    """Groups after joining pictures whose difference hashes are nearer than `distance` bits."""
    merged = list(groups)
    for i, own in enumerate(hashes):
        for j in range(i):
            if (own ^ hashes[j]).bit_count() < distance and merged[i] != merged[j]:
                old, new = merged[i], merged[j]
                merged = [new if group == old else group for group in merged]
    return merged


def difference_hash(image: Pixels) -> int:
    """64 bits, each whether a pixel of the 9x8 grey thumbnail is brighter than its right neighbour."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(grey[:, 1:] < grey[:, :-1]).tobytes(), "big")


def read_pair(source: Source, long_side: int, stretched: bool) -> tuple[Pixels, Pixels]:
    """Image [H, W, 3] and label [H, W], long side at most `long_side`; a teacher's label is stretched to the image."""
    image = np.asarray(Image.open(source.image).convert("RGB"))
    label = np.asarray(Image.open(source.label).convert("L"))
    if not stretched and image.shape[:2] != label.shape:
        raise DataError(f"{source.image}: {image.shape[:2]}, but its label is {label.shape}")
    scale = min(1.0, long_side / max(image.shape[:2]))
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    if scale < 1:
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    if label.shape != image.shape[:2]:
        shrinks = label.shape[0] > size[1]
        label = cv2.resize(label, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR).astype(np.uint8)
    return image, label


def believable(label: Pixels, kind: Kind, pack: Pack) -> bool:
    """Whether a label holds a subject, and a teacher's label is mostly sure of it."""
    cover = float((label > SUBJECT).mean())
    if kind != "teacher":
        return cover > 0
    unsure = float(((label > 255 * UNSURE[0]) & (label < 255 * UNSURE[1])).mean())
    return pack.cover_min <= cover <= pack.cover_max and 1 - unsure >= pack.certain_floor


def agreement(label: Pixels, teacher: Path) -> float:
    """Dice of a mask against the teacher's answer; 1 where the teacher was not asked."""
    if not teacher.is_file():
        return 1.0
    other = np.asarray(Image.open(teacher).convert("L").resize(label.shape[::-1])) > SUBJECT
    own = label > SUBJECT
    return float(2 * (own & other).sum() / max(int(own.sum()) + int(other.sum()), 1))


def _open_or_pack(name: str, choice: SetChoice, sources: list[Source], pack: Pack, work_dir: Path) -> PackedSet:
    """The pack of one set; made anew when the choices or the files' names differ from those it was made with."""
    folder = work_dir / "packed"
    folder.mkdir(parents=True, exist_ok=True)
    key = json.dumps([asdict(pack), asdict(choice) | {"weight": 0, "balance": 0}, [s.image.name for s in sources]])
    index, pixels = folder / f"{name}.json", folder / f"{name}.npy"
    digest = hashlib.sha256(key.encode()).hexdigest()
    if not index.is_file() or json.loads(index.read_text())["key"] != digest:
        entries = _write_pixels(name, choice, sources, pack, work_dir, pixels)
        index.write_text(json.dumps({"key": digest, "entries": [asdict(entry) for entry in entries]}))
    entries = [Entry(**entry) for entry in json.loads(index.read_text())["entries"]]
    train = tuple(entry for entry in entries if not entry.validation)
    return PackedSet(
        name,
        np.load(pixels, mmap_mode="r"),
        train,
        class_probabilities([entry.name for entry in train], choice.balance),
        tuple(entry for entry in entries if entry.validation),
    )


def _write_pixels(
    name: str, choice: SetChoice, sources: list[Source], pack: Pack, work_dir: Path, pixels: Path
) -> list[Entry]:
    rows: list[Pixels] = []
    kept: list[tuple[str, int, int, int]] = []
    problems: list[str] = []
    for source in sources:
        try:
            image, label = read_pair(source, pack.long_side, choice.kind == "teacher")
        except (OSError, UnidentifiedImageError, DataError) as error:
            problems.append(f"{source.image}: {error}")
            continue
        judge = work_dir / "teacher" / name / f"{source.image.stem}.png"
        agrees = choice.kind != "mask" or agreement(label, judge) >= pack.agreement_floor
        if min(label.shape) < pack.min_side or not believable(label, choice.kind, pack) or not agrees:
            continue
        rows.append(np.dstack((image, label)).reshape(-1, 4))
        kept.append((source.image.stem, label.shape[0], label.shape[1], difference_hash(image)))
    refuse_problems(problems)
    groups = [group_name(name, stem) for stem, *_ in kept]
    if choice.group_by_hash:
        groups = merge_alike(groups, [code for *_, code in kept], pack.hash_distance)
    np.save(pixels, np.concatenate(rows) if rows else np.zeros((0, 4), np.uint8))
    offsets = np.cumsum([0, *(height * width for _, height, width, _ in kept)])
    return [
        Entry(stem, group, int(offset), height, width, choice.kind, is_validation(group, pack.validation_modulus))
        for (stem, height, width, _), group, offset in zip(kept, groups, offsets, strict=False)
    ]


def class_probabilities(names: list[str], balance: float) -> NDArray[np.float64]:
    """A draw probability per photo: its class (the name before `__`) is drawn by its count to the power `balance`."""
    classes = [name.split("__")[0] if "__" in name else "" for name in names]
    counts = Counter(classes)
    weights = np.array([counts[name] ** (balance - 1.0) for name in classes])
    return weights / weights.sum() if len(weights) else weights
