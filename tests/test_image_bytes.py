"""Files that must be refused: damaged, cut short, not pictures, made to cost the decoder dearly."""

from __future__ import annotations

import sys
import warnings
import zlib

import pytest
from PIL import Image

from mattehorn.errors import CorruptImage, MissingImage, UnsupportedImage
from mattehorn.image.decode import decode, read_header
from mattehorn.settings import Limits
from tests import make_images as make

LIMITS = Limits()


# Damage


@pytest.mark.parametrize("name", make.WHOLE_FORMATS)
@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9])
def test_a_file_cut_short_is_corrupt_never_half_a_picture(name: str, fraction: float) -> None:
    data = make.encoded(name, make.noise())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(CorruptImage, match="whole"):
            decode(data[: int(len(data) * fraction)], LIMITS)


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png"])
def test_a_download_that_was_filled_up_with_zeros_is_corrupt(name: str) -> None:
    data = make.encoded(name, make.noise())
    half = len(data) // 2
    with pytest.raises(CorruptImage):
        decode(data[:half] + b"\0" * (len(data) - half), LIMITS)


def test_one_wrong_bit_in_png_pixels_is_corrupt() -> None:
    data = bytearray(make.encoded("png"))
    data[data.index(b"IDAT") + 30] ^= 1
    with pytest.raises(CorruptImage):
        decode(bytes(data), LIMITS)


def test_a_png_without_its_end_is_corrupt() -> None:
    with pytest.raises(CorruptImage):
        decode(make.encoded("png")[:-12], LIMITS)


def test_no_bytes_are_a_missing_image() -> None:
    for read in (decode, read_header):
        with pytest.raises(MissingImage):
            read(b"", LIMITS)


# Kinds that are refused


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"this is not a photo\n", "text"),
        ("写真ではありません".encode(), "text"),
        (b"BMW builds cars", "text"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "pdf"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "eps"),
        (b"8BPS\0\1" + b"\0" * 20, "psd"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "svg"),
        (b"<svg></svg>", "svg"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html></html>", "html"),
        (b"PK\x03\x04" + b"\0" * 30, "zip"),
        (b"\0\0\1\0\1\0" + b"\0" * 30, "ico"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isomiso2", "video"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "jpeg-xl"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "riff"),
        (b"\x7fELF\2\1\1\0\0\xff\xfe\0", "unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_files_are_unsupported_and_named_by_their_content(data: bytes, kind: str) -> None:
    for read in (decode, read_header):
        with pytest.raises(UnsupportedImage, match="no known type" if kind == "unknown" else kind) as caught:
            read(data, LIMITS)
        assert "jpg, png, webp" in caught.value.message


def test_pictures_outside_the_list_are_unsupported_although_pillow_knows_them() -> None:
    image = Image.fromarray(make.photo())
    for format in ("ppm", "tga", "pcx", "ico", "dds", "eps", "jpeg2000", "sgi"):
        with pytest.raises(UnsupportedImage):
            decode(make.save(image, format), LIMITS)


def test_a_png_that_needs_an_unknown_extension_is_unsupported() -> None:
    with pytest.raises(UnsupportedImage, match="CgBI"):
        decode(make.with_chunks(make.encoded("png"), (b"CgBI", b"\0\0\0\0")), LIMITS)


def test_heic_without_its_decoder_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make.encoded("heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnsupportedImage, match=r"heic.*not installed"):
        decode(data, LIMITS)


# Bombs


def test_a_profile_over_its_limit_is_dropped_with_a_warning() -> None:
    profile = make.rgb_profile(make.SRGB_PRIMARIES, 1.0)
    tight = Limits(icc_bytes=len(profile) - 1)
    for format in ("png", "jpeg", "tiff"):
        data = make.save(Image.new("RGB", (8, 8), (128, 128, 128)), format, icc_profile=profile)
        picture = decode(data, tight)
        assert picture.info.warnings == ("icc_too_large",)
        assert picture.rgb[4, 4, 0] == 128


def test_a_profile_that_unpacks_to_gigabytes_is_dropped() -> None:
    bomb = b"bomb\0\0" + zlib.compress(b"\0" * (8 << 20), 9)
    picture = decode(make.with_chunks(make.encoded("png"), (b"iCCP", bomb)), LIMITS)
    assert picture.info.warnings == ("icc_too_large",)
    assert (picture.rgb == make.photo()).all()


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        ((b"tEXt", b"Comment\0" + b"x" * (2 << 20)), ("text_too_large",)),
        ((b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * (8 << 20), 9)), ()),
        ((b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * (8 << 20), 9)), ()),
        ((b"tEXt", b"Software\0short"), ()),
    ],
    ids=["long text", "zipped text", "zipped international text", "short text"],
)
def test_png_texts_never_stop_a_picture(chunk: tuple[bytes, bytes], expected: tuple[str, ...]) -> None:
    """Zipped text is not unpacked, so how long it is stays unknown."""
    picture = decode(make.with_chunks(make.encoded("png"), chunk), LIMITS)
    assert picture.info.warnings == expected
    assert (picture.rgb == make.photo()).all()


def test_a_png_of_a_million_empty_chunks_is_refused() -> None:
    data = make.encoded("png")
    with pytest.raises(CorruptImage):
        decode(data[:33] + make.chunk(b"abCd", b"") * 250_000 + data[33:], LIMITS)


def test_a_jpeg_with_thousands_of_scans_is_refused() -> None:
    data = make.encoded("progressive")
    start = data.index(b"\xff\xda")
    end = data.index(b"\xff\xc4", start) if b"\xff\xc4" in data[start:] else data.index(b"\xff\xda", start + 2)
    with pytest.raises(CorruptImage, match="scans"):
        decode(data[:start] + data[start:end] * 300 + data[start:], LIMITS)


def test_a_jpeg_of_empty_segments_or_junk_is_refused() -> None:
    data = make.encoded("jpeg")
    jfif_end = 20
    for filler in (b"\xff\xfe\0\2" * 20_000, b"\0" * 100_000):
        with pytest.raises(CorruptImage):
            decode(data[:jfif_end] + filler + data[jfif_end:], LIMITS)
