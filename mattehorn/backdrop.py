"""What lies behind the subject of a composite, from the options: the one background, and the shadow on it.

What it is not: it lays nothing over anything (composite.py). Called by `mattehorn.pipeline`.
"""

from __future__ import annotations

from mattehorn.colour import BACKGROUND_TEMPLATES, parse_colour, parse_gradient
from mattehorn.composite import Background, Blur, Colour, GradientFill, Picture, SceneFill, Shadow
from mattehorn.image.decode import Decoded
from mattehorn.options import Options
from mattehorn.scenes import SCENES


def background_of(options: Options, picture: Decoded | None) -> Background:
    """The one background of a composite; `picture` where one was sent, white when none was named."""
    if picture is not None:
        return Picture(picture.rgb, picture.alpha, options.background_scaling)
    if options.background_blur_px is not None:
        return Blur(options.background_blur_px)
    if options.background_template in SCENES:
        return SceneFill(options.background_template)
    gradient = options.background_gradient or BACKGROUND_TEMPLATES.get(options.background_template or "")
    if gradient is not None:
        return GradientFill(parse_gradient(gradient))
    return Colour(*parse_colour(options.background_color or "white"))


def shadow_of(options: Options) -> Shadow | None:
    if options.shadow == "none":
        return None
    return Shadow(options.shadow, options.shadow_opacity / 100, options.shadow_blur_px, options.offset_px)
