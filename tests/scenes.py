"""Made-up photos whose foreground, background and alpha are known exactly: I = alpha F + (1 - alpha) B.

Every scene is drawn from a seed, so a failing figure can be had again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Uint8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

OVERSAMPLE = 4  # shapes are drawn this much larger and averaged: 16 true levels of coverage and more


@dataclass(frozen=True)
class Scene:
    name: str
    image: Uint8
    foreground: Uint8
    background: Uint8
    alpha: Float

    @property
    def unknown(self) -> npt.NDArray[np.bool_]:
        """Pixels that are neither pure foreground nor pure background."""
        return (self.alpha > 0) & (self.alpha < 1)


def blend(foreground: Uint8, background: Uint8, alpha: Float) -> Uint8:
    """alpha F + (1 - alpha) B in float64, rounded: the reference that the fast code is held against."""
    weight = alpha.astype(np.float64)[..., None]
    return np.floor(weight * foreground + (1 - weight) * background + 0.5).astype(np.uint8)


def texture(
    rng: np.random.Generator, height: int, width: int, base: tuple[int, int, int], strength: float = 40.0
) -> Uint8:
    """Natural-looking colour noise round `base`: amplitude falls with frequency, as in photos."""
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(1, 8):
        shape = (min(height, 2**octave), min(width, 2**octave), 3)
        noise = rng.standard_normal(shape).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * (0.75**octave)
    return np.clip(np.asarray(base, np.float32) + strength * total, 0, 255).astype(np.uint8)


def _scene(name: str, alpha: Float, foreground: Uint8, background: Uint8) -> Scene:
    return Scene(name, blend(foreground, background, alpha), foreground, background, alpha)


def _coverage(drawing: Uint8, size: int) -> Float:
    small = cv2.resize(drawing.astype(np.float32) / 255, (size, size), interpolation=cv2.INTER_AREA)
    return np.clip(small, 0, 1).astype(np.float32)


def hairs(size: int = 384, seed: int = 1, *, count: int | None = None) -> Scene:
    """A dark head with hairs 1 to 3 px wide over a textured background; the hair's colour varies."""
    rng = np.random.default_rng(seed)
    big = size * OVERSAMPLE
    drawing = np.zeros((big, big), np.uint8)
    centre, radius = big // 2, big // 5
    cv2.circle(drawing, (centre, centre), radius, 255, -1)
    for _ in range(count or 120):
        angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
        length = rng.uniform(0.3, 1.15) * radius
        steps = np.linspace(0, 1, 24)
        turn = angle + bend * steps
        points = centre + np.stack([np.cos(turn), np.sin(turn)], 1) * (0.9 * radius + length * steps)[:, None]
        thickness = int(rng.integers(OVERSAMPLE, 3 * OVERSAMPLE))
        cv2.polylines(drawing, [points.astype(np.int32)], False, 255, thickness)
    foreground = texture(rng, size, size, (70, 48, 35), 25)
    background = texture(rng, size, size, (175, 190, 200), 30)
    return _scene("hairs", _coverage(drawing, size), foreground, background)


def soft_disc(size: int = 256, seed: int = 2, *, edge_px: float = 12.0) -> Scene:
    """A disc out of focus: alpha falls from 1 to 0 over `edge_px`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] + 0.5
    distance = np.hypot(y - size / 2, x - size / 2)
    alpha = np.clip((size / 3.2 - distance) / edge_px + 0.5, 0, 1).astype(np.float32)
    foreground = texture(rng, size, size, (190, 60, 50), 30)
    background = texture(rng, size, size, (60, 130, 80), 40)
    return _scene("soft_disc", alpha, foreground, background)


def glass(size: int = 256, seed: int = 3) -> Scene:
    """A pane of alpha 0.35 with a solid rim: large semi-transparent area, sharp edges."""
    rng = np.random.default_rng(seed)
    big = size * OVERSAMPLE
    rim, pane = np.zeros((big, big), np.uint8), np.zeros((big, big), np.uint8)
    centre = (big // 2, big // 2)
    cv2.ellipse(pane, centre, (big // 3, big // 4), 20, 0, 360, 255, -1)
    cv2.ellipse(rim, centre, (big // 3, big // 4), 20, 0, 360, 255, 6 * OVERSAMPLE)
    alpha = np.maximum(_coverage(rim, size), np.float32(0.35) * _coverage(pane, size))
    foreground = texture(rng, size, size, (225, 235, 240), 10)
    background = texture(rng, size, size, (110, 80, 60), 30)
    return _scene("glass", alpha, foreground, background)


def bars(size: int = 256, seed: int = 4) -> Scene:
    """A leaning fence: many soft straight edges, natural texture on both sides, alike in brightness."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] + 0.5
    phase = (x + 0.25 * y) % 32 - 16
    alpha = np.clip((6 - np.abs(phase)) / 2.5 + 0.5, 0, 1).astype(np.float32)
    foreground = texture(rng, size, size, (165, 120, 70), 35)
    background = texture(rng, size, size, (80, 120, 170), 35)
    return _scene("bars", alpha, foreground, background)


ALL: tuple[Callable[[], Scene], ...] = (hairs, soft_disc, glass, bars)
