"""The matting and segmentation scores, as functions of two arrays: alpha and truth, float32 [H, W] in 0..1.

Pure numpy and OpenCV, no files and no models. Called by `evaluate.py` here; meant for training's validation too.
Definitions, with papers and the forms chosen where papers differ: docs/evaluation.md. `region` (bool [H, W]) limits a
score to the pixels where it is true; what looks at neighbours (Grad, Conn) still sees the whole picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Alpha = NDArray[np.float32]
Region = NDArray[np.bool_]
Curve = NDArray[np.float64]

PER = 1000  # SAD, Grad and Conn are sums, given in thousands as the alphamatting.com benchmark does
FOREGROUND = 0.5  # IoU and Dice: alpha >= 0.5 against truth >= 0.5, which for 8 bits is > 127
FAILURE = 0.3  # an IoU below this is a missed subject

GRAD_SIGMA = 1.4  # pixels; Rhemann et al., CVPR 2009
_GRAD_REACH = 4  # pixels: 3 sigma; beyond, the derivative's weights are under 1 % of its largest
CONN_STEP = 0.1  # between thresholds; Rhemann et al.
CONN_THETA = 0.15  # smaller distances to the connected level count as connected; Rhemann et al.
CONN_LEVELS = round(1 / CONN_STEP)

F_BETA2 = 0.3  # precision weighs more than recall; Achanta et al., CVPR 2009
F_LEVELS = 255  # thresholds 1/255 .. 255/255: every level of an 8-bit matte

SURE_FOREGROUND, SURE_BACKGROUND = 0.95, 0.05  # truth between them is unknown in the trimap
BAND_SHARE = 1 / 80  # radius over the long side: 4 cells of a 320 px network, 10 px at 800; an edge that a network
# puts two of its cells off, which is usual, is scored whole


@dataclass(frozen=True)
class Scores:
    """One photo's scores over one region. Less is better up to `conn`, more from `iou` on."""

    sad: float
    mse: float
    mad: float
    grad: float
    conn: float
    iou: float
    dice: float
    max_f: float


METRICS = tuple(Scores.__dataclass_fields__)
MORE_IS_BETTER = frozenset(("iou", "dice", "max_f"))


class FCurve(NamedTuple):
    """Precision and recall [255] of alpha >= k/255 for k = 1..255."""

    precision: Curve
    recall: Curve


@dataclass(frozen=True)
class PhotoScores:
    """Scores over the whole photo and in the unknown band (None when truth has no edge), and the F curves of both."""

    whole: Scores
    unknown: Scores | None
    whole_curve: FCurve
    unknown_curve: FCurve | None


def score_photo(alpha: Alpha, truth: Alpha) -> PhotoScores:
    """Every score of one photo. Raises ValueError for two shapes, or values that are not float32 in 0..1."""
    _check(alpha, truth)
    gradient, connectivity = grad_error(alpha, truth), conn_error(alpha, truth)
    band = unknown_band(truth)
    everything = np.ones(truth.shape, np.bool_)
    whole, whole_curve = _scores(alpha, truth, gradient, connectivity, everything)
    if not band.any():
        return PhotoScores(whole, None, whole_curve, None)
    unknown, unknown_curve = _scores(alpha, truth, gradient, connectivity, band)
    return PhotoScores(whole, unknown, whole_curve, unknown_curve)


def _scores(alpha: Alpha, truth: Alpha, gradient: Alpha, connectivity: Alpha, region: Region) -> tuple[Scores, FCurve]:
    curve = f_curve(alpha, truth, region)
    return Scores(
        sad=sad(alpha, truth, region),
        mse=mse(alpha, truth, region),
        mad=mad(alpha, truth, region),
        grad=_sum(gradient, region) / PER,
        conn=_sum(connectivity, region) / PER,
        iou=iou(alpha, truth, region),
        dice=dice(alpha, truth, region),
        max_f=max_f(curve),
    ), curve


def sad(alpha: Alpha, truth: Alpha, region: Region | None = None) -> float:
    """Sum of absolute differences, in thousands."""
    return _sum(np.abs(alpha - truth), region) / PER


def mad(alpha: Alpha, truth: Alpha, region: Region | None = None) -> float:
    """Mean absolute difference, also called MAE."""
    return _mean(np.abs(alpha - truth), region)


def mse(alpha: Alpha, truth: Alpha, region: Region | None = None) -> float:
    """Mean square error."""
    return _mean(np.square(alpha - truth), region)


def grad(alpha: Alpha, truth: Alpha, region: Region | None = None) -> float:
    """Gradient error, in thousands: sum of `grad_error`."""
    return _sum(grad_error(alpha, truth), region) / PER


def conn(alpha: Alpha, truth: Alpha, region: Region | None = None) -> float:
    """Connectivity error, in thousands: sum of `conn_error`."""
    return _sum(conn_error(alpha, truth), region) / PER


def iou(alpha: Alpha, truth: Alpha, region: Region | None = None) -> float:
    """Intersection over union at 0.5; 1 when both are empty."""
    both, found, wanted = _counts(alpha, truth, region)
    return both / (found + wanted - both) if found + wanted else 1.0


def dice(alpha: Alpha, truth: Alpha, region: Region | None = None) -> float:
    """Dice coefficient at 0.5; 1 when both are empty."""
    both, found, wanted = _counts(alpha, truth, region)
    return 2 * both / (found + wanted) if found + wanted else 1.0


def grad_error(alpha: Alpha, truth: Alpha) -> Alpha:
    """(|grad alpha| - |grad truth|)^2 of every pixel, gradients by Gaussian derivatives of sigma 1.4."""
    return np.asarray(np.square(_gradient(alpha) - _gradient(truth)), np.float32)


def conn_error(alpha: Alpha, truth: Alpha) -> Alpha:
    """|phi(alpha) - phi(truth)| of every pixel, phi its degree of connectedness (Rhemann et al., CVPR 2009).

    phi = 1 - d where d >= 0.15, else 1; d is a pixel's value less its connected level: the highest threshold up to
    which the pixel lies in the largest 4-connected part of the pixels where both mattes reach the threshold.
    """
    lower = np.minimum(alpha, truth)
    level = np.zeros(lower.shape, np.float32)
    joined = np.ones(lower.shape, np.bool_)
    for step in range(1, CONN_LEVELS + 1):
        threshold = np.float32(step / CONN_LEVELS)
        joined &= _largest_part(lower >= threshold)
        if not joined.any():
            break
        level[joined] = threshold
    return np.asarray(np.abs(_connectedness(alpha, level) - _connectedness(truth, level)), np.float32)


def _connectedness(values: Alpha, level: Alpha) -> Alpha:
    distance = values - level
    return np.asarray(1 - distance * (distance >= CONN_THETA), np.float32)


def _largest_part(mask: Region) -> Region:
    """The largest 4-connected part of `mask`; the first in reading order of equal ones."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count < 2:
        return np.zeros(mask.shape, np.bool_)
    return np.asarray(labels == 1 + int(np.argmax(facts[1:, cv2.CC_STAT_AREA])), np.bool_)


def f_curve(alpha: Alpha, truth: Alpha, region: Region | None = None) -> FCurve:
    """Precision and recall at 255 thresholds of alpha in 8 bits. Nothing found: precision 0, unless nothing was to be
    found; nothing to be found: recall 1 while nothing is found, else 0."""
    inside = slice(None) if region is None else region
    levels = np.rint(alpha[inside].ravel() * F_LEVELS).astype(np.int64)
    wanted = truth[inside].ravel() >= FOREGROUND
    found = _at_least(np.bincount(levels, minlength=F_LEVELS + 1))
    hits = _at_least(np.bincount(levels[wanted], minlength=F_LEVELS + 1))
    total = int(wanted.sum())
    precision = np.where(found > 0, hits / np.maximum(found, 1), float(total == 0))
    recall = hits / total if total else (found == 0).astype(np.float64)
    return FCurve(precision, recall)


def max_f(curve: FCurve) -> float:
    """The largest F over thresholds, F = (1 + b2) P R / (b2 P + R) with b2 = 0.3 (Achanta et al., CVPR 2009)."""
    precision, recall = curve
    below = F_BETA2 * precision + recall
    values = (1 + F_BETA2) * precision * recall / np.where(below > 0, below, 1)
    return float(values.max())


def unknown_band(truth: Alpha) -> Region:
    """The trimap's unknown region: neither sure foreground nor sure background, each eroded by a disc.

    So 0.05 < truth < 0.95 is dilated by that disc, and a hard edge gets a band of its diameter. The radius is 1/80 of
    the long side, at least 1 px.
    """
    radius = max(1, round(max(truth.shape) * BAND_SHARE))
    disc = np.asarray(np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius, np.uint8)
    sure = [np.asarray(part, np.uint8) for part in (truth >= SURE_FOREGROUND, truth <= SURE_BACKGROUND)]
    foreground, background = (cv2.erode(part, disc) for part in sure)  # the picture's border erodes nothing
    return np.asarray((foreground == 0) & (background == 0), np.bool_)


def _gradient(alpha: Alpha) -> Alpha:
    """Gradient magnitude. Each 2-D derivative kernel is scaled to a sum of squares of 1, as the benchmark's are."""
    at = np.arange(-_GRAD_REACH, _GRAD_REACH + 1, dtype=np.float64)
    bell = np.exp(-(at**2) / (2 * GRAD_SIGMA**2))
    slope = at * bell
    bell, slope = (kernel / np.sqrt(np.square(kernel).sum()) for kernel in (bell, slope))
    across, down = (
        cv2.sepFilter2D(alpha, cv2.CV_32F, x, y, borderType=cv2.BORDER_REPLICATE)
        for x, y in ((slope, bell), (bell, slope))
    )
    return np.asarray(cv2.magnitude(across, down), np.float32)


def _counts(alpha: Alpha, truth: Alpha, region: Region | None) -> tuple[int, int, int]:
    """Pixels in (both, alpha, truth) at 0.5."""
    inside = slice(None) if region is None else region
    found, wanted = alpha[inside] >= FOREGROUND, truth[inside] >= FOREGROUND
    return int((found & wanted).sum()), int(found.sum()), int(wanted.sum())


def _at_least(histogram: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of level k or more for k = 1..255."""
    return histogram[::-1].cumsum()[::-1][1:]


def _sum(values: Alpha, region: Region | None) -> float:
    return float((values if region is None else values[region]).sum(dtype=np.float64))


def _mean(values: Alpha, region: Region | None) -> float:
    return float((values if region is None else values[region]).mean(dtype=np.float64))


def _check(alpha: Alpha, truth: Alpha) -> None:
    if alpha.shape != truth.shape or alpha.ndim != 2 or alpha.size == 0:
        raise ValueError(f"alpha is {alpha.shape}, truth {truth.shape}; both must be one [H, W] that holds pixels.")
    for name, values in (("alpha", alpha), ("truth", truth)):
        if values.dtype != np.float32 or not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(f"{name} must be float32 in 0..1; it is {values.dtype}, or leaves the range.")


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Rank correlation -1..1 of two equally long lists, ties at their mean rank; None where one of them is all ties."""
    ranks = np.stack([_ranks(np.asarray(values, np.float64)) for values in (first, second)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return None
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def _ranks(values: Curve) -> Curve:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[places], np.float64)
