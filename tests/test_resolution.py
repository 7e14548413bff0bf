"""Dots per inch out of a photo's bytes: as Pillow and other writers state them, and nonsense as none."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattehorn.image.resolution import read_dpi
from mattehorn.image.side_data import sniff
from tests.service import encoded, photo

KINDS = ["jpeg", "png", "tiff", "bmp"]


def stating(kind: str, dpi: Any, **settings: Any) -> bytes:
    return encoded(photo(), kind.upper(), dpi=dpi, **settings)


@pytest.mark.parametrize("dpi", [72, 96, 150, 299, 300, 600, 1200])
@pytest.mark.parametrize("kind", KINDS)
def test_what_pillow_wrote_is_read(kind: str, dpi: int) -> None:
    assert read_dpi(stating(kind, (dpi, dpi)), kind) == dpi


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp", "gif", "avif"])
def test_a_file_that_states_none_has_none(kind: str) -> None:
    assert read_dpi(encoded(photo(), kind.upper()), kind) is None


@pytest.mark.parametrize("kind", KINDS)
def test_two_that_differ_are_none(kind: str) -> None:
    assert read_dpi(stating(kind, (300, 150)), kind) is None


def tiff_header(order: str, unit: int, value: tuple[int, int], kind: int = 5) -> bytes:
    """The first directory of a TIFF: unit and both resolutions, of the TIFF type `kind`."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = [(0x011A, kind, 1, 50), (0x011B, kind, 1, 50)]
    short = struct.pack(order + "HHIHH", 0x0128, 3, 1, unit, 0)
    body = b"".join(struct.pack(order + "HHII", *entry) for entry in entries) + short
    directory = struct.pack(order + "H", 3) + body + bytes(4)
    return (mark + struct.pack(order + "I", 8) + directory).ljust(50, b"\0") + struct.pack(order + "II", *value)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("unit", "value", "dpi"),
    [
        (2, (300, 1), 300),
        (2, (3_000_000, 10_000), 300),
        (3, (11_811, 100), 300),  # per centimetre
        (1, (300, 1), None),  # only a ratio
        (9, (300, 1), None),
        (2, (300, 0), 300),  # some writers leave the divisor empty
        (2, (0, 1), None),
        (2, (1, 0xFFFFFFFF), None),
        (2, (0xFFFFFFFF, 1), None),
    ],
)
def test_exif_in_either_byte_order(order: str, unit: int, value: tuple[int, int], dpi: int | None) -> None:
    header = tiff_header(order, unit, value)
    assert read_dpi(header, "tiff") == dpi
    jpeg = encoded(photo(), "JPEG", exif=b"Exif\0\0" + header)
    assert read_dpi(jpeg, "jpeg") == dpi


def test_a_resolution_of_another_type_is_none() -> None:
    assert read_dpi(tiff_header("<", 2, (300, 1), kind=4), "tiff") is None


def test_jfif_counts_before_exif() -> None:
    exif = b"Exif\0\0" + tiff_header("<", 2, (96, 1))
    assert read_dpi(stating("jpeg", (300, 300), exif=exif), "jpeg") == 300


def test_a_png_that_states_only_a_ratio_has_none() -> None:
    data = bytearray(stating("png", (300, 300)))
    at = data.index(b"pHYs")
    data[at + 12] = 0
    assert read_dpi(bytes(data), "png") is None


@given(kind=st.sampled_from(KINDS), cut=st.integers(0, 400), at=st.integers(0, 200), value=st.integers(0, 255))
@settings(max_examples=400, deadline=None)
def test_damaged_bytes_give_a_number_or_none(kind: str, cut: int, at: int, value: int) -> None:
    data = bytearray(FILES[kind][:cut])
    if at < len(data):
        data[at] = value
    dpi = read_dpi(bytes(data), kind)
    assert dpi is None or 1 <= dpi <= 65_535


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_number_or_none(tail: bytes) -> None:
    for head in (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"\xff\xd8\xff\xe1\x01\x00Exif\0\0II*\0"):
        for kind in (sniff(head + tail), "jpeg", "png", "tiff", "bmp"):
            dpi = read_dpi(head + tail, kind)
            assert dpi is None or 1 <= dpi <= 65_535


FILES = {kind: stating(kind, (300, 300)) for kind in KINDS}


def test_the_walk_ends_in_a_file_of_empty_parts() -> None:
    assert read_dpi(b"\xff\xd8" + b"\xff\xe2\0\2" * 1000 + stating("jpeg", (300, 300))[2:], "jpeg") is None
    chunk = struct.pack(">I", 0) + b"abCd" + bytes(4)
    png = stating("png", (300, 300))
    assert read_dpi(png[:33] + chunk * 1000 + png[33:], "png") is None
    assert read_dpi(b"II*\0\x08\0\0\0" + b"\xff" * 10, "tiff") is None
