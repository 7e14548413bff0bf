"""The layout options: size of the result, margins, paddings, alignment, dpi (options.py mixes them in).

Every field but `crop` is None when it was not sent: with none sent, geometry is untouched. The rules are in plan.py.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, field_validator

from mattehorn.layout.plan import CENTER, END, START, AxisRule, CanvasSize, Inset, Layout

_INSET = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,9})?)(%?)|([0-9]{1,5})px")
_INSET_FORMS = "allowed 0 to 0.49, a percentage like 30%, or whole pixels like 100px"
_MOST_RATIO = Decimal("0.49")  # below half, so two sides always leave something between them
_SIZE = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")
_MOST_SIDE = 100_000  # of max_width and max_height, which only shrink; what may be made, the limits say
_ANCHORS = {"left": START, "top": START, "center": CENTER, "right": END, "bottom": END}


def _number_as_text(value: Any) -> Any:
    """0.1 of a JSON body as it would be written in a form."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return format(Decimal(str(value)), "f") if is_number else value


def _inset(text: str | None) -> str | None:
    """One spelling for one wish, as recipes are hashed: 10% becomes 0.1. Raises ValueError."""
    if text is None:
        return None
    match = _INSET.fullmatch(text.strip())
    if not match:
        raise ValueError(_INSET_FORMS)
    number, percent, pixels = match.groups()
    if pixels is not None:
        return f"{int(pixels)}px" if int(pixels) else "0"
    ratio = Decimal(number) / (100 if percent else 1)
    if ratio > _MOST_RATIO:
        raise ValueError(_INSET_FORMS)
    return format(ratio.normalize(), "f")


Side = Annotated[str | None, BeforeValidator(_number_as_text)]
_MARGINS = ("margin", "margin_top", "margin_right", "margin_bottom", "margin_left")
_PADDINGS = ("padding", "padding_top", "padding_right", "padding_bottom", "padding_left")


class LayoutOptions(BaseModel):
    """The options of layout, as sent."""

    output_size: str | None = Field(
        None, description="size of the result: original (default of a layout), cropped_subject, or WxH in px"
    )
    crop: bool = Field(False, description="true: short for output_size=cropped_subject")
    max_width: int | None = Field(
        None, ge=1, le=_MOST_SIDE, description="shrinks the canvas, ratio kept; not with output_size=WxH"
    )
    max_height: int | None = Field(None, ge=1, le=_MOST_SIDE, description="as max_width")
    reference_box: Literal["subject", "original"] | None = Field(
        None, description="what is placed: the subject's box (default), or the photo's whole frame"
    )
    margin: Side = Field(None, description="0 to 0.49 or 30% of the canvas, or 100px; kept free at every side")
    margin_top: Side = Field(None, description="instead of margin at this side")
    margin_right: Side = Field(None, description="instead of margin at this side")
    margin_bottom: Side = Field(None, description="instead of margin at this side")
    margin_left: Side = Field(None, description="instead of margin at this side")
    padding: Side = Field(
        None, description="the same forms, of the canvas within margins; left out on cropped sides while they snap"
    )
    padding_top: Side = Field(None, description="instead of padding at this side")
    padding_right: Side = Field(None, description="instead of padding at this side")
    padding_bottom: Side = Field(None, description="instead of padding at this side")
    padding_left: Side = Field(None, description="instead of padding at this side")
    snap_cropped_sides: bool | None = Field(
        None, description="a subject cut by the photo's border sits on that side of the canvas; default true"
    )
    horizontal_alignment: Literal["left", "center", "right"] | None = Field(
        None, description="default center; sending it turns snapping off for left and right"
    )
    vertical_alignment: Literal["top", "center", "bottom"] | None = Field(
        None, description="default center; sending it turns snapping off for top and bottom"
    )
    scaling: Literal["fit", "fill"] | None = Field(
        None, description="fit (default): all of it shows; fill: it covers the place and is cut at the margins"
    )
    dpi: int | None = Field(
        None, ge=72, le=1200, description="metadata of png and jpg only; default: the photo's own, where it has one"
    )

    @field_validator(*_MARGINS, *_PADDINGS)
    @classmethod
    def _one_spelling(cls, value: str | None) -> str | None:
        return _inset(value)

    @field_validator("output_size")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        text = (value or "").strip().lower()
        if value is None or text in ("original", "cropped_subject"):
            return text or None
        match = _SIZE.fullmatch(text)
        if not match or not int(match[1]) or not int(match[2]):
            raise ValueError("allowed original, cropped_subject, or WxH in pixels, for example 1000x800")
        return f"{int(match[1])}x{int(match[2])}"

    @property
    def layout(self) -> Layout | None:
        """What was asked for; None when no layout option was sent, and geometry stays as it is."""
        if not self.crop and all(getattr(self, name) is None for name in LAYOUT_FIELDS):
            return None
        return Layout(
            horizontal=self._rule("left", "right", self.horizontal_alignment, self.max_width),
            vertical=self._rule("top", "bottom", self.vertical_alignment, self.max_height),
            size=self._canvas_size(),
            reference=self.reference_box or "subject",
            scaling=self.scaling or "fit",
            snap=self.snap_cropped_sides is not False,
        )

    def _rule(self, start: str, end: str, alignment: str | None, most_px: int | None) -> AxisRule:
        margins, paddings = ((self._side(kind, start), self._side(kind, end)) for kind in ("margin", "padding"))
        return AxisRule(margins, paddings, _ANCHORS[alignment] if alignment else None, most_px)

    def _side(self, kind: str, side: str) -> Inset:
        own: str | None = getattr(self, f"{kind}_{side}")
        text: str = (getattr(self, kind) if own is None else own) or "0"
        if text.endswith("px"):
            return Inset(px=int(text.removesuffix("px")))
        return Inset(ratio=Fraction(text))

    def _canvas_size(self) -> CanvasSize:
        if self.crop or self.output_size == "cropped_subject":
            return "cropped_subject"
        if self.output_size in (None, "original"):
            return "original"
        width, height = self.output_size.split("x")
        return int(width), int(height)


LAYOUT_FIELDS = tuple(name for name in LayoutOptions.model_fields if name not in ("crop", "dpi"))


def layout_conflicts(options: LayoutOptions) -> list[tuple[str, str]]:
    """(field, message) for every pair of layout options that cannot hold together."""
    found = []
    if options.crop and options.output_size is not None:
        found.append(("crop", "crop and output_size were both sent; crop=true means output_size=cropped_subject."))
    fixed = options.output_size not in (None, "original", "cropped_subject")
    for name in ("max_width", "max_height"):
        if fixed and getattr(options, name) is not None:
            found.append((name, f"{name} needs output_size original or cropped_subject; it is {options.output_size}."))
    return found
