"""From any pixel layout that Pillow loads to 8-bit sRGB and opacity.

Not here: opening files and their limits (image.py, the only caller). A plan is made once for a picture and
then applied to bands of its rows.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, PngImagePlugin, TiffImagePlugin

from mattehorn.errors import UnsupportedImage

ICC_TOLERANCE: Final = 1
"""Levels by which a profile may differ from sRGB and still be taken for it: its own rounding."""

_BASE_MODE: Final = {
    **dict.fromkeys(("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"), "L"),
    **dict.fromkeys(("P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "YCbCr"), "RGB"),
    "CMYK": "CMYK",
}
"""Pillow modes that are read, and the colours they hold. Missing: `I` and `F` (32 bits), `LAB`, `HSV`."""
_ALPHA_MODE: Final = {"LA": "LA", "La": "LA", "PA": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}


def check_mode(kind: str, mode: str) -> None:
    """Raises UnsupportedImage for a pixel layout that cannot be converted."""
    if mode not in _BASE_MODE:
        depth = {"I": "32-bit or signed samples", "F": "floating point samples"}.get(mode, f"{mode} colours")
        raise UnsupportedImage(f"This {kind} picture has {depth}. Send 8 or 16 bits a channel, grey, RGB or CMYK.")


@dataclass(frozen=True)
class Conversion:
    """How a band of stored rows becomes sRGB and opacity.

    `alpha_mode`: the mode that holds the band's alpha, if any. `key`: the one transparent colour (PNG, GIF).
    `shift`, `inverted`: from a 16-bit grey sample to its high byte.
    """

    mode: str
    alpha_mode: str | None
    key: tuple[int, ...] | None
    shift: int
    inverted: bool
    transform: ImageCms.ImageCmsTransform | None

    def __call__(self, band: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """RGB uint8 [h, W, 3], and alpha uint8 [h, W] where the layout can hold transparency."""
        opacity = None
        if self.alpha_mode is not None:
            band = _as_mode(band, self.alpha_mode)
            opacity = np.asarray(band.getchannel("A"))
        elif self.mode == "1":
            band = band.convert("L")
        if self.key is not None:
            samples = np.asarray(band).reshape(band.height, band.width, -1)
            opacity = np.where((samples == np.array(self.key)).all(axis=2), np.uint8(0), np.uint8(255))
        if self.mode.startswith("I;16"):
            grey = (np.asarray(band) >> self.shift).astype(np.uint8)
            band = Image.fromarray(255 - grey if self.inverted else grey)
        if self.transform is not None:
            band = self.transform.apply(_as_mode(band, self.transform.input_mode))
        return np.asarray(_as_mode(band, "RGB")), opacity


def _as_mode(band: Image.Image, mode: str) -> Image.Image:
    return band if band.mode == mode else band.convert(mode)


def plan_conversion(image: ImageFile.ImageFile, icc: bytes | None, png_depth: int) -> tuple[Conversion, set[str]]:
    """The conversion of a loaded picture's rows, and {"icc_broken"} when its profile could not be used.

    `png_depth`: bits of a sample in the file; read for PNG only.
    """
    mode = image.mode
    alpha_mode = "RGBA" if mode == "P" and "transparency" in image.info else _ALPHA_MODE.get(mode)
    key = None if alpha_mode else _transparent_key(image, png_depth)
    bits, inverted = 16, False
    if mode.startswith("I;16") and isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]  # 12-bit samples come unscaled
        inverted = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0  # 0: white is zero
    transform, problems = None, set[str]()
    if icc is not None:
        try:
            transform = _to_srgb(icc, _BASE_MODE[mode])
        except (ImageCms.PyCMSError, OSError, ValueError):
            problems.add("icc_broken")
    return Conversion(mode, alpha_mode, key, bits - 8, inverted, transform), problems


def _transparent_key(image: ImageFile.ImageFile, png_depth: int) -> tuple[int, ...] | None:
    """The one colour that counts as transparent, in units of the loaded samples; PNG 3rd edition, 11.3.1.1.

    Pillow gives the key in the file's depth but the samples in 8 bits (16-bit grey and 1 bit aside). A 16-bit
    RGB key is compared by the high bytes that Pillow keeps: colours within 1/256 become transparent too.
    """
    key = image.info.pop("transparency", None)
    if key is None:
        return None
    samples = key if isinstance(key, tuple) else (key,)
    is_png = isinstance(image, PngImagePlugin.PngImageFile)
    if not is_png or image.mode == "1" or image.mode.startswith("I;16"):
        return samples
    if png_depth == 16:
        return tuple(sample >> 8 for sample in samples)
    top = 2**png_depth - 1
    return tuple((sample & top) * 255 // top for sample in samples)


def _to_srgb(icc: bytes, base: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB, relative colorimetric with black point compensation; None when it
    changes nothing. `base`: L, RGB or CMYK, the colours of the pixels.

    Raises PyCMSError, OSError or ValueError for a profile that is broken or made for other colours.
    """
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    space = profile.profile.xcolor_space.strip()
    mode = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}.get(space, "")
    if mode != base and (base, mode) != ("L", "RGB"):  # grey pixels may carry an RGB profile: R = G = B
        raise ValueError(f"a profile for {space} on {base} pixels")
    transform = ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode == "RGB" and _changes_nothing(transform):
        return None
    return transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether an RGB transform leaves a 9 x 9 x 9 grid of colours alone. Most photos carry an sRGB profile,
    and skipping it saves the pass over their pixels."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    moved = np.asarray(transform.apply(Image.fromarray(grid)))
    return bool((np.abs(moved.astype(np.int16) - grid) <= ICC_TOLERANCE).all())
