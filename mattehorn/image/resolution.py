"""The dots per inch that a photo's bytes state, so that the result can state them again.

Plain bytes only, as side_data.py: no Pillow, no pixels. `mattehorn.pipeline` calls it. The number is for printers and
for programs that place pictures on paper; nothing is scaled by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

INCH_CM: Final = 2.54
MOST_DPI: Final = 65_535  # two bytes in JFIF, which is to hold it again
MAX_PARTS: Final = 200  # segments or chunks read before the pixels; a 16 MB profile in a JPEG has 255, and comes late
_X_TAG, _Y_TAG, _UNIT_TAG = 0x011A, 0x011B, 0x0128  # TIFF 6.0, pages 32 and 38
_SHORT, _RATIONAL = 3, 5
_TO_INCH: Final = {2: 1.0, 3: INCH_CM}  # TIFF's unit: inch, centimetre


def read_dpi(data: bytes, kind: str) -> int | None:
    """Dots per inch of a jpeg, png, tiff or bmp file; None where it states none, two that differ, or nonsense."""
    match kind:
        case "jpeg":
            return _of_jpeg(data)
        case "png":
            return _of_png(data)
        case "tiff":
            return _of_tiff(data)
        case "bmp" if int.from_bytes(data[14:18], "little") >= 40:
            metres = (int.from_bytes(data[at : at + 4], "little") for at in (38, 42))
            return _agreed(*(value * INCH_CM / 100 for value in metres))
    return None


def _of_jpeg(data: bytes) -> int | None:
    """From JFIF's own field, else from EXIF."""
    found = None
    for marker, body in _jpeg_segments(data):
        if marker == 0xE0 and body[:5] == b"JFIF\0" and len(body) >= 12:
            scale = {1: 1.0, 2: INCH_CM}.get(body[7], 0.0)  # dots per inch, per centimetre, or only a ratio
            stated = _agreed(*(int.from_bytes(body[at : at + 2], "big") * scale for at in (8, 10)))
            if stated is not None:
                return stated
        elif marker == 0xE1 and body[:6] == b"Exif\0\0":
            found = found or _of_tiff(body[6:])
    return found


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of the segments before the pixels."""
    pos = 2
    for _ in range(MAX_PARTS):
        prefix, marker = int.from_bytes(data[pos : pos + 1]), int.from_bytes(data[pos + 1 : pos + 2])
        if prefix != 0xFF or marker < 0xC0 or marker in (0xD9, 0xDA, 0xFF):  # the end, the pixels, filling
            return
        length = int.from_bytes(data[pos + 2 : pos + 4])
        yield marker, data[pos + 4 : pos + 2 + length]
        pos += 2 + max(2, length)


def _of_png(data: bytes) -> int | None:
    pos = 8
    for _ in range(MAX_PARTS):
        length, name = int.from_bytes(data[pos : pos + 4], "big"), data[pos + 4 : pos + 8]
        if name == b"pHYs":
            body = data[pos + 8 : pos + 17]
            metres = (int.from_bytes(body[at : at + 4], "big") for at in (0, 4))
            return _agreed(*(value * INCH_CM / 100 for value in metres)) if body[8:] == b"\x01" else None
        if name in (b"IDAT", b""):
            break
        pos += 12 + length
    return None


def _of_tiff(data: bytes) -> int | None:
    """From the first directory of a TIFF file, which EXIF is too."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return None
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    start = number(4, 4)
    values: dict[int, float] = {_UNIT_TAG: 2}
    for at in range(start + 2, min(start + 2 + 12 * number(start, 2), len(data)), 12):
        tag, kind = number(at, 2), number(at + 2, 2)
        if tag == _UNIT_TAG and kind == _SHORT:
            values[tag] = number(at + 8, 2)
        elif tag in (_X_TAG, _Y_TAG) and kind == _RATIONAL:
            place = number(at + 8, 4)
            values[tag] = number(place, 4) / max(1, number(place + 4, 4))
    scale = _TO_INCH.get(int(values[_UNIT_TAG]), 0.0)
    return _agreed(values.get(_X_TAG, 0.0) * scale, values.get(_Y_TAG, 0.0) * scale)


def _agreed(across: float, down: float) -> int | None:
    """The whole number that both round to."""
    dpi = int(across + 0.5)
    return dpi if dpi == int(down + 0.5) and 1 <= dpi <= MOST_DPI else None
