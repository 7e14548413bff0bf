"""What a caller asks for: one definition behind the HTTP form, the query, JSON, the CLI, the web page and Python.

`parse_options` turns loose text into a checked `Options` and raises the contract's errors; everything later may trust
its values. The layout options are in layout_options.py; what an operator sets is in settings.py. Bytes (the photo, a
background picture) travel beside the options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mattehorn.colour import BACKGROUND_TEMPLATES, colour_text, gradient_text, parse_colour, parse_gradient
from mattehorn.errors import ConflictingOptions, OptionError, UnknownOption
from mattehorn.layout.options import LayoutOptions, layout_conflicts
from mattehorn.scenes import SCENES

TEMPLATE_NAMES = (*BACKGROUND_TEMPLATES, *SCENES)  # gradients, and scenes with a floor
Output = Literal["cutout", "alpha", "composite", "zip"]
Format = Literal["png", "webp", "jpg", "avif"]

_NAME_FORBIDDEN = re.compile(r"[/\\\x00-\x1f\x7f]")
_ROI_PART = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(px|%)?")
_BOOLEANS = {"true": 1.0, "yes": 1.0, "on": 1.0, "false": 0.0, "no": 0.0, "off": 0.0}


def _radius(value: Any) -> Any:
    """Booleans as S3's and S4's controls send them: true is one pixel, false none."""
    if isinstance(value, bool):
        return float(value)
    return _BOOLEANS.get(value.strip().lower(), value) if isinstance(value, str) else value


def _jpeg(value: Any) -> Any:
    text = value.strip().lower() if isinstance(value, str) else value
    return "jpg" if text == "jpeg" else text


Pixels = Annotated[float, BeforeValidator(_radius)]


class PictureOptions(BaseModel):
    """Everything but layout. A value has one spelling, as recipes are hashed: `white` becomes #ffffff."""

    model: str = Field("auto", max_length=100, description="auto, or a name or name@version from /v1/models")
    tier: Literal["auto", "fast", "best"] = Field(
        "auto",
        description="fast: the service's model; best: its stronger one; auto: the stronger one when the score is low",
    )
    subject: Literal["auto", "person", "product", "animal", "car", "graphic", "other"] = Field(
        "auto", description="what the photo shows; a routing hint"
    )
    roi: str | None = Field(None, description="x1 y1 x2 y2, each in px or %; outside is background")
    output: Output | None = Field(
        None,
        description="cutout (RGBA), alpha (8-bit grey), composite or zip; composite when a background is given",
    )
    format: Annotated[Format | None, BeforeValidator(_jpeg)] = Field(
        None, description="png, webp, jpg or avif; png for cutout and alpha, jpg for an opaque composite"
    )
    encode_quality: int = Field(90, ge=1, le=100, description="for jpg, webp and avif")
    background_color: str | None = Field(None, description="hex of 3, 4, 6 or 8 digits, a CSS name, or transparent")
    background_gradient: str | None = Field(
        None,
        description="'ANGLEdeg STOP STOP ..' or 'radial STOP STOP ..'; a STOP is a colour with optional N%",
    )
    background_template: str | None = Field(None, description="one of: " + ", ".join(TEMPLATE_NAMES))
    background_blur_px: float | None = Field(
        None,
        ge=0.5,
        le=200,
        description="Gaussian sigma over the photo's own background, without the subject",
    )
    background_scaling: Literal["fill", "fit"] = Field("fill", description="how a background picture meets the frame")
    shadow: Literal["none", "drop", "contact"] = Field("none", description="only with composite")
    shadow_opacity: float = Field(40, ge=0, le=100, description="percent")
    shadow_blur_px: float = Field(12, ge=0, le=200)
    shadow_offset: str = Field("0 8", description="'x y' in px, right and down")
    alpha_threshold: int = Field(
        10, ge=0, le=254, description="removes noise up to this level, softly; never makes the matte binary"
    )
    erode_px: Pixels = Field(0, ge=0, le=20, description="moves the edge inward by this radius; fractions allowed")
    feather_px: Pixels = Field(0, ge=0, le=50, description="Gaussian sigma on the matte")
    refine: Literal["none", "guided", "matting"] = Field("guided", description="how the matte reaches full size")
    foreground: Literal["estimate", "original"] = Field(
        "estimate", description="estimate removes fringe colour, original keeps the photo's pixels"
    )
    existing_alpha: Literal["multiply", "trust", "ignore"] = Field(
        "multiply", description="what a photo's own transparency does; trust runs no model"
    )
    check_stability: bool = Field(
        False, description="the network also sees the mirrored photo; what differs lowers the quality score"
    )
    store: bool = Field(False, description="keep the result; the answer names its id")
    store_alpha: bool = Field(False, description="keep the matte too; needs store")
    store_source: bool = Field(False, description="keep the photo too; needs store")
    name: str | None = Field(None, min_length=1, max_length=200, description="for the storage key; default: file name")
    sku: str | None = Field(None, min_length=1, max_length=200, description="for the storage key")
    include: Literal["alpha"] | None = Field(None, description="alpha: JSON answers also carry the matte")
    inline: bool = Field(True, description="false (needs store): JSON with a URL instead of base64")
    allow_empty: bool = Field(False, description="true: an empty matte is an answer, not an error")

    @field_validator("name", "sku")
    @classmethod
    def _no_separators(cls, value: str | None) -> str | None:
        if value is not None and _NAME_FORBIDDEN.search(value):
            raise ValueError("no path separators or control characters are allowed")
        return value

    @field_validator("background_color")
    @classmethod
    def _colour(cls, value: str | None) -> str | None:
        return None if value is None else colour_text(parse_colour(value))

    @field_validator("background_gradient")
    @classmethod
    def _gradient(cls, value: str | None) -> str | None:
        return None if value is None else gradient_text(parse_gradient(value))

    @field_validator("background_template")
    @classmethod
    def _template(cls, value: str | None) -> str | None:
        if value is not None and value not in TEMPLATE_NAMES:
            raise ValueError(f"allowed {', '.join(TEMPLATE_NAMES)}")
        return value

    @field_validator("roi")
    @classmethod
    def _roi(cls, value: str | None) -> str | None:
        return None if value is None else " ".join(f"{number:.15g}{unit}" for number, unit in _roi_parts(value))

    @field_validator("shadow_offset")
    @classmethod
    def _offset(cls, value: str) -> str:
        return "{} {}".format(*_offset_parts(value))

    @property
    def has_background(self) -> bool:
        """A background named by an option; a background picture travels beside the options."""
        return any(getattr(self, name) is not None for name in _BACKGROUNDS)

    @property
    def kind(self) -> Output:
        """The output really made."""
        return self.output or ("composite" if self.has_background else "cutout")

    @property
    def offset_px(self) -> tuple[int, int]:
        return _offset_parts(self.shadow_offset)

    @property
    def roi_parts(self) -> list[tuple[float, str]]:
        """(number, px or %) of x1, y1, x2 and y2; nothing without an `roi`."""
        return _roi_parts(self.roi) if self.roi else []

    def roi_box(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """(left, top, right, bottom) in pixels, clipped to the picture; None for the whole of it.

        Raises OptionError when nothing is left.
        """
        if self.roi is None:
            return None
        sizes = (width, height, width, height)
        edges = [
            min(size, max(0, round(number * size / 100 if unit == "%" else number)))
            for (number, unit), size in zip(_roi_parts(self.roi), sizes, strict=True)
        ]
        left, top, right, bottom = edges
        if right <= left or bottom <= top:
            raise OptionError(
                f"roi is '{self.roi}', which holds no pixel of a {width}x{height} picture; "
                "give x1 y1 x2 y2 with x1 < x2 and y1 < y2.",
                field="roi",
            )
        return left, top, right, bottom


class Values(LayoutOptions, PictureOptions):
    """Options, each right by itself; nothing is said of how they go together."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Options(Values):
    """One request's wishes. `None` means: not sent, the default follows from the other fields."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        conflicts = [
            {"code": ConflictingOptions.code, "message": message, "field": field} for field, message in _conflicts(self)
        ]
        if conflicts:
            first = conflicts[0]
            details = conflicts if len(conflicts) > 1 else []
            raise ConflictingOptions(first["message"], field=first["field"], details=details)
        return self


_BACKGROUNDS = ("background_color", "background_gradient", "background_template", "background_blur_px")


def _roi_parts(text: str) -> list[tuple[float, str]]:
    matches = [_ROI_PART.fullmatch(part) for part in text.split()]
    if len(matches) != 4 or not all(matches):
        raise ValueError("allowed 'x1 y1 x2 y2', each a number with px or %, for example '10% 10% 90% 100%'")
    return [(float(m[1]), m[2] or "px") for m in matches if m]


def _offset_parts(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(-?[0-9]{1,4})(?:px)?\s+(-?[0-9]{1,4})(?:px)?", text.strip())
    if not match:
        raise ValueError("allowed 'x y' in whole pixels, for example '0 8'")
    return int(match[1]), int(match[2])


def _conflicts(options: Options) -> list[tuple[str, str]]:
    """(field, message) for every pair of options that cannot hold together."""
    given = [name for name in _BACKGROUNDS if getattr(options, name) is not None]
    found: list[tuple[str, str]] = []
    if len(given) > 1:
        found.append((given[1], f"{' and '.join(given)} were both sent; give one background."))
    if given and options.kind != "composite":
        found.append((given[0], f"{given[0]} needs output=composite; output is {options.kind}."))
    if options.shadow != "none" and options.kind != "composite":
        found.append(("shadow", f"shadow needs output=composite; output is {options.kind}."))
    if options.format == "jpg" and options.kind == "cutout":
        found.append(("format", "format=jpg cannot hold a cutout's transparency; use png, webp or avif."))
    if options.format and options.kind == "zip":
        found.append(("format", "output=zip fixes its own formats; leave format out."))
    for name in ("store_alpha", "store_source"):
        if getattr(options, name) and not options.store:
            found.append((name, f"{name} needs store=true."))
    if not options.inline and not options.store:
        found.append(("inline", "inline=false needs store=true: the URL points at the stored result."))
    return found + layout_conflicts(options)


def parse_options(fields: Mapping[str, Any], *, background_file: bool = False, background_url: bool = False) -> Options:
    """Checked options from loose values; an empty string means not sent.

    `background_file` says that a background picture travels beside them, `background_url` that one is named by its
    URL. Raises OptionError, or UnknownOption or ConflictingOptions, with one entry per bad field in `details`.
    """
    pictures = [
        name for name, sent in (("background_file", background_file), ("background_url", background_url)) if sent
    ]
    # pydantic gives up on a name with half a surrogate, which JSON may hold, instead of naming it
    sent = {
        name.encode("utf-8", "backslashreplace").decode(): value
        for name, value in fields.items()
        if value is not None and value != ""
    }
    if pictures:
        sent.setdefault("output", "composite")
    try:
        options = Options.model_validate(sent)
    except ValidationError as error:
        raise _option_error(error) from None
    if pictures:
        _check_background_picture(options, pictures)
    return options


def one_spelling(name: str, value: Any) -> Any:
    """`value` as Options keep it under `name`; as it came where they refuse it, for parse_options to say so."""
    if name not in Values.model_fields:
        return value
    try:
        return getattr(Values.model_validate({name: value}), name)
    except ValidationError:
        return value


def _check_background_picture(options: Options, pictures: list[str]) -> None:
    field, *others = pictures + [name for name in _BACKGROUNDS if getattr(options, name) is not None]
    if others:
        raise ConflictingOptions(f"{field} and {others[0]} were both sent; give one background.", field=field)
    if options.kind != "composite":
        raise ConflictingOptions(f"{field} needs output=composite; output is {options.kind}.", field=field)


def _option_error(error: ValidationError) -> OptionError:
    details = [_describe(entry) for entry in error.errors(include_url=False)]
    unknown = all(entry["code"] == "unknown_option" for entry in details)
    kind = UnknownOption if unknown else OptionError
    first = next(entry for entry in details if unknown or entry["code"] != "unknown_option")
    return kind(first["message"], field=first["field"], details=details if len(details) > 1 else [])


def _describe(entry: Any) -> dict[str, str]:
    """One bad field as {code, message, field}: what came, what is allowed."""
    field = str(entry["loc"][0]) if entry["loc"] else ""
    if entry["type"] == "extra_forbidden":
        message = f"{field[:80]} is not an option here; allowed: {', '.join(Options.model_fields)}."
        return {"code": "unknown_option", "message": message, "field": field[:80]}
    nested = isinstance(entry["input"], (list, dict))  # may be deeper than str() can go
    came = "a list or object" if nested else str(entry["input"])
    shown = came if len(came) <= 60 else came[:57] + "..."
    return {
        "code": "invalid_option",
        "message": f"{field} is {shown}; {_allowed(field, entry)}.",
        "field": field,
    }


def _allowed(field: str, entry: Any) -> str:
    info = Options.model_fields[field]
    bounds = {
        name: value
        for part in info.metadata
        for name in ("ge", "le")
        if (value := getattr(part, name, None)) is not None
    }
    if entry["type"] == "literal_error":
        return f"allowed {entry['ctx']['expected'].replace(chr(39), '')}"
    if len(bounds) == 2:
        return f"allowed {bounds['ge']} to {bounds['le']}"
    if entry["type"].startswith("bool"):
        return "allowed true or false"
    reason = str(entry.get("ctx", {}).get("error", "")) or entry["msg"]
    return reason[0].lower() + reason[1:].rstrip(".")
