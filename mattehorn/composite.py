"""Compositing: the subject over a colour, gradient, scene, picture or its own blurred background, a shadow between.

Colours are mixed as stored (sRGB), as every editor and browser does by default, so that a cutout laid over a page
equals our composite. Not foreground estimation. `mattehorn.pipeline` calls `lay_over`. All alpha is straight. Memory
at full size: the answer (3 or 4 bytes a pixel), one byte a pixel of shadow, and strips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from mattehorn.colour import Gradient, paint_gradient
from mattehorn.scenes import paint_scene

Uint8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]
Matte = Uint8 | Float

_STRIP_PX = 250_000  # pixels mixed at once: 1 MB of float32 stays in the processor's cache
_FULL_SIZE_SIGMA = 6.0  # blurs up to here run at full size in strips (37 taps); wider ones on a reduced picture
_WORKING_SIGMA = 2.0  # of a blur on a reduced picture: still within a level of the full one once enlarged
_PRIOR_FACTOR = 8.0  # what lies behind the subject need not be sharper than 1/8
_PRIOR = 1e-3  # weight of the surroundings' colour where the blur's own reach holds almost no background
_CONTACT_BAND = 0.12  # a contact shadow is cast by the lowest 12 % of the subject's height: where it stands
_CONTACT_FLATTEN = 0.25  # a shadow on the ground, seen from the front, is about a quarter as high as it is wide


@dataclass(frozen=True)
class Colour:
    """One colour, each part 0..255."""

    red: int
    green: int
    blue: int
    alpha: int = 255


@dataclass(frozen=True)
class GradientFill:
    gradient: Gradient


@dataclass(frozen=True)
class SceneFill:
    """One of mattehorn.scenes, by its name."""

    name: str


@dataclass(frozen=True)
class Picture:
    """`rgb` uint8 [h, w, 3] with `alpha` uint8 [h, w] or None. fill covers the frame and is cut at its edges, fit is
    shown whole and leaves the rest transparent; both centred, aspect kept."""

    rgb: Uint8
    alpha: Uint8 | None
    scaling: Literal["fill", "fit"] = "fill"


@dataclass(frozen=True)
class Blur:
    """The photo's own background, Gaussian with this sigma."""

    sigma_px: float


Background = Colour | GradientFill | SceneFill | Picture | Blur


@dataclass(frozen=True)
class Shadow:
    """Black, between background and subject. drop: the subject's shape moved by `offset_px` (right, down) and blurred.
    contact: only where the subject meets the ground, flattened. `opacity` 0..1, `blur_px` a Gaussian sigma."""

    kind: Literal["drop", "contact"]
    opacity: float
    blur_px: float
    offset_px: tuple[int, int]


def composite(foreground: Uint8, alpha: Matte, background: Uint8) -> Uint8:
    """a F + (1 - a) B as uint8 [H, W, 3], rounded; exactly F at alpha 1 and B at alpha 0."""
    result = background.copy()
    _over(result, None, foreground, alpha)
    return result


def lay_over(
    foreground: Uint8, alpha: Matte, image: Uint8, background: Background, shadow: Shadow | None = None
) -> tuple[Uint8, Uint8 | None]:
    """The subject over `background`: rgb uint8 [H, W, 3] and its straight alpha, None when all is opaque.

    `foreground` is F, `alpha` float32 0..1 or uint8 [H, W], `image` the photo, needed for Blur.
    """
    height, width = alpha.shape
    rgb, backdrop = _backdrop(background, foreground, alpha, image, height, width)
    if shadow is not None and shadow.opacity > 0:
        _over(rgb, backdrop, None, shadow_alpha(alpha, shadow))
    _over(rgb, backdrop, foreground, alpha)
    return rgb, None if backdrop is None or cv2.minMaxLoc(backdrop)[0] == 255 else backdrop


def background_blur(image: Uint8, alpha: Matte, sigma_px: float, foreground: Uint8 | None = None) -> Uint8:
    """The photo's background without the subject, blurred: blur(w B) / blur(w), so no halo of the subject.

    B = (I - a F) / (1 - a); without `foreground` I stands in, which keeps a little of the subject in mixed pixels. An
    error of I or F grows by 1 / (1 - a) in B, so w is (1 - a)^2. Deep inside the subject the nearest background
    colour continues.
    """
    height, width = alpha.shape
    factor = sigma_px / _WORKING_SIGMA if sigma_px > _FULL_SIZE_SIGMA else _PRIOR_FACTOR
    rows, cols = (max(1, round(side / factor)) for side in alpha.shape)
    total, weight = _background_sums(image, alpha, foreground, rows, cols)
    prior = _continued(total, weight)
    if sigma_px > _FULL_SIZE_SIGMA:
        sigmas = sigma_px * cols / width, sigma_px * rows / height
        prior = _normalised(_gauss(total, *sigmas), _gauss(weight, *sigmas), prior)
    result = np.asarray(cv2.resize(_rounded(prior), (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    if sigma_px > _FULL_SIZE_SIGMA:
        return result
    reach = int(np.ceil(3 * sigma_px))
    for strip in _strips(height, width):
        first, last = max(0, strip.start - reach), min(height, strip.stop + reach)
        around, own = slice(first, last), slice(strip.start - first, strip.stop - first)
        total, weight = _left_over(image, alpha, foreground, around)
        blurred = _gauss(total, sigma_px, sigma_px)[own], _gauss(weight, sigma_px, sigma_px)[own]
        result[strip] = _rounded(_normalised(*blurred, result[strip]))
    return result


def shadow_alpha(alpha: Matte, shadow: Shadow) -> Uint8:
    """The shadow's own alpha, uint8 [H, W]; what leaves the frame is lost, nothing comes in from outside."""
    cast = alpha if alpha.dtype == np.uint8 else cv2.convertScaleAbs(alpha, alpha=255)
    cast = np.asarray(cast, np.uint8)
    if shadow.kind == "contact":
        cast = _footprint(cast)
    right, down = shadow.offset_px
    move = np.asarray([[1, 0, right], [0, 1, down]], np.float32)
    moved = cv2.warpAffine(cast, move, cast.shape[::-1], flags=cv2.INTER_NEAREST, borderValue=0)
    blurred = _blurred_plane(np.asarray(moved, np.uint8), shadow.blur_px)
    return np.asarray(cv2.convertScaleAbs(blurred, alpha=shadow.opacity), np.uint8)


def _backdrop(
    background: Background, foreground: Uint8, alpha: Matte, image: Uint8, height: int, width: int
) -> tuple[Uint8, Uint8 | None]:
    """A fresh rgb [H, W, 3] and alpha [H, W] (None: opaque) of the background alone."""
    match background:
        case Colour(red, green, blue, opacity):
            rgb = np.empty((height, width, 3), np.uint8)
            rgb[:] = (red, green, blue)
            return rgb, None if opacity == 255 else np.full((height, width), opacity, np.uint8)
        case GradientFill(gradient):
            return paint_gradient(gradient, height, width)
        case SceneFill(name):
            return paint_scene(name, height, width), None
        case Picture():
            return _placed(background, height, width)
        case Blur(sigma_px):
            return background_blur(image, alpha, sigma_px, foreground), None


def _placed(picture: Picture, height: int, width: int) -> tuple[Uint8, Uint8 | None]:
    """The picture scaled into the frame."""
    rows, cols = picture.rgb.shape[:2]
    scales = height / rows, width / cols
    if picture.scaling == "fill":
        scale = max(scales)
        part_rows, part_cols = (
            min(have, max(1, round(want / scale))) for have, want in ((rows, height), (cols, width))
        )
        top, left = (rows - part_rows) // 2, (cols - part_cols) // 2
        window = np.s_[top : top + part_rows, left : left + part_cols]
        alpha = None if picture.alpha is None else _scaled(picture.alpha[window], height, width)
        return _scaled(picture.rgb[window], height, width), alpha
    scale = min(scales)
    part_rows, part_cols = (min(room, max(1, round(have * scale))) for have, room in ((rows, height), (cols, width)))
    top, left = (height - part_rows) // 2, (width - part_cols) // 2
    window = np.s_[top : top + part_rows, left : left + part_cols]
    rgb, alpha = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    rgb[window] = _scaled(picture.rgb, part_rows, part_cols)
    alpha[window] = 255 if picture.alpha is None else _scaled(picture.alpha, part_rows, part_cols)
    return rgb, alpha


def _scaled(pixels: Uint8, rows: int, cols: int) -> Uint8:
    """A fresh array [rows, cols, ..]: area average when both sides shrink, else bilinear."""
    shrinks = rows <= pixels.shape[0] and cols <= pixels.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if pixels.shape[:2] == (rows, cols):
        return pixels.copy()
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), (cols, rows), interpolation=how), np.uint8)


def _over(rgb: Uint8, backdrop: Uint8 | None, colour: Uint8 | None, alpha: Matte) -> None:
    """`colour` (None: black) with `alpha` over `rgb` with alpha `backdrop` (None: opaque), in place.

    Porter and Duff's over for straight alpha: a' = a + b (1 - a), C' = (a C + b (1 - a) B) / a'. cv2.blendLinear
    divides by the sum of its weights, which is just that a'.
    """
    for rows in _strips(*alpha.shape):
        top = _unit(alpha[rows])
        below = 1 - top
        if backdrop is not None:
            below *= backdrop[rows] * np.float32(1 / 255)
            backdrop[rows] = (top + below) * np.float32(255) + np.float32(0.5)
        source = np.zeros_like(rgb[rows]) if colour is None else colour[rows]
        rgb[rows] = cv2.blendLinear(source, rgb[rows], top, below)


def _background_sums(image: Uint8, alpha: Matte, foreground: Uint8 | None, rows: int, cols: int) -> tuple[Float, Float]:
    """w B as [rows, cols, 3] and w as [rows, cols], averaged down; full size only in strips."""
    height, width = alpha.shape
    total, weight = np.empty((rows, cols, 3), np.float32), np.empty((rows, cols), np.float32)
    edges = np.round(np.linspace(0, height, rows + 1)).astype(int)
    step = max(1, rows * _STRIP_PX // (height * width))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        sums = _left_over(image, alpha, foreground, slice(int(edges[start]), int(edges[stop])))
        for reduced, full in zip((total, weight), sums, strict=True):
            reduced[start:stop] = cv2.resize(full, (cols, stop - start), interpolation=cv2.INTER_AREA)
    return total, weight


def _left_over(image: Uint8, alpha: Matte, foreground: Uint8 | None, rows: slice) -> tuple[Float, Float]:
    """w B, 0..255, and w, 0..1, of some rows, with w = (1 - a)^2."""
    share = _unit(alpha[rows])
    rest = 1 - share
    weight = rest * rest
    if foreground is None:
        return image[rows] * weight[..., None], weight
    left = image[rows] - foreground[rows] * share[..., None]
    left *= rest[..., None]
    return np.clip(left, 0, 255 * weight[..., None], out=left), weight


def _continued(total: Float, weight: Float) -> Float:
    """Colour [h, w, 3] everywhere: known where `weight` is, elsewhere from ever coarser averages (push and pull)."""
    rows, cols = weight.shape
    if rows * cols == 1:
        return np.divide(total, weight[..., None], out=np.full_like(total, 255 / 2), where=weight[..., None] > 0)
    half = (max(1, cols // 2), max(1, rows // 2))
    coarse = _continued(
        np.asarray(cv2.resize(total, half, interpolation=cv2.INTER_AREA), np.float32),
        np.asarray(cv2.resize(weight, half, interpolation=cv2.INTER_AREA), np.float32),
    )
    return _normalised(total, weight, np.asarray(cv2.resize(coarse, (cols, rows)), np.float32))


def _normalised(total: Float, weight: Float, prior: Uint8 | Float) -> Float:
    """(total + e prior) / (weight + e)."""
    return np.asarray((total + np.float32(_PRIOR) * prior) / (weight + np.float32(_PRIOR))[..., None], np.float32)


def _gauss(values: Float, sigma_x: float, sigma_y: float) -> Float:
    """Gaussian to three sigma, the border continued outward."""
    kernel = (2 * int(np.ceil(3 * sigma_x)) + 1, 2 * int(np.ceil(3 * sigma_y)) + 1)
    done = cv2.GaussianBlur(values, kernel, sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(done, np.float32)


def _blurred_plane(plane: Uint8, sigma_px: float) -> Uint8:
    """A Gaussian over uint8 [H, W] with nothing outside the frame; wide ones on a reduced plane."""
    if sigma_px <= 0:
        return plane
    height, width = plane.shape
    factor = max(1.0, sigma_px / _WORKING_SIGMA)
    cols, rows = max(1, round(width / factor)), max(1, round(height / factor))
    small = cv2.resize(plane, (cols, rows), interpolation=cv2.INTER_AREA)
    sigmas = max(sigma_px * cols / width, 0.1), max(sigma_px * rows / height, 0.1)
    small = cv2.GaussianBlur(small, (0, 0), sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_CONSTANT)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _footprint(cast: Uint8) -> Uint8:
    """The subject's lowest part pressed flat onto its own bottom line: the patch of ground it stands on."""
    left, top, width, height = cv2.boundingRect(cast)
    flat = np.zeros_like(cast)
    if not width:
        return flat
    band = max(1, round(height * _CONTACT_BAND))
    foot = cast[top + height - band : top + height, left : left + width]
    tall = max(1, round(band * _CONTACT_FLATTEN))
    pressed = cv2.resize(foot, (width, tall), interpolation=cv2.INTER_AREA)
    flat[top + height - tall : top + height, left : left + width] = pressed
    return flat


def _rounded(values: Float) -> Uint8:
    """0..255 as uint8, halves rounded up."""
    return np.asarray(np.clip(values + np.float32(0.5), 0, 255), np.uint8)


def _unit(alpha: Matte) -> Float:
    """Alpha as float32 0..1."""
    return alpha * np.float32(1 / 255) if alpha.dtype == np.uint8 else np.asarray(alpha, np.float32)


def _strips(height: int, width: int) -> Iterator[slice]:
    rows = max(1, _STRIP_PX // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))
