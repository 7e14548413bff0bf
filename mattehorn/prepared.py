"""What lies between the steps of the main path: a photo before the network, and one with its matte. Values only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mattehorn.image.decode import Decoded
from mattehorn.options import Options
from mattehorn.quality import Quality
from mattehorn.rendition import NOTHING_MORE, Rendition
from mattehorn.resize import Fitted
from mattehorn.settings import Limits
from mattehorn.telemetry import Stages

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Prepared:
    """A decoded photo, and what the network shall see of it (None: its own transparency is trusted). `dpi` is what the
    result is to state; `binary`: alpha is cut to 0 or 1; `rendition`: what goes beyond the options."""

    photo: Decoded
    options: Options
    fitted: Fitted | None
    roi: Box | None
    background: Decoded | None
    stages: Stages
    limits: Limits
    dpi: int | None
    binary: bool = False
    recipe: str = ""  # `name@version;hash`, for the record
    rendition: Rendition = NOTHING_MORE


@dataclass(frozen=True)
class Matted:
    """A photo with its matte, judged and not yet rendered. `box` is (top, left, height, width), None when it is empty;
    `model` and `subject` are what made it and what it saw."""

    foreground: Pixels
    alpha: Pixels
    box: Box | None
    quality: Quality
    model: str = ""
    subject: str | None = None
