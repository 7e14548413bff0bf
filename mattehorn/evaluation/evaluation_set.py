"""An evaluation set: a folder with `image/` and `alpha/` or `mask/`, paired by stem, checked before any model runs.

Not for training data. `open_set` lists everything that is wrong at once, so that a set is mended in one go; `read_pair`
is called by evaluate.py and compare.py for one pair at a time, so a set may be larger than memory.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mattehorn.cli.batch import EXTENSIONS
from mattehorn.errors import MattehornError, OptionError
from mattehorn.image.decode import decode
from mattehorn.settings import Limits

_TRUTH_FOLDERS = ("alpha", "mask")  # where both are there, alpha says more
_16_BIT = 65535  # white of a 16-bit file
_LISTED = 50  # problems named in one message; more would scroll the first ones away


class EvaluationSetError(OptionError):
    """The folder cannot be scored as it is; the message lists every problem, one a line."""


@dataclass(frozen=True)
class Pair:
    """One photo's file and its truth's; `name` is the stem they share."""

    name: str
    image: Path
    truth: Path


@dataclass(frozen=True)
class EvaluationSet:
    """`kind`: the truth's folder, `alpha` (mattes) or `mask` (binary). `ignored`: files that are no pictures."""

    folder: Path
    kind: str
    pairs: tuple[Pair, ...]
    ignored: int


def open_set(
    folder: Path, limit: int | None = None, on_checked: Callable[[Pair], None] = lambda pair: None
) -> EvaluationSet:
    """The set in `folder`, its first `limit` pairs by name. Every pairing is checked, every file of those pairs read.

    Raises EvaluationSetError with all problems: folders or partners missing, no pairs, files that cannot be read,
    sizes that differ, truth that is not one grey channel.
    """
    found = find_pairs(folder)
    pairs = found.pairs[:limit]
    problems = []
    for pair in pairs:
        problems += _problems_of(pair)
        on_checked(pair)
    _refuse(folder, problems)
    return EvaluationSet(folder, found.kind, pairs, found.ignored)


def find_pairs(folder: Path) -> EvaluationSet:
    """All pairs by name, no file opened. Raises EvaluationSetError as `open_set` does for what names alone tell."""
    if not folder.is_dir():
        _refuse(folder, ["there is no such folder"])
    kind = next((name for name in _TRUTH_FOLDERS if (folder / name).is_dir()), "")
    missing = [] if (folder / "image").is_dir() else ["no folder image/ with the photos"]
    _refuse(folder, missing if kind else [*missing, "no folder alpha/ or mask/ with the truth"])
    images, ignored = _pictures(folder / "image")
    truths, others = _pictures(folder / kind)
    problems = [*_unpaired("image", images, kind, truths), *_unpaired(kind, truths, "image", images)]
    if not images and not truths:
        problems.append(f"it is empty: no picture in image/ and {kind}/ (subfolders are not searched)")
    _refuse(folder, problems)
    image_of, truth_of = ({path.stem: path for path in paths} for paths in (images, truths))
    pairs = tuple(Pair(name, image_of[name], truth_of[name]) for name in sorted(image_of))
    return EvaluationSet(folder, kind, pairs, ignored + others)


def read_pair(pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The photo uint8 [H, W, 3], upright and sRGB as the service sees it, and its truth float32 [H, W] in 0..1."""
    return decode(pair.image.read_bytes(), Limits()).rgb, _truth(pair.truth.read_bytes())


def _pictures(folder: Path) -> tuple[list[Path], int]:
    """(files with a picture's extension, number of other files); hidden files count as neither."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    pictures = [path for path in files if path.suffix.lower().removeprefix(".") in EXTENSIONS]
    return pictures, len(files) - len(pictures)


def _unpaired(kind: str, paths: list[Path], other_kind: str, others: list[Path]) -> list[str]:
    """Files of `kind` without a partner, and stems that several of them share."""
    stems = Counter(path.stem for path in paths)
    partners = {path.stem for path in others}
    alone = [f"{kind}/{path.name}: no {other_kind}/{path.stem}.*" for path in paths if path.stem not in partners]
    return alone + [f"{kind}/{stem}.*: {count} files of one stem" for stem, count in stems.items() if count > 1]


def _problems_of(pair: Pair) -> list[str]:
    problems = []
    sizes = []
    for path in (pair.image, pair.truth):
        try:
            data = path.read_bytes()
            shape = decode(data, Limits()).rgb.shape[:2]
            if path == pair.truth:
                shape = _truth(data).shape
            sizes.append((shape[1], shape[0]))
        except MattehornError as error:
            problems.append(f"{path.parent.name}/{path.name}: {error.message}")
        except OSError as error:
            problems.append(f"{path.parent.name}/{path.name}: {error.strerror or error}")
    if len(set(sizes)) > 1:
        (width, height), (truth_width, truth_height) = sizes
        problems.append(
            f"{pair.name}: the photo is {width} x {height} upright, its truth {truth_width} x {truth_height} pixels"
        )
    return problems


def _truth(data: bytes) -> NDArray[np.float32]:
    """Truth float32 [H, W] from a file that `decode` can read: its stored grey levels, untouched by any profile.

    Raises EvaluationSetError for what would be scored wrongly in silence: colours, transparency, 0 and 1 for 0 and 255.
    """
    with Image.open(io.BytesIO(data)) as file:
        image: Image.Image = file.convert("RGBA") if file.mode in ("P", "PA", "RGB", "LA") else file.copy()
    if image.mode.startswith("I;16"):
        return np.asarray(np.asarray(image, np.float32) / _16_BIT, np.float32)
    if image.mode not in ("1", "L", "RGBA"):
        raise EvaluationSetError(f"its mode is {image.mode}; save it as 8-bit grey.")
    if image.mode == "RGBA":
        image = _grey(image)
    values = np.asarray(image.convert("L"), np.uint8)
    if values.max() == 1:
        raise EvaluationSetError("its values are 0 and 1; foreground must be 255, so multiply it by 255.")
    return np.asarray(values / np.float32(255), np.float32)


def _grey(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image)
    if pixels[..., 3].min() < 255:
        raise EvaluationSetError("it has transparency; save the matte itself as 8-bit grey.")
    if (pixels[..., :3] != pixels[..., :1]).any():
        raise EvaluationSetError("it is in colour; save the matte as 8-bit grey, foreground 255.")
    return image.getchannel("R")


def _refuse(folder: Path, problems: list[str]) -> None:
    if not problems:
        return
    shown = problems[:_LISTED]
    more = [f"and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise EvaluationSetError(
        f"{folder} cannot be scored, {count}; a set is image/ with alpha/ or mask/, paired by stem:\n"
        + "\n".join(f"  {problem}" for problem in [*shown, *more]),
        field="SET_DIR",
    )
