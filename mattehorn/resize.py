"""Between a photo and a network's input: fit the picture in, bring the alpha back to full size.

Not for resizing results or layouts. `mattehorn.pipeline` calls `fit` before and `restore_alpha` after the model. Memory
at full size is one float32 plane (the answer) plus one row of coefficients per network row.

A model has its own way back to full size, on its card. `guided` is ours. `lanczos` is that of rembg's models, which are
to answer here as they do there: Pillow's Lanczos filter on 8-bit values, both to the network's input and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mattehorn.errors import ModelError

Fit = Literal["pad", "stretch", "bucket"]
Refine = Literal["none", "guided", "matting"]
Restore = Literal["guided", "lanczos"]
Uint8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]
_T = TypeVar("_T", np.uint8, np.float32)

_BUCKET_PX = 32  # the frozen graphs halve their input five times
_COARSE_SIDE_PX = 1024  # from here on one network pixel covers so little that radius 1 suffices
_EPS = 1e-4  # regularises the 3x3 colour covariance; 1 % of full scale, below which colour says nothing
_LEVEL_SLACK = 5e-5  # of an 8-bit level: k/255 in float32, times 255, falls short of k by up to 3e-5
_CENTRE = 0.5  # colours are shifted by it: float32 moments lose fewer digits near zero

_SURE_FOREGROUND, _SURE_BACKGROUND = 0.95, 0.05  # alphas whose colour is taken as pure
_SURE_INSET = 5  # side of the erosion of sure regions: networks round off the last two pixels
_FILL_SCALES = (
    3,
    7,
    15,
    31,
    63,
)  # windows, in network pixels, from which missing F and B are filled, finest first
_BAND = 7  # side of the dilation of the unknown region, in network pixels
_CONTRAST = 0.03  # |F-B|^2 at which the colour line counts half; below it noise would decide
_LINE_REACH = 0.35  # the colour line may move the guided alpha by no more than this


@dataclass(frozen=True)
class Fitted:
    """`pixels` uint8 [h, w, 3] for the network; the picture is its top left `content_height` x `content_width`,
    the rest is edge-replicated padding. `restore`: how the network's alpha gets back to full size."""

    pixels: Uint8
    content_height: int
    content_width: int
    restore: Restore = "guided"


def fit(image: Uint8, size: int, mode: Fit, restore: Restore = "guided") -> Fitted:
    """The picture (uint8 [H, W, 3]) as the network wants it.

    pad: long side to `size`, aspect kept, padded to [size, size]. stretch: [size, size], aspect lost; with `restore`
    lanczos, resampled as rembg does it. bucket: long side at most `size`, never enlarged, padded to multiples of 32.
    """
    height, width = image.shape[:2]
    if mode == "stretch":
        pixels = _lanczos(image, size, size) if restore == "lanczos" else _resample(image, size, size)
        return Fitted(pixels, size, size, restore)
    longest = max(_BUCKET_PX, size - size % _BUCKET_PX) if mode == "bucket" else size
    scale = longest / max(height, width)
    if mode == "bucket":
        scale = min(1.0, scale)
    rows, cols = (min(longest, max(1, round(side * scale))) for side in (height, width))
    content = _resample(image, rows, cols)
    full_rows, full_cols = (size, size) if mode == "pad" else (_round_up(rows), _round_up(cols))
    padded = cv2.copyMakeBorder(content, 0, full_rows - rows, 0, full_cols - cols, cv2.BORDER_REPLICATE)
    return Fitted(np.asarray(padded, np.uint8), rows, cols, restore)


def crop_alpha(alpha: npt.NDArray[np.generic], fitted: Fitted) -> Float:
    """The network's answer without padding, float32 0..1 [content_height, content_width].

    uint8 is read as 0..255, floats as 0..1 and clipped. Raises ModelError for another shape or values not finite.
    """
    if alpha.shape != fitted.pixels.shape[:2]:
        raise ModelError(f"The network answered {alpha.shape}, its input was {fitted.pixels.shape[:2]}.")
    part = alpha[: fitted.content_height, : fitted.content_width]
    values = np.asarray(part, np.float32)
    if alpha.dtype == np.uint8:
        return np.asarray(values * np.float32(1 / 255), np.float32)
    if not np.isfinite(values).all():
        raise ModelError("The network's alpha is not finite; check the weights or the precision it runs in.")
    return np.clip(values, 0.0, 1.0)


def restore_alpha(
    image: Uint8, fitted: Fitted, network_alpha: npt.NDArray[np.generic], method: Refine = "guided"
) -> Float:
    """Alpha float32 0..1 [H, W] for `image` from the network's answer to `fitted`.

    none: interpolation only. guided: fast guided filter (He and Sun, 2015) with the colours as guide, or the card's own
    way where `fitted.restore` names another. matting: guided, then alpha solved again in the unknown band from local
    foreground and background colours.
    """
    alpha = crop_alpha(network_alpha, fitted)
    height, width = image.shape[:2]
    if method == "guided" and fitted.restore == "lanczos":
        levels = np.asarray(alpha * 255 + _LEVEL_SLACK, np.uint8)  # cut off, as rembg does
        return np.asarray(_lanczos(levels, height, width) * np.float32(1 / 255), np.float32)
    if method == "none":
        return np.clip(_resample(alpha, height, width), 0.0, 1.0)
    guide = fitted.pixels[: fitted.content_height, : fitted.content_width]
    if height * width < guide.shape[0] * guide.shape[1]:  # the photo was enlarged: it knows all that `guide` does
        guide, alpha = image, _resample(alpha, height, width)
    planes = guided_coefficients(guide, alpha)
    if method == "matting":
        planes = np.concatenate((planes, _colour_line(guide, alpha)), axis=1)
    return _evaluate(planes, image)


def _evaluate(planes: Float, image: Uint8) -> Float:
    """Alpha 0..1 of every pixel of `image` from 4 planes (guided) or 9 (guided, then colour line and its weight)."""
    height, width = image.shape[:2]
    alpha = np.empty((height, width), np.float32)
    for rows, block in _rows_upsampled(planes, height, width):
        value = _linear(block, image[rows])
        if block.shape[1] > 4:
            correction = np.clip(_linear(block[:, 4:8], image[rows]) - value, -_LINE_REACH, _LINE_REACH)
            value += correction * block[:, 8]
        np.clip(value, 0.0, 1.0, out=alpha[rows])
    return alpha


def guided_coefficients(guide: Uint8, alpha: Float) -> Float:
    """Planes [h, 4, w] with alpha = (p0 R + p1 G + p2 B) + p3 for uint8 colours near each pixel.

    Guided filter with a colour guide (He et al., 2013): a = (cov(I) + eps)^-1 cov(I, alpha), b = mean(alpha) -
    a.mean(I), both averaged over the windows that hold a pixel.
    """
    colours = [np.subtract(plane * np.float32(1 / 255), _CENTRE, dtype=np.float32) for plane in cv2.split(guide)]
    side = 3 if max(guide.shape[:2]) >= _COARSE_SIDE_PX else 5

    def mean(plane: npt.NDArray[np.generic]) -> Float:
        return np.asarray(cv2.blur(np.asarray(plane, np.float32), (side, side)), np.float32)

    means = [mean(c) for c in colours]
    alpha_mean = mean(alpha)
    right = [mean(c * alpha) - m * alpha_mean for c, m in zip(colours, means, strict=True)]
    cov = {(i, j): mean(colours[i] * colours[j]) - means[i] * means[j] for i in range(3) for j in range(i, 3)}
    slopes = _solve_symmetric(cov, right)
    offset = alpha_mean - sum(a * m for a, m in zip(slopes, means, strict=True))
    slopes = [mean(a) for a in slopes]
    offset = mean(offset) - _CENTRE * sum(slopes)
    return np.stack([*(a / 255 for a in slopes), offset], axis=1, dtype=np.float32)


def _solve_symmetric(cov: dict[tuple[int, int], Float], right: list[Float]) -> list[Float]:
    """x of (cov + eps Id) x = right for every pixel, by cofactors; `cov` holds the upper triangle."""
    xx, yy, zz = (cov[i, i] + _EPS for i in range(3))
    xy, xz, yz = cov[0, 1], cov[0, 2], cov[1, 2]
    c00, c01, c02 = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    c11, c12, c22 = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    # The determinant of a covariance plus eps is at least eps^3; float32 rounding may take it lower.
    scale = 1 / np.maximum(xx * c00 + xy * c01 + xz * c02, np.float32(_EPS**3))
    r0, r1, r2 = right
    return [
        (c00 * r0 + c01 * r1 + c02 * r2) * scale,
        (c01 * r0 + c11 * r1 + c12 * r2) * scale,
        (c02 * r0 + c12 * r1 + c22 * r2) * scale,
    ]


def _colour_line(guide: Uint8, alpha: Float) -> Float:
    """Planes [h, 5, w]: alpha = (I-B).(F-B)/|F-B|^2 as three slopes and an offset for uint8 colours, then its weight
    |F-B|^2/(|F-B|^2 + contrast), 0 outside the dilated unknown region and where F or B is not known nearby."""
    colours = guide * np.float32(1 / 255)
    inset = np.ones((_SURE_INSET, _SURE_INSET), np.uint8)
    sure = [np.asarray(m, np.uint8) for m in (alpha > _SURE_FOREGROUND, alpha < _SURE_BACKGROUND)]
    (fore, fore_known), (back, back_known) = (_nearby_colour(colours, cv2.erode(m, inset)) for m in sure)
    unknown = (alpha >= _SURE_BACKGROUND) & (alpha <= _SURE_FOREGROUND)
    band = cv2.dilate(unknown.astype(np.float32), np.ones((_BAND, _BAND), np.uint8))
    band = cv2.blur(band, (3, 3)) * fore_known * back_known
    line = fore - back
    contrast = np.einsum("hwc,hwc->hw", line, line)
    slopes = line / np.maximum(contrast, np.float32(_EPS))[..., None]
    offset = -np.einsum("hwc,hwc->hw", slopes, back)
    weight = band * contrast / (contrast + np.float32(_CONTRAST))
    return np.stack([*(slopes[..., c] / 255 for c in range(3)), offset, weight], axis=1, dtype=np.float32)


def _nearby_colour(colours: Float, sure: npt.NDArray[np.generic]) -> tuple[Float, Float]:
    """Mean colour [h, w, 3] of the `sure` pixels in the smallest window that holds any, and 1 where one did, else 0."""
    weight = np.asarray(sure, np.float32)
    weighted = colours * weight[..., None]
    filled = np.zeros_like(colours)
    known = np.zeros_like(weight)
    for side in _FILL_SCALES:
        share = cv2.blur(weight, (side, side))
        new = (share > 0.5 / side**2) & (known == 0)  # at least one sure pixel, whatever float32 rounds
        mean = cv2.blur(weighted, (side, side))
        filled[new] = mean[new] / share[new, None]
        known[new] = 1
    return filled, known


def _rows_upsampled(planes: Float, height: int, width: int) -> Iterator[tuple[slice, Float]]:
    """Bilinear enlargement of `planes` [h, P, w] to [height, P, width], a few rows at a time, top to bottom.

    One block lies between two source rows, so it stays in the processor's cache: faster than whole planes.
    """
    source, count, cols = planes.shape
    wide = _resample(np.ascontiguousarray(planes).reshape(source * count, cols), source * count, width)
    wide = wide.reshape(source, count, width)
    at = np.clip((np.arange(height, dtype=np.float64) + 0.5) * (source / height) - 0.5, 0, source - 1)
    above = at.astype(np.int64)
    share = (at - above).astype(np.float32)
    starts = np.flatnonzero(np.diff(above, prepend=-1))
    for start, end in zip(starts, [*starts[1:], height], strict=True):
        row = above[start]
        step = wide[min(row + 1, source - 1)] - wide[row]
        yield slice(int(start), int(end)), share[start:end, None, None] * step + wide[row]


def _linear(block: Float, pixels: Uint8) -> Float:
    """Slopes times colours plus offset: `block` [n, 4.., W], `pixels` uint8 [n, W, 3]."""
    value = block[:, 0] * pixels[..., 0]
    value += block[:, 1] * pixels[..., 1]
    value += block[:, 2] * pixels[..., 2]
    value += block[:, 3]
    return np.asarray(value, np.float32)


def _resample(array: npt.NDArray[_T], rows: int, cols: int) -> npt.NDArray[_T]:
    """[rows, cols, ..]: area average along the sides that shrink, then interpolation along those that grow.

    uint8 grows bicubically, float32 bilinearly, which never leaves the range. Two steps because OpenCV's area mode
    falls back to bilinear for both sides when one grows.
    """
    shrunk = (min(cols, array.shape[1]), min(rows, array.shape[0]))
    if shrunk != (array.shape[1], array.shape[0]):
        array = np.asarray(cv2.resize(array, shrunk, interpolation=cv2.INTER_AREA), array.dtype)
    if shrunk != (cols, rows):
        grow = cv2.INTER_CUBIC if array.dtype == np.uint8 else cv2.INTER_LINEAR
        array = np.asarray(cv2.resize(array, (cols, rows), interpolation=grow), array.dtype)
    return array


def _lanczos(array: Uint8, rows: int, cols: int) -> Uint8:
    """[rows, cols, ..] by Pillow's Lanczos filter, which averages over the reach of a shrunk pixel."""
    return np.asarray(Image.fromarray(array).resize((cols, rows), Image.Resampling.LANCZOS), np.uint8)


def _round_up(pixels: int) -> int:
    return -(-pixels // _BUCKET_PX) * _BUCKET_PX
