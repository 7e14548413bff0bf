"""Made-up mattes whose alpha is exact: hair, gauze, glass and soft outlines, textured with pieces of photos.

Real alpha is rare (25 machine-made mattes), so class 1 is filled up with these. Called by `training/sampler.py`.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Alpha = NDArray[np.float32]
OVERSAMPLE = 2  # shapes are drawn this much larger and averaged
FIXED_BITS = 4  # of OpenCV's sub-pixel coordinates
OUTLINE_POINTS = 72


def made_up_alpha(side: int, rng: Generator) -> Alpha:
    """One of four subjects, alpha float32 [S, S] in 0..1: about as often solid with fine edges as see-through."""
    big = side * OVERSAMPLE
    draw = (_hair, _gauze, _glass, _soft_outline)[int(rng.choice(4, p=(0.4, 0.2, 0.2, 0.2)))]
    alpha = draw(big, rng)
    return np.clip(cv2.resize(alpha, (side, side), interpolation=cv2.INTER_AREA), 0, 1).astype(np.float32)


def outline(big: int, rng: Generator) -> NDArray[np.float32]:
    """A closed wavy curve [OUTLINE_POINTS, 2] in px round a point near the middle."""
    turn = np.linspace(0, 2 * math.pi, OUTLINE_POINTS, endpoint=False)
    radius = np.full(OUTLINE_POINTS, rng.uniform(0.18, 0.36) * big)
    for wave in (2, 3, 5):
        radius *= 1 + rng.uniform(0, 0.5 / wave) * np.sin(wave * turn + rng.uniform(0, 2 * math.pi))
    stretch = math.exp(rng.uniform(-0.4, 0.4))
    centre = rng.uniform(0.38, 0.62, 2) * big
    curve = np.stack((np.cos(turn) * stretch, np.sin(turn) / stretch), axis=1) * radius[:, None] + centre
    return np.asarray(curve, np.float32)


def _filled(big: int, curve: NDArray[np.float32]) -> Alpha:
    canvas = np.zeros((big, big), np.float32)
    cv2.fillPoly(canvas, [np.round(curve * 2**FIXED_BITS).astype(np.int32)], 1.0, cv2.LINE_8, FIXED_BITS)
    return canvas


def _hair(big: int, rng: Generator) -> Alpha:
    """A solid body with strands that leave it: thinner and fainter outwards, as hair and fur do."""
    curve = outline(big, rng)
    alpha = _filled(big, curve)
    centre = curve.mean(axis=0)
    strands = np.zeros_like(alpha)
    steps = np.linspace(0, 1, 12)[:, None]
    for _ in range(int(rng.integers(40, 260))):
        root = curve[int(rng.integers(len(curve)))]
        away = (root - centre) / max(float(np.linalg.norm(root - centre)), 1.0)
        side = np.array((-away[1], away[0])) * rng.normal(0, 0.7)
        length = rng.uniform(0.03, 0.22) * big
        path = root - away * 2 + (away * steps + side * steps**2) * length
        thickness = int(rng.integers(1, 2 * OVERSAMPLE))
        fixed = np.round(path * 2**FIXED_BITS).astype(np.int32)
        cv2.polylines(strands, [fixed], False, float(rng.uniform(0.4, 1.0)), thickness, cv2.LINE_8, FIXED_BITS)
    return np.maximum(alpha, strands)


def _gauze(big: int, rng: Generator) -> Alpha:
    """A thin weave of alpha about .3 to .7 beside a solid part."""
    body = _filled(big, outline(big, rng))
    veil = _filled(big, outline(big, rng))
    y, x = np.mgrid[:big, :big].astype(np.float32)
    pitch, angle = rng.uniform(4, 24), rng.uniform(0, math.pi)
    across = np.cos((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / pitch)
    weave = rng.uniform(0.35, 0.65) + rng.uniform(0, 0.25) * across
    return np.maximum(body, veil * np.clip(weave, 0.1, 0.9).astype(np.float32))


def _glass(big: int, rng: Generator) -> Alpha:
    """A clear pane with a solid rim and a highlight: pure transmission near 0, the rim near 1."""
    curve = outline(big, rng)
    alpha = _filled(big, curve) * np.float32(rng.uniform(0.08, 0.5))
    rim = np.zeros_like(alpha)
    fixed = np.round(curve * 2**FIXED_BITS).astype(np.int32)
    cv2.polylines(rim, [fixed], True, float(rng.uniform(0.7, 1.0)), int(rng.integers(2, 12)), cv2.LINE_8, FIXED_BITS)
    shine = _filled(big, (curve - curve.mean(axis=0)) * rng.uniform(0.1, 0.3) + curve[int(rng.integers(len(curve)))])
    inside = alpha > 0
    return np.maximum(np.maximum(alpha, rim), shine * inside * np.float32(rng.uniform(0.4, 0.9)))


def _soft_outline(big: int, rng: Generator) -> Alpha:
    """A solid body out of focus."""
    sigma = rng.uniform(0.004, 0.03) * big
    return np.asarray(cv2.GaussianBlur(_filled(big, outline(big, rng)), (0, 0), sigma), np.float32)
