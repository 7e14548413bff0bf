"""A folder of photos in, a folder of results out, in this process; one bad photo never stops the rest.

Called by `mattehorn batch`. Bulk work over object stores is not here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mattehorn.errors import MattehornError
from mattehorn.recipe.gate import Wish
from mattehorn.recipe.result_keys import REVIEW
from mattehorn.routed import Models, run_routed
from mattehorn.settings import Limits

EXTENSIONS = frozenset(
    ("jpg", "jpeg", "jpe", "png", "webp", "bmp", "tif", "tiff", "gif", "heic", "heif", "avif", "mpo")
)


@dataclass(frozen=True)
class Photo:
    """One file of the batch and the paths that its result may have."""

    source: Path
    target: Path
    name: str  # relative to the input folder
    review: Path  # the result's path where a recipe's gate sends it to somebody's eyes


@dataclass
class Summary:
    """What became of a batch. `review` of the successes are to be reviewed; `failed` holds (file, error message) with
    the file relative to the input folder."""

    total: int = 0
    success: int = 0
    ignored: int = 0
    review: int = 0
    seconds: float = 0.0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def document(self) -> dict[str, object]:
        """The JSON of `--json`."""
        done = self.success + len(self.failed)
        return {
            "total": self.total,
            "success": self.success,
            "failed": [{"file": file, "error": error} for file, error in self.failed],
            "seconds_per_image": round(self.seconds / done, 3) if done else None,
            "ignored": self.ignored,
            **({"review": self.review} if self.review else {}),
        }


def find_photos(folder: Path, out: Path, extension: str) -> tuple[list[Photo], int]:
    """(photos below `folder` with their targets, number of other files). Subfolders are kept; what lies in `out` is
    left aside. On equal stems the source extension stays: `a.jpg.png` beside `a.webp.png`."""
    folder, out = folder.resolve(), out.resolve()
    inside = folder in out.parents  # results of an earlier run are no photos
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not (inside and out in path.parents))
    photos = [path for path in files if path.suffix.lower().removeprefix(".") in EXTENSIONS]
    # a stem that another photo has too, or is another photo's whole name (a.jpg.png beside a.jpg), is not its own
    taken = Counter(path.with_suffix("") for path in photos) + Counter(photos)
    return [_target(path, folder, out, extension, taken) for path in photos], len(files) - len(photos)


def _target(path: Path, folder: Path, out: Path, extension: str, taken: Counter[Path]) -> Photo:
    base = path.stem if taken[path.with_suffix("")] == 1 else path.name
    within = path.relative_to(folder).parent / f"{base}.{extension}"
    return Photo(path, out / within, str(path.relative_to(folder)), out / REVIEW / within)


def run_batch(
    models: Models,
    photos: list[Photo],
    wish: Wish,
    limits: Limits,
    summary: Summary,
    background: bytes | None = None,
    on_done: Callable[[Photo], None] = lambda photo: None,
) -> None:
    """Fills `summary` photo by photo; `on_done` hears of each."""
    summary.total = len(photos)
    for photo, error in _each(models, photos, wish, limits, summary, background):
        if error is None:
            summary.success += 1
        else:
            summary.failed.append((photo.name, error))
        on_done(photo)


def _each(
    models: Models,
    photos: list[Photo],
    wish: Wish,
    limits: Limits,
    summary: Summary,
    background: bytes | None,
) -> Iterator[tuple[Photo, str | None]]:
    for photo in photos:
        started = time.perf_counter()
        error = None
        try:
            result = run_routed(models, photo.source.read_bytes(), wish, limits, background)
            waits = result.route == "review"
            target = photo.review if waits else photo.target
            target.parent.mkdir(parents=True, exist_ok=True)
            result.save(target)
            summary.review += waits
        except MattehornError as caught:
            error = f"{caught.code}: {caught.message}"
        except OSError as caught:
            error = f"{type(caught).__name__}: {caught.strerror}"
        summary.seconds += time.perf_counter() - started
        yield photo, error
