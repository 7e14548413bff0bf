"""Pictures in: encoded bytes to upright sRGB pixels, with every limit checked before a pixel is decoded.

Not here: encoding (encode.py), fetching, resizing. Called by the compose step (`read_header` for its memory
permit, then `decode`), the command line and the bulk workers. What the bytes alone tell is in side_data.py,
the conversion to sRGB in colour.py.

Only the loaders in `_LOADERS` can ever run: the type is read from the first bytes and its Pillow class is
called directly. That is a stricter allow-list than `Image.open(formats=...)`, and our limits come before
Pillow's own size check, which warns where we refuse. Pillow's limit is one number for the whole process
(`Image.MAX_IMAGE_PIXELS`): it is never lowered or switched off here, only raised, by the first call whose
`limits.pixels` is larger.

Colours are converted in bands of rows, so there is no second full-size copy: a decode holds Pillow's own
picture (4 bytes a pixel, besides what its decoder needs) and the result (3 or 4 bytes a pixel).
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from mattehorn.errors import CorruptImage, ImageTooLarge, MissingImage, UnsupportedImage
from mattehorn.image.colour import check_mode, plan_conversion
from mattehorn.image.side_data import check_jpeg, size_from_bytes, sniff, strip_png
from mattehorn.settings import Limits

READABLE: Final = "jpg, png, webp, bmp, tiff, gif, heic or avif"

BAND_PIXELS: Final = 2**20
"""Pixels converted at once: about 12 MB of scratch, and few Python steps (50 for 50 megapixels)."""
ORIENTATION_TAG: Final = 0x0112

_PILLOW_ERRORS: Final = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error),
    *(AttributeError, AssertionError, ArithmeticError, RuntimeError, Warning),
)
"""What Pillow's loaders raise on hostile bytes. `Warning`: a filter may have made Pillow's warnings errors."""
_UNSUPPORTED: Final = ("unknown pixel mode", "unknown data organization", "cannot handle", "Unsupported BMP")
"""Parts of Pillow's messages about a sound file of a kind that it cannot read: 415, not 422."""


@dataclass(frozen=True)
class Header:
    """`width`, `height`: pixels as stored; an EXIF turn may still swap them. `format`: as in SourceInfo."""

    width: int
    height: int
    format: str

    @property
    def megapixels(self) -> float:
        return self.width * self.height / 1e6


@dataclass(frozen=True)
class SourceInfo:
    """`width`, `height`: pixels after the EXIF turn. `format`: jpeg, png, webp, bmp, tiff, gif, heic or avif.

    `warnings` holds any of animated_first_frame, exif_broken, icc_broken, icc_too_large, text_too_large.
    """

    width: int
    height: int
    format: str
    sha256: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Decoded:
    """`rgb`: uint8 [H, W, 3], upright, sRGB. `alpha`: uint8 [H, W], or None when no pixel is transparent."""

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    info: SourceInfo


def read_header(data: bytes, limits: Limits) -> Header:
    """The picture's type and stored size, without decoding it.

    Raises MissingImage (no bytes), UnsupportedImage, CorruptImage or ImageTooLarge.
    """
    kind = _readable_kind(data)
    size = _check_early(kind, data, limits)
    if kind != "png" or size is None:  # Pillow would unpack a PNG's texts and profile
        with _open(kind, data, limits) as image:
            size = image.size
    return Header(*size, kind)


def decode(data: bytes, limits: Limits) -> Decoded:
    """The picture as sRGB pixels; of an animation or several pages the first.

    Raises as `read_header` does. A file that is cut short is CorruptImage, never half a picture; bytes after
    the picture's end are fine.
    """
    kind = _readable_kind(data)
    _check_early(kind, data, limits)
    source = _source(kind, data, limits)
    with _open(kind, source.data, limits) as image:
        with _pillow_errors(kind):
            source.animated = source.animated or bool(getattr(image, "is_animated", False))
            image.load()
        _check_size(*image.size, limits)  # a HEIC picture's real size shows only now
        rgb, alpha = _pixels(image, source, limits)
    if source.animated:
        source.warnings.add("animated_first_frame")
    height, width = rgb.shape[:2]
    digest = hashlib.sha256(data).hexdigest()
    return Decoded(rgb, alpha, SourceInfo(width, height, kind, digest, tuple(sorted(source.warnings))))


@dataclass
class _Source:
    """One file on its way through `decode`. `data`: what Pillow gets. `depth`: bits of a PNG sample."""

    kind: str
    data: bytes
    depth: int = 8
    icc: bytes | None = None
    animated: bool = False
    warnings: set[str] = field(default_factory=set)


def _source(kind: str, data: bytes, limits: Limits) -> _Source:
    if kind == "png":
        png = strip_png(data, limits)
        return _Source(kind, png.data, png.depth, png.icc, png.animated, set(png.warnings))
    if kind == "jpeg":
        check_jpeg(data)
    return _Source(kind, data)


def _readable_kind(data: bytes) -> str:
    if not data:
        raise MissingImage(f"The picture is empty (0 bytes). Send {READABLE}.")
    kind = sniff(data)
    if kind not in _LOADERS:
        what = "of no known type" if kind == "unknown" else f"of the type {kind}"
        raise UnsupportedImage(f"The file is {what}. Send {READABLE}.", sniffed=kind)
    return kind


def _check_early(kind: str, data: bytes, limits: Limits) -> tuple[int, int] | None:
    size = size_from_bytes(kind, data)
    if size is not None:
        _check_size(*size, limits)
    return size


def _check_size(width: int, height: int, limits: Limits) -> None:
    if max(width, height) > limits.side_px:
        limit = f"a side may have {limits.side_px}"
    elif width * height > limits.pixels:
        limit = f"that is {width * height / 1e6:.4g} megapixels, {limits.pixels / 1e6:.4g} are allowed"
    else:
        return
    raise ImageTooLarge(f"The picture is {width} x {height} pixels; {limit}. Scale it down and send it again.")


def _open_heic(file: io.BytesIO) -> ImageFile.ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise UnsupportedImage(
            "The file is of the type heic, and this server has no HEIC decoder: its extra `heic` is not installed. "
            "Send jpg, png, webp or avif.",
            sniffed="heic",
        ) from None
    opened: ImageFile.ImageFile = HeifImageFile(file)  # type: ignore[no-untyped-call]
    return opened


_LOADERS: Final[dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,  # of MPO, several JPEG pictures in one file, it reads the first
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
    "heic": _open_heic,
}


@contextmanager
def _open(kind: str, data: bytes, limits: Limits) -> Iterator[ImageFile.ImageFile]:
    """The file's header read and found within the limits; no pixel decoded yet."""
    if Image.MAX_IMAGE_PIXELS is not None and limits.pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limits.pixels
    with _pillow_errors(kind):
        image = _LOADERS[kind](io.BytesIO(data))
    try:
        _check_size(*image.size, limits)
        check_mode(kind, image.mode)
        yield image
    finally:
        image.close()


@contextmanager
def _pillow_errors(kind: str) -> Iterator[None]:
    """Pillow's errors as ours. Only calls of its loaders stand inside: no mistake of ours passes for theirs."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLarge("The picture has more pixels than are allowed. Scale it down and send it again.") from None
    except _PILLOW_ERRORS as error:
        if any(part in str(error) for part in _UNSUPPORTED):
            raise UnsupportedImage(
                f"This kind of {kind} picture cannot be read. Save it as 8-bit png or jpg."
            ) from error
        raise CorruptImage(f"The {kind} picture is damaged or cut short. Send the file again, whole.") from error


def _pixels(
    image: ImageFile.ImageFile, source: _Source, limits: Limits
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """RGB [H, W, 3] and alpha [H, W] of a loaded picture, turned upright; adds to the source's warnings."""
    icc = source.icc or image.info.get("icc_profile")
    if icc is not None and len(icc) > limits.icc_bytes:
        source.warnings.add("icc_too_large")
        icc = None
    convert, problems = plan_conversion(image, icc, source.depth)
    source.warnings |= problems
    turn = _orientation(image, source)
    width, height = image.size
    shape = (width, height) if turn >= 5 else (height, width)
    rgb = np.empty((*shape, 3), np.uint8)
    alpha: NDArray[np.uint8] | None = None
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        colour, opacity = convert(image.crop((0, top, width, bottom)))
        _as_stored(rgb, turn)[top:bottom] = colour
        if opacity is not None and (alpha is not None or opacity.min() < 255):
            alpha = np.full(shape, 255, np.uint8) if alpha is None else alpha
            _as_stored(alpha, turn)[top:bottom] = opacity
    return rgb, alpha


def _orientation(image: ImageFile.ImageFile, source: _Source) -> int:
    """The turn still to be made, 1 (none) to 8: EXIF 2.32, tag 274. Decoders of TIFF and HEIC turn themselves."""
    if source.kind in ("tiff", "heic") or "exif" not in image.info:
        return 1
    exif = Image.Exif()
    try:
        exif.load(image.info["exif"])
        value = exif.get(ORIENTATION_TAG, 1)
    except _PILLOW_ERRORS:
        source.warnings.add("exif_broken")
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _as_stored(upright: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """A view of `upright` whose rows are the file's rows."""
    if turn >= 5:
        upright = upright.swapaxes(0, 1)
    flip_rows, flip_columns = turn in (3, 4, 6, 7), turn in (2, 3, 7, 8)
    return upright[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
