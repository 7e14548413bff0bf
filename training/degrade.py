"""What cameras and messengers do to a photo: AugMix and RealBlur, pixel-aligned, uint8 [S, S, 3] in and out.

AugMix: Hendrycks et al., ICLR 2020, with photometric operations only, so that the alpha matte stays where it is.
RealBlur after Rim et al., ECCV 2020: motion and defocus are applied in linear light, where a lens adds light up.
Called by `training/sampler.py` for the noise class.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.recipe import Noise

Pixels = NDArray[np.uint8]
Kernel = NDArray[np.float32]
REFERENCE_SIDE = 256  # px, the side at which blur lengths are stated
GAMMA = 2.2  # of the tables below: near enough to sRGB for a blur
LINEAR_LEVELS = 4095  # of linear light: 8 bits would lose the shadows
NOISE_BANK = 1 << 20  # normal deviates kept for all samples: enough for 512x512x3, and drawing them anew is slow


def augmix(image: Pixels, noise: Noise, rng: Generator) -> Pixels:
    """The photo and the Dirichlet mean of `chains` chains of 1 to `depth` operations, mixed by a Beta(1, 1) share."""
    weights = rng.dirichlet(np.ones(noise.chains))
    mixed = np.zeros(image.shape, np.float32)
    for weight in weights:
        chain = image
        for _ in range(int(rng.integers(1, noise.depth + 1))):
            chain = OPERATIONS[int(rng.integers(len(OPERATIONS)))](chain, rng)
        mixed += np.float32(weight) * chain
    share = float(rng.beta(1.0, 1.0))
    return cv2.addWeighted(image.astype(np.float32), 1 - share, mixed, share, 0.5).clip(0, 255).astype(np.uint8)


def real_blur(image: Pixels, label: Pixels, noise: Noise, rng: Generator) -> tuple[Pixels, Pixels]:
    """Motion or defocus in linear light; the label stays sharp for a mild blur and is blurred with a strong one."""
    scale = image.shape[0] / REFERENCE_SIDE
    if rng.random() < noise.motion:
        length = rng.uniform(noise.motion_min, noise.motion_max)
        kernel = motion_kernel(length * scale, rng.uniform(0, math.pi))
    else:
        length = rng.uniform(1.0, noise.defocus_max) * 2
        kernel = disc_kernel(length / 2 * scale)
    linear = cv2.LUT(image, to_linear())
    blurred = cv2.filter2D(linear, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    picture = from_linear()[np.clip(blurred, 0, LINEAR_LEVELS).astype(np.uint16)]
    if length <= noise.label_sharp_to:
        return picture, label
    soft = cv2.filter2D(label, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return picture, np.asarray(soft, np.uint8)


def motion_kernel(length: float, angle: float) -> Kernel:
    """A straight line of `length` px through the middle of a square kernel, sum 1."""
    size = max(math.ceil(length) | 1, 3)
    kernel = np.zeros((size, size), np.float32)
    reach, middle = (length - 1) / 2, (size - 1) / 2
    across, down = math.cos(angle) * reach, math.sin(angle) * reach
    fixed = [round(v * 16) for v in (middle - across, middle - down, middle + across, middle + down)]
    cv2.line(kernel, (fixed[0], fixed[1]), (fixed[2], fixed[3]), 1.0, 1, cv2.LINE_8, 4)
    kernel[size // 2, size // 2] = max(kernel[size // 2, size // 2], 1.0)
    return np.asarray(kernel / kernel.sum(), np.float32)


def disc_kernel(radius: float) -> Kernel:
    """A round aperture of `radius` px with a soft rim, sum 1."""
    reach = max(math.ceil(radius), 1)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1).astype(np.float32)
    return np.asarray(kernel / kernel.sum(), np.float32)


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


def add_noise(image: Pixels, sigma: float, rng: Generator) -> Pixels:
    """Gaussian noise of `sigma` grey levels."""
    start = int(rng.integers(0, NOISE_BANK - image.size))
    grain = noise_bank()[start : start + image.size].reshape(image.shape) * np.float32(sigma)
    return np.asarray(np.clip(image + grain, 0, 255), np.uint8)


def as_jpeg(image: Pixels, quality: int) -> Pixels:
    """The photo after JPEG at `quality` 0..100."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def _noisy(image: Pixels, rng: Generator) -> Pixels:
    return add_noise(image, rng.uniform(4, 24), rng)  # grey levels: a phone by day to a phone at night


def _compressed(image: Pixels, rng: Generator) -> Pixels:
    return as_jpeg(image, int(rng.integers(15, 70)))  # as messengers and thumbnails are


def _shaken(image: Pixels, rng: Generator) -> Pixels:
    length = rng.uniform(2, 5) * image.shape[0] / REFERENCE_SIDE  # px: mild, so the label stays true
    return np.asarray(cv2.filter2D(image, -1, motion_kernel(length, rng.uniform(0, math.pi))), np.uint8)


def _posterised(image: Pixels, rng: Generator) -> Pixels:
    keep = int(rng.integers(3, 6))  # bits a channel: banding of old screens and palettes
    return np.asarray(image & (0xFF << (8 - keep) & 0xFF), np.uint8)


def _equalised(image: Pixels, rng: Generator) -> Pixels:
    """Local contrast as phones raise it (CLAHE on luminance)."""
    luma, red, blue = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    lifted = cv2.createCLAHE(rng.uniform(1.5, 4.0), (4, 4)).apply(luma)
    return np.asarray(cv2.cvtColor(cv2.merge([lifted, red, blue]), cv2.COLOR_YCrCb2RGB), np.uint8)


OPERATIONS = (recolour, _noisy, _compressed, _shaken, _posterised, _equalised)


@functools.cache
def noise_bank() -> NDArray[np.float32]:
    """`NOISE_BANK` standard normal deviates, the same in every run."""
    return np.random.default_rng(1).standard_normal(NOISE_BANK, dtype=np.float32)


@functools.cache
def to_linear() -> NDArray[np.float32]:
    """Table: sRGB level 0..255 -> linear light 0..LINEAR_LEVELS."""
    return np.asarray((np.arange(256) / 255) ** GAMMA * LINEAR_LEVELS, np.float32)


@functools.cache
def from_linear() -> Pixels:
    """Table: linear light 0..LINEAR_LEVELS -> sRGB level 0..255."""
    return np.asarray((np.arange(LINEAR_LEVELS + 1) / LINEAR_LEVELS) ** (1 / GAMMA) * 255 + 0.5, np.uint8)
