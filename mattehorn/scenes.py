"""Template scenes: painted sets with something to stand on, at any size. Colours and gradients are in colour.py.

A scene is a wall and a floor that meet at a horizon, out of focus as behind a product. It is painted at a working size
and enlarged, so that a canvas of 50 megapixels costs little more than a small one; the same size gives the same pixels
for ever, for recipes are reproducible. `mattehorn.composite` paints, `mattehorn.options` checks the names.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Uint8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

_WORKING_PX = 1000  # long side: a set out of focus has nothing finer to show
_TEXTURE_PX = 1024  # a floor's texture, seen from above
_EYE = 0.5  # height of the eye over the floor: how fast the floor's texture shrinks towards the horizon
_NEAREST = 0.02  # of the height below the horizon where the texture would shrink to nothing
_GRAIN = 0.8  # levels of noise that keep 8 bits from banding on a smooth wall


@dataclass(frozen=True)
class _Place:
    """A canvas of working size: `x` [1, w] from the middle and `y` [h, 1] from the top, in heights of the canvas."""

    x: Float
    y: Float

    @property
    def shape(self) -> tuple[int, int]:
        return self.y.shape[0], self.x.shape[1]


def paint_scene(name: str, height: int, width: int) -> Uint8:
    """The scene as rgb uint8 [height, width, 3], opaque. Raises KeyError for a name that is not in SCENES."""
    scale = min(1.0, _WORKING_PX / max(height, width))
    rows, cols = max(1, round(height * scale)), max(1, round(width * scale))
    x = (np.arange(cols, dtype=np.float32)[None, :] + np.float32(0.5 - cols / 2)) / np.float32(rows)
    y = (np.arange(rows, dtype=np.float32)[:, None] + np.float32(0.5)) / np.float32(rows)
    painted = SCENES[name](_Place(x, y))
    painted += (_random(rows * cols, seed=1).reshape(rows, cols, 1) - np.float32(0.5)) * np.float32(2 * _GRAIN)
    rgb = np.asarray(np.clip(painted + np.float32(0.5), 0, 255), np.uint8)
    if (rows, cols) == (height, width):
        return rgb
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _studio_sweep(place: _Place) -> Float:
    """Seamless grey paper: the wall runs into the floor without an edge, lit from above."""
    wall = _mix((214, 216, 219), (176, 179, 184), _glow(place, 0.0, 0.42, 0.95))
    floor = _mix((236, 237, 239), (198, 200, 204), _glow(place, 0.0, 0.92, 0.9))
    return _blend(wall, floor, _step(place.y, 0.62, 0.86))


def _window_light(place: _Place) -> Float:
    """Warm plaster with the light of a window across it, a pale floor below."""
    plaster = _mix((240, 230, 215), (222, 208, 189), _step(place.x + 0 * place.y, -0.6, 0.9))
    plaster += (_clouds(place.shape, 5, seed=3)[..., None] - np.float32(0.5)) * np.float32(5)
    light = _panes(place.x - np.float32(0.22) * (place.y - np.float32(0.4)), place.y + np.float32(0.3) * place.x)
    wall = plaster + light * np.asarray((26, 22, 14), np.float32)
    floor = _mix((233, 222, 206), (205, 190, 170), _glow(place, -0.1, 0.95, 0.9))
    return _blend(wall * (1 - 0.1 * _step(place.y, 0.62, 0.76)), floor, _step(place.y, 0.752, 0.768))


def _wood_table(place: _Place) -> Float:
    """A table of light oak before a dim, warm room."""
    room = _mix((122, 104, 88), (58, 48, 42), _glow(place, 0.25, 0.25, 0.9))
    room += _lights(place, seed=11, colour=(255, 196, 120), strength=46)
    table = _in_perspective(_oak(), place, 0.66) * (1.08 - 0.34 * _glow(place, 0.0, 0.9, 0.9))
    return _blend(room, table, _step(place.y, 0.656, 0.668))


def _marble(place: _Place) -> Float:
    """A slab of white marble before a cool, pale wall."""
    wall = _mix((226, 231, 235), (197, 204, 211), _glow(place, -0.2, 0.3, 1.0))
    slab = _in_perspective(_veined(), place, 0.68) * (1.02 - 0.12 * _glow(place, 0.0, 0.95, 0.8))
    return _blend(wall, slab, _step(place.y, 0.676, 0.688))


def _garden(place: _Place) -> Float:
    """Foliage in the sun, far out of focus, over stone."""
    leaves = _mix((150, 182, 108), (62, 98, 58), _clouds(place.shape, 4, seed=21)[..., None])
    leaves += _lights(place, seed=23, colour=(240, 246, 190), strength=58)
    stone = _mix((206, 202, 192), (166, 161, 150), _glow(place, 0.1, 0.95, 0.9))
    stone += (_clouds(place.shape, 40, seed=27)[..., None] - np.float32(0.5)) * np.float32(9)
    return _blend(leaves, stone, _step(place.y, 0.69, 0.74))


SCENES: dict[str, Callable[[_Place], Float]] = {
    "studio-sweep": _studio_sweep,
    "window-light": _window_light,
    "wood-table": _wood_table,
    "marble": _marble,
    "garden": _garden,
}


def _mix(near: tuple[int, int, int], far: tuple[int, int, int], share: Float) -> Float:
    """`near` where `share` [h, w, 1] is 0, `far` where it is 1."""
    ends = np.asarray((near, far), np.float32)
    return np.asarray(ends[0] + (ends[1] - ends[0]) * share, np.float32)


def _blend(above: Float, below: Float, share: Float) -> Float:
    return np.asarray(above + (below - above) * share, np.float32)


def _step(values: Float, first: float, last: float) -> Float:
    """0 up to `first`, 1 from `last` on, smooth between (3t^2 - 2t^3), as [h, w, 1] or broadcastable to it."""
    t = np.clip((values - np.float32(first)) / np.float32(last - first), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)[..., None]


def _glow(place: _Place, x: float, y: float, reach: float) -> Float:
    """0 at (x, y), 1 from `reach` heights away on: a lamp's fall-off, [h, w, 1]."""
    return _step(np.hypot(place.x - np.float32(x), place.y - np.float32(y)), 0.0, reach)


def _panes(x: Float, y: Float) -> Float:
    """Six soft-edged panes of a window's light, 0..1, [h, w, 1]."""
    light = np.zeros((*np.broadcast_shapes(x.shape, y.shape), 1), np.float32)
    soft = 0.03  # the sun is no point
    for left in (-0.5, -0.28):
        for top in (0.08, 0.27, 0.46):
            across = _step(x, left - soft, left + soft) * (1 - _step(x, left + 0.19 - soft, left + 0.19 + soft))
            down = _step(y, top - soft, top + soft) * (1 - _step(y, top + 0.16 - soft, top + 0.16 + soft))
            light = np.maximum(light, across * down)
    return light


def _lights(place: _Place, seed: int, colour: tuple[int, int, int], strength: float) -> Float:
    """Discs of confusion of lights far behind, [h, w, 3], only above the middle of the canvas."""
    spots = _random(14 * 3, seed).reshape(14, 3)
    total = np.zeros((*place.shape, 1), np.float32)
    for across, down, size in spots:
        radius = 0.03 + 0.05 * float(size)
        away = np.hypot(place.x - np.float32(2.2 * across - 1.1), place.y - np.float32(0.05 + 0.5 * down))
        total += (1 - _step(away, 0.8 * radius, 1.15 * radius)) * np.float32(0.35 + 0.65 * size)
    return np.asarray(np.minimum(total, 1) * np.asarray(colour, np.float32) / 255 * strength, np.float32)


def _in_perspective(texture: Float, place: _Place, horizon: float) -> Float:
    """The floor's `texture` [n, n, 3] seen from the front, [h, w, 3]; what lies above `horizon` is without meaning.

    A row d below the horizon shows the floor at distance 1 / d; where that is far, the texture's mean colour.
    """
    below = np.maximum(place.y - np.float32(horizon), np.float32(_NEAREST))
    distance = np.float32(_EYE) / below
    size = texture.shape[0]
    u = np.mod((place.x * distance * np.float32(0.3) + np.float32(0.5)) * size, size - 1)
    v = np.mod((distance * np.float32(0.3) + 0 * place.x) * size, size - 1)
    seen = cv2.remap(texture, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR)
    mean = texture.mean(axis=(0, 1), dtype=np.float32)
    return _blend(np.asarray(seen, np.float32), mean, 1 - _step(below + 0 * place.x, 0.02, 0.16))


@functools.cache
def _oak() -> Float:
    """Boards of oak, grain along x, [n, n, 3]."""
    size = _TEXTURE_PX
    grain = _noise((size, size), 90, 3, seed=31) * 0.6 + _noise((size, size), 320, 8, seed=32) * 0.4
    board = (np.arange(size) // (size // 4))[:, None]
    tone = _random(4, seed=33)[board] * 0.5
    wood = _mix((206, 170, 126), (150, 111, 74), np.clip(0.25 + 0.55 * grain + 0.4 * (tone - 0.25), 0, 1)[..., None])
    joint = np.abs((np.arange(size) % (size // 4)) - 1)[:, None] < 3
    return np.asarray(wood * np.where(joint[..., None], 0.72, 1.0), np.float32)


@functools.cache
def _veined() -> Float:
    """White marble, [n, n, 3]: veins lie where warped noise passes through its middle."""
    size = _TEXTURE_PX
    warped = _clouds((size, size), 3, seed=41) * 0.7 + _clouds((size, size), 9, seed=42) * 0.3
    vein = np.exp(-(((warped - 0.5) / 0.02) ** 2)) * _clouds((size, size), 4, seed=43)
    cloud = _clouds((size, size), 5, seed=44)
    return _mix(
        (244, 244, 243), (150, 153, 160), np.clip(0.75 * vein + 0.12 * cloud, 0, 1)[..., None].astype(np.float32)
    )


def _clouds(shape: tuple[int, int], cells: int, seed: int) -> Float:
    """Three octaves of smooth noise, 0..1, [h, w]; `cells` bumps along the height."""
    rows, cols = shape
    across = max(1, round(cells * cols / rows))
    total = sum(
        (_noise(shape, cells << i, across << i, seed + i) * np.float32(0.5**i) for i in range(3)), np.float32(0)
    )
    return np.asarray(total / np.float32(1.75), np.float32)


def _noise(shape: tuple[int, int], rows: int, cols: int, seed: int) -> Float:
    """Smooth noise, 0..1, [h, w]: `rows` x `cols` random levels, enlarged."""
    coarse = _random((rows + 1) * (cols + 1), seed).reshape(rows + 1, cols + 1)
    return np.clip(np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32), 0, 1)


def _random(count: int, seed: int) -> Float:
    """Uniform 0..1; RandomState's stream is frozen by numpy, a Generator's is not."""
    return np.random.RandomState(seed).random_sample(count).astype(np.float32)
