"""Colours: every layout and profile with pixels known beforehand."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from mattehorn.errors import UnsupportedImage
from mattehorn.image.decode import decode, read_header
from mattehorn.image.encode import srgb_profile
from mattehorn.settings import Limits
from tests import make_images as make

LIMITS = Limits()


def pixel(data: bytes, x: int = 0, y: int = 0) -> tuple[int, ...]:
    """RGB, and alpha where the picture has any."""
    picture = decode(data, LIMITS)
    opacity = () if picture.alpha is None else (int(picture.alpha[y, x]),)
    return (*(int(v) for v in picture.rgb[y, x]), *opacity)


# Layouts


def test_16_bit_grey_keeps_its_high_byte_in_png_and_tiff() -> None:
    samples = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    expected = [0, 0, 1, 128, 255]
    by_hand = make.png(5, 1, 16, 0, [samples.astype(">u2").tobytes()])
    little = make.tiff(5, 1, samples.tobytes(), bits=[16], photometric=1)
    big = make.save(Image.frombytes("I;16B", (5, 1), samples.astype(">u2").tobytes()), "tiff")
    for data in (by_hand, little, big):
        assert decode(data, LIMITS).rgb[0, :, 0].tolist() == expected


def test_16_bit_grey_tiff_whose_white_is_zero_is_inverted() -> None:
    samples = np.array([[0, 32768, 65535]], np.uint16)
    data = make.tiff(3, 1, samples.tobytes(), bits=[16], photometric=0)
    assert decode(data, LIMITS).rgb[0, :, 0].tolist() == [255, 127, 0]


def test_12_bit_grey_tiff_is_scaled_to_the_whole_range() -> None:
    packed = bytes((0x80, 0x0F, 0xFF))  # two samples: 0x800, 0xFFF
    assert decode(make.tiff(2, 1, packed, bits=[12], photometric=1), LIMITS).rgb[0, :, 0].tolist() == [128, 255]


@pytest.mark.parametrize(
    ("colour_type", "samples", "expected"),
    [
        (2, (32768, 65535, 255), (128, 255, 0)),
        (4, (32768, 257), (128, 128, 128, 1)),
        (6, (32768, 65535, 255, 32768), (128, 255, 0, 128)),
    ],
)
def test_16_bit_colour_png_keeps_its_high_bytes(
    colour_type: int, samples: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert pixel(make.png(1, 1, 16, colour_type, [struct.pack(f">{len(samples)}H", *samples)])) == expected


def test_16_bit_colour_tiff_keeps_its_high_bytes() -> None:
    rgb = make.tiff(1, 1, struct.pack("<3H", 32768, 65535, 255), bits=[16] * 3, photometric=2)
    rgba = make.tiff(1, 1, struct.pack("<4H", 32768, 65535, 255, 512), bits=[16] * 4, photometric=2, extra=2)
    assert pixel(rgb) == (128, 255, 0)
    assert pixel(rgba) == (128, 255, 0, 2)


@pytest.mark.parametrize(
    ("bits", "sample_format"), [([32], 1), ([32], 2), ([32], 3), ([32] * 3, 3), ([16], 2)], ids=str
)
def test_32_bit_and_signed_samples_are_unsupported(bits: list[int], sample_format: int) -> None:
    size = sum(bits) // 8
    photometric = 2 if len(bits) == 3 else 1
    data = make.tiff(1, 1, b"\1" * size, bits=bits, photometric=photometric, sample_format=sample_format)
    for read in (decode, read_header):
        with pytest.raises(UnsupportedImage, match="8"):
            read(data, LIMITS)


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_grey_with_alpha_becomes_rgb_and_alpha(format: str) -> None:
    assert pixel(make.save(Image.new("LA", (2, 2), (90, 17)), format)) == (90, 90, 90, 17)


def test_premultiplied_tiff_becomes_straight() -> None:
    data = make.tiff(1, 1, bytes((50, 25, 0, 128)), bits=[8] * 4, photometric=2, extra=1)
    assert pixel(data) == pytest.approx((100, 50, 0, 128), abs=1)


def test_premultiplied_grey_tiff_becomes_straight() -> None:
    data = make.tiff(1, 1, bytes((50, 128)), bits=[8, 8], photometric=1, extra=1)
    assert pixel(data) == pytest.approx((100, 100, 100, 128), abs=1)


def test_palette_with_alpha_tiff_keeps_both() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    with_alpha = image.convert("PA")
    with_alpha.putalpha(77)
    assert pixel(make.save(with_alpha, "tiff"), x=1) == (200, 100, 50, 77)


def test_palette_with_transparent_entries_keeps_colours_and_alpha() -> None:
    palette = [(b"PLTE", bytes((10, 20, 30, 200, 100, 50))), (b"tRNS", bytes((99,)))]
    data = make.png(2, 1, 8, 3, [b"\0\1"], palette)
    assert pixel(data, x=0) == (10, 20, 30, 99)
    assert pixel(data, x=1) == (200, 100, 50, 255)


def test_palette_with_one_fully_transparent_entry_is_understood() -> None:
    palette = [(b"PLTE", bytes((10, 20, 30, 200, 100, 50))), (b"tRNS", bytes((255, 0)))]
    data = make.png(2, 1, 8, 3, [b"\0\1"], palette)
    assert (pixel(data, x=0), pixel(data, x=1)) == ((10, 20, 30, 255), (200, 100, 50, 0))


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, b"\x40", 1, [255, 0]),
        (2, b"\x70", 3, [255, 0]),
        (4, b"\x5a", 10, [255, 0]),
        (8, b"\x05\x99", 0x99, [255, 0]),
        (16, b"\x12\x34\x12\x35", 0x1235, [255, 0]),
    ],
    ids=lambda value: str(value),
)
def test_a_transparent_grey_is_found_at_every_depth(depth: int, row: bytes, key: int, expected: list[int]) -> None:
    picture = decode(make.png(2, 1, depth, 0, [row], [(b"tRNS", struct.pack(">H", key))]), LIMITS)
    assert picture.alpha is not None
    assert picture.alpha[0].tolist() == expected


@pytest.mark.parametrize(("depth", "code"), [(8, "B"), (16, "H")])
def test_a_transparent_colour_makes_exactly_its_pixels_transparent(depth: int, code: str) -> None:
    unit = 1 if depth == 8 else 256
    row = struct.pack(f">6{code}", 1 * unit, 2 * unit, 3 * unit, 1 * unit, 2 * unit, 4 * unit)
    key = struct.pack(">3H", 1 * unit, 2 * unit, 3 * unit)
    data = make.png(2, 1, depth, 2, [row], [(b"tRNS", key)])
    assert (pixel(data, x=0), pixel(data, x=1)) == ((1, 2, 3, 0), (1, 2, 4, 255))


def test_one_bit_pictures_are_black_and_white() -> None:
    image = Image.new("1", (9, 1))
    image.putpixel((8, 0), 1)
    for format in ("png", "bmp", "tiff", "gif"):
        data = make.save(image, format)
        assert (pixel(data, x=0), pixel(data, x=8)) == ((0, 0, 0), (255, 255, 255))


def test_opaque_alpha_counts_as_no_alpha() -> None:
    assert decode(make.save(Image.new("RGBA", (3, 3), (1, 2, 3, 255)), "png"), LIMITS).alpha is None


@pytest.mark.parametrize("format", ["png", "webp", "tiff", "avif"])
def test_alpha_is_kept_by_every_format_that_has_it(format: str) -> None:
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[..., :3], rgba[:8, :, 3], rgba[8:, :, 3] = 200, 255, 60
    picture = decode(make.save(Image.fromarray(rgba), format, quality=100), LIMITS)
    assert picture.alpha is not None
    assert np.abs(picture.alpha.astype(int) - rgba[..., 3]).max() <= 2


def test_a_gif_keeps_its_transparent_index() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    data = make.save(image, "gif", transparency=1)
    assert (pixel(data, x=0), pixel(data, x=1)[3]) == ((10, 20, 30, 255), 0)


# CMYK and profiles


@pytest.mark.parametrize(
    ("ink", "expected"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 0, 0), (255, 0, 255)),
        ((0, 0, 255, 0), (255, 255, 0)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((128, 0, 0, 128), (63, 127, 127)),
    ],
)
@pytest.mark.parametrize("format", ["jpeg", "tiff"])
def test_cmyk_without_profile_follows_the_plain_formula(
    format: str, ink: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    data = make.save(Image.new("CMYK", (16, 16), ink), format, **({"quality": 100} if format == "jpeg" else {}))
    assert np.abs(np.array(pixel(data, 8, 8)) - expected).max() <= 2


def test_cmyk_with_a_profile_is_converted_through_it() -> None:
    lightness = np.linspace(255, 0, 16).reshape(2, 2, 2, 2)
    corners = np.stack([lightness, np.full_like(lightness, 128), np.full_like(lightness, 128)], axis=-1).astype(
        np.uint8
    )
    corners[1, 0, 0, 0] = (150, 90, 100)  # cyan alone: Lab 58.8, -38, -28, nowhere near the plain formula's cyan
    profile = make.cmyk_profile(corners)
    expected = make.srgb_of_xyz(make.xyz_of_lab(np.array([[150 / 2.55, 90 - 128, 100 - 128]])))[0]
    for format, settings in (("tiff", {}), ("jpeg", {"quality": 100})):
        cyan = make.save(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), format, icc_profile=profile, **settings)
        white = make.save(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), format, icc_profile=profile, **settings)
        assert np.abs(np.array(pixel(cyan, 8, 8)) - expected).max() <= 3
        assert min(pixel(white, 8, 8)) >= 253


@pytest.mark.parametrize(
    ("primaries", "gamma"),
    [(make.DISPLAY_P3_PRIMARIES, 2.2), (make.ADOBE_RGB_PRIMARIES, 2.19921875), (make.SRGB_PRIMARIES, 1.0)],
    ids=["display p3", "adobe rgb", "linear"],
)
@pytest.mark.parametrize("alpha", [False, True])
def test_a_profile_is_converted_to_srgb_within_two_levels(
    primaries: tuple[tuple[float, float], ...], gamma: float, alpha: bool
) -> None:
    colours = np.array([[255, 255, 255], [128, 128, 128], [0, 0, 0], [200, 120, 90], [90, 160, 140]], np.uint8)
    linear = (colours / 255) ** (round(gamma * 256) / 256)
    expected = make.srgb_of_xyz(linear @ make.primaries_to_d50(primaries).T)
    pixels = colours[None] if not alpha else np.dstack([colours[None], np.full((1, 5, 1), 7, np.uint8)])
    data = make.save(Image.fromarray(pixels), "png", icc_profile=make.rgb_profile(primaries, gamma))
    picture = decode(data, LIMITS)
    assert picture.info.warnings == ()
    assert np.abs(picture.rgb[0].astype(int) - expected).max() <= 2
    assert np.abs(expected.astype(int) - colours).max() > 5, "the profile must make a difference"


def test_a_grey_profile_is_converted_to_srgb() -> None:
    data = make.save(Image.new("L", (2, 2), 128), "png", icc_profile=make.grey_profile(1.0))
    expected = make.srgb_of_xyz(np.array(make.D50)[None] * 128 / 255)[0]
    assert np.abs(np.array(pixel(data)) - expected).max() <= 2


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff", "avif"])
def test_an_embedded_profile_is_found_in_every_format(format: str) -> None:
    profile = make.rgb_profile(make.SRGB_PRIMARIES, 1.0)
    data = make.save(Image.new("RGB", (16, 16), (128, 128, 128)), format, icc_profile=profile)
    assert abs(pixel(data, 8, 8)[0] - 188) <= 2


def test_an_srgb_profile_leaves_every_pixel_alone() -> None:
    data = make.save(Image.fromarray(make.photo()), "png", icc_profile=srgb_profile())
    assert (decode(data, LIMITS).rgb == make.photo()).all()


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_a_broken_profile_is_taken_for_srgb_with_a_warning(format: str) -> None:
    clean = Image.fromarray(make.photo())
    broken = decode(make.save(clean, format, icc_profile=b"not a profile" * 20), LIMITS)
    assert broken.info.warnings == ("icc_broken",)
    assert (broken.rgb == decode(make.save(clean, format), LIMITS).rgb).all()


def test_a_profile_for_other_colours_is_ignored_with_a_warning() -> None:
    data = make.save(Image.fromarray(make.photo()), "png", icc_profile=make.grey_profile(1.0))
    picture = decode(data, LIMITS)
    assert picture.info.warnings == ("icc_broken",)
    assert (picture.rgb == make.photo()).all()


def test_grey_pixels_with_an_rgb_profile_are_converted() -> None:
    profile = make.rgb_profile(make.SRGB_PRIMARIES, 1.0)
    assert abs(pixel(make.save(Image.new("L", (2, 2), 128), "png", icc_profile=profile))[0] - 188) <= 2
