"""Odd pictures made in memory: every pixel layout, ICC profiles with known answers, bombs, hand-built PNG and TIFF."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

Uint8 = npt.NDArray[np.uint8]

WHOLE_FORMATS = (
    "jpeg",
    "progressive",
    "png",
    "webp",
    "lossless webp",
    "bmp",
    "tiff",
    "lzw tiff",
    "gif",
    "avif",
    "heic",
)
_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "progressive": ("jpeg", {"progressive": True}),
    "lossless webp": ("webp", {"lossless": True}),
    "lzw tiff": ("tiff", {"compression": "tiff_lzw"}),
}

D50 = (0.9642, 1.0, 0.8249)  # the profile connection space's white, ICC.1:2010, 7.2.16
SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3_PRIMARIES = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB_PRIMARIES = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
D65_XY = (0.3127, 0.3290)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def save(image: Image.Image, format: str, **settings: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **settings)
    return target.getvalue()


def save_heic(image: Image.Image, **settings: Any) -> bytes:
    import pillow_heif

    target = io.BytesIO()
    pillow_heif.from_pillow(image).save(target, format="HEIF", **settings)
    return target.getvalue()


def photo(width: int = 32, height: int = 24) -> Uint8:
    """A smooth picture with a different colour in each corner, so that a turn or a mirror shows."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = x * 255 // max(1, width - 1), y * 255 // max(1, height - 1)
    return np.stack([red, green, (red + green) // 2], axis=-1).astype(np.uint8)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def encoded(name: str, pixels: Uint8 | None = None) -> bytes:
    """`photo()` or the given pixels in one of WHOLE_FORMATS; skips where HEIC's decoder is missing."""
    image = Image.fromarray(photo() if pixels is None else pixels)
    if name == "heic":
        pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
        return save_heic(image, quality=90)
    format, settings = _VARIANTS.get(name, (name, {}))
    return save(image, format, **settings)


def noise() -> Uint8:
    """Pixels that no codec can shrink to its header: half of the file is half of the picture."""
    return np.random.default_rng(5).integers(0, 256, (48, 64, 3), np.uint8)


# PNG by hand


def chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def png(
    width: int,
    height: int,
    depth: int,
    colour_type: int,
    rows: Sequence[bytes],
    before: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A PNG from packed rows; `before` holds chunks (name, body) between the header and the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 1)
    parts = [(b"IHDR", header), *before, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in parts)


def black_png(width: int, height: int) -> bytes:
    """A grey PNG of any size in little memory: 400 megapixels of black are 390 kB."""
    packer, packed = zlib.compressobj(9), []
    row = b"\0" * (width + 1)
    packed = [packer.compress(row) for _ in range(height)]
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"".join(packed) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def with_chunks(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A finished PNG with more chunks behind its header."""
    return data[:33] + b"".join(chunk(name, body) for name, body in chunks) + data[33:]


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """(name, body) of every chunk of a PNG; asserts every checksum."""
    found, pos = [], 8
    while pos < len(data):
        length, name = int.from_bytes(data[pos : pos + 4], "big"), data[pos + 4 : pos + 8]
        body = data[pos + 8 : pos + 8 + length]
        assert zlib.crc32(name + body) == int.from_bytes(data[pos + 8 + length : pos + 12 + length], "big")
        found.append((name, body))
        pos += 12 + length
    return found


# TIFF by hand


def tiff(width: int, height: int, pixels: bytes, *, bits: Sequence[int], photometric: int, **tags: Any) -> bytes:
    """One uncompressed little-endian strip. `tags`: sample_format (1 unsigned, 2 signed, 3 float), extra (2: alpha)."""
    entries = {256: (width,), 257: (height,), 258: tuple(bits), 259: (1,), 262: (photometric,), 277: (len(bits),)}
    entries |= {278: (height,), 279: (len(pixels),), 339: (tags.get("sample_format", 1),) * len(bits)}
    if "extra" in tags:
        entries[338] = (tags["extra"],)
    entries[273] = (0,)
    data_start = 8 + 2 + 12 * len(entries) + 4
    directory, overflow = b"", b""
    pixel_start = data_start + sum(2 * len(v) if len(v) > 2 else 0 for v in entries.values())
    entries[273] = (pixel_start,)
    for tag, values in sorted(entries.items()):
        kind, code = (4, "I") if tag in (273, 279) else (3, "H")
        packed = struct.pack(f"<{len(values)}{code}", *values)
        if len(packed) > 4:
            overflow += packed
            packed = struct.pack("<I", data_start + len(overflow) - len(packed))
        directory += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + directory + b"\0\0\0\0"
    return head + overflow + pixels


# ICC profiles, ICC.1:2001-04


def _profile(space: bytes, pcs: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"test", 0x02400000, kind, space, pcs)
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    head += struct.pack(">3i", *(round(v * 65536) for v in D50))
    return head.ljust(128, b"\0") + table + body


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))


def _gamma(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _text(text: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" * 79


def primaries_to_d50(primaries: Sequence[tuple[float, float]]) -> npt.NDArray[np.float64]:
    """The 3 x 3 matrix from linear RGB under D65 to XYZ under D50 (Bradford), columns R, G, B."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65_XY[0] / D65_XY[1], 1, (1 - sum(D65_XY)) / D65_XY[1]])
    scaled = columns * np.linalg.solve(columns, white)
    gain = (_BRADFORD @ np.array(D50)) / (_BRADFORD @ white)
    return np.linalg.inv(_BRADFORD) @ np.diag(gain) @ _BRADFORD @ scaled


def rgb_profile(primaries: Sequence[tuple[float, float]], gamma: float) -> bytes:
    matrix = primaries_to_d50(primaries)
    tags = {b"desc": _text(b"test rgb"), b"wtpt": _xyz(D50), b"cprt": b"text\0\0\0\0none\0"}
    for column, name in enumerate((b"r", b"g", b"b")):
        tags[name + b"XYZ"] = _xyz(matrix[:, column])
        tags[name + b"TRC"] = _gamma(gamma)
    return _profile(b"RGB ", b"XYZ ", b"mntr", tags)


def grey_profile(gamma: float) -> bytes:
    tags = {b"desc": _text(b"test grey"), b"wtpt": _xyz(D50), b"kTRC": _gamma(gamma), b"cprt": b"text\0\0\0\0none\0"}
    return _profile(b"GRAY", b"XYZ ", b"mntr", tags)


def cmyk_profile(corners: npt.NDArray[np.uint8]) -> bytes:
    """A printer profile (lut8Type), linear between 16 corners; `corners` [2, 2, 2, 2, 3]: 8-bit Lab by C, M, Y, K."""
    identity = bytes(range(256))
    unit = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + unit + identity * 4 + corners.tobytes() + identity * 3
    tags = {
        b"desc": _text(b"test cmyk"),
        b"wtpt": _xyz(D50),
        b"cprt": b"text\0\0\0\0none\0",
        b"A2B0": lut,
        b"A2B1": lut,
    }
    return _profile(b"CMYK", b"Lab ", b"prtr", tags)


def srgb_of_xyz(xyz: npt.NDArray[np.float64]) -> Uint8:
    """8-bit sRGB of XYZ under D50, rows of three: IEC 61966-2-1's curve, out-of-range colours clipped."""
    linear = np.clip(xyz @ np.linalg.inv(primaries_to_d50(SRGB_PRIMARIES)).T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.floor(255 * encoded + 0.5).astype(np.uint8)


def xyz_of_lab(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """XYZ under D50 of CIE Lab, rows of three."""
    fy = (lab[:, 0] + 16) / 116
    f = np.stack([fy + lab[:, 1] / 500, fy, fy - lab[:, 2] / 200], axis=1)
    return np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * np.array(D50)
