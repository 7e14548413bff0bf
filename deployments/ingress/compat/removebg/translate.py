"""remove.bg's parameters as native options, and as a rendition where no option says it. Pure.

Edges are left alone (0/0/0). What a parameter's bad value leads to: errors.py, by the name in the error's `field`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

from deployments.ingress.compat.removebg.parameters import Sent
from mattehorn.colour import parse_colour
from mattehorn.errors import OptionError
from mattehorn.layout.plan import CENTER, AxisRule, Inset, Layout
from mattehorn.options import Options, parse_options
from mattehorn.rendition import Form, Rendition

PREVIEW_PIXELS = 250_000
_PREVIEWS = ("preview", "small", "regular")
SIZES = {
    **dict.fromkeys(_PREVIEWS, PREVIEW_PIXELS),
    "medium": 1_500_000,
    "hd": 4_000_000,
    "full": 25_000_000,
    "4k": 25_000_000,
    "50MP": 50_000_000,
    "auto": 50_000_000,  # the best that can be paid for; nothing is paid here
}
PNG_PIXELS = 10_000_000
FORMATS: tuple[Form, ...] = ("auto", "png", "jpg", "zip", "webp")
CHANNELS = ("rgba", "alpha")
TYPES = ("auto", "person", "product", "car", "animal", "graphic", "transportation", "other")
TYPE_LEVELS = ("none", "1", "2", "latest")
SHADOW_TYPES = ("auto", "drop", "3D", "car", "none")
# Haze of 4 % shows on no screen, but one pixel of it far from the subject would be in the way of a crop
SUBJECT_LEVEL = 10

PARAMETERS = frozenset(
    {
        *("image_file", "image_file_b64", "image_url", "size", "type", "type_level", "format", "roi", "crop"),
        *("crop_margin", "scale", "position", "channels", "add_shadow", "shadow_type", "shadow_opacity"),
        *("semitransparency", "bg_color", "bg_image_url", "bg_image_file"),
    }
)

_LENGTH = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(px|%)?")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_MARGIN_FORMS = "1, 2 or 4 lengths, each at most 50% or 500px"
_POSITION_FORMS = "original, center, or one or two of 0% to 100%"
_MOST_MARGIN = {"%": Fraction(50), "px": Fraction(500)}


@dataclass(frozen=True)
class Wish:
    """What was asked for. `hint` is the type that the caller knows, None for auto."""

    options: Options
    rendition: Rendition
    size: str
    form: Form
    type_level: str
    hint: str | None

    @property
    def is_preview(self) -> bool:
        return self.size in _PREVIEWS

    @property
    def ignores_background(self) -> bool:
        return self.options.kind == "alpha"

    @property
    def most_of_full(self) -> int:
        """Pixels that size=full would give at most."""
        return PNG_PIXELS if _png_limits(self.form, self.options) else SIZES["full"]


def translate(sent: Sent, default_size: str = "preview") -> Wish:
    """Raises OptionError with the parameter's name as `field`."""
    size = sent.choice("size", tuple(SIZES), default_size)
    form = cast(Form, sent.choice("format", (*FORMATS, "jpeg"), "auto").replace("jpeg", "jpg"))
    hint = sent.text("type").lower()
    hint = hint if hint in TYPES and hint != "auto" else ""
    level = sent.choice("type_level", TYPE_LEVELS, "1")
    _check_shadow(sent)
    options = _options(sent, form, hint)
    most = SIZES[size]
    if _png_limits(form, options):
        most = min(most, PNG_PIXELS)
    rendition = Rendition(
        most_pixels=most,
        layout=_layout(sent),
        form=None if options.kind == "alpha" else form,
        solid=not sent.truth("semitransparency", True),
        subject_level=SUBJECT_LEVEL,
    )
    return Wish(options, rendition, size, form, level, hint or None)


def _png_limits(form: Form, options: Options) -> bool:
    """Whether the answer is a PNG, or may become one."""
    return form == "png" or (form == "auto" and (options.kind in ("cutout", "alpha")))


def _options(sent: Sent, form: Form, hint: str) -> Options:
    native: dict[str, Any] = {"alpha_threshold": 0, "erode_px": 0, "feather_px": 0, "roi": sent.text("roi")}
    native["subject"] = "other" if hint == "transportation" else hint
    colour = sent.text("bg_color")
    if colour:
        try:
            parse_colour(colour)
        except ValueError:
            sent.refuse("bg_color", "hex of 3, 4, 6 or 8 digits, or a colour's name")
    picture = "bg_image_file" in sent.uploads or bool(sent.text("bg_image_url"))
    if sent.choice("channels", CHANNELS, "rgba") == "alpha" and form != "zip":
        native |= {"output": "alpha", "format": "png" if form == "auto" else form}
        picture = False
    elif colour:
        native["background_color"] = colour
    try:
        return parse_options(native, background_file=picture)
    except OptionError:  # only `roi` is not our own
        sent.refuse("roi", "'x1 y1 x2 y2', each a number with px or %")


def _check_shadow(sent: Sent) -> None:
    """The shadow's parameters, which have no effect."""
    sent.truth("add_shadow", False)
    sent.choice("shadow_type", SHADOW_TYPES, "auto")
    text = sent.text("shadow_opacity").lower()
    if text not in ("", "auto") and not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 100):
        sent.refuse("shadow_opacity", "auto, or 0 to 100")


def _layout(sent: Sent) -> Layout | None:
    """Where the subject goes; None where it stays. All parameters are checked, also those that a crop overrides."""
    share, anchors = _scale(sent), _position(sent)
    vertical, horizontal = _margins(sent)
    if sent.truth("crop", False):
        return Layout(horizontal, vertical, "cropped_subject", snap=False)
    if share is None and anchors is None:
        return None
    across, down = anchors or (CENTER, CENTER)
    return Layout(
        AxisRule(anchor=across),
        AxisRule(anchor=down),
        scaling="keep" if share is None else "fit",
        share=share or Fraction(1),
        snap=False,
    )


def _scale(sent: Sent) -> Fraction | None:
    """The share of the canvas that the subject fits in; None: its own size."""
    text = sent.text("scale").lower()
    if text in ("", "original"):
        return None
    share = _percent(text)
    if share is None or not Fraction(1, 10) <= share <= 1:
        sent.refuse("scale", "original, or 10% to 100%")
    return share


def _position(sent: Sent) -> tuple[Fraction, Fraction] | None:
    """(horizontal, vertical), 0 flush with left or top; None: where it was."""
    text = sent.text("position").lower()
    if text in ("", "original"):
        return None
    if text == "center":
        return CENTER, CENTER
    parts = [_percent(part) for part in text.split()]
    known = [part for part in parts if part is not None and part <= 1]
    if len(known) != len(parts) or len(known) > 2:
        sent.refuse("position", _POSITION_FORMS)
    return known[0], known[-1]


def _percent(text: str) -> Fraction | None:
    match = _PERCENT.fullmatch(text)
    return Fraction(match[1]) / 100 if match else None


def _margins(sent: Sent) -> tuple[AxisRule, AxisRule]:
    """The rules of (vertical, horizontal) around a cropped subject."""
    matches = [_LENGTH.fullmatch(part) for part in sent.text("crop_margin").lower().split()]
    lengths = [(Fraction(match[1]), match[2] or "px") for match in matches if match]
    allowed = len(lengths) == len(matches) and len(lengths) in (0, 1, 2, 4)
    if not allowed or any(number > _MOST_MARGIN[unit] for number, unit in lengths):
        sent.refuse("crop_margin", _MARGIN_FORMS)
    top, right, bottom, left = (lengths * {0: 1, 1: 4, 2: 2, 4: 1}[len(lengths)]) or [(Fraction(0), "px")] * 4
    return _around(top, bottom), _around(left, right)


def _around(start: tuple[Fraction, str], end: tuple[Fraction, str]) -> AxisRule:
    """Margins of a subject's side, in px, or in % of the subject.

    A rule's ratios are of what is around the subject: r of the subject are r / (1 + both ratios) of that.
    """
    ratios = [number / 100 if unit == "%" else Fraction(0) for number, unit in (start, end)]
    pixels = [round(number) if unit == "px" else 0 for number, unit in (start, end)]
    whole = 1 + sum(ratios)
    before, after = (Inset(ratio=ratio / whole) for ratio in ratios)
    return AxisRule(margins=(Inset(px=pixels[0]), Inset(px=pixels[1])), paddings=(before, after))
