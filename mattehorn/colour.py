"""Colours and gradients as text: CSS names, hex digits, linear and radial gradients, and the painted gradient.

Not compositing (`mattehorn.composite`). `mattehorn.options` parses to check, `mattehorn.pipeline` to use. Parsers
raise ValueError with what is allowed, worded to follow "background_color is ..; ".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import ImageColor

Rgba = tuple[int, int, int, int]
Uint8 = npt.NDArray[np.uint8]

_HEX = re.compile(r"#?([0-9a-f]{3}|[0-9a-f]{4}|[0-9a-f]{6}|[0-9a-f]{8})")
_ANGLE = re.compile(r"(-?\d{1,4}(?:\.\d{1,4})?)deg")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,4})?)%")
_MIN_STOPS, _MAX_STOPS = 2, 8  # the contract's
_SHADES = 4096  # positions of the painted ramp: under a level apart for 8 stops, and finer than a 4k picture's pixels

_ALLOWED_COLOUR = "allowed hex of 3, 4, 6 or 8 digits with or without #, a CSS colour name, or transparent"
_ALLOWED_GRADIENT = (
    "allowed 'ANGLEdeg STOP STOP ..' or 'radial STOP STOP ..' with 2 to 8 stops, a stop being a colour with an "
    "optional position, for example '90deg #fff 0% #ccc 100%'"
)

BACKGROUND_TEMPLATES: dict[str, str] = {
    "studio-white": "radial #ffffff 0% #fbfbfb 55% #e9eaec 100%",
    "studio-grey": "radial #f0f0f0 0% #c9cbce 60% #8f9297 100%",
    "warm-paper": "180deg #fbf5ea 0% #f0e4d0 100%",
    "sky-blue": "180deg #8ec5f2 0% #dff0fb 100%",
    "mint": "135deg #e6f7ef 0% #a9dcc6 100%",
    "sunset": "180deg #3f4c7c 0% #d97f6d 60% #f6c98b 100%",
    "night": "radial #3a4256 0% #1b2030 60% #0b0d14 100%",
}


@dataclass(frozen=True)
class Stop:
    """A colour at a position 0..1 along the gradient."""

    colour: Rgba
    position: float


@dataclass(frozen=True)
class Gradient:
    """Stops in order. `angle_deg` as in CSS: 0 runs upward, 90 to the right; None is radial, from the centre to
    the corners."""

    stops: tuple[Stop, ...]
    angle_deg: float | None


def parse_colour(text: str) -> Rgba:
    """(r, g, b, a), each 0..255. Raises ValueError."""
    word = text.strip().lower()
    if word == "transparent":
        return 0, 0, 0, 0
    named = ImageColor.colormap.get(word, word)
    if isinstance(named, tuple):  # Pillow keeps here what its own callers have looked up
        return named[0], named[1], named[2], 255
    match = _HEX.fullmatch(named)
    if not match:
        raise ValueError(_ALLOWED_COLOUR)
    digits = match[1]
    if len(digits) <= 4:
        digits = "".join(digit * 2 for digit in digits)
    red, green, blue, alpha = bytes.fromhex(digits.ljust(8, "f"))
    return red, green, blue, alpha


def parse_gradient(text: str) -> Gradient:
    """A gradient from `ANGLEdeg STOP STOP ..` or `radial STOP STOP ..`; commas count as spaces. Raises ValueError.

    Positions not given follow CSS: 0 % for the first, 100 % for the last, evenly between neighbours for the others.
    """
    head, *words = text.lower().replace(",", " ").split() or [""]
    angle = _ANGLE.fullmatch(head)
    if not angle and head != "radial":
        raise ValueError(_ALLOWED_GRADIENT)
    colours: list[Rgba] = []
    positions: list[float | None] = []
    for word in words:
        percent = _PERCENT.fullmatch(word)
        if percent is None:
            try:
                colours.append(parse_colour(word))
            except ValueError:
                raise ValueError(_ALLOWED_GRADIENT) from None
            positions.append(None)
        elif not positions or positions[-1] is not None or float(percent[1]) > 100:
            raise ValueError(f"{_ALLOWED_GRADIENT}; each stop takes one position, 0% to 100%, after its colour")
        else:
            positions[-1] = float(percent[1]) / 100
    if not _MIN_STOPS <= len(colours) <= _MAX_STOPS:
        raise ValueError(f"{_ALLOWED_GRADIENT}; it has {len(colours)}")
    stops = tuple(Stop(c, p) for c, p in zip(colours, _placed(positions), strict=True))
    return Gradient(stops, float(angle[1]) % 360 if angle else None)


def colour_text(colour: Rgba) -> str:
    """The one spelling of a colour: #rrggbb, or #rrggbbaa where it is not opaque."""
    return "#" + bytes(colour[:3] if colour[3] == 255 else colour).hex()


def gradient_text(gradient: Gradient) -> str:
    """The one spelling of a gradient: positions that follow from the others are left out."""
    positions = [stop.position for stop in gradient.stops]
    places: list[float | None] = [*positions]
    for index, position in enumerate(positions):
        places[index] = None
        if not np.allclose(_placed(places), positions, rtol=0, atol=1e-9):
            places[index] = position
    words = ["radial" if gradient.angle_deg is None else f"{_plain(gradient.angle_deg)}deg"]
    for stop, place in zip(gradient.stops, places, strict=True):
        words += [colour_text(stop.colour)] + ([] if place is None else [f"{_plain(100 * place)}%"])
    return " ".join(words)


def paint_gradient(gradient: Gradient, height: int, width: int) -> tuple[Uint8, Uint8 | None]:
    """(rgb [H, W, 3], alpha [H, W] or None when every stop is opaque), straight alpha; blended premultiplied as CSS
    does, so that a fade to `transparent` does not turn grey."""
    ramp_rgb, ramp_alpha = _ramp(gradient)
    opaque = all(stop.colour[3] == 255 for stop in gradient.stops)
    rgb = np.empty((height, width, 3), np.uint8)
    alpha = None if opaque else np.empty((height, width), np.uint8)
    x = np.arange(width, dtype=np.float32) - (width - 1) / 2
    rows = max(1, _SHADES * 64 // width)  # 256 k pixels at once
    for top in range(0, height, rows):
        y = np.arange(top, min(top + rows, height), dtype=np.float32)[:, None] - (height - 1) / 2
        index = _position(gradient.angle_deg, x, y, height, width)
        index *= _SHADES - 1
        index += 0.5
        at = np.clip(index, 0, _SHADES - 1, out=index).astype(np.intp)
        np.take(ramp_rgb, at, axis=0, out=rgb[top : top + rows], mode="clip")
        if alpha is not None:
            np.take(ramp_alpha, at, out=alpha[top : top + rows], mode="clip")
    return rgb, alpha


def _position(
    angle_deg: float | None, x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], height: int, width: int
) -> npt.NDArray[np.float32]:
    """Where pixels lie along the gradient, 0..1, from offsets to the picture's centre."""
    if angle_deg is None:
        reach = max(np.hypot(width - 1, height - 1) / 2, 1.0)
        return np.asarray(np.hypot(x, y) / np.float32(reach), np.float32)
    radians = np.deg2rad(angle_deg)
    right, up = np.sin(radians), np.cos(radians)
    # CSS: 0 and 100 % lie where the perpendicular touches the corners.
    length = max(abs(right) * (width - 1) + abs(up) * (height - 1), 1.0)
    return np.asarray(x * np.float32(right / length) - y * np.float32(up / length) + np.float32(0.5), np.float32)


def _ramp(gradient: Gradient) -> tuple[Uint8, Uint8]:
    """Colours [n, 3] and alphas [n] along the gradient."""
    at = np.linspace(0, 1, _SHADES)
    places = [stop.position for stop in gradient.stops]
    colours = np.asarray([stop.colour for stop in gradient.stops], np.float64)
    alpha = np.interp(at, places, colours[:, 3])
    weighted = [np.interp(at, places, colours[:, c] * colours[:, 3]) for c in range(3)]
    rgb = np.stack(weighted, axis=1) / np.maximum(alpha, 1e-9)[:, None]
    return np.floor(rgb + 0.5).astype(np.uint8), np.floor(alpha + 0.5).astype(np.uint8)


def _plain(number: float) -> str:
    """With the four decimals that may be written, and none that says nothing."""
    return f"{number:.4f}".rstrip("0").rstrip(".")


def _placed(positions: list[float | None]) -> list[float]:
    """Every position known. Raises ValueError when they fall."""
    given: list[float | None] = [*positions]
    given[0] = 0.0 if given[0] is None else given[0]
    given[-1] = 1.0 if given[-1] is None else given[-1]
    known = [(index, place) for index, place in enumerate(given) if place is not None]
    if any(after[1] < before[1] for before, after in pairwise(known)):
        raise ValueError(f"{_ALLOWED_GRADIENT}; positions must not fall")
    return [float(p) for p in np.interp(range(len(given)), [i for i, _ in known], [p for _, p in known])]
