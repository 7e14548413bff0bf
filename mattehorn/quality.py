"""How far a matte may be trusted: a score 0..1 and the contract's reasons, from the matte and the photo alone.

A routing and review hint, not an accuracy: no truth is known here. It ranks photos much as their errors do
(docs/evaluation.md has how well). `mattehorn.pipeline` calls `assess`; headers, the web page and `tier=auto` read it.
What the two runs of the check of stability differ by, stability.py measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

Reason = Literal[
    "empty", "cut_by_border", "mostly_semi_transparent", "fragmented", "holes", "low_edge_contrast", "unstable"
]
Uint8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

_SIDE_PX = 320  # what the checks look for is larger than the pixels this loses, and it takes a third of the time of 512
_SOLID = 128  # as everywhere in the contract: from here on a pixel is subject
_EMPTY_SHARE = 2e-4  # mean alpha; 52 of 512x512 pixels, too few to have a shape
_SEMI = (25, 230)  # 0.1..0.9: sure pixels of a good matte lie outside
_HAZE_FINE, _HAZE_BAD = 0.1, 0.7  # share of the subject's pixels within _SEMI: from a clean outline to nothing solid
_DOUBT_BAD = 0.15  # mean over the photo of min(alpha, 1 - alpha): a tenth of photos reach a quarter of it
_SURENESS_LOST = 0.7  # that haze and doubt each may take off the score
_UNSURE = 0.5  # sureness below which the matte is called mostly semi-transparent; hair and motion blur stay above
# Mean difference of a photo's alpha and its mirror image's. Beyond the first bound two in five mattes have an IoU under
# 0.7, below it one in twenty; one photo in a hundred reaches the second (docs/evaluation.md).
_UNSTABLE_FINE, _UNSTABLE_BAD, _UNSTABLE_WEIGHT = 0.015, 0.1, 0.6
_SPECK_SHARE = 0.002  # of the subject; smaller islands and holes are noise that threshold and feather deal with
_MOST_HOLES = 20  # the largest; a net has thousands, and twenty already say enough
_NEIGHBOURHOOD = np.ones((7, 7), np.uint8)  # three pixels each way: past the one or two of an edge that mix


@dataclass(frozen=True)
class Quality:
    """`score` 0..1, 0 for an empty matte; `reasons` in the contract's order, empty for nothing suspicious."""

    score: float
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class _Check:
    """A measurement that is fine up to `fine`, as bad as it gets at `bad`, and then takes `weight` off the score."""

    reason: Reason
    measure: Callable[[Uint8, Uint8], float]
    fine: float
    bad: float
    weight: float

    def penalty(self, alpha: Uint8, image: Uint8) -> float:
        span = (self.measure(alpha, image) - self.fine) / (self.bad - self.fine)
        return self.weight * min(1.0, max(0.0, span))


def assess(alpha: Uint8 | Float, image: Uint8, disagreement: float | None = None) -> Quality:
    """Quality of a matte (uint8, or float32 0..1, [H, W]) for its photo (uint8 [H, W, 3]); `disagreement` is that of
    stability.py, 0..1, where it was measured.

    The score is the matte's sureness times 1 - penalty of each check. Sureness falls with every half-transparent pixel,
    so that most mattes lose a little without a reason; a check's penalty grows linearly between its two bounds, and its
    reason is named as soon as there is any.
    """
    matte, photo = _reduced(alpha, image)
    if matte.mean() < _EMPTY_SHARE * 255:
        return Quality(0.0, ("empty",))
    sureness = _sureness(matte)
    penalties: dict[Reason, float] = {check.reason: check.penalty(matte, photo) for check in _CHECKS}
    if disagreement is not None:
        span = (disagreement - _UNSTABLE_FINE) / (_UNSTABLE_BAD - _UNSTABLE_FINE)
        penalties["unstable"] = _UNSTABLE_WEIGHT * min(1.0, max(0.0, span))
    score = sureness * math.prod(1 - penalty for penalty in penalties.values())
    suspected = {reason for reason, penalty in penalties.items() if penalty > 0}
    if sureness < _UNSURE:
        suspected.add("mostly_semi_transparent")
    return Quality(round(score, 3), tuple(reason for reason in get_args(Reason) if reason in suspected))


def _sureness(alpha: Uint8) -> float:
    """How decided the matte is, 0.09..1: the one property that follows the error of a network's mattes closely."""
    low, high = _SEMI
    shown = np.count_nonzero(alpha >= low)
    haze = np.count_nonzero((alpha >= low) & (alpha <= high)) / shown if shown else 0.0
    doubt = float(np.minimum(alpha, 255 - alpha).mean()) / 255
    lost_to_haze = min(1.0, max(0.0, (haze - _HAZE_FINE) / (_HAZE_BAD - _HAZE_FINE)))
    lost_to_doubt = min(1.0, doubt / _DOUBT_BAD)
    return (1 - _SURENESS_LOST * lost_to_haze) * (1 - _SURENESS_LOST * lost_to_doubt)


def _reduced(alpha: Uint8 | Float, image: Uint8) -> tuple[Uint8, Uint8]:
    """Both at the judged size: every n-th pixel down to about twice that, then area averages."""
    step = max(1, max(alpha.shape) // (2 * _SIDE_PX))
    height, width = (-(-side // step) for side in alpha.shape)
    scale = min(1.0, _SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    matte, photo = (
        np.asarray(cv2.resize(np.ascontiguousarray(full[::step, ::step]), size, interpolation=cv2.INTER_AREA))
        for full in (alpha, image)
    )
    levels = matte if matte.dtype == np.uint8 else cv2.convertScaleAbs(matte, alpha=255)
    return np.asarray(levels, np.uint8), np.asarray(photo, np.uint8)


def _border_share(alpha: Uint8, _image: Uint8) -> float:
    """Share of the frame's outermost pixels that are subject."""
    ring = np.concatenate((alpha[0], alpha[-1], alpha[1:-1, 0], alpha[1:-1, -1]))
    return float((ring >= _SOLID).mean())


def _scatter(alpha: Uint8, _image: Uint8) -> float:
    """Share of the subject outside its largest connected part, specks left out."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(_solid(alpha), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    areas = areas[areas >= _SPECK_SHARE * areas.sum()]
    return float(1 - areas.max() / areas.sum()) if areas.size else 0.0


def _hole_share(alpha: Uint8, image: Uint8) -> float:
    """Area of suspicious holes over the subject's: background that the subject encloses, in the subject's colour.

    A hole through which the background is seen, as in a cup's handle, is right. So a hole counts as far as its colour
    is closer to the rim around it than to the background outside.
    """
    solid = _solid(alpha)
    subject = np.count_nonzero(solid)
    if subject == 0:
        return 0.0
    framed = cv2.copyMakeBorder(1 - solid, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)  # joins all that is outside
    _, labels, stats, _ = cv2.connectedComponentsWithStats(framed, connectivity=4)
    outside = labels[1:-1, 1:-1] == labels[0, 0]
    far = image[outside].mean(axis=0) if outside.any() else None
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    areas[[0, labels[0, 0]]] = 0  # label 0 is the subject
    total = 0
    for label in areas.argsort()[::-1][:_MOST_HOLES].tolist():
        if areas[label] < max(1.0, _SPECK_SHARE * subject):
            break
        hole = (labels[1:-1, 1:-1] == label).astype(np.uint8)
        if far is None or _closer_to_rim(image, hole, solid, far):
            total += int(areas[label])
    return float(total / subject)


def _closer_to_rim(image: Uint8, hole: Uint8, solid: Uint8, far: npt.NDArray[np.float64]) -> bool:
    rim = cv2.bitwise_and(cv2.dilate(hole, _NEIGHBOURHOOD), solid).astype(np.bool_)
    inside = image[hole.astype(np.bool_)].mean(axis=0)
    near = image[rim].mean(axis=0) if rim.any() else far
    return bool(np.abs(inside - near).max() < np.abs(inside - far).max())


def _edge_contrast(alpha: Uint8, image: Uint8) -> float:
    """Median over the edge of the largest channel difference, 0..255, between subject and background close by."""
    low, high = _SEMI
    colours = image.astype(np.float32)
    fore, fore_share = _mean_nearby(colours, alpha > high)
    back, back_share = _mean_nearby(colours, alpha < low)
    solid = _solid(alpha)
    edge = cv2.morphologyEx(solid, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.bool_)
    edge &= (fore_share > 0) & (back_share > 0)
    if not edge.any():
        return 255.0  # nothing to compare is no complaint
    return float(np.median(np.abs(fore[edge] - back[edge]).max(axis=1)))


def _mean_nearby(colours: Float, chosen: npt.NDArray[np.bool_]) -> tuple[Float, Float]:
    """Mean colour of the chosen pixels within reach and their share of the window."""
    weight = chosen.astype(np.float32)
    window = (_NEIGHBOURHOOD.shape[1], _NEIGHBOURHOOD.shape[0])
    share = np.asarray(cv2.blur(weight, window), np.float32)
    share[share < 0.5 / _NEIGHBOURHOOD.size] = 0  # less than one pixel is rounding
    total = np.asarray(cv2.blur(colours * weight[..., None], window), np.float32)
    return np.asarray(total / np.maximum(share, np.float32(1e-6))[..., None], np.float32), share


def _solid(alpha: Uint8) -> Uint8:
    return (alpha >= _SOLID).astype(np.uint8)


_CHECKS = (
    # A portrait ends at the lower border by intent (about 0.15), and such mattes are hardly worse than others.
    _Check("cut_by_border", _border_share, fine=0.01, bad=0.6, weight=0.1),
    # A second part of a twentieth is a shoe or a cup; half outside the main part is not one subject.
    _Check("fragmented", _scatter, fine=0.05, bad=0.5, weight=0.25),
    _Check("holes", _hole_share, fine=0.005, bad=0.15, weight=0.15),
    # 24 levels are seen at a glance; 6 are the noise of a JPEG.
    _Check("low_edge_contrast", _edge_contrast, fine=24, bad=6, weight=0.15),
)
