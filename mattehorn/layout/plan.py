"""Where the subject goes on the result: canvas, margins, paddings, scale, as pure arithmetic on whole pixels.

Not here: the options' spelling (options.py) and the pixels (pixels.py). `mattehorn.pipeline` calls
`plan` once the matte is known; compose calls `most_pixels` before, for its memory permit.

Width and height follow the same rules, so one axis is written once: `start` is left or top, `end` right or bottom.
Ratios are fractions, never floats: 0.29 of 100 is 29 px. A margin or padding is rounded down to a whole pixel and a
cropped canvas up, so a subject that needs no scaling always fits. The rest is rounded to the nearest pixel, halves up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from mattehorn.errors import OptionError
from mattehorn.settings import Limits

Anchor = Fraction  # where what is left free goes: 0 all behind the subject, 1 all before it
CanvasSize = Literal["original", "cropped_subject"] | tuple[int, int]
Pair = tuple[bool, bool]

CROPPED = 128  # as everywhere in the contract: from here on a pixel is subject


@dataclass(frozen=True)
class Inset:
    """A margin or padding at one side: `ratio` 0..0.49 of a length, or `px` whole pixels of the result."""

    ratio: Fraction = Fraction(0)
    px: int = 0

    def of(self, length: int) -> int:
        return math.floor(self.ratio * length) + self.px


NOTHING = Inset()
START, CENTER, END = Anchor(0), Anchor(1, 2), Anchor(1)


@dataclass(frozen=True)
class AxisRule:
    """What was asked for along one axis. `anchor` None: centred, and a cropped side may draw the subject to itself.
    `most_px`: max_width or max_height."""

    margins: tuple[Inset, Inset] = (NOTHING, NOTHING)
    paddings: tuple[Inset, Inset] = (NOTHING, NOTHING)
    anchor: Anchor | None = None
    most_px: int | None = None

    def snapped(self, cropped: Pair) -> Self:
        """The rule for a subject that is cut at these sides: no padding there, and it sits on the one that is cut."""
        if self.anchor is not None or not any(cropped):
            return self
        start, end = (NOTHING if cut else side for cut, side in zip(cropped, self.paddings, strict=True))
        anchor = CENTER if all(cropped) else START if cropped[0] else END
        return replace(self, paddings=(start, end), anchor=anchor)

    def around(self, length: int) -> int:
        """The canvas that holds `length` pixels unscaled within paddings and margins, rounded up."""
        inner = Fraction(length)
        for sides in (self.paddings, self.margins):
            inner = (inner + sum(side.px for side in sides)) / (1 - sum(side.ratio for side in sides))
        return math.ceil(inner)

    def area(self, canvas: int) -> tuple[Span, Span]:
        """(canvas without margins, the same without paddings); a length may be 0 or less."""
        inner = _within(Span(0, canvas), self.margins)
        return inner, _within(inner, self.paddings)


@dataclass(frozen=True)
class Layout:
    """All layout options of one request, checked: what options.layout gives.

    Only other services' contracts ask for `scaling` keep, which moves the subject and leaves its size, and for `share`:
    how much of its area a subject that fits fills, 0..1.
    """

    horizontal: AxisRule = AxisRule()
    vertical: AxisRule = AxisRule()
    size: CanvasSize = "original"
    reference: Literal["subject", "original"] = "subject"
    scaling: Literal["fit", "fill", "keep"] = "fit"
    snap: bool = True
    share: Fraction = Fraction(1)


@dataclass(frozen=True)
class Span:
    """Pixels `start` up to, without, `end` along one axis."""

    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class AxisPlacement:
    """Along one axis: `source` pixels of the photo come to lie on `target` pixels of the canvas, which may reach
    beyond it; the subject shows within `clip`, the canvas without margins."""

    canvas: int
    source: Span
    target: Span
    clip: Span

    @property
    def unscaled(self) -> bool:
        return self.source.length == self.target.length


@dataclass(frozen=True)
class Placement:
    """The whole geometry of one result."""

    horizontal: AxisPlacement
    vertical: AxisPlacement

    @property
    def width(self) -> int:
        return self.horizontal.canvas

    @property
    def height(self) -> int:
        return self.vertical.canvas

    @property
    def unscaled(self) -> bool:
        return self.horizontal.unscaled and self.vertical.unscaled

    @property
    def scale(self) -> float:
        """Pixels of the canvas for one of the photo, the mean of both axes, which differ by rounding."""
        axes = self.horizontal, self.vertical
        return math.prod(axis.target.length / axis.source.length for axis in axes) ** 0.5


def plan(
    layout: Layout,
    width: int,
    height: int,
    box: tuple[int, int, int, int] | None,
    cropped: tuple[Pair, Pair],
    limits: Limits,
) -> Placement:
    """Where a photo of `width` x `height` goes. `box` is the subject's (top, left, height, width), None for an empty
    matte, which is laid out by its frame; `cropped` is from `cropped_sides`.

    Raises OptionError when the canvas exceeds the limits, or nothing of it is left for the subject.
    """
    top, left, tall, wide = (0, 0, height, width) if box is None or layout.reference == "original" else box
    sources = Span(left, wide), Span(top, tall)
    rules = layout.horizontal, layout.vertical
    if layout.snap:
        rules = rules[0].snapped(cropped[0]), rules[1].snapped(cropped[1])
    unscaled, canvas = _canvas(layout, rules, (width, height), sources)
    check_canvas(*canvas, limits)
    clips, areas = zip(*(rule.area(size) for rule, size in zip(rules, canvas, strict=True)), strict=True)
    if min(span.length for span in (*clips, *areas)) < 1:
        raise OptionError(
            f"Margins and paddings leave {max(0, areas[0].length)}x{max(0, areas[1].length)} pixels of a "
            f"{canvas[0]}x{canvas[1]} result for the subject, and 1x1 is the least; send smaller ones.",
            field="margin" if min(clip.length for clip in clips) < 1 else "padding",
        )
    scale = Fraction(1)
    if not unscaled:
        ratios = [Fraction(area.length, source.length) for area, source in zip(areas, sources, strict=True)]
        scale = layout.share * (min(ratios) if layout.scaling == "fit" else max(ratios))
    horizontal, vertical = (
        AxisPlacement(
            size,
            source,
            _anchored(area, _scaled(source.length, scale), CENTER if rule.anchor is None else rule.anchor),
            clip,
        )
        for size, source, area, clip, rule in zip(canvas, sources, areas, clips, rules, strict=True)
    )
    return Placement(horizontal, vertical)


def cropped_sides(alpha: npt.NDArray[np.uint8]) -> tuple[Pair, Pair]:
    """((left, right), (top, bottom)): whether the subject (uint8 [H, W], 128 and more) touches that border."""
    left, right, top, bottom = (bool((line >= CROPPED).any()) for line in (*alpha[:, [0, -1]].T, *alpha[[0, -1]]))
    return (left, right), (top, bottom)


def check_canvas(width: int, height: int, limits: Limits) -> None:
    """Raises OptionError for a result larger than a photo may be."""
    if max(width, height) > limits.side_px or width * height > limits.pixels:
        raise OptionError(
            f"The result would be {width}x{height} pixels; allowed are sides up to {limits.side_px} and "
            f"{limits.pixels} pixels in all. Send a smaller output_size, smaller margins and paddings, or max_width "
            "and max_height.",
            field="output_size",
        )


def most_pixels(layout: Layout, width: int, height: int, limits: Limits) -> int:
    """The most that the canvas can have, whatever the matte, for a photo of this size, upright or still to be turned.
    Above the limits no canvas is made."""
    if isinstance(layout.size, tuple):
        return min(layout.size[0] * layout.size[1], limits.pixels)
    most = 0
    for frame in ((width, height), (height, width)):
        area = 1
        for rule, length in zip((layout.horizontal, layout.vertical), frame, strict=True):
            canvas = length if layout.size == "original" else rule.around(length)
            area *= canvas if rule.most_px is None else min(canvas, rule.most_px)
        most = max(most, area)
    return min(most, limits.pixels)


def _canvas(
    layout: Layout, rules: tuple[AxisRule, AxisRule], photo: tuple[int, int], sources: tuple[Span, Span]
) -> tuple[bool, tuple[int, int]]:
    """(whether the reference box keeps its size, (width, height))."""
    if isinstance(layout.size, tuple):
        return False, layout.size
    cropped = layout.size == "cropped_subject"
    width, height = (
        rule.around(source.length) if cropped else side
        for rule, source, side in zip(rules, sources, photo, strict=True)
    )
    shrink = min(
        Fraction(1),
        *(Fraction(rule.most_px or side, side) for rule, side in zip(rules, (width, height), strict=True)),
    )
    keeps = (cropped and shrink == 1) or layout.scaling == "keep"
    return keeps, (_scaled(width, shrink), _scaled(height, shrink))


def _within(span: Span, insets: tuple[Inset, Inset]) -> Span:
    start, end = (inset.of(span.length) for inset in insets)
    return Span(span.start + start, span.length - start - end)


def _scaled(length: int, scale: Fraction) -> int:
    return max(1, math.floor(length * scale + Fraction(1, 2)))


def _anchored(area: Span, length: int, anchor: Anchor) -> Span:
    """`length` pixels in `area`, which they may exceed: at 0 on its end, at 1 on its start, else on both."""
    return Span(area.start + math.floor((area.length - length) * anchor), length)
