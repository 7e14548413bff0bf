"""The matte's edge options and small questions about a matte: threshold, erosion, feather, given alpha, box.

Not the way from the network's size to full size (`mattehorn.resize`). `mattehorn.pipeline` calls these on float32
0..1 [H, W]. Every function returns a new array or, where an option is off, its input; none writes into its input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Uint8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]
Given = Literal["multiply", "trust", "ignore"]

_LEVELS = 255  # the contract's thresholds are 8-bit levels
_TILE_PX = 256  # 256 KiB of float32: a tile and its result stay in the processor's cache
_REACH_SIGMAS = 3  # a Gaussian beyond 3 sigma weighs 0.3 %
_COARSE_SIGMA = 4.0  # wider feathers are computed on a matte small enough to make them this wide
_CUT_LEVEL = 127
_SOLID = 128  # as everywhere in the contract: from here on a pixel is subject
_FAINT, _FULL = 12, 243  # within 5 % of 0 or 255 a level says nothing but noise
_HALF_LEVEL = 0.5 / _LEVELS  # closer than this to 0 or 1 is 0 or 1 in 8 bits


def soften_threshold(alpha: Float, threshold: int) -> Float:
    """min(a, k(a - t)) clipped at 0, with k = max(2, 255/(255 - t)): noise up to `threshold` (0..254 of 255) goes to 0.

    Alpha from 2t on is unchanged while t <= 127; nothing is ever raised, 1 stays 1, and no step appears.
    """
    if threshold == 0:
        return alpha
    slope = max(2.0, _LEVELS / (_LEVELS - threshold))
    lowered = alpha * np.float32(slope)
    lowered -= np.float32(slope * threshold / _LEVELS)
    np.minimum(lowered, alpha, out=lowered)
    np.maximum(lowered, 0, out=lowered)
    if threshold > _LEVELS // 2:  # there k(1 - t) is 1 only up to rounding
        lowered[alpha >= 1] = 1
    return lowered


def erode(alpha: Float, radius_px: float) -> Float:
    """Grey-scale minimum over the disc dx^2 + dy^2 <= r^2, r in 0..20; fractions blend the neighbouring whole radii.

    Pixels outside the picture do not count, so a subject cut by the border keeps its edge there.
    """
    lower = int(radius_px)
    share = radius_px - lower
    if share == 0:
        return alpha if lower == 0 else _by_tiles(alpha, lower, lambda part: _minimum(part, lower))

    def blended(part: Float) -> npt.NDArray[np.generic]:
        return cv2.addWeighted(_minimum(part, lower), 1 - share, _minimum(part, lower + 1), share, 0)

    return _by_tiles(alpha, lower + 1, blended)


def feather(alpha: Float, sigma_px: float) -> Float:
    """Gaussian blur of the matte, sigma 0..50 px; the border is continued outward."""
    if sigma_px <= 0:
        return alpha
    if sigma_px > _COARSE_SIGMA:
        return _feather_coarse(alpha, sigma_px)
    reach = int(np.ceil(_REACH_SIGMAS * sigma_px))
    kernel = (2 * reach + 1, 2 * reach + 1)
    return _by_tiles(
        alpha, reach, lambda part: cv2.GaussianBlur(part, kernel, sigma_px, borderType=cv2.BORDER_REPLICATE)
    )


def refine_edges(alpha: Float, threshold: int, erode_px: float, feather_px: float) -> Float:
    """The contract's edge options in their order: threshold, erode, feather."""
    return feather(erode(soften_threshold(alpha, threshold), erode_px), feather_px)


def binarise(alpha: Float) -> Float:
    """Every pixel 0 or 1: opened by a 3 px cross, blurred with sigma 2 px over 5 px, cut at 127 of 255. It is what
    rembg's `ppm` asks for; no native option does."""
    levels = cv2.morphologyEx(to_uint8(alpha), cv2.MORPH_OPEN, _disc(1))
    levels = cv2.GaussianBlur(levels, (5, 5), 2.0)
    return np.asarray(levels >= _CUT_LEVEL, np.float32)


def fill_enclosed(alpha: Float) -> Float:
    """The matte with every half-transparent patch opaque that the subject encloses, such as a car's windows. A patch
    that touches what is wholly transparent is an edge, hair or a glass, and stays."""
    levels = to_uint8(alpha)
    count, labels = cv2.connectedComponents(cv2.inRange(levels, _FAINT + 1, _FULL - 1), connectivity=8)
    beside_nothing = cv2.dilate(cv2.inRange(levels, 0, _FAINT), np.ones((3, 3), np.uint8)) > 0
    enclosed = np.ones(count, np.bool_)
    enclosed[labels[beside_nothing]] = False
    enclosed[0] = False
    return np.where(enclosed[labels], np.float32(1), alpha)


def combine_with_given(alpha: Float, given: Uint8 | None, mode: Given) -> Float:
    """The matte under the photo's own transparency `given`: multiply never makes transparent opaque, trust takes
    `given` alone, ignore drops it."""
    if given is None or mode == "ignore":
        return alpha
    if mode == "trust":
        return np.asarray(given * np.float32(1 / _LEVELS), np.float32)
    product = cv2.multiply(alpha, given, scale=1 / _LEVELS, dtype=cv2.CV_32F)
    return np.asarray(cv2.min(product, alpha), np.float32)  # 255/255 may round above 1


def unknown_region(alpha: Float, dilate_px: int) -> npt.NDArray[np.bool_]:
    """True where alpha is neither 0 nor 1 in 8 bits, grown by a disc of `dilate_px`."""
    inside = cv2.inRange(alpha, _HALF_LEVEL, 1 - _HALF_LEVEL)
    if dilate_px > 0:
        inside = cv2.dilate(inside, _disc(dilate_px))
    return np.asarray(inside, np.uint8).astype(np.bool_)


def to_uint8(alpha: Float) -> Uint8:
    """Alpha as 0..255, halves rounded up."""
    levels = np.empty(alpha.shape, np.uint8)
    for rows in _strips(alpha):
        scaled = alpha[rows] * np.float32(_LEVELS)
        scaled += np.float32(0.5)
        levels[rows] = scaled  # the cast cuts off
    return levels


def bounding_box(alpha: Uint8) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of the pixels above 0; None when there are none."""
    left, top, width, height = cv2.boundingRect(alpha)
    return (top, left, height, width) if width else None


def subject_box(alpha: Uint8, above: int) -> tuple[int, int, int, int] | None:
    """As `bounding_box`, of the pixels above that level without islands that are nowhere solid, if any is: a faint
    speck far from the subject would be in the way of a crop."""
    seen = cv2.inRange(alpha, above + 1, _LEVELS)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(seen, connectivity=8)
    solid = np.zeros(len(boxes), np.bool_)
    for rows in _strips(alpha):
        solid[labels[rows][alpha[rows] >= _SOLID]] = True
    islands = np.flatnonzero(solid) if solid.any() else np.arange(1, len(boxes))
    if not len(islands):
        return None
    left, top, width, height = boxes[islands, : cv2.CC_STAT_AREA].T
    right, bottom = int((left + width).max()), int((top + height).max())
    return int(top.min()), int(left.min()), bottom - int(top.min()), right - int(left.min())


def _minimum(alpha: Float, radius: int) -> Float:
    return np.asarray(cv2.erode(alpha, _disc(radius)), np.float32) if radius else alpha


def _disc(radius: int) -> Uint8:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius, np.uint8)


def _feather_coarse(alpha: Float, sigma_px: float) -> Float:
    """The same blur on a matte reduced by `factor`; shrinking (a box) and enlarging (a triangle) blur too, by
    factor^2 / 12 and factor^2 / 6 of variance, which the Gaussian leaves out."""
    height, width = alpha.shape
    factor = sigma_px / _COARSE_SIGMA
    rows, cols = (max(1, round(side / factor)) for side in alpha.shape)
    small = cv2.resize(alpha, (cols, rows), interpolation=cv2.INTER_AREA)
    sigmas = [
        np.sqrt(max(sigma_px**2 - (full / part) ** 2 / 4, 0.01)) * part / full
        for full, part in ((width, cols), (height, rows))
    ]
    small = cv2.GaussianBlur(small, (0, 0), sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REPLICATE)
    large = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    return np.minimum(large, 1, out=large)  # averages of ones may round above 1


def _by_tiles(alpha: Float, reach: int, filtered: Callable[[Float], npt.NDArray[np.generic]]) -> Float:
    """`filtered` over the whole matte, tile by tile with `reach` px around; a tile that holds one value is copied.

    Most of a matte is 0 or 1, so most tiles cost a look. Right for filters that leave a constant as it is.
    """
    height, width = alpha.shape
    tile = max(_TILE_PX, 4 * reach)
    result = np.empty_like(alpha)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            y, x = max(top - reach, 0), max(left - reach, 0)
            part = alpha[y : bottom + reach, x : right + reach]
            low, high, _, _ = cv2.minMaxLoc(part)
            done = part if low == high else filtered(np.ascontiguousarray(part))
            result[top:bottom, left:right] = done[top - y : bottom - y, left - x : right - x]
    return result


def _strips(alpha: Float | Uint8) -> Iterator[slice]:
    """Row slices of about a quarter of a megapixel, so that temporaries stay small."""
    rows = max(1, _TILE_PX * 1024 // max(1, alpha.shape[1]))
    return (slice(top, top + rows) for top in range(0, alpha.shape[0], rows))
