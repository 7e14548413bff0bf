"""Results out: pixels to png, webp, jpg, avif or zip bytes. The same pixels always give the same bytes.

Not here: decoding (image.py), compositing, choosing the format. Called by the pipeline.

Colour is tagged sRGB (PNG an sRGB chunk, AVIF its nclx box, WebP and JPEG a 588-byte profile); an alpha matte is not
tagged, for it is no colour. No EXIF, XMP or time is ever written. Dots per inch are written to png and jpg, which have
a field for them; webp and avif have only EXIF.

Codecs and their settings are the fastest of those measured on cutouts (cv2 for PNG and JPEG, Pillow for WebP and
AVIF). All of them count on RGB being 0 where alpha is 0: that alone makes PNG 2 to 16 times faster.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from mattehorn.errors import ConflictingOptions, MattehornError

Format = Literal["png", "webp", "jpg", "avif"]
Pixels = NDArray[np.uint8]

CONTENT_TYPES: Final[dict[str, str]] = {
    "png": "image/png",
    "webp": "image/webp",
    "jpg": "image/jpeg",
    "avif": "image/avif",
    "zip": "application/zip",
}

SIDE_LIMITS: Final = {"png": 2**31 - 1, "webp": 16_383, "jpg": 65_500, "avif": 32_768}
"""Longest side in pixels: PNG has 31 bits for it, WebP 14, libjpeg stops at JPEG_MAX_DIMENSION, and libavif's decoders
refuse more than 32768 unless told otherwise."""

WEBP_METHOD: Final = 2
"""Pillow's effort 0..6. On a 0.67 megapixel cutout at quality 90, 0, 1, 2 and 4 took 29, 47, 45 and 76 ms of one core
for 69, 50, 44 and 42 kB."""
AVIF_SPEED: Final = 10
"""The fastest. On the same cutout 10, 8 and 6 took 51, 129 and 356 ms of one core for 90, 78 and 67 kB."""
FULL_CHROMA_QUALITY: Final = 95
"""From this jpg and avif quality on colour keeps its full resolution (4:4:4): the zip's color.jpg is to be composited
again."""

_PNG_HEADER_END: Final = 33  # signature 8, IHDR 25
_JFIF_DENSITY: Final = (13, 18)  # unit, and twice two bytes
DPI_FORMATS: Final = ("png", "jpg", "zip")
"""What can hold dots per inch."""
_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold


def extension(format: str) -> str:
    """The file name's ending with its dot: ".png", ".webp", ".jpg", ".avif" or ".zip"."""
    if format not in CONTENT_TYPES:
        raise KeyError(f"no such output format: {format!r}; known: {', '.join(CONTENT_TYPES)}")
    return f".{format}"


def encode_cutout(rgb: Pixels, alpha: Pixels, format: Format, quality: int, dpi: int | None = None) -> bytes:
    """A picture with transparency; alpha is exact in every format. `quality` 1..100 is for webp's and avif's colour.

    `rgb` uint8 [H, W, 3], straight (not premultiplied) and 0 where alpha is 0; `alpha` uint8 [H, W].
    Raises ConflictingOptions when a side is too long for the format, and for jpg, which has no transparency.
    """
    _check_side(alpha, format)
    if format == "jpg":
        raise ConflictingOptions("jpg cannot hold transparency. Ask for format png, webp or avif.", field="format")
    with _codec_errors(format):
        if format == "png":
            png = _imencode(".png", _interleave(rgb, alpha, [0, 2, 1, 1, 2, 0, 3, 3]))
            return _with_chunks(png, _SRGB_CHUNK, *_density_chunk(dpi))
        rgba = Image.fromarray(_interleave(rgb, alpha, [0, 0, 1, 1, 2, 2, 3, 3]))
        if format == "webp":
            return _save_webp(rgba, quality=quality, alpha_quality=100, icc_profile=srgb_profile())
        return _save_avif(rgba, quality, advanced={"alpha:lossless": "1"})


def encode_alpha(alpha: Pixels, format: Format, quality: int, dpi: int | None = None) -> bytes:
    """A matte, uint8 [H, W], as a grey picture. Exact in every format but jpg, the only one that `quality` is for.

    png and jpg hold one channel; webp and avif hold R = G = B. Raises ConflictingOptions as `encode_cutout` does.
    """
    _check_side(alpha, format)
    with _codec_errors(format):
        if format == "png":
            return _with_chunks(_imencode(".png", alpha), *_density_chunk(dpi))
        if format == "jpg":
            return _with_density(_imencode(".jpg", alpha, [cv2.IMWRITE_JPEG_QUALITY, quality]), dpi)
        picture = Image.fromarray(np.ascontiguousarray(alpha)).convert("RGB")
        if format == "webp":
            return _save_webp(picture, lossless=True)
        return _save_avif(picture, 100)  # no quantisation, and grey survives YCbCr unchanged


def encode_opaque(rgb: Pixels, format: Format, quality: int, dpi: int | None = None) -> bytes:
    """A picture without transparency, `rgb` uint8 [H, W, 3]; `quality` 1..100 is for webp, jpg and avif.

    Raises ConflictingOptions as `encode_cutout` does.
    """
    _check_side(rgb, format)
    with _codec_errors(format):
        if format == "png":
            png = _imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
            return _with_chunks(png, _SRGB_CHUNK, *_density_chunk(dpi))
        if format == "jpg":
            jpeg = _imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _jpeg_settings(quality))
            return _with_density(_tagged_jpeg(jpeg), dpi)
        picture = Image.fromarray(np.ascontiguousarray(rgb))
        if format == "webp":
            return _save_webp(picture, quality=quality, icc_profile=srgb_profile())
        return _save_avif(picture, quality)


def encode_zip(files: Mapping[str, bytes]) -> bytes:
    """The files in their order, stored (pictures do not shrink further), all dated 1980-01-01."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _ZIP_TIME)
            entry.create_system = 3  # Unix on every platform, so that equal files give equal bytes
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return target.getvalue()


@cache
def srgb_profile() -> bytes:
    """Little CMS's own sRGB profile (588 bytes), dated 2000-01-01 instead of now; ICC.1:2010, 7.2.8."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    date = b"".join(part.to_bytes(2, "big") for part in (2000, 1, 1, 0, 0, 0))
    return profile[:24] + date + profile[36:]


def _check_side(pixels: Pixels, format: str) -> None:
    height, width = pixels.shape[:2]
    limit = SIDE_LIMITS[format]
    if max(height, width) > limit:
        raise ConflictingOptions(
            f"The result is {width} x {height} pixels, and {format} holds at most {limit} a side. "
            "Ask for format png, or for a smaller output_size.",
            field="format",
        )


@contextmanager
def _codec_errors(format: str) -> Iterator[None]:
    """A codec's failure as ours. A fault of the service, not of the request: no caller's input gets this far."""
    try:
        yield
    except (cv2.error, OSError, ValueError) as error:
        raise MattehornError(f"The result could not be encoded as {format}. Ask for format png.") from error


def _interleave(rgb: Pixels, alpha: Pixels, from_to: list[int]) -> Pixels:
    """uint8 [H, W, 4] in one pass: four times as fast as np.dstack (cv2.mixChannels' pairs of channels)."""
    packed = np.empty((*alpha.shape, 4), np.uint8)
    cv2.mixChannels([rgb, alpha], [packed], from_to)
    return packed


def _imencode(suffix: str, pixels: cv2.typing.MatLike, settings: list[int] | None = None) -> bytes:
    done, encoded = cv2.imencode(suffix, pixels, settings or [])
    if not done:
        raise ValueError(f"cv2 refused {pixels.shape} as {suffix}")
    return encoded.tobytes()


def _chunk(body: bytes) -> bytes:
    """A PNG chunk from its name and data."""
    return (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


_SRGB_CHUNK: Final = _chunk(b"sRGB\x00")  # rendering intent 0, perceptual: PNG 3rd edition, 11.3.2.5


def _density_chunk(dpi: int | None) -> list[bytes]:
    """pHYs, in pixels per metre: PNG 3rd edition, 11.3.4.3."""
    return [] if dpi is None else [_chunk(b"pHYs" + round(dpi / 0.0254).to_bytes(4, "big") * 2 + b"\x01")]


def _with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """The file with more chunks behind its header; cv2 writes none."""
    return b"".join((memoryview(png)[:_PNG_HEADER_END], *chunks, memoryview(png)[_PNG_HEADER_END:]))


def _with_density(jpeg: bytes, dpi: int | None) -> bytes:
    """The file with dots per inch in its JFIF header, which cv2 writes first: JFIF 1.02, page 5."""
    if dpi is None:
        return jpeg
    start, end = _JFIF_DENSITY
    density = b"\x01" + dpi.to_bytes(2, "big") * 2
    return b"".join((memoryview(jpeg)[:start], density, memoryview(jpeg)[end:]))


def _tagged_jpeg(jpeg: bytes) -> bytes:
    """The file with an sRGB profile in one APP2 segment behind JFIF's own (ICC.1:2010, B.4)."""
    body = b"ICC_PROFILE\0\x01\x01" + srgb_profile()
    segment = b"\xff\xe2" + (len(body) + 2).to_bytes(2, "big") + body
    jfif_end = 4 + int.from_bytes(jpeg[4:6], "big")
    return b"".join((memoryview(jpeg)[:jfif_end], segment, memoryview(jpeg)[jfif_end:]))


def _jpeg_settings(quality: int) -> list[int]:
    full = quality >= FULL_CHROMA_QUALITY
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    return [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]


def _save_webp(picture: Image.Image, **settings: Any) -> bytes:
    target = io.BytesIO()
    picture.save(target, "WEBP", method=WEBP_METHOD, **settings)
    return target.getvalue()


def _save_avif(picture: Image.Image, quality: int, **settings: Any) -> bytes:
    """AVIF from one thread: the service's other threads work on other pictures, and the tiling, so the bytes, would
    depend on their number."""
    target = io.BytesIO()
    sampling = "4:4:4" if quality >= FULL_CHROMA_QUALITY else "4:2:0"
    settings |= {"quality": quality, "subsampling": sampling, "speed": AVIF_SPEED, "max_threads": 1, "codec": "aom"}
    picture.save(target, "AVIF", **settings)
    return target.getvalue()
