"""Encoding: round trips, exact alpha, the sRGB tag, no other metadata, the formats' limits, equal bytes."""

from __future__ import annotations

import io
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from mattehorn.errors import ConflictingOptions, MattehornError
from mattehorn.image import encode
from mattehorn.image.decode import decode
from mattehorn.image.encode import encode_alpha, encode_cutout, encode_opaque, encode_zip
from mattehorn.settings import Limits
from tests import make_images as make

LIMITS = Limits()
LOSSY = ("webp", "avif", "jpg")
SIZES = [(1, 1), (3, 2), (2, 301)]  # (width, height)


def cutout(width: int = 64, height: int = 48) -> tuple[make.Uint8, make.Uint8]:
    """A photo and a matte with every alpha; RGB is 0 where alpha is 0."""
    alpha = np.tile((np.arange(width) * 255 // max(1, width - 1)).astype(np.uint8), (height, 1))
    return np.where(alpha[..., None] > 0, make.photo(width, height), 0).astype(np.uint8), alpha


def error_of(found: make.Uint8, expected: make.Uint8) -> int:
    return int(np.abs(found.astype(int) - expected).max())


# Cutouts


@pytest.mark.parametrize("size", [(64, 48), *SIZES])
def test_a_png_cutout_comes_back_exactly(size: tuple[int, int]) -> None:
    rgb, alpha = cutout(*size)
    back = np.asarray(Image.open(io.BytesIO(encode_cutout(rgb, alpha, "png", 90))))
    assert (back == np.dstack([rgb, alpha])).all()


@pytest.mark.parametrize("size", [(64, 48), *SIZES])
@pytest.mark.parametrize("quality", [1, 50, 90, 100])
@pytest.mark.parametrize("format", ["webp", "avif"])
def test_a_lossy_cutout_keeps_its_alpha_exactly(format: str, quality: int, size: tuple[int, int]) -> None:
    rgb, alpha = cutout(*size)
    back = np.asarray(Image.open(io.BytesIO(encode_cutout(rgb, alpha, format, quality))).convert("RGBA"))
    assert (back[..., 3] == alpha).all()


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_a_lossy_cutout_keeps_its_colours_nearly(format: str) -> None:
    rgb, alpha = cutout()
    back = np.asarray(Image.open(io.BytesIO(encode_cutout(rgb, alpha, format, 90))))
    assert np.abs(back[..., :3].astype(int) - rgb)[alpha > 0].mean() < 4


def test_our_own_decoder_reads_a_cutout_back() -> None:
    rgb, alpha = cutout()
    for format in ("png", "webp", "avif"):
        picture = decode(encode_cutout(rgb, alpha, format, 90), LIMITS)
        assert picture.alpha is not None
        assert (picture.alpha == alpha).all()
        assert picture.info.warnings == ()


def test_strided_views_are_encoded_like_copies() -> None:
    rgb, alpha = cutout()
    part = encode_cutout(rgb[5:20, 7:30], alpha[5:20, 7:30], "png", 90)
    assert part == encode_cutout(rgb[5:20, 7:30].copy(), alpha[5:20, 7:30].copy(), "png", 90)
    for format in ("png", "webp", "avif", "jpg"):
        turned = np.swapaxes(rgb, 0, 1)
        assert encode_opaque(turned, format, 90) == encode_opaque(turned.copy(), format, 90)
        assert encode_alpha(alpha.T, format, 90) == encode_alpha(alpha.T.copy(), format, 90)


def test_a_cutout_as_jpg_is_refused_not_flattened() -> None:
    with pytest.raises(ConflictingOptions, match="png, webp or avif") as caught:
        encode_cutout(*cutout(), "jpg", 90)
    assert caught.value.data["field"] == "format"


# Mattes and opaque pictures


@pytest.mark.parametrize("size", [(64, 48), *SIZES])
@pytest.mark.parametrize("format", ["png", "webp", "avif"])
def test_a_matte_comes_back_exactly_whatever_the_quality(format: str, size: tuple[int, int]) -> None:
    _, alpha = cutout(*size)
    back = np.asarray(Image.open(io.BytesIO(encode_alpha(alpha, format, 10))))
    assert back.shape == (alpha.shape if format == "png" else (*alpha.shape, 3)), "one channel, or R = G = B"
    assert (back.reshape((*alpha.shape, -1)) == alpha[..., None]).all()


def test_a_png_matte_has_one_8_bit_grey_channel() -> None:
    header = make.chunks_of(encode_alpha(cutout()[1], "png", 90))[0][1]
    assert (header[8], header[9]) == (8, 0)


@pytest.mark.parametrize("size", [(64, 48), *SIZES])
def test_a_jpg_matte_is_grey_and_nearly_right(size: tuple[int, int]) -> None:
    _, alpha = cutout(*size)
    back = Image.open(io.BytesIO(encode_alpha(alpha, "jpg", 95)))
    assert back.mode == "L"
    assert error_of(np.asarray(back), alpha) <= 4


def test_an_opaque_png_comes_back_exactly() -> None:
    back = Image.open(io.BytesIO(encode_opaque(make.photo(), "png", 90)))
    assert back.mode == "RGB"
    assert (np.asarray(back) == make.photo()).all()


@pytest.mark.parametrize("size", [(64, 48), *SIZES])
@pytest.mark.parametrize("format", LOSSY)
def test_an_opaque_lossy_picture_is_nearly_right_and_has_no_alpha(format: str, size: tuple[int, int]) -> None:
    width, height = size
    rgb = np.tile(np.array([120, 90, 60], np.uint8), (height, width, 1))
    picture = decode(encode_opaque(rgb, format, 90), LIMITS)
    assert picture.alpha is None
    assert picture.rgb.shape == rgb.shape
    assert error_of(picture.rgb, rgb) <= 4


@pytest.mark.parametrize("format", LOSSY)
def test_more_quality_is_more_bytes_and_less_error(format: str) -> None:
    rgb = cv2.GaussianBlur(make.noise(), (5, 5), 0)
    low, high = encode_opaque(rgb, format, 20), encode_opaque(rgb, format, 95)
    assert len(low) < len(high)
    errors = [np.abs(decode(data, LIMITS).rgb.astype(int) - rgb).mean() for data in (low, high)]
    assert errors[0] > errors[1]


@pytest.mark.parametrize(("quality", "sampling"), [(94, 0x22), (95, 0x11), (100, 0x11)])
def test_jpg_keeps_full_colour_resolution_from_quality_95(quality: int, sampling: int) -> None:
    data = encode_opaque(make.photo(), "jpg", quality)
    frame = data.index(b"\xff\xc0")
    assert data[frame + 11] == sampling


# Metadata


def test_png_is_tagged_srgb_right_behind_its_header_and_holds_nothing_else() -> None:
    for data in (encode_cutout(*cutout(), "png", 90), encode_opaque(make.photo(), "png", 90)):
        chunks = make.chunks_of(data)
        assert chunks[1] == (b"sRGB", b"\0")
        assert {name for name, _ in chunks} == {b"IHDR", b"sRGB", b"IDAT", b"IEND"}


def test_a_matte_is_not_tagged_as_colour() -> None:
    _, alpha = cutout()
    assert {name for name, _ in make.chunks_of(encode_alpha(alpha, "png", 90))} == {b"IHDR", b"IDAT", b"IEND"}
    for format in ("webp", "jpg"):
        assert "icc_profile" not in Image.open(io.BytesIO(encode_alpha(alpha, format, 90))).info


def test_lossy_colour_is_tagged_srgb() -> None:
    rgb, alpha = cutout()
    for data in (encode_cutout(rgb, alpha, "webp", 90), encode_opaque(rgb, "webp", 90), encode_opaque(rgb, "jpg", 90)):
        assert Image.open(io.BytesIO(data)).info["icc_profile"] == encode.srgb_profile()
    for data in (encode_cutout(rgb, alpha, "avif", 90), encode_opaque(rgb, "avif", 90)):
        box = data.index(b"nclx")
        assert data[box + 4 : box + 8] == bytes((0, 1, 0, 13)), "BT.709 primaries, sRGB transfer: ITU-T H.273"


def test_no_result_holds_exif_or_xmp() -> None:
    rgb, alpha = cutout()
    results = [encode_cutout(rgb, alpha, f, 90) for f in ("png", "webp", "avif")]
    results += [encode_opaque(rgb, f, 90) for f in ("png", *LOSSY)] + [
        encode_alpha(alpha, f, 90) for f in ("png", *LOSSY)
    ]
    for data in results:
        info = Image.open(io.BytesIO(data)).info
        assert not {"exif", "xmp", "comment", "Software", "date:create"} & set(info)
        assert b"Exif" not in data
        assert b"http://ns.adobe" not in data


def test_the_srgb_profile_is_small_and_changes_nothing() -> None:
    profile = encode.srgb_profile()
    assert len(profile) < 1000
    assert profile[24:36] == bytes((0x07, 0xD0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0)), (
        "dated, or equal input differs by the day"
    )
    data = make.save(Image.fromarray(make.photo()), "png", icc_profile=profile)
    assert (decode(data, LIMITS).rgb == make.photo()).all()


def test_equal_input_gives_equal_bytes() -> None:
    rgb, alpha = cutout()
    for format in ("png", "webp", "avif"):
        assert encode_cutout(rgb, alpha, format, 80) == encode_cutout(rgb, alpha, format, 80)
    for format in ("png", *LOSSY):
        assert encode_opaque(rgb, format, 80) == encode_opaque(rgb, format, 80)


# Limits


def test_the_longest_line_is_a_png() -> None:
    for width, height in ((20_000, 1), (1, 20_000)):
        rgb, alpha = cutout(width, height)
        back = decode(encode_cutout(rgb, alpha, "png", 90), LIMITS)
        assert back.rgb.shape == (height, width, 3)


@pytest.mark.parametrize(("format", "limit"), [("webp", 16_383), ("jpg", 65_500), ("avif", 32_768)])
def test_a_side_too_long_for_the_format_names_the_limit_and_proposes_png(format: str, limit: int) -> None:
    line = np.zeros((1, limit + 1), np.uint8)
    for call in (lambda: encode_alpha(line, format, 90), lambda: encode_opaque(np.dstack([line] * 3), format, 90)):
        with pytest.raises(ConflictingOptions, match=f"{limit + 1} x 1.*{limit}.*png") as caught:
            call()
        assert caught.value.data["field"] == "format"


@pytest.mark.parametrize(("format", "limit"), [("webp", 16_383), ("jpg", 65_500), ("avif", 32_768)])
def test_the_longest_side_that_is_allowed_is_really_encoded(format: str, limit: int) -> None:
    line = np.full((1, limit), 200, np.uint8)
    wide = Limits(side_px=limit)
    assert decode(encode_alpha(line, format, 90), wide).info.width == limit


def test_a_codec_failure_is_our_error() -> None:
    with pytest.raises(MattehornError, match="png"):
        encode_cutout(np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4), np.uint8), "png", 90)
    with pytest.raises(MattehornError, match="could not be encoded"):
        encode_alpha(np.zeros((0, 4), np.uint8), "png", 90)


# Zip and names


def test_a_zip_holds_its_files_in_order_stored_and_dated_1980() -> None:
    data = encode_zip({"color.jpg": b"\1\2\3", "alpha.png": b"", "meta.json": b"{}"})
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.namelist() == ["color.jpg", "alpha.png", "meta.json"]
    assert [archive.read(name) for name in archive.namelist()] == [b"\1\2\3", b"", b"{}"]
    for entry in archive.infolist():
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        assert entry.compress_type == zipfile.ZIP_STORED
    assert data == encode_zip({"color.jpg": b"\1\2\3", "alpha.png": b"", "meta.json": b"{}"})


def test_every_format_has_a_content_type_and_an_ending() -> None:
    assert {name: encode.extension(name) for name in encode.CONTENT_TYPES} == {
        "png": ".png",
        "webp": ".webp",
        "jpg": ".jpg",
        "avif": ".avif",
        "zip": ".zip",
    }
    assert encode.CONTENT_TYPES["jpg"] == "image/jpeg"
    with pytest.raises(KeyError, match="tiff"):
        encode.extension("tiff")


# Dots per inch


@pytest.mark.parametrize("dpi", [72, 96, 300, 1200, 65_535])
def test_png_and_jpg_state_dots_per_inch_where_readers_look(dpi: int) -> None:
    rgb, alpha = cutout()
    files = [
        encode_cutout(rgb, alpha, "png", 90, dpi),
        *(encode_opaque(rgb, format, 90, dpi) for format in ("png", "jpg")),
        *(encode_alpha(alpha, format, 90, dpi) for format in ("png", "jpg")),
    ]
    for data in files:
        with Image.open(io.BytesIO(data)) as image:
            assert image.info["dpi"] == pytest.approx((dpi, dpi), abs=0.02)
            image.verify()


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "avif"])
def test_dots_per_inch_change_no_pixel_and_nothing_else_is_written(format: str) -> None:
    rgb, alpha = cutout()
    for plain, stated in (
        (encode_opaque(rgb, format, 90), encode_opaque(rgb, format, 90, 300)),
        (encode_alpha(alpha, format, 90), encode_alpha(alpha, format, 90, 300)),
    ):
        images = [Image.open(io.BytesIO(data)) for data in (plain, stated)]
        assert (np.asarray(images[0]) == np.asarray(images[1])).all()
        assert "exif" not in images[1].info
        assert (plain == stated) == (format in ("webp", "avif"))
