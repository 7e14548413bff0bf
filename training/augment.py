"""Turns packed photos into training samples: a view, often another backdrop, then what cameras and messengers do.

All draws come from one generator a sample, seeded by (recipe seed, sample number): a resumed run sees the same ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.dataset import SUBJECT, Entry, PackedSet
from training.recipe import Augment, Kind

Pixels = NDArray[np.uint8]
KINDS: tuple[Kind, ...] = ("matte", "mask", "teacher")
BACKDROP_MIN = 0.25  # share of a photo's side free of its subject to serve as backdrop
REFERENCE_SIDE = 256  # px, the side at which blur and patch sizes are stated
NOISE_BANK = 1 << 20  # normal deviates kept for all samples: enough for 512x512x3, and drawing them anew is slow


class Sampler:
    """Sample number -> (RGB uint8 [S, S, 3], label uint8 [S, S], kind index), drawn over all sets by weight."""

    def __init__(self, sets: Sequence[PackedSet], weights: Sequence[float], augment: Augment, seed: int) -> None:
        self.sets = sets
        self.weights = np.array(weights) / sum(weights)
        self.cumulative = [np.cumsum(packed.probabilities) for packed in sets]
        self.augment, self.seed = augment, seed

    def draw(self, number: int, side: int, fit: float) -> tuple[Pixels, Pixels, int]:
        """The sample of that number at `side` px; `fit` is the probability of the product's view."""
        rng = np.random.default_rng((self.seed, number))
        packed, entry = self._pick(rng)
        sample = view(packed.rgba(entry), side, fit, self.augment, rng)
        image, label = sample[..., :3], sample[..., 3]
        if rng.random() < self.augment.composite and label.max() > SUBJECT:
            image = composite(image, label, self._backdrop(side, rng), entry.kind, rng)
        elif rng.random() < self.augment.occlude:
            image = occlude(image, label, rng)
        return photometric(image, self.augment, rng), label, KINDS.index(entry.kind)

    def _pick(self, rng: Generator) -> tuple[PackedSet, Entry]:
        index = int(rng.choice(len(self.sets), p=self.weights))
        place = int(np.searchsorted(self.cumulative[index], rng.random()))
        return self.sets[index], self.sets[index].train[min(place, len(self.sets[index].train) - 1)]

    def _backdrop(self, side: int, rng: Generator) -> Pixels:
        """A backdrop [S, S, 3]: mostly the part of another photo beside its subject, else made up."""
        if rng.random() < 0.7:
            packed, entry = self._pick(rng)
            strip = free_strip(packed.rgba(entry))
            if strip is not None:
                return view(strip, side, 0.0, self.augment, rng)[..., :3]
        return made_up_backdrop(side, rng)


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


def composite(image: Pixels, label: Pixels, backdrop: Pixels, kind: Kind, rng: Generator) -> Pixels:
    """aF + (1-a)B with the photo as F; a hand-made mask is softened first, for its edge has no blend of its own."""
    if kind == "mask":
        label = cv2.GaussianBlur(label, (0, 0), rng.uniform(0.6, 1.5)).astype(np.uint8)
    alpha = cv2.merge([label, label, label]).astype(np.uint16)
    mixed = image * alpha + backdrop * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def occlude(image: Pixels, label: Pixels, rng: Generator) -> Pixels:
    """The photo with one patch of flat colour on its backdrop: a plain shape is not a subject."""
    side = image.shape[0]
    height, width = (int(rng.uniform(0.1, 0.4) * side) for _ in range(2))
    top, left = int(rng.integers(0, side - height)), int(rng.integers(0, side - width))
    patched = image.copy()
    patch = patched[top : top + height, left : left + width]
    patch[label[top : top + height, left : left + width] < SUBJECT // 8] = rng.integers(0, 256, 3)
    return patched


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
        start = int(rng.integers(0, NOISE_BANK - image.size))
        noise = noise_bank()[start : start + image.size].reshape(image.shape) * rng.uniform(1, augment.noise_max)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < augment.jpeg:
        quality = int(rng.integers(augment.jpeg_min, 96))
        _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)
    return image


@functools.cache
def noise_bank() -> NDArray[np.float32]:
    """`NOISE_BANK` standard normal deviates, the same in every run."""
    return np.random.default_rng(1).standard_normal(NOISE_BANK, dtype=np.float32)


def recolour(image: Pixels, rng: Generator) -> Pixels:
    """Gain, gamma and cast by one table a channel, then saturation."""
    ramp = np.arange(256, dtype=np.float32) / 255
    shared_gain, shared_gamma = rng.uniform(0.7, 1.3), math.exp(rng.uniform(-0.35, 0.35))
    tables = [
        np.clip(255 * shared_gain * rng.uniform(0.9, 1.1) * ramp ** (shared_gamma * rng.uniform(0.92, 1.08)), 0, 255)
        for _ in range(3)
    ]
    toned = cv2.LUT(image, np.stack(tables, axis=1).astype(np.uint8)[None])
    saturation = rng.uniform(0.6, 1.4)
    luminance = cv2.cvtColor(toned, cv2.COLOR_RGB2GRAY)
    return cv2.addWeighted(toned, saturation, cv2.merge([luminance] * 3), 1 - saturation, 0).astype(np.uint8)
