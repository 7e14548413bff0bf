"""How far apart two services' cutouts of one photo are, photo by photo; one that fails leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
from numpy.typing import NDArray

from mattehorn.errors import MattehornError
from mattehorn.migration.ask import TIMEOUT, Endpoint, Reply, cut_out

Rgba = NDArray[np.uint8]

_HALF = 128  # of alpha's 255: inside and outside, for the overlap
_OVER = 8  # levels that multiplied colour may lie above its alpha: rounding, and being made smaller
_BRIGHT = 128  # a subject darker than half cannot be told: its colour is below its alpha either way
_BAND = (32, 223)  # alpha of the edge's pixels: half-transparent ones, whose colour shows


@dataclass(frozen=True)
class Difference:
    """Of two cutouts at the smaller one's size. `alpha_mean` 0..1; `iou` of the shapes at alpha 0.5.

    `premultiplied`: whose colour at the edge is dark as if multiplied by its alpha, "ours", "theirs", or both.
    """

    alpha_mean: float
    iou: float
    premultiplied: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """One photo and what became of it at both services; a text says why one gave none."""

    photo: Path
    ours: Reply | str
    theirs: Reply | str
    difference: Difference | None


def compare(
    photos: Iterable[Path], ours: Endpoint, theirs: Endpoint, waiting: Callable[[float], None]
) -> Iterator[Pair]:
    """Both services' answers to each photo in turn, one request at a time."""
    with httpx.Client(timeout=TIMEOUT, follow_redirects=False) as client:
        for photo in photos:
            first, second = (_reply(client, to, photo, waiting) for to in (ours, theirs))
            found = None
            if isinstance(first, Reply) and isinstance(second, Reply):
                found = difference(first.rgba, second.rgba)
            yield Pair(photo, first, second, found)


def _reply(client: httpx.Client, to: Endpoint, photo: Path, waiting: Callable[[float], None]) -> Reply | str:
    """What the service gave, or why it gave nothing."""
    try:
        return cut_out(client, to, photo.name, photo.read_bytes(), waiting)
    except MattehornError as error:
        return error.message
    except OSError as error:
        return f"the photo cannot be read: {error.strerror}."


def difference(ours: Rgba, theirs: Rgba) -> Difference:
    """Of two RGBA pictures [H, W, 4] of one photo, at the smaller one's size."""
    dark = tuple(name for name, one in (("ours", ours), ("theirs", theirs)) if is_premultiplied(one))
    a, b = (one[..., 3].astype(np.float32) / 255 for one in same_size(ours, theirs))
    inside, others = a >= _HALF / 255, b >= _HALF / 255
    union = np.count_nonzero(inside | others)
    iou = np.count_nonzero(inside & others) / union if union else 1.0
    return Difference(float(np.abs(a - b).mean()), float(iou), dark)


def same_size(ours: Rgba, theirs: Rgba) -> tuple[Rgba, Rgba]:
    """Both at the size of the one with fewer pixels; each averaged over area, colour weighted by alpha."""
    height, width = min((one.shape[:2] for one in (ours, theirs)), key=lambda shape: shape[0] * shape[1])
    first, second = (_resized(one, width, height) for one in (ours, theirs))
    return first, second


def _resized(one: Rgba, width: int, height: int) -> Rgba:
    if one.shape[:2] == (height, width):
        return one
    alpha = one[..., 3:].astype(np.float32)
    whole = np.asarray(np.dstack((one[..., :3] * (alpha / 255), alpha)), np.float32)
    small = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    colour = small[..., :3] * 255 / np.maximum(small[..., 3:], 1e-3)
    return np.clip(np.rint(np.dstack((colour, small[..., 3]))), 0, 255).astype(np.uint8)


def is_premultiplied(rgba: Rgba) -> bool:
    """Whether no half-transparent pixel is brighter than its alpha, as colour that was multiplied by it must be."""
    alpha = rgba[..., 3].astype(np.int32)
    band = (alpha >= _BAND[0]) & (alpha <= _BAND[1])
    if not band.any():
        return False
    brightest = rgba[..., :3].max(axis=-1).astype(np.int32)
    solid = alpha > _BAND[1]
    if not solid.any() or np.median(brightest[solid]) < _BRIGHT:
        return False
    return bool(np.quantile(brightest[band] - alpha[band], 0.99) <= _OVER)
