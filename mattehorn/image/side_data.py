"""What a picture's bytes tell before any decoder sees them: type, size, whether a PNG or JPEG file is whole.

Plain bytes only: no Pillow, no pixels. Called by image.py; `sniff` also by whatever must name a file's type.

The walks stop what makes decoders work for nothing: zipped text and profiles that unpack to gigabytes,
millions of empty segments, JPEG pictures with thousands of scans.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final

from mattehorn.errors import CorruptImage, UnsupportedImage
from mattehorn.settings import Limits

MAX_JPEG_SCANS: Final = 200
"""Progressive encoders write about 10 scans, at most a few dozen; each costs a pass over the picture."""
MAX_JPEG_SEGMENTS: Final = 10_000
"""A 16 MB ICC profile takes 255 segments. Pillow reads them one by one in Python."""
MAX_JPEG_JUNK: Final = 65_536
"""Bytes between segments, before the pixels. Pillow skips them singly: 32 MB of them would take seconds."""
MAX_PNG_CHUNKS: Final = 200_000
"""The 32 MB body limit in chunks of 160 bytes; usual encoders write 8 KB or more."""

_MAGIC: Final = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG", "png"),
    (b"GIF8", "gif"),
    *((magic, "tiff") for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"%PDF", "pdf"),
    *((magic, "eps") for magic in (b"%!PS", b"\xc5\xd0\xd3\xc6")),
    (b"8BPS", "psd"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"\0\0\1\0", "ico"),
    (b"\0\0\0\x0cjP  ", "jpeg2000"),
    *((magic, "jpeg-xl") for magic in (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
)
_BMP_HEADER_SIZES: Final = (12, 40, 52, 56, 64, 108, 124)
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_HEIF_BRANDS: Final = frozenset({b"mif1", b"msf1"})  # either of the two: the compatible brands tell

_PNG_KEPT: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"})
_PNG_TEXT: Final = frozenset({b"tEXt", b"zTXt", b"iTXt"})

_JPEG_MARKER: Final = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")
"""The next marker with a meaning of its own: in coded pixels FF is followed by 00, a restart marker or FF."""


def sniff(data: bytes) -> str:
    """The type that the first bytes show: jpeg, png, .., pdf, svg, html, zip, text, .. or "unknown"."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF":
        return "webp" if data[8:12] == b"WEBP" else "riff"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    if data[4:8] == b"ftyp":
        return _sniff_brand(data)
    return _sniff_text(data[:1024])


def _sniff_brand(data: bytes) -> str:
    """AVIF, HEIC or another member of the ISO media family (mp4, mov, camera raw), told by the `ftyp` box."""
    major = data[8:12]
    end = min(int.from_bytes(data[:4], "big"), 256)
    compatible = {data[i : i + 4] for i in range(16, end, 4)}
    if major in _AVIF_BRANDS or (major in _HEIF_BRANDS and compatible & _AVIF_BRANDS):
        return "avif"
    return "heic" if major in _HEIC_BRANDS | _HEIF_BRANDS else "video"


def _sniff_text(head: bytes) -> str:
    text = head.decode("utf-8-sig", errors="ignore")
    lost = len(head) - len(text.encode())
    if lost > 6 or not all(c.isprintable() or c.isspace() for c in text):  # 6: byte order mark, a letter cut in two
        return "unknown"
    text = text.lstrip().lower()
    if text.startswith(("<!doctype html", "<html")):
        return "html"
    return "svg" if text.startswith("<") and "<svg" in text else "text"


def size_from_bytes(kind: str, data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels for the types where Pillow would do work (PNG, GIF) or reserve memory (WebP)
    before it tells them; None for the others and for headers that are too short."""
    if len(data) < 30:
        return None
    if kind == "png" and data[12:16] == b"IHDR":
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if kind == "gif":
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if kind == "webp" and data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == "webp" and data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == "webp" and data[12:16] == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


@dataclass(frozen=True)
class StrippedPng:
    """`data`: the file with only the chunks that pixels need. `depth`: bits of a sample as stored, 1 to 16.
    `warnings`: any of icc_broken, icc_too_large, text_too_large."""

    data: bytes
    depth: int
    icc: bytes | None
    animated: bool
    warnings: tuple[str, ...]


def strip_png(data: bytes, limits: Limits) -> StrippedPng:
    """Takes out the ICC profile, unpacked up to its limit, and drops text, which is never unpacked.

    Also checks what Pillow does not: the pixels' checksums, and that the file has its end (CorruptImage).
    Raises UnsupportedImage for a chunk that must be understood and is not (PNG 3rd edition, 5.4).
    """
    view, pos = memoryview(data), 8
    kept: list[memoryview] = [view[:8]]
    icc: bytes | None = None
    animated, warnings = False, set[str]()
    for _ in range(MAX_PNG_CHUNKS):
        length, name = int.from_bytes(view[pos : pos + 4], "big"), data[pos + 4 : pos + 8]
        end = pos + 12 + length
        if end > len(data) or not name.isalpha():
            break
        if name in _PNG_KEPT:
            kept += _checked_chunk(view[pos:end], name)
        elif name == b"iCCP" and icc is None:
            icc, problems = _unpack_icc(data[pos + 8 : end - 4], limits)
            warnings |= problems
        elif name == b"acTL":
            animated = int.from_bytes(view[pos + 8 : pos + 12], "big") > 1
        elif name in _PNG_TEXT and length > limits.text_bytes:
            warnings.add("text_too_large")
        elif name[:1].isupper():
            raise UnsupportedImage(f"The png picture needs the extension {name.decode()}. Save it as a plain png.")
        if name == b"IEND":
            return StrippedPng(b"".join(kept), data[24], icc, animated, tuple(sorted(warnings)))
        pos = end
    raise CorruptImage("The png picture is damaged or cut short. Send the file again, whole.")


def _checked_chunk(chunk: memoryview, name: bytes) -> list[memoryview]:
    """The chunk in a list if its checksum is right. Wrong EXIF is left out, wrong pixels are an error."""
    if zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big"):
        return [chunk]
    if name == b"eXIf":
        return []
    raise CorruptImage("The png picture is damaged: a checksum is wrong. Send the file again.")


def _unpack_icc(body: bytes, limits: Limits) -> tuple[bytes | None, set[str]]:
    """The profile in an iCCP chunk (a name, a zero byte, method 0, zlib data), and what was wrong with it."""
    _, _, packed = body.partition(b"\0")
    unpacker = zlib.decompressobj()
    try:
        icc = unpacker.decompress(packed[1:], limits.icc_bytes + 1)
    except zlib.error:
        return None, {"icc_broken"}
    if len(icc) > limits.icc_bytes:
        return None, {"icc_too_large"}
    return (icc, set()) if unpacker.eof else (None, {"icc_broken"})


def check_jpeg(data: bytes) -> None:
    """Walks the markers of the first picture to its end marker, and raises CorruptImage where there is none.

    Pillow notices a file that stops, but not a download that stopped and was filled up with zeros: that
    decodes without complaint, half grey.
    """
    pos, scans = 2, 0
    for _ in range(MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.search(data, pos)
        if found is None or (scans == 0 and found.start() - pos > MAX_JPEG_JUNK):
            raise CorruptImage("The jpeg picture is damaged or cut short. Send the file again, whole.")
        marker, start = found[1][0], found.end()
        if marker == 0xD9:
            return
        scans += marker == 0xDA
        if scans > MAX_JPEG_SCANS:
            break
        pos = start + int.from_bytes(data[start : start + 2], "big")
    raise CorruptImage(
        f"The jpeg picture has more than {MAX_JPEG_SCANS} scans or {MAX_JPEG_SEGMENTS} segments. "
        "Save it again as a plain jpg or png."
    )
