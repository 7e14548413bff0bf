"""Decoding: every format, the EXIF turn, several pictures in one file, the limits on size."""

from __future__ import annotations

import hashlib
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from mattehorn.errors import CorruptImage, ImageTooLarge
from mattehorn.image.decode import Decoded, decode, read_header
from mattehorn.settings import Limits
from tests import make_images as make

LIMITS = Limits()


# Formats


@pytest.mark.parametrize("name", make.WHOLE_FORMATS)
def test_every_format_is_decoded_upright_with_its_size_type_and_hash(name: str) -> None:
    data = make.encoded(name)
    picture = decode(data, LIMITS)
    kind = {"progressive": "jpeg", "lossless webp": "webp", "lzw tiff": "tiff"}.get(name, name)
    assert (picture.info.width, picture.info.height, picture.info.format) == (32, 24, kind)
    assert picture.info.sha256 == hashlib.sha256(data).hexdigest()
    assert picture.info.warnings == ()
    assert picture.alpha is None
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.flags.c_contiguous
    error = np.abs(picture.rgb.astype(int) - make.photo()).mean()
    assert error < 12, "even the 256 colours of the gif are nearer than a turned or swapped picture"


@pytest.mark.parametrize("name", ["png", "bmp", "tiff", "lzw tiff", "lossless webp"])
def test_lossless_formats_come_back_exactly(name: str) -> None:
    assert (decode(make.encoded(name), LIMITS).rgb == make.photo()).all()


@pytest.mark.parametrize("name", make.WHOLE_FORMATS)
def test_the_header_gives_size_and_type_without_decoding(name: str) -> None:
    header = read_header(make.encoded(name), LIMITS)
    assert (header.width, header.height) == (32, 24)
    assert header.format == decode(make.encoded(name), LIMITS).info.format
    assert header.megapixels == pytest.approx(32 * 24 / 1e6)


@pytest.mark.parametrize("name", make.WHOLE_FORMATS)
def test_bytes_after_the_end_are_ignored(name: str) -> None:
    data = make.encoded(name)
    assert (decode(data + b"\0" * 64 + b"trailing", LIMITS).rgb == decode(data, LIMITS).rgb).all()


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000)])
def test_the_smallest_and_the_longest_pictures_are_decoded(size: tuple[int, int]) -> None:
    width, height = size
    assert decode(make.encoded("png", make.photo(width, height)), LIMITS).rgb.shape == (height, width, 3)


def test_a_picture_of_many_bands_has_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mattehorn.image.decode.BAND_PIXELS", 50)
    rgba = np.dstack([make.photo(23, 31), np.arange(23 * 31).reshape(31, 23) % 251])
    picture = decode(make.save(Image.fromarray(rgba.astype(np.uint8)), "png"), LIMITS)
    assert picture.alpha is not None
    assert (np.dstack([picture.rgb, picture.alpha]) == rgba).all()


def test_messages_name_no_file_and_no_python() -> None:
    with pytest.raises(CorruptImage) as caught:
        decode(make.encoded("jpeg")[:200], LIMITS)
    assert not any(word in caught.value.message for word in ("BytesIO", "Error", "0x", "/"))


def test_a_decoded_picture_is_a_frozen_value() -> None:
    picture = decode(make.encoded("png"), LIMITS)
    assert isinstance(picture, Decoded)
    with pytest.raises(AttributeError):
        picture.alpha = None  # type: ignore[misc]


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["png", "webp", "tiff", "jpeg", "avif"])
def test_exif_turns_the_picture_upright(format: str, orientation: int) -> None:
    """A file is a stored picture plus a turn, so storing the photo turned backwards must give the photo."""
    backwards = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(make.photo())
    stored = image.transpose(backwards[orientation]) if orientation > 1 else image
    quality = {"png": {}, "tiff": {}, "webp": {"lossless": True}}.get(format, {"quality": 100, "subsampling": "4:4:4"})
    picture = decode(make.save(stored, format, exif=make.exif(orientation), **quality), LIMITS)
    assert (picture.info.width, picture.info.height) == (32, 24)
    assert np.abs(picture.rgb.astype(int) - make.photo()).max() <= 12


def test_alpha_is_turned_with_the_picture() -> None:
    alpha = np.arange(32 * 24, dtype=np.uint16).reshape(24, 32).astype(np.uint8)
    upright = Image.fromarray(np.dstack([make.photo(), alpha]))
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    picture = decode(make.save(stored, "png", exif=make.exif(6)), LIMITS)
    assert picture.alpha is not None
    assert (picture.alpha == alpha).all()


def test_heic_is_not_turned_twice() -> None:
    pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
    stored = Image.fromarray(make.photo()).transpose(Image.Transpose.ROTATE_90)
    picture = decode(make.save_heic(stored, quality=90, exif=make.exif(6)), LIMITS)
    assert (picture.info.width, picture.info.height) == (32, 24)
    assert np.abs(picture.rgb.astype(int) - make.photo()).mean() < 12


def test_a_broken_exif_block_leaves_the_picture_as_stored() -> None:
    data = make.save(Image.fromarray(make.photo()), "png", exif=b"Exif\0\0not a directory of tags")
    picture = decode(data, LIMITS)
    assert picture.info.warnings == ("exif_broken",)
    assert (picture.rgb == make.photo()).all()


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_impossible_orientation_is_no_turn(orientation: int) -> None:
    data = make.save(Image.fromarray(make.photo()), "png", exif=make.exif(orientation))
    assert (decode(data, LIMITS).rgb == make.photo()).all()


# First of several


@pytest.mark.parametrize("format", ["gif", "webp", "png", "tiff", "avif"])
def test_of_several_pictures_the_first_is_taken_with_a_warning(format: str) -> None:
    first, second = Image.new("RGB", (16, 16), (250, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 250))
    picture = decode(make.save(first, format, save_all=True, append_images=[second]), LIMITS)
    assert picture.info.warnings == ("animated_first_frame",)
    assert picture.rgb[8, 8, 0] > 200 > 50 > picture.rgb[8, 8, 2]


def test_of_an_mpo_file_the_first_picture_is_a_plain_jpeg() -> None:
    first, second = Image.new("RGB", (16, 16), (250, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 250))
    picture = decode(make.save(first, "mpo", save_all=True, append_images=[second]), LIMITS)
    assert (picture.info.format, picture.info.warnings) == ("jpeg", ())
    assert picture.rgb[8, 8, 0] > 200


# Limits


@pytest.mark.parametrize("read", [decode, read_header])
def test_a_400_megapixel_png_is_refused_by_its_header(read: object) -> None:
    assert callable(read)
    data = make.png(20_000, 20_000, 8, 0, [b"\0"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageTooLarge, match=r"20000 x 20000 pixels; that is 400 megapixels, 50 are allowed"):
            read(data, LIMITS)


def _header_only(kind: str, width: int, height: int) -> bytes:
    """A file whose header claims a size; the pixels behind it are nonsense."""
    if kind == "jpeg":
        data = bytearray(make.encoded("jpeg"))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
        return bytes(data)
    if kind == "gif":
        return b"GIF89a" + struct.pack("<HH", width, height) + make.encoded("gif")[10:]
    if kind == "webp":
        body = (
            b"VP8X" + struct.pack("<II", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        )
        return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    if kind == "bmp":
        data = bytearray(make.encoded("bmp"))
        data[18:26] = struct.pack("<ii", width, height)
        return bytes(data)
    if kind == "tiff":
        return make.tiff(width, height, b"\0" * 8, bits=[8], photometric=1)
    return make.png(width, height, 8, 2, [b"\0"])


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "bmp", "tiff"])
@pytest.mark.parametrize("read", [decode, read_header])
def test_every_format_is_measured_before_it_is_decoded(kind: str, read: object) -> None:
    assert callable(read)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageTooLarge, match="16000 x 16000"):
            read(_header_only(kind, 16_000, 16_000), LIMITS)


def test_a_side_of_20001_is_too_long_and_20000_is_not() -> None:
    with pytest.raises(ImageTooLarge, match="20001 x 1 pixels; a side may have 20000"):
        decode(make.encoded("png", make.photo(20_001, 1)), LIMITS)
    assert decode(make.encoded("png", make.photo(20_000, 1)), LIMITS).info.width == 20_000


def test_the_pixel_limit_itself_is_allowed() -> None:
    small = Limits(pixels=32 * 24)
    assert decode(make.encoded("png"), small).info.width == 32
    with pytest.raises(ImageTooLarge):
        decode(make.encoded("png", make.photo(33, 24)), small)


def test_an_operator_may_allow_more_than_pillow_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(make.encoded("tiff"), LIMITS).info.width == 32


def test_pillows_own_limit_is_left_alone_when_it_is_higher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 123_456_789)
    decode(make.encoded("png"), LIMITS)
    assert Image.MAX_IMAGE_PIXELS == 123_456_789
