"""Hostile bytes: whatever comes in, `decode` and `read_header` give a picture or one of our own errors."""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mattehorn.errors import MattehornError
from mattehorn.image.decode import decode, read_header
from mattehorn.settings import Limits
from tests import make_images as make

LIMITS = Limits(pixels=100_000, side_px=2_000)  # a made-up size must not cost the test real memory
FUZZ = settings(max_examples=60, deadline=None)
FORMATS = (*make.WHOLE_FORMATS, "jpeg tiff", "packbits tiff", "palette png", "cmyk jpeg", "16-bit png", "animated gif")


@cache
def seed(name: str) -> bytes:
    photo = Image.fromarray(make.photo(16, 12))
    profile = make.rgb_profile(make.DISPLAY_P3_PRIMARIES, 2.2)
    match name:
        case "jpeg tiff":
            return make.save(photo, "tiff", compression="jpeg")
        case "packbits tiff":
            return make.save(photo.convert("1"), "tiff", compression="packbits")
        case "palette png":
            return make.save(photo.quantize(8), "png", transparency=3, exif=make.exif(6), icc_profile=profile)
        case "cmyk jpeg":
            return make.save(photo.convert("CMYK"), "jpeg", exif=make.exif(5), icc_profile=b"broken" * 40)
        case "16-bit png":
            return make.png(2, 1, 16, 0, [b"\0\1\2\3"], [(b"tRNS", b"\0\1")])
        case "animated gif":
            return make.save(photo, "gif", save_all=True, append_images=[photo.rotate(180)], disposal=2)
    return make.encoded(name, make.photo(16, 12))


def read_both(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for read in (read_header, decode):
            with suppress(MattehornError):
                read(data, LIMITS)


@pytest.mark.parametrize("name", FORMATS)
@FUZZ
@given(data=st.data())
def test_changed_bytes_raise_only_our_errors(name: str, data: st.DataObject) -> None:
    changed = bytearray(seed(name))
    places = st.integers(0, len(changed) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=12)):
        changed[place] = value
    read_both(bytes(changed))


@pytest.mark.parametrize("name", FORMATS)
@FUZZ
@given(data=st.data())
def test_cut_and_spliced_files_raise_only_our_errors(name: str, data: st.DataObject) -> None:
    original = seed(name)
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, len(original)))
    filler = data.draw(st.binary(max_size=40))
    read_both(original[:start] + filler + original[end:])


@pytest.mark.parametrize("name", FORMATS)
@FUZZ
@given(junk=st.binary(max_size=300), length=st.integers(2, 64))
def test_a_true_start_with_random_bytes_behind_raises_only_our_errors(name: str, junk: bytes, length: int) -> None:
    read_both(seed(name)[:length] + junk)


@FUZZ
@given(junk=st.binary(max_size=400))
def test_random_bytes_raise_only_our_errors(junk: bytes) -> None:
    read_both(junk)


@FUZZ
@given(
    chunks=st.lists(
        st.tuples(st.sampled_from([b"iCCP", b"tRNS", b"eXIf", b"PLTE", b"zTXt", b"acTL"]), st.binary(max_size=60)),
        max_size=4,
    ),
    layout=st.sampled_from([(8, 0), (8, 2), (8, 3), (8, 4), (8, 6), (16, 0), (16, 2), (1, 3), (2, 0), (7, 1)]),
    rows=st.binary(max_size=40),
)
def test_png_chunks_with_true_checksums_raise_only_our_errors(
    chunks: list[tuple[bytes, bytes]], layout: tuple[int, int], rows: bytes
) -> None:
    read_both(make.png(3, 2, *layout, [rows], chunks))
