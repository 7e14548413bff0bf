"""From a photo with its matte to a file: where it goes on the canvas, what lies behind it, how it is encoded.

What it is not: it makes no matte and judges none. `mattehorn.pipeline.rendered` calls it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from mattehorn.backdrop import background_of, shadow_of
from mattehorn.composite import Background, Blur, Picture, background_blur, lay_over
from mattehorn.errors import ConflictingOptions
from mattehorn.foreground import zero_hidden
from mattehorn.image import encode
from mattehorn.layout.pixels import place_alpha, place_frame, place_subject
from mattehorn.layout.plan import Placement, cropped_sides, plan
from mattehorn.options import Options
from mattehorn.prepared import Box, Matted, Pixels, Prepared
from mattehorn.recipe.gate import Route, quality_document
from mattehorn.rendition import render

_ZIP_JPEG_QUALITY = 95  # 4:4:4 from here on, so that the subject's edge keeps its colour


@dataclass(frozen=True)
class Scene:
    """What is rendered, at the result's size: F, alpha and, for a composite, what lies behind them."""

    foreground: Pixels
    alpha: Pixels
    background: Background | None


def placement_of(prepared: Prepared, alpha: Pixels, box: Box | None) -> Placement | None:
    """Where the photo goes on the canvas; None where geometry stays as it is."""
    layout = prepared.rendition.layout or prepared.options.layout
    if layout is None:
        return None
    height, width = alpha.shape
    return plan(layout, width, height, box, cropped_sides(alpha), prepared.limits)


def lay_out(prepared: Prepared, foreground: Pixels, alpha: Pixels, placement: Placement | None) -> Scene:
    """The subject and what lies behind it, at the result's size."""
    options, image = prepared.options, prepared.photo.rgb
    background = background_of(options, prepared.background) if options.kind == "composite" else None
    if placement is None:
        return Scene(foreground, alpha, background)
    if options.kind == "alpha":
        return Scene(foreground, place_alpha(placement, alpha), None)
    if isinstance(background, Blur):  # all of the photo's background counts, also what the canvas does not show
        sigma_px = min(background.sigma_px / placement.scale, max(image.shape))  # wider than the photo is all the same
        background = Picture(place_frame(placement, background_blur(image, alpha, sigma_px, foreground)), None)
    colour, levels = place_subject(placement, foreground, alpha)
    if options.kind == "zip":  # its colour is to be composited again: no black may begin at the subject's edge
        colour = np.where(levels[..., None] > 0, colour, place_frame(placement, foreground))
    return Scene(colour, levels, background)


def encode_scene(prepared: Prepared, scene: Scene, made: Matted, route: Route | None) -> tuple[bytes, str]:
    """(bytes, file extension) of the output that was asked for."""
    options, stages, dpi, form = prepared.options, prepared.stages, prepared.dpi, prepared.rendition.form
    foreground, alpha = scene.foreground, scene.alpha
    chosen = options.format or "png"
    if scene.background is not None:
        with stages.timed("composite"):
            rgb, left_over = lay_over(foreground, alpha, prepared.photo.rgb, scene.background, shadow_of(options))
        with stages.timed("encode"):
            if form is not None:
                return render(form, rgb, left_over, options.encode_quality, dpi, composite=True)
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


def _zip(prepared: Prepared, scene: Scene, made: Matted, route: Route | None) -> bytes:
    info, quality = prepared.photo.info, max(_ZIP_JPEG_QUALITY, prepared.options.encode_quality)
    height, width = scene.alpha.shape
    meta = {
        "width": width,
        "height": height,
        "source": {"format": info.format, "sha256": info.sha256},
        "options": prepared.options.model_dump(exclude_none=True),
        "model": made.model,
        "subject": made.subject,
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
