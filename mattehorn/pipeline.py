"""THE MAIN PATH: prepare(photo, options) -> [a network's alpha] -> matted(..) -> rendered(..) -> Result.

`cut_out` joins them in one process; the compose deployment puts the matting pool in between. Between `matted` and
`rendered` a stronger model may have its go (mattehorn/routed.py). All are pure: bytes and arrays in, the same out.
"""

from __future__ import annotations

import dataclasses
import functools
from contextlib import nullcontext
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mattehorn import alpha as matte
from mattehorn import telemetry
from mattehorn.composite import Picture, lay_over
from mattehorn.errors import NoForeground
from mattehorn.foreground import estimate_foreground
from mattehorn.image import encode
from mattehorn.image.decode import Decoded, SourceInfo, decode
from mattehorn.image.resolution import read_dpi
from mattehorn.layout.plan import check_canvas
from mattehorn.models.base import Model, ModelCard, predict_with_subjects
from mattehorn.models.zoo import DEFAULT
from mattehorn.options import Options, parse_options
from mattehorn.prepared import Matted, Pixels, Prepared
from mattehorn.quality import Quality, assess
from mattehorn.recipe.gate import Route
from mattehorn.rendering import encode_scene, lay_out, placement_of
from mattehorn.rendition import NOTHING_MORE, Rendition, check_region, scaled_box, scaled_region, shrunk
from mattehorn.resize import Fitted, fit, restore_alpha
from mattehorn.settings import Limits
from mattehorn.stability import disagreement, mirrored
from mattehorn.telemetry import Stages

Matte = NDArray[np.float32]

NO_MODEL = "none"  # the answer's model when a photo's own transparency was trusted
_MID_GREY = 128  # a transparent photo is shown to the network on neither black nor white


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
    placement = placement_of(prepared, made.alpha, box)
    with stages.timed("composite") if placement or options.kind == "composite" else nullcontext():
        scene = lay_out(prepared, made.foreground, made.alpha, placement)
    data, extension = encode_scene(prepared, scene, made, route)
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
