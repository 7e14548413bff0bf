"""The photos that are sent and timed: the free ones of tests/photos, and larger ones made from them.

Nothing is fetched and nothing is left to chance: the same call gives the same bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FREE = Path(__file__).parent.parent / "tests" / "photos"
SIZES = {"2 MP": (1632, 1224), "12 MP": (4000, 3000)}  # 4:3, as telephones write them
LARGE = {"25 MP": (5774, 4330), "48 MP": (8000, 6000)}  # remove.bg's largest sizes; as telephones can

_QUALITY = 90
_GRAIN = 7.0  # sigma of the noise: makes a JPEG of 0.3 bytes a pixel, as a telephone's; enlarged alone it has 0.1
_SEED = 2026


@dataclass(frozen=True)
class Photo:
    """One encoded photo, `data`, of `width` x `height` pixels."""

    name: str
    width: int
    height: int
    data: bytes


def small() -> tuple[Photo, ...]:
    """The free photos as they are, 0.14 to 0.27 megapixels."""
    return tuple(_read(path) for path in sorted(FREE.glob("*.jpg")))


def mixed() -> tuple[Photo, ...]:
    """Eight photos: each free one, four of 2 MP and one of 12 MP; 2.6 megapixels on average."""
    cat, coffee, rocket = small()
    return (
        *(cat, made("2 MP")),
        *(coffee, made("2 MP", of="coffee.jpg")),
        *(rocket, made("2 MP")),
        *(made("12 MP"), made("2 MP", of="coffee.jpg")),
    )


SETS = {"small": small, "mixed": mixed}


def made(size: str, *, of: str = "cat.jpg") -> Photo:
    """A free photo, cropped to 4:3, enlarged to a size of SIZES or LARGE, with grain: real edges, a real weight."""
    width, height = (SIZES | LARGE)[size]
    with Image.open(FREE / of) as source:
        tall = source.height
        wide = min(source.width, tall * width // height)
        left = (source.width - wide) // 2
        large = source.convert("RGB").resize(
            (width, height), Image.Resampling.BICUBIC, (left, 0, left + wide, wide * height // width)
        )
    grain = np.random.default_rng(_SEED).normal(0, _GRAIN, (height, width, 1)).astype(np.float32)
    noisy = np.clip(np.asarray(large, np.float32) + grain, 0, 255).astype(np.uint8)
    target = io.BytesIO()
    Image.fromarray(noisy).save(target, "JPEG", quality=_QUALITY)
    return Photo(f"{Path(of).stem} {size}", width, height, target.getvalue())


def _read(path: Path) -> Photo:
    with Image.open(path) as picture:
        width, height = picture.size
    return Photo(path.stem, width, height, path.read_bytes())
