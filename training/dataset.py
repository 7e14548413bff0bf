"""Packs the photos that pass the gates, so that a run reads them from the page cache without decoding.

A pack is one flat file of RGBA pixels a set (A = label) with an index beside it. `pack_sets` refuses a folder with
missing pairs, wrong sizes, corrupt files or too few photos before any training starts and lists them all.
`python -m training.dataset RECIPE --data-dir DATA/train --work-dir WORK` does only that and prints what the gates did;
WORK receives `packed/` and `gates.jsonl`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.gates import Decision, Measures, gate_table, measure, quality_gate, trust_gate, write_decisions
from training.recipe import Kind, Recipe, SetChoice, load_recipe
from training.sources import UNREADABLE, Pixels, Source, find_sources, image_folder, read_photo, refuse_problems
from training.split import difference_hash, group_name, is_validation, merge_alike


@dataclass(frozen=True)
class Entry:
    """One packed photo: where its RGBA pixels begin and what they are; the measures are `gates.Measures`'."""

    name: str
    group: str
    offset: int
    height: int
    width: int
    kind: Kind
    validation: bool
    review: bool
    luminance: float
    sharpness: float
    area: float


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


@dataclass(frozen=True)
class _Kept:
    """A photo that passed, before its group is known."""

    stem: str
    shape: tuple[int, int]
    code: int
    review: bool
    measures: Measures


def pack_sets(recipe: Recipe, data_dir: Path, work_dir: Path) -> list[PackedSet]:
    """Every set of the recipe, packed now or by an earlier run with the same choices and files."""
    (work_dir / "packed").mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    packed_now = False
    for name, choice in recipe.sets.items():
        sources, bad = find_sources(data_dir / name, choice, work_dir / "teacher" / name)
        problems += bad
        if image_folder(data_dir / name).is_dir() and len(sources) + len(bad) < recipe.gates.min_photos:
            problems.append(f"{data_dir / name}: {len(sources)} photos; at least {recipe.gates.min_photos} are needed")
        key = _key(recipe, choice, sources, work_dir / "teacher" / name)
        if not _is_packed(name, key, work_dir):
            problems += _pack(recipe, name, key, sources, work_dir)
            packed_now = True
    refuse_problems(problems)
    indices = {name: json.loads(_index(name, work_dir).read_text(encoding="utf-8")) for name in recipe.sets}
    decisions = [Decision(**row) for index in indices.values() for row in index["decisions"]]
    write_decisions(decisions, work_dir / "gates.jsonl")
    if packed_now:
        print(gate_table(decisions), file=sys.stderr, flush=True)
    sets = [_open(recipe, name, index["entries"], work_dir) for name, index in indices.items()]
    refuse_problems([line for packed in sets for line in _too_few(packed, recipe, work_dir)])
    return sets


def _too_few(packed: PackedSet, recipe: Recipe, work_dir: Path) -> list[str]:
    left, needed = len(packed.train), recipe.gates.min_photos
    if left >= needed and packed.probabilities.any():
        return []
    return [f"{packed.name}: the gates left {left} photos to train on, {needed} are needed; {work_dir / 'gates.jsonl'}"]


def _key(recipe: Recipe, choice: SetChoice, sources: list[Source], judges: Path) -> str:
    """A digest of all that a pack depends on: choices, file names and sizes, and which labels the teacher judged."""
    choices = [asdict(recipe.pack), asdict(recipe.gates) | {"review_weight": 0, "min_photos": 0}]
    own = asdict(choice) | {"weight": 0, "balance": 0, "role": "", "terms": ""}
    files = [[s.image.name, s.image.stat().st_size, s.label.stat().st_size] for s in sources]
    judged = sorted(path.name for path in judges.iterdir()) if judges.is_dir() else []
    return hashlib.sha256(json.dumps([choices, own, files, judged]).encode()).hexdigest()


def _index(name: str, work_dir: Path) -> Path:
    return work_dir / "packed" / f"{name}.json"


def _pixels(name: str, work_dir: Path) -> Path:
    return work_dir / "packed" / f"{name}.rgba"


def _is_packed(name: str, key: str, work_dir: Path) -> bool:
    index = _index(name, work_dir)
    return index.is_file() and json.loads(index.read_text(encoding="utf-8"))["key"] == key


def _open(recipe: Recipe, name: str, rows: list[dict[str, Any]], work_dir: Path) -> PackedSet:
    entries = [Entry(**row) for row in rows]
    train = tuple(entry for entry in entries if not entry.validation)
    path = _pixels(name, work_dir)
    # An empty file cannot be mapped; a set without photos is refused a moment later.
    pixels = np.memmap(path, np.uint8, "r").reshape(-1, 4) if path.stat().st_size else np.zeros((0, 4), np.uint8)
    return PackedSet(
        name,
        pixels,
        train,
        probabilities(train, recipe.sets[name].balance, recipe.gates.review_weight),
        tuple(entry for entry in entries if entry.validation),
    )


def _pack(recipe: Recipe, name: str, key: str, sources: list[Source], work_dir: Path) -> list[str]:
    """Writes pixels and index of one set; gives back a line for each file that cannot be used, and then no index."""
    kept: list[_Kept] = []
    decisions: list[Decision] = []
    problems: list[str] = []
    path = _pixels(name, work_dir)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        for source in sources:
            judge = work_dir / "teacher" / name / f"{source.image.stem}.png"
            try:
                rows, passed, pixels = _judge(recipe, name, source, judge)
            except UNREADABLE as error:
                problems.append(f"{source.image}: {error}")
                continue
            decisions += rows
            if passed is not None:
                kept.append(passed)
                file.write(pixels.tobytes())
    if problems:
        part.unlink()
        return problems
    os.replace(part, path)
    document = {
        "key": key,
        "entries": [asdict(entry) for entry in _entries(recipe, name, kept)],
        "decisions": [asdict(decision) for decision in decisions],
    }
    part.write_text(json.dumps(document), encoding="utf-8")
    os.replace(part, _index(name, work_dir))
    return []


def _judge(recipe: Recipe, name: str, source: Source, judge: Path) -> tuple[list[Decision], _Kept | None, Pixels]:
    """What the gates decide of one photo, what to remember of it if it passes, and its RGBA pixels [H, W, 4]."""
    choice, stem = recipe.sets[name], source.image.stem
    photo = read_photo(source, choice, recipe.pack)
    pixels, measures = np.dstack((photo.image, photo.label)), measure(photo)
    value, quality, reason = quality_gate(photo.short_side, measures, recipe.gates)
    decisions = [Decision(name, stem, "quality", value, quality, reason)]
    if quality == "drop":
        return decisions, None, pixels
    value, trust, reason = trust_gate(photo.label, choice.kind, judge, recipe.gates)
    decisions.append(Decision(name, stem, "trust", value, trust, reason))
    if trust == "drop":
        return decisions, None, pixels
    height, width = photo.label.shape
    kept = _Kept(stem, (height, width), difference_hash(photo.image), trust == "review", measures)
    return decisions, kept, pixels


def _entries(recipe: Recipe, name: str, kept: list[_Kept]) -> list[Entry]:
    groups = [group_name(name, photo.stem) for photo in kept]
    choice = recipe.sets[name]
    if choice.group_by_hash:
        groups = merge_alike(groups, [photo.code for photo in kept], recipe.pack.hash_distance)
    entries, offset = [], 0
    for photo, group in zip(kept, groups, strict=True):
        height, width = photo.shape
        entries.append(
            Entry(
                name=photo.stem,
                group=group,
                offset=offset,
                height=height,
                width=width,
                kind=choice.kind,
                validation=is_validation(group, recipe.pack.validation_modulus),
                review=photo.review,
                luminance=photo.measures.luminance,
                sharpness=photo.measures.sharpness,
                area=photo.measures.area,
            )
        )
        offset += height * width
    return entries


def probabilities(entries: Sequence[Entry], balance: float, review_weight: float) -> NDArray[np.float64]:
    """A draw probability per photo: by its class, and a label under review counts `review_weight` of another."""
    weights = class_probabilities([entry.name for entry in entries], balance)
    weights *= np.array([review_weight if entry.review else 1.0 for entry in entries])
    return weights / weights.sum() if weights.any() else weights


def class_probabilities(names: list[str], balance: float) -> NDArray[np.float64]:
    """A draw probability per photo: its class (the name before `__`) is drawn by its count to the power `balance`."""
    classes = [name.split("__")[0] if "__" in name else "" for name in names]
    counts = Counter(classes)
    weights = np.array([counts[name] ** (balance - 1.0) for name in classes], np.float64)
    return weights / weights.sum() if len(weights) else weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the sets that the recipe names")
    parser.add_argument("--work-dir", type=Path, required=True, help="outside the repository: packs, decisions")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    for packed in pack_sets(load_recipe(arguments.recipe), arguments.data_dir, arguments.work_dir):
        sides = f"{len(packed.train)} to train on ({sum(entry.review for entry in packed.train)} under review)"
        print(f"{packed.name}: {sides}, {len(packed.validation)} to validate")


if __name__ == "__main__":
    main()
