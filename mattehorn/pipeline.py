"""THE MAIN PATH: prepare(photo, options) -> [a network's alpha] -> matted(..) -> rendered(..) -> Result.

`cut_out` joins them in one process; the compose deployment puts the matting pool in between. Between `matted` and
`rendered` a stronger model may have its go (mattehorn/routed.py). All are pure: bytes and arrays in, the same out.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from contextlib import nullcontext
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mattehorn import alpha as matte
from mattehorn import telemetry
from mattehorn.backdrop import background_of, shadow_of
from mattehorn.composite import Background, Blur, Picture, background_blur, lay_over
from mattehorn.errors import ConflictingOptions, NoForeground
from mattehorn.foreground import estimate_foreground, zero_hidden
from mattehorn.image import encode
from mattehorn.image.decode import Decoded, SourceInfo, decode
from mattehorn.image.resolution import read_dpi
from mattehorn.layout.pixels import place_alpha, place_frame, place_subject
from mattehorn.layout.plan import Placement, check_canvas, cropped_sides, plan
from mattehorn.models.base import Model, ModelCard, predict_with_subjects
from mattehorn.models.zoo import DEFAULT
from mattehorn.options import Options, parse_options
from mattehorn.quality import Quality, assess
from mattehorn.recipe.gate import Route, quality_document
from mattehorn.rendition import NOTHING_MORE, Rendition, check_region, render, scaled_box, scaled_region, shrunk
from mattehorn.resize import Fitted, fit, restore_alpha
from mattehorn.settings import Limits
from mattehorn.stability import disagreement, mirrored
from mattehorn.telemetry import Stages

Pixels = NDArray[np.uint8]
Matte = NDArray[np.float32]

NO_MODEL = "none"  # the answer's model when a photo's own transparency was trusted
_MID_GREY = 128  # a transparent photo is shown to the network on neither black nor white
_ZIP_JPEG_QUALITY = 95  # 4:4:4 from here on, so that the subject's edge keeps its colour


@dataclass(frozen=True)
class Prepared:
    """A decoded photo, and what the network shall see of it (None: its own transparency is trusted). `dpi` is what the
    result is to state; `binary`: alpha is cut to 0 or 1; `rendition`: what goes beyond the options."""

    photo: Decoded
    options: Options
    fitted: Fitted | None
    roi: tuple[int, int, int, int] | None
    background: Decoded | None
    stages: Stages
    limits: Limits
    dpi: int | None
    binary: bool = False
    recipe: str = ""  # `name@version;hash`, for the record
    rendition: Rendition = NOTHING_MORE


@dataclass(frozen=True)
class Matted:
    """A photo with its matte, judged and not yet rendered. `box` is (top, left, height, width), None when it is empty;
    `model` and `subject` are what made it and what it saw."""

    foreground: Pixels
    alpha: Pixels
    box: tuple[int, int, int, int] | None
    quality: Quality
    model: str = ""
    subject: str | None = None


@dataclass(frozen=True)
class _Scene:
    """What is rendered, at the result's size: F, alpha and, for a composite, what lies behind them."""

    foreground: Pixels
    alpha: Pixels
    background: Background | None


@dataclass(frozen=True)
class Result:
    """One answer. `width`, `height`: of the result. `foreground_box` is (top, left, height, width) in source pixels,
    whatever the layout; None when the matte is empty."""

    data: bytes
    content_type: str
    extension: str
    width: int
    height: int
    foreground_box: tuple[int, int, int, int] | None
    quality: Quality
    source: SourceInfo
    warnings: tuple[str, ...]
    alpha_png: bytes | None = None
    model: str = ""
    subject: str | None = None  # what the photo shows, where a model told
    recipe: str = ""  # `name@version;hash`
    route: Route | None = None  # what a recipe's gate said
    timings_ms: dict[str, float] = field(default_factory=dict)

    def save(self, path: str | PathLike[str]) -> None:
        Path(path).write_bytes(self.data)


def prepare(
    data: bytes,
    options: Options,
    card: ModelCard,
    limits: Limits,
    background: bytes | None = None,
    *,
    binary: bool = False,
    recipe: str = "",
    rendition: Rendition | None = None,
) -> Prepared:
    """Decodes the photo and fits it to the network; with a `rendition` all but the network sees it at its size there.
    Raises the errors of image.decode, OptionError for an empty roi and for an output_size above the limits."""
    stages = Stages()
    layout = options.layout
    if layout is not None and isinstance(layout.size, tuple):
        check_canvas(*layout.size, limits)
    with stages.timed("decode"):
        photo = decode(data, limits)
        backdrop = decode(background, limits) if background is not None else None
    telemetry.observe(telemetry.IMAGE_MEGAPIXELS, photo.info.width * photo.info.height / 1e6)
    if rendition is not None:
        check_region(options, photo.info.width, photo.info.height)
    roi = options.roi_box(photo.info.width, photo.info.height)
    fitted = None
    if photo.alpha is None or options.existing_alpha != "trust":
        with stages.timed("decode"):
            fitted = _fitted(photo, options, roi, card)
    dpi = options.dpi or read_dpi(data, photo.info.format)
    if rendition is not None:
        with stages.timed("decode"):
            small = shrunk(photo, rendition.most_pixels)
        photo, roi = small, scaled_region(roi, photo.rgb.shape, small.rgb.shape)
    more = rendition or NOTHING_MORE
    return Prepared(photo, options, fitted, roi, backdrop, stages, limits, dpi, binary, recipe, more)


def refitted(prepared: Prepared, card: ModelCard) -> Prepared:
    """The same photo as another model wants to see it; not for one whose own transparency is trusted."""
    with prepared.stages.timed("decode"):
        fitted = _fitted(prepared.photo, prepared.options, prepared.roi, card)
    return dataclasses.replace(prepared, fitted=fitted)


def finish(prepared: Prepared, network_alpha: NDArray[Any] | None) -> Result:
    """The answer from the network's alpha. Raises as `rendered` does."""
    return rendered(prepared, matted(prepared, network_alpha))


def matted(
    prepared: Prepared,
    network_alpha: NDArray[Any] | None,
    mirrored_alpha: NDArray[Any] | None = None,
    *,
    model: str = "",
    subject: str | None = None,
) -> Matted:
    """The photo with its matte from the network's alpha (uint8 or 0..1 float, network size; None when the photo's own
    is trusted) and, for the check of stability, from that of the mirrored photo."""
    options, stages, photo = prepared.options, prepared.stages, prepared.photo
    with stages.timed("refine"):
        full = _seen_alpha(prepared, network_alpha)
        if prepared.rendition.solid:
            full = matte.fill_enclosed(full)
        # F solves I = aF + (1-a)B, which holds for what is seen in the picture: not for a matte with its edge moved,
        # nor for given transparency, whose colour is not mixed with anything
        foreground = _foreground(prepared, full)
        if prepared.binary:
            full = matte.binarise(full)
        full = matte.combine_with_given(
            full, photo.alpha, "ignore" if options.existing_alpha == "ignore" else "multiply"
        )
        full = matte.refine_edges(full, options.alpha_threshold, options.erode_px, options.feather_px)
        alpha = matte.to_uint8(full)
        del full
        box = _subject_box(alpha, prepared.rendition.subject_level)
        differs = None
        if prepared.fitted is not None and network_alpha is not None and mirrored_alpha is not None:
            differs = disagreement(prepared.fitted, network_alpha, mirrored_alpha)
        quality = assess(alpha, photo.rgb, differs)
    return Matted(foreground, alpha, box, quality, NO_MODEL if network_alpha is None else model, subject)


def rendered(prepared: Prepared, made: Matted, route: Route | None = None, warnings: tuple[str, ...] = ()) -> Result:
    """The answer. `route` and `warnings` are what was decided on the way.

    Raises NoForeground when the matte is empty and the caller did not allow that, OptionError for a layout that this
    subject's place in the photo makes impossible.
    """
    options, stages, photo, box = prepared.options, prepared.stages, prepared.photo, made.box
    telemetry.observe(telemetry.QUALITY_SCORE, made.quality.score)
    if box is None and not options.allow_empty:
        raise NoForeground(
            "No foreground was found in the photo; send another photo, a lower alpha_threshold, or allow_empty=true."
        )
    placement = _placement(prepared, made.alpha, box)
    with stages.timed("composite") if placement or options.kind == "composite" else nullcontext():
        scene = _scene(prepared, made.foreground, made.alpha, placement)
    data, extension = _render(prepared, scene, made, route)
    alpha_png = None
    if options.include == "alpha" or options.store_alpha:
        with stages.timed("encode"):
            alpha_png = encode.encode_alpha(scene.alpha, "png", options.encode_quality, prepared.dpi)
    height, width = scene.alpha.shape
    return Result(
        data=data,
        content_type=encode.CONTENT_TYPES[extension],
        extension=extension,
        width=width,
        height=height,
        foreground_box=scaled_box(box, made.alpha.shape, (photo.info.height, photo.info.width)),
        quality=made.quality,
        source=photo.info,
        warnings=_warnings(prepared, extension) + warnings,
        alpha_png=alpha_png,
        model=made.model,
        subject=made.subject,
        recipe=prepared.recipe,
        route=route,
        timings_ms=stages.ms,
    )


def cut_out(
    photo: bytes | str | PathLike[str],
    *,
    background: bytes | str | PathLike[str] | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> Result:
    """The cutout of one photo (its bytes or its path), all in this process; `options` as in `Options`.

    The model is loaded at the first call and kept. Raises the errors of mattehorn/errors.py.
    """
    wanted = parse_options(options, background_file=background is not None)
    model = _loaded_model(DEFAULT if wanted.model == "auto" else wanted.model)
    return run(model, _read(photo), wanted, limits or Limits(), None if background is None else _read(background))


def run(
    model: Model,
    data: bytes,
    options: Options,
    limits: Limits,
    background: bytes | None = None,
    rendition: Rendition | None = None,
) -> Result:
    """The answer of one loaded model, in this thread."""
    prepared = prepare(data, options, model.card, limits, background, rendition=rendition)
    result = rendered(prepared, predicted(prepared, model, mirror=options.check_stability))
    prepared.stages.report()
    return result


def predicted(prepared: Prepared, model: Model, *, mirror: bool = False, levels: bool = False) -> Matted:
    """The photo with the matte that `model` gives it. `mirror`: it also sees the photo mirrored. `levels`: alpha takes
    8 bits in between, as it travels in a service: equal keys must mean equal bytes, whoever made them."""
    fitted = prepared.fitted
    if fitted is None:
        return matted(prepared, None)
    with prepared.stages.timed("infer"):
        seen = [fitted.pixels, mirrored(fitted)] if mirror else [fitted.pixels]
        found, (subject, *_) = predict_with_subjects(model, np.stack(seen))
        alphas = [matte.to_uint8(alpha) if levels else alpha for alpha in found]
    return matted(prepared, *alphas, model=model.card.id, subject=subject)


@functools.cache
def _loaded_model(name: str) -> Model:
    from mattehorn.models.registry import load_model

    return load_model(name)


def _read(source: bytes | str | PathLike[str]) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()


def _fitted(photo: Decoded, options: Options, roi: tuple[int, int, int, int] | None, card: ModelCard) -> Fitted:
    shown = photo.rgb if options.existing_alpha == "ignore" else _on_grey(photo)
    return fit(_crop(shown, roi), card.input_size, card.fit, card.restore)


def _on_grey(photo: Decoded) -> Pixels:
    if photo.alpha is None:
        return photo.rgb
    grey = np.full_like(photo.rgb, _MID_GREY)
    shown, _ = lay_over(photo.rgb, photo.alpha, photo.rgb, Picture(grey, None, "fill"), None)
    return shown


def _crop(image: Pixels, roi: tuple[int, int, int, int] | None) -> Pixels:
    if roi is None:
        return image
    left, top, right, bottom = roi
    return image[top:bottom, left:right]


def _seen_alpha(prepared: Prepared, network_alpha: NDArray[Any] | None) -> Matte:
    """Alpha float32 [H, W] as seen in the picture, 0 outside the region; 1 within it where the given one is trusted."""
    photo, options = prepared.photo, prepared.options
    height, width = photo.rgb.shape[:2]
    seen: Matte = np.ones((1, 1), np.float32)
    if prepared.fitted is not None and network_alpha is not None:
        seen = restore_alpha(_crop(photo.rgb, prepared.roi), prepared.fitted, network_alpha, options.refine)
        if prepared.roi is None:
            return seen
    left, top, right, bottom = prepared.roi or (0, 0, width, height)
    full = np.zeros((height, width), np.float32)
    full[top:bottom, left:right] = seen
    return full


def _subject_box(alpha: Pixels, above: int | None) -> tuple[int, int, int, int] | None:
    return matte.bounding_box(alpha) if above is None else matte.subject_box(alpha, above)


def _placement(prepared: Prepared, alpha: Pixels, box: tuple[int, int, int, int] | None) -> Placement | None:
    """Where the photo goes on the canvas; None where geometry stays as it is."""
    layout = prepared.rendition.layout or prepared.options.layout
    if layout is None:
        return None
    height, width = alpha.shape
    return plan(layout, width, height, box, cropped_sides(alpha), prepared.limits)


def _scene(prepared: Prepared, foreground: Pixels, alpha: Pixels, placement: Placement | None) -> _Scene:
    options, image = prepared.options, prepared.photo.rgb
    background = background_of(options, prepared.background) if options.kind == "composite" else None
    if placement is None:
        return _Scene(foreground, alpha, background)
    if options.kind == "alpha":
        return _Scene(foreground, place_alpha(placement, alpha), None)
    if isinstance(background, Blur):  # all of the photo's background counts, also what the canvas does not show
        sigma_px = min(background.sigma_px / placement.scale, max(image.shape))  # wider than the photo is all the same
        background = Picture(place_frame(placement, background_blur(image, alpha, sigma_px, foreground)), None)
    colour, levels = place_subject(placement, foreground, alpha)
    if options.kind == "zip":  # its colour is to be composited again: no black may begin at the subject's edge
        colour = np.where(levels[..., None] > 0, colour, place_frame(placement, foreground))
    return _Scene(colour, levels, background)


def _render(prepared: Prepared, scene: _Scene, made: Matted, route: Route | None) -> tuple[bytes, str]:
    """(bytes, file extension) of the output that was asked for."""
    options, stages, dpi, form = prepared.options, prepared.stages, prepared.dpi, prepared.rendition.form
    foreground, alpha = scene.foreground, scene.alpha
    chosen = options.format or "png"
    if scene.background is not None:
        with stages.timed("composite"):
            rgb, left_over = lay_over(foreground, alpha, prepared.photo.rgb, scene.background, shadow_of(options))
        with stages.timed("encode"):
            if form is not None:
                return render(form, rgb, left_over, options.encode_quality, dpi)
            return _encode_composite(rgb, left_over, options, dpi)
    with stages.timed("encode"):
        if form is not None:
            return render(form, foreground, alpha, options.encode_quality, dpi)
        if options.kind == "alpha":
            return encode.encode_alpha(alpha, chosen, options.encode_quality, dpi), chosen
        if options.kind == "zip":
            return _zip(prepared, scene, made, route), "zip"
        hidden = zero_hidden(foreground, alpha)
        return encode.encode_cutout(hidden, alpha, chosen, options.encode_quality, dpi), chosen


def _warnings(prepared: Prepared, extension: str) -> tuple[str, ...]:
    """What was done that might surprise."""
    background = prepared.background.info.warnings if prepared.background else ()
    lost = prepared.options.dpi is not None and extension not in encode.DPI_FORMATS
    return prepared.photo.info.warnings + background + (("dpi_not_written",) if lost else ())


def _foreground(prepared: Prepared, full: Matte) -> Pixels:
    """The subject's colour; the photo's own where that was asked for, or where no colour is given out."""
    if prepared.fitted is None or prepared.options.foreground == "original" or prepared.options.kind == "alpha":
        return prepared.photo.rgb
    return estimate_foreground(prepared.photo.rgb, full)


def _encode_composite(rgb: Pixels, alpha: Pixels | None, options: Options, dpi: int | None) -> tuple[bytes, str]:
    if alpha is None:
        chosen = options.format or "jpg"
        return encode.encode_opaque(rgb, chosen, options.encode_quality, dpi), chosen
    if options.format == "jpg":
        raise ConflictingOptions(
            "format=jpg cannot hold this composite's transparency; use png, webp or avif, or an opaque background.",
            field="format",
        )
    chosen = options.format or "png"
    return encode.encode_cutout(zero_hidden(rgb, alpha), alpha, chosen, options.encode_quality, dpi), chosen


def _zip(prepared: Prepared, scene: _Scene, made: Matted, route: Route | None) -> bytes:
    info, quality = prepared.photo.info, max(_ZIP_JPEG_QUALITY, prepared.options.encode_quality)
    height, width = scene.alpha.shape
    meta = {
        "width": width,
        "height": height,
        "source": {"format": info.format, "sha256": info.sha256},
        "options": prepared.options.model_dump(exclude_none=True),
        "model": made.model,
        "recipe": prepared.recipe or None,
        "quality": quality_document(made.quality, route),
    }
    return encode.encode_zip(
        {
            "color.jpg": encode.encode_opaque(scene.foreground, "jpg", quality, prepared.dpi),
            "alpha.png": encode.encode_alpha(scene.alpha, "png", 100, prepared.dpi),
            "meta.json": json.dumps(meta, indent=1, sort_keys=True).encode(),
        }
    )
