"""What remove.bg's contract asks of a result and no native option does, as one frozen value beside the options.

A size limit in pixels that holds before anything else is done, a placement of its own, a region that must lie within
the photo, no half-transparency inside the subject, and the form of the file. Pure: `mattehorn.pipeline` calls it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from mattehorn.composite import Colour, lay_over
from mattehorn.errors import OptionError
from mattehorn.foreground import extend_colour, zero_hidden
from mattehorn.image import encode
from mattehorn.image.decode import Decoded
from mattehorn.layout.pixels import place_subject
from mattehorn.layout.plan import AxisPlacement, Layout, Placement, Span
from mattehorn.options import Options

Form = Literal["auto", "png", "jpg", "webp", "zip"]
Uint8 = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]

BLEED_PX = 16  # the contract's: two blocks of a JPEG, so that none mixes the subject's colour with another
_PAIR_QUALITY = 95  # 4:4:4 from here on, so that the subject's edge keeps its colour
_WHITE = Colour(255, 255, 255)


@dataclass(frozen=True)
class Rendition:
    """`most_pixels`: the photo is shrunk to it first, its ratio kept. `layout`: in place of the options' own. `form`:
    the file, None where the options name it; jpg shows transparency on white, auto is png with any transparency and
    else jpg, zip is color.jpg and alpha.png. `solid`: what the subject encloses is opaque. An `roi` of the options may
    not reach beyond the photo. `subject_level`: alpha up to it, and islands without anything solid, do
    not count where the subject is measured."""

    most_pixels: int | None = None
    layout: Layout | None = None
    form: Form | None = None
    solid: bool = False
    subject_level: int | None = None


NOTHING_MORE = Rendition()


def size_within(width: int, height: int, most_pixels: int | None) -> tuple[int, int]:
    """(width, height), shrunk to at most `most_pixels` with the ratio kept; sides are rounded down, to 1 at least."""
    if most_pixels is None or width * height <= most_pixels:
        return width, height
    scale = math.sqrt(most_pixels / (width * height))
    short = max(1, math.floor(min(width, height) * scale))
    long = max(1, min(math.floor(max(width, height) * scale), most_pixels // short))
    return (long, short) if width >= height else (short, long)


def check_region(options: Options, width: int, height: int) -> None:
    """Raises OptionError for a region that is empty or reaches beyond the photo; its `problem` says which."""
    if options.roi is None:
        return
    sizes = (width, height, width, height)
    edges = [
        number * size / 100 if unit == "%" else number
        for (number, unit), size in zip(options.roi_parts, sizes, strict=True)
    ]
    if any(edge > size for edge, size in zip(edges, sizes, strict=True)):
        raise OptionError(
            f"roi is '{options.roi}', which reaches beyond the {width}x{height} picture.",
            field="roi",
            problem="outside",
        )
    left, top, right, bottom = (round(edge) for edge in edges)
    if right <= left or bottom <= top:
        raise OptionError(
            f"roi is '{options.roi}', which holds no pixel of the {width}x{height} picture; "
            "give x1 y1 x2 y2 with x1 < x2 and y1 < y2.",
            field="roi",
            problem="empty",
        )


def shrunk(photo: Decoded, most_pixels: int | None) -> Decoded:
    """The photo with at most so many pixels; `info` goes on to tell of the file. Colour and transparency are averaged
    as premultiplied, so that what is transparent lends no colour to what is not."""
    height, width = photo.rgb.shape[:2]
    cols, rows = size_within(width, height, most_pixels)
    if (cols, rows) == (width, height):
        return photo
    if photo.alpha is None:
        small = cv2.resize(photo.rgb, (cols, rows), interpolation=cv2.INTER_AREA)
        return replace(photo, rgb=np.asarray(small, np.uint8))
    axes = (
        AxisPlacement(small, Span(0, large), Span(0, small), Span(0, small))
        for small, large in ((cols, width), (rows, height))
    )
    rgb, alpha = place_subject(Placement(*axes), photo.rgb, photo.alpha)
    return replace(photo, rgb=rgb, alpha=alpha)


def scaled_box(box: Box | None, shape: tuple[int, ...], to_shape: tuple[int, ...]) -> Box | None:
    """(top, left, height, width) of a picture of `shape` (rows, columns) as it lies in one of `to_shape`, all of it."""
    if box is None or shape[:2] == to_shape[:2]:
        return box
    top, left, height, width = box
    (start_y, end_y), (start_x, end_x) = (
        (start * large // small, -(-(start + length) * large // small))
        for start, length, small, large in zip((top, left), (height, width), shape, to_shape, strict=False)
    )
    return start_y, start_x, end_y - start_y, end_x - start_x


def scaled_region(roi: Box | None, shape: tuple[int, ...], to_shape: tuple[int, ...]) -> Box | None:
    """(left, top, right, bottom) of a picture of `shape` in one of `to_shape`; at least one pixel of it."""
    if roi is None or shape[:2] == to_shape[:2]:
        return roi
    left, top, right, bottom = roi
    (start_y, end_y), (start_x, end_x) = (
        _part(start, end, small, large)
        for start, end, large, small in zip((top, left), (bottom, right), shape, to_shape, strict=False)
    )
    return start_x, start_y, end_x, end_y


def _part(start: int, end: int, small: int, large: int) -> tuple[int, int]:
    first = min(small - 1, round(start * small / large))
    return first, min(small, max(first + 1, round(end * small / large)))


def render(
    form: Form, rgb: Uint8, alpha: Uint8 | None, quality: int, dpi: int | None, *, composite: bool = False
) -> tuple[bytes, str]:
    """(bytes, file extension) of a picture in the form asked for; `alpha` None: all is opaque. A composite's zip is
    opaque, what shows through its background white."""
    if alpha is not None and form == "zip" and composite:
        rgb, alpha = lay_over(rgb, alpha, rgb, _WHITE)
    if alpha is not None and alpha.min() == 255:
        alpha = None
    if form == "zip":
        return _pair(rgb, alpha, quality, dpi), "zip"
    chosen = ("jpg" if alpha is None else "png") if form == "auto" else form
    if alpha is not None and chosen == "jpg":
        rgb, alpha = lay_over(rgb, alpha, rgb, _WHITE)
    if alpha is None:
        return encode.encode_opaque(rgb, chosen, quality, dpi), chosen
    return encode.encode_cutout(zero_hidden(rgb, alpha), alpha, chosen, quality, dpi), chosen


def _pair(rgb: Uint8, alpha: Uint8 | None, quality: int, dpi: int | None) -> bytes:
    levels = np.full(rgb.shape[:2], 255, np.uint8) if alpha is None else alpha
    colour = rgb if alpha is None else extend_colour(rgb, alpha, BLEED_PX)
    return encode.encode_zip(
        {
            "color.jpg": encode.encode_opaque(colour, "jpg", max(_PAIR_QUALITY, quality), dpi),
            "alpha.png": encode.encode_alpha(levels, "png", 100, dpi),
        }
    )
