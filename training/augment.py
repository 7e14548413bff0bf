"""Turns packed photos into views and composites, and does to them what every camera does.

Called by `training/sampler.py`; heavier damage is in `training/degrade.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.degrade import REFERENCE_SIDE, add_noise, as_jpeg, recolour
from training.recipe import Augment, Kind
from training.sources import SUBJECT

Pixels = NDArray[np.uint8]
BACKDROP_MIN = 0.25  # share of a photo's side free of its subject to serve as backdrop
FOREGROUND_REACHES = (0.3, 0.03)  # shares of the side: wide finds the colours, narrow their place
ALPHA_FLOOR = 1e-3  # keeps a blurred mean defined where nothing of the subject is near


@dataclass(frozen=True)
class Layers:
    """A picture on its way to a sample: image uint8 [S, S, 3], alpha and contrast |F - B| uint8 [S, S]."""

    image: Pixels
    alpha: Pixels
    contrast: Pixels
    made_up: bool = False


def view(rgba: Pixels, side: int, fit: float, augment: Augment, rng: Generator) -> Pixels:
    """A square view [S, S, C] of a photo: as the product fits it, or a crop, stretched and turned a little."""
    height, width = rgba.shape[:2]
    stretch = math.exp(rng.uniform(-augment.aspect, augment.aspect) / 2)
    if rng.random() < fit:
        scale = side / max(height * stretch, width / stretch)
        across, down = scale / stretch, scale * stretch
        left = top = 0.0
        border = cv2.BORDER_REPLICATE
    else:
        zoom = rng.uniform(1.0, augment.zoom_max) if rng.random() < 0.7 else rng.uniform(0.8, 1.0)
        # Between the photo's own aspect and the full square, so that few pixels are spent on padding.
        squeeze = (width / height) ** (rng.uniform(0.0, 1.0) / 2)
        across, down = side * zoom * stretch / width * squeeze, side * zoom / stretch / height / squeeze
        left = (width * across - side) * rng.uniform(0, 1)
        top = (height * down - side) * rng.uniform(0, 1)
        border = cv2.BORDER_REFLECT_101
    shrink = max(across, down)
    if shrink < 0.7:  # a plain warp would skip pixels
        rgba = cv2.resize(rgba, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA).astype(np.uint8)
        across, down = across * width / rgba.shape[1], down * height / rgba.shape[0]
    matrix = np.array([[across, 0, -left], [0, down, -top], [0, 0, 1]])
    if rng.random() < augment.rotate:
        turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-1, 1) * augment.rotate_max, 1.0)
        matrix = np.vstack((turn, (0, 0, 1))) @ matrix
    if rng.random() < 0.5:
        # The product pads on the right and bottom; a mirrored photo may be padded on the left: no matter.
        matrix = np.array([[-1, 0, side - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return cv2.warpAffine(rgba, matrix[:2], (side, side), flags=cv2.INTER_LINEAR, borderMode=border).astype(np.uint8)


def free_strip(rgba: Pixels) -> Pixels | None:
    """The largest of the four strips beside the subject's box, or None where it fills the photo."""
    subject = rgba[::2, ::2, 3] > SUBJECT // 4
    rows, columns = np.flatnonzero(subject.any(axis=1)) * 2, np.flatnonzero(subject.any(axis=0)) * 2
    if len(rows) == 0:
        return rgba
    height, width = rgba.shape[:2]
    strips = {
        "top": rows[0] / height,
        "bottom": 1 - (rows[-1] + 2) / height,
        "left": columns[0] / width,
        "right": 1 - (columns[-1] + 2) / width,
    }
    best = max(strips, key=lambda name: strips[name])
    if strips[best] < BACKDROP_MIN:
        return None
    choices = {
        "top": rgba[: rows[0]],
        "bottom": rgba[rows[-1] + 2 :],
        "left": rgba[:, : columns[0]],
        "right": rgba[:, columns[-1] + 2 :],
    }
    return choices[best]


def made_up_backdrop(side: int, rng: Generator) -> Pixels:
    """A plain colour, a gradient, or soft random blotches, [S, S, 3]: studio walls, screens, bokeh."""
    coarse = int(rng.choice((1, 2, 3, 8, 24)))
    colours = rng.integers(0, 256, (coarse, coarse, 3)).astype(np.uint8)
    if rng.random() < 0.25:
        colours[:] = 255 if rng.random() < 0.7 else rng.integers(0, 256)
    return cv2.resize(colours, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def composite(layers: Layers, backdrop: Pixels, kind: Kind, rng: Generator) -> Layers:
    """aF + (1-a)B with F estimated; a hand-made mask is softened first, for its edge has no blend of its own."""
    alpha = layers.alpha
    if kind == "mask":
        alpha = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.6, 1.5)).astype(np.uint8)
    weight = (alpha.astype(np.float32) / 255)[..., None]
    foreground = layers.image if layers.made_up else spread_foreground(layers.image, weight)
    mixed = weight * foreground + (1 - weight) * backdrop
    contrast = np.abs(foreground - backdrop.astype(np.float32)).mean(axis=2)
    return Layers((mixed + 0.5).astype(np.uint8), layers.alpha, contrast.astype(np.uint8))


def spread_foreground(image: Pixels, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """F [S, S, 3] in 0..255 by blur fusion (Forte, ICIP 2021), wide, then narrow: the photo keeps its backdrop."""
    pixels = image.astype(np.float32)
    front = back = pixels
    for share in FOREGROUND_REACHES:
        reach = max(round(share * image.shape[0]) | 1, 3)
        near = cv2.blur(weight, (reach, reach))[..., None]
        front = cv2.blur(front * weight, (reach, reach)) / np.maximum(near, ALPHA_FLOOR)
        back = cv2.blur(back * (1 - weight), (reach, reach)) / np.maximum(1 - near, ALPHA_FLOOR)
        front = front + weight * (pixels - weight * front - (1 - weight) * back)
    return np.asarray(np.where(weight >= 1, pixels, np.clip(front, 0, 255)), np.float32)


def occlude(layers: Layers, rng: Generator) -> Layers:
    """One patch of flat colour on the backdrop: a plain shape is not a subject."""
    side = layers.image.shape[0]
    height, width = (int(rng.uniform(0.1, 0.4) * side) for _ in range(2))
    top, left = int(rng.integers(0, side - height)), int(rng.integers(0, side - width))
    patched = layers.image.copy()
    patch = patched[top : top + height, left : left + width]
    patch[layers.alpha[top : top + height, left : left + width] < SUBJECT // 8] = rng.integers(0, 256, 3)
    return Layers(patched, layers.alpha, layers.contrast)


def photometric(image: Pixels, augment: Augment, rng: Generator) -> Pixels:
    """Blur, noise, colour and JPEG, each by its own draw; [S, S, 3] uint8 in and out, nothing moves."""
    side = image.shape[0]
    if rng.random() < augment.blur:
        sigma = rng.uniform(0.3, augment.blur_max) * side / REFERENCE_SIDE
        image = cv2.GaussianBlur(image, (0, 0), sigma).astype(np.uint8)
    if rng.random() < augment.colour:
        image = recolour(image, rng)
    if rng.random() < augment.grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.uint8)
    if rng.random() < augment.noise:
        image = add_noise(image, rng.uniform(1, augment.noise_max), rng)
    if rng.random() < augment.jpeg:
        image = as_jpeg(image, int(rng.integers(augment.jpeg_min, 96)))
    return image
