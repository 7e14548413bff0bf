"""The subject, and the photo around it, brought onto the canvas that plan.py planned.

Not here: the geometry, and what lies behind the subject (composite.py). `mattehorn.pipeline` calls it. Colour and matte
are scaled together as premultiplied float32 and divided again, so no colour of a transparent pixel gets into the edge.

The filter is Pillow's bicubic (Keys' a = -0.5), widened where it shrinks. Lanczos is a little sharper, but its second
lobe draws a line of 1 to 3 % opacity beside an edge (measured on a step); bicubic's single negative lobe is clipped
away, and the matte rises without a ripple. Besides the result, memory is that of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mattehorn.layout.plan import AxisPlacement, Placement, Span

Uint8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]
Window = tuple[slice, slice]  # rows, columns
Planes = Callable[[slice, slice], Float]

_TILE_PX = 512  # of the canvas: four planes of float32 are 4 MB
_SOURCE_TILE_PX = 1024  # of the photo, where it shrinks: 16 MB
_REACH = 2  # of the bicubic kernel, in pixels of the coarser of the two grids
_REDUCED_FIRST = 16.0  # source pixels to one of the canvas from which on a tile would need too much of the photo
_LEFT_TO_FILTER = 4.0  # of them after averaging down first, which shows as little as an average of 4 pixels does
_STRIP_PX = 1_000_000  # averaged down at once
_LEAST = np.float32(0.5)  # of 255: less alpha is 0 in 8 bits, and its colour nothing


def place_subject(placement: Placement, foreground: Uint8, alpha: Uint8) -> tuple[Uint8, Uint8]:
    """The subject on the canvas: straight colour uint8 [h, w, 3], 0 where alpha is 0, and alpha uint8 [h, w].

    `foreground` uint8 [H, W, 3] and `alpha` uint8 [H, W] are the photo's. Unscaled pixels are copied, not filtered.
    No alpha rises above the photo's highest, and the margins stay empty.
    """
    rgb = np.zeros((placement.height, placement.width, 3), np.uint8)
    levels = np.zeros((placement.height, placement.width), np.uint8)
    visible = _visible(placement)
    if placement.unscaled:
        there = _source(placement, visible)
        levels[visible] = alpha[there]
        rgb[visible] = foreground[there] * (alpha[there] > 0)[..., None]
        return rgb, levels
    most = _highest(alpha)
    for tile, planes in _tiles(placement, visible, foreground, alpha):
        opacity = planes[3]
        levels[tile] = _levels(opacity, most)
        scale = 255 / np.maximum(opacity, _LEAST) * (levels[tile] > 0)
        for channel, plane in enumerate(planes[:3]):
            rgb[tile][..., channel] = _levels(plane * scale, 255)
    return rgb, levels


def place_alpha(placement: Placement, alpha: Uint8) -> Uint8:
    """The matte alone, equal to that of `place_subject`."""
    levels = np.zeros((placement.height, placement.width), np.uint8)
    visible = _visible(placement)
    if placement.unscaled:
        levels[visible] = alpha[_source(placement, visible)]
        return levels
    most = _highest(alpha)
    for tile, planes in _tiles(placement, visible, None, alpha):
        levels[tile] = _levels(planes[0], most)
    return levels


def place_frame(placement: Placement, picture: Uint8) -> Uint8:
    """A picture uint8 [H, W, 3] of the photo's size, scaled as the subject is and not cut at the margins; beyond its
    border it is mirrored. Outermost pixels continued would leave streaks, which even a wide blur shows."""
    height, width = picture.shape[:2]
    rows, cols = framed = _framed(placement.vertical, height), _framed(placement.horizontal, width)
    canvas = np.zeros((placement.height, placement.width, 3), np.uint8)
    if placement.unscaled:
        canvas[framed] = picture[_source(placement, framed)]
    else:
        for tile, planes in _tiles(placement, framed, picture, None):
            canvas[tile] = _levels(planes, 255).transpose(1, 2, 0)
    borders = (rows.start, placement.height - rows.stop, cols.start, placement.width - cols.stop)
    if not any(borders):
        return canvas
    return np.asarray(cv2.copyMakeBorder(canvas[framed], *borders, cv2.BORDER_REFLECT), np.uint8)


def _tiles(
    placement: Placement, window: Window, colour: Uint8 | None, alpha: Uint8 | None
) -> Iterator[tuple[Window, Float]]:
    """(tile of the canvas, its planes [n, h, w] in 0..255, overshoot and all) all over `window`, empty tiles left out.

    Planes are those of `colour`, premultiplied where `alpha` is given too, and then of `alpha`.
    """
    axes = placement.vertical, placement.horizontal
    given = colour if colour is not None else alpha
    assert given is not None
    sides = given.shape[:2]
    coarse = [axis.source.length / axis.target.length for axis in axes]
    planes: Planes = lambda rows, cols: _premultiplied(colour, alpha, rows, cols)  # noqa: E731
    kept = [1.0, 1.0]
    if max(coarse) > _REDUCED_FIRST:
        smaller = [max(1, round(side * min(1, _LEFT_TO_FILTER / c))) for side, c in zip(sides, coarse, strict=True)]
        reduced = _reduced(planes, sides, smaller)
        planes = lambda rows, cols: reduced[:, rows, cols]  # noqa: E731
        kept = [small / side for small, side in zip(smaller, sides, strict=True)]
        sides = tuple(smaller)
    steps = [max(1, min(_TILE_PX, int(_SOURCE_TILE_PX / (c * k)))) for c, k in zip(coarse, kept, strict=True)]
    for top in range(window[0].start, window[0].stop, steps[0]):
        for left in range(window[1].start, window[1].stop, steps[1]):
            tile = slice(top, min(top + steps[0], window[0].stop)), slice(left, min(left + steps[1], window[1].stop))
            (rows, y), (cols, x) = (
                _needed(axis, part, k, side) for axis, part, k, side in zip(axes, tile, kept, sides, strict=True)
            )
            part = planes(rows, cols)
            if part.any():
                yield tile, _filtered(part, (x[0], y[0], x[1], y[1]), tile)


def _needed(axis: AxisPlacement, part: slice, kept: float, side: int) -> tuple[slice, tuple[float, float]]:
    """(source pixels that the filter reads for a part of the canvas, where the part lies within them). `kept`: source
    pixels, of which `side` are left, for one of the photo."""
    scale = axis.source.length / axis.target.length
    first, last = (
        min(max((axis.source.start + (edge - axis.target.start) * scale) * kept, 0.0), float(side))
        for edge in (part.start, part.stop)
    )
    reach = math.ceil(_REACH * max(1.0, scale * kept)) + 1
    start, stop = max(0, math.floor(first) - reach), min(side, math.ceil(last) + reach)
    return slice(start, stop), (first - start, last - start)


def _filtered(planes: Float, box: tuple[float, float, float, float], tile: Window) -> Float:
    size = tile[1].stop - tile[1].start, tile[0].stop - tile[0].start
    return np.stack(
        [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC, box)) for plane in planes]
    )


def _premultiplied(colour: Uint8 | None, alpha: Uint8 | None, rows: slice, cols: slice) -> Float:
    """Planes [n, h, w] of a part of the photo, 0..255."""
    planes = []
    opacity = None if alpha is None else alpha[rows, cols].astype(np.float32)
    if colour is not None:
        planes += [plane.astype(np.float32) for plane in cv2.split(colour[rows, cols])]
        if opacity is not None:
            share = opacity * np.float32(1 / 255)
            planes = [plane * share for plane in planes]
    if opacity is not None:
        planes.append(opacity)
    return np.stack(planes)


def _reduced(planes: Planes, sides: tuple[int, ...], smaller: list[int]) -> Float:
    """All planes averaged down to `smaller` (rows, columns), the photo read in strips."""
    (height, width), (rows, cols) = sides, smaller
    edges = np.round(np.linspace(0, height, rows + 1)).astype(int).tolist()
    step = max(1, rows * _STRIP_PX // (height * width))
    strips = []
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        strip = planes(slice(edges[start], edges[stop]), slice(0, width))
        strips.append(
            np.stack([cv2.resize(plane, (cols, stop - start), interpolation=cv2.INTER_AREA) for plane in strip])
        )
    return np.concatenate(strips, axis=1)


def _levels(values: Float, most: float) -> Uint8:
    """0..`most`, halves rounded up."""
    return np.asarray(np.clip(values + np.float32(0.5), 0, np.float32(most + 0.5)), np.uint8)


def _highest(alpha: Uint8) -> float:
    return float(cv2.minMaxLoc(alpha)[1])


def _visible(placement: Placement) -> Window:
    """The part of the canvas in which the subject can show."""
    rows, cols = (_overlap(axis.target, axis.clip) for axis in (placement.vertical, placement.horizontal))
    return rows, cols


def _framed(axis: AxisPlacement, side: int) -> slice:
    """The part of the canvas that the photo's frame, `side` pixels long, covers wholly."""
    scale = Fraction(axis.target.length, axis.source.length)
    start = math.ceil(axis.target.start - axis.source.start * scale)
    end = math.floor(axis.target.start + (side - axis.source.start) * scale)
    return _overlap(Span(start, end - start), Span(0, axis.canvas))


def _overlap(one: Span, other: Span) -> slice:
    return slice(max(one.start, other.start), min(one.end, other.end))


def _source(placement: Placement, window: Window) -> Window:
    """The photo's pixels of a part of the canvas, where nothing is scaled."""
    rows, cols = (
        slice(axis.source.start + part.start - axis.target.start, axis.source.start + part.stop - axis.target.start)
        for axis, part in zip((placement.vertical, placement.horizontal), window, strict=True)
    )
    return rows, cols
