"""Compositing on known answers: equations held in float64, halos looked for, straight alpha kept."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattehorn.alpha import to_uint8
from mattehorn.colour import parse_gradient
from mattehorn.composite import (
    Background,
    Blur,
    Colour,
    GradientFill,
    Picture,
    Shadow,
    background_blur,
    composite,
    lay_over,
    shadow_alpha,
)
from mattehorn.foreground import estimate_foreground
from tests import scenes

BACKGROUNDS: list[Background] = [
    Colour(10, 20, 30),
    Colour(10, 20, 30, 128),
    GradientFill(parse_gradient("30deg #fff #0008")),
    Picture(np.full((5, 9, 3), 77, np.uint8), None, "fill"),
    Picture(np.full((5, 9, 3), 77, np.uint8), np.full((5, 9), 99, np.uint8), "fit"),
    Blur(0.5),
    Blur(6),
    Blur(200),
]


def _noise(height: int, width: int, seed: int = 0) -> scenes.Uint8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("make", scenes.ALL, ids=lambda make: make.__name__)
def test_true_foreground_over_true_background_is_the_photo(make) -> None:
    scene = make()
    result = composite(scene.foreground, scene.alpha, scene.background)
    assert np.abs(result.astype(int) - scene.image).max() <= 1


def test_alpha_one_gives_the_foreground_and_alpha_zero_the_background_exactly() -> None:
    fore, back = _noise(300, 1001), _noise(300, 1001, seed=1)
    for one, zero in ((np.float32(1), np.float32(0)), (np.uint8(255), np.uint8(0))):
        alpha = np.full((300, 1001), zero)
        alpha[:, 500:] = one
        result = composite(fore, alpha, back)
        np.testing.assert_array_equal(result[:, 500:], fore[:, 500:])
        np.testing.assert_array_equal(result[:, :500], back[:, :500])


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), seed=st.integers(0, 999))
def test_every_mix_is_within_a_level_of_the_exact_one(height, width, seed) -> None:
    rng = np.random.default_rng(seed)
    fore, back = _noise(height, width, seed), _noise(height, width, seed + 1)
    alpha = rng.integers(0, 256, (height, width), dtype=np.uint8)
    expected = scenes.blend(fore, back, alpha.astype(np.float32) / 255)
    assert np.abs(composite(fore, alpha, back).astype(int) - expected).max() <= 1


def test_inputs_are_not_written_to() -> None:
    fore, back, image = _noise(40, 30), _noise(40, 30, 1), _noise(40, 30, 2)
    alpha = np.random.default_rng(0).random((40, 30), dtype=np.float32)
    copies = [x.copy() for x in (fore, back, image, alpha)]
    composite(fore, alpha, back)
    for background in (Picture(back, None, "fill"), Blur(3)):
        lay_over(fore, alpha, image, background, Shadow("drop", 1, 3, (2, 2)))
    for array, copy in zip((fore, back, image, alpha), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_cutout_over_white_equals_the_photo_where_it_is_opaque() -> None:
    scene = scenes.hairs()
    foreground = estimate_foreground(scene.image, scene.alpha)
    rgb, alpha = lay_over(foreground, scene.alpha, scene.image, Colour(255, 255, 255))
    assert alpha is None
    np.testing.assert_array_equal(rgb[scene.alpha == 1], scene.image[scene.alpha == 1])
    assert (rgb[scene.alpha == 0] == 255).all()


def test_a_new_background_behind_a_recovered_subject_is_close_to_the_true_composite() -> None:
    scene = scenes.hairs()
    other = scenes.texture(np.random.default_rng(9), *scene.alpha.shape, base=(250, 250, 250), strength=5)
    truth = scenes.blend(scene.foreground, other, scene.alpha).astype(int)
    foreground = estimate_foreground(scene.image, scene.alpha)
    recovered, _ = lay_over(foreground, scene.alpha, scene.image, Picture(other, None))
    kept, _ = lay_over(scene.image, scene.alpha, scene.image, Picture(other, None))
    unknown = scene.unknown
    assert np.abs(recovered.astype(int) - truth)[unknown].mean() * 3 < np.abs(kept.astype(int) - truth)[unknown].mean()


def test_straight_alpha_over_a_translucent_colour() -> None:
    """Porter and Duff over: red at 50 % on blue at 50 % is 75 % opaque, two thirds red."""
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    rgb, alpha = lay_over(red, np.full((2, 2), 0.5, np.float32), red, Colour(0, 0, 255, 128))
    assert alpha is not None
    assert abs(int(alpha[0, 0]) - 191) <= 1
    np.testing.assert_allclose(rgb[0, 0], [170, 0, 85], atol=1)


def test_over_transparent_the_cutout_is_unchanged() -> None:
    """(200, 100, 50) at alpha 128 stays that, and does not become (100, 50, 25)."""
    fore = np.zeros((4, 5, 3), np.uint8)
    fore[:] = (200, 100, 50)
    levels = np.asarray([[0, 1, 128, 254, 255]] * 4, np.uint8)
    rgb, alpha = lay_over(fore, levels, fore, Colour(0, 0, 0, 0))
    np.testing.assert_array_equal(alpha, levels)
    assert (np.abs(rgb[:, 1:].astype(int) - (200, 100, 50)) <= 1).all()


def test_an_opaque_result_has_no_alpha_even_over_a_translucent_background() -> None:
    fore = _noise(6, 7)
    _, alpha = lay_over(fore, np.ones((6, 7), np.float32), fore, Colour(0, 0, 0, 0))
    assert alpha is None


@pytest.mark.parametrize("scaling", ["fill", "fit"])
def test_a_picture_keeps_its_aspect_and_is_centred(scaling) -> None:
    """A 2:1 picture, left half black, right half white, in a square frame."""
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, 20:] = 255
    nothing = np.zeros((80, 80), np.uint8)
    rgb, alpha = lay_over(_noise(80, 80), nothing, _noise(80, 80), Picture(picture, None, scaling))
    if scaling == "fill":
        assert alpha is None
        assert (rgb[:, :37] == 0).all()
        assert (rgb[:, 43:] == 255).all()
    else:
        assert alpha is not None
        np.testing.assert_array_equal(alpha[:20], 0)
        np.testing.assert_array_equal(alpha[20:60], 255)
        np.testing.assert_array_equal(alpha[60:], 0)
        assert (rgb[20:60, 43:] == 255).all()


def test_a_blurred_background_has_no_halo_of_the_subject() -> None:
    """A red subject before grey: nothing red may be left, also not in the mixed pixels of its edge."""
    scene = scenes.soft_disc(200)
    grey = np.full_like(scene.image, 110)
    red = np.zeros_like(scene.image)
    red[..., 0] = 230
    image = scenes.blend(red, grey, scene.alpha)
    for sigma in (0.5, 2, 6, 7, 30, 200):
        off = np.abs(background_blur(image, scene.alpha, sigma, red).astype(int) - 110).max(axis=2)
        assert off[scene.alpha < 0.9].max() <= 3, sigma
        assert (off * (1 - scene.alpha)).max() <= 1, sigma  # what is seen of it


def test_a_blurred_background_is_free_of_halo_with_the_estimated_foreground() -> None:
    scene = scenes.hairs()
    flat = np.full_like(scene.image, 200)
    image = scenes.blend(scene.foreground, flat, scene.alpha)
    foreground = estimate_foreground(image, scene.alpha)
    blurred = background_blur(image, scene.alpha, 4, foreground)
    plain = np.abs(blurred.astype(int) - 200)
    assert plain[scene.alpha < 0.5].max() <= 6
    assert plain.mean() < 1


def test_without_a_subject_the_blur_is_a_plain_gaussian() -> None:
    scene = scenes.bars(256)
    nothing = np.zeros((256, 256), np.uint8)
    for sigma in (1, 5, 8, 20):
        expected = cv2.GaussianBlur(scene.image.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        inner = np.s_[60:-60, 60:-60]  # the border is continued from single pixels or from averages
        got = background_blur(scene.image, nothing, sigma).astype(np.float32)
        assert np.abs(got - expected)[inner].max() <= 2, sigma


def test_a_photo_that_is_all_subject_has_some_background() -> None:
    blurred = background_blur(_noise(50, 60), np.ones((50, 60), np.float32), 5)
    assert blurred.shape == (50, 60, 3)


def test_a_drop_shadow_lies_behind_the_subject_and_to_its_side() -> None:
    alpha = np.zeros((80, 80), np.uint8)
    alpha[20:40, 20:40] = 255
    white = np.full((80, 80, 3), 255, np.uint8)
    rgb, left = lay_over(white, alpha, white, Colour(255, 255, 255), Shadow("drop", 0.4, 0, (10, 15)))
    assert left is None
    assert (rgb[20:40, 20:40] == 255).all()
    assert (rgb[45:50, 35:45] == 153).all()
    assert rgb[70, 70].tolist() == [255, 255, 255]


def test_a_shadow_makes_a_transparent_background_partly_opaque_and_black() -> None:
    alpha = np.zeros((80, 80), np.uint8)
    alpha[20:40, 20:40] = 255
    fore = np.full((80, 80, 3), 200, np.uint8)
    rgb, left = lay_over(fore, alpha, fore, Colour(255, 255, 255, 0), Shadow("drop", 0.4, 0, (10, 15)))
    assert left is not None
    assert left[50, 45] == 102
    assert rgb[50, 45].tolist() == [0, 0, 0]
    assert left[30, 30] == 255
    assert left[5, 5] == 0


@pytest.mark.parametrize("blur_px", [2, 12, 40])
def test_blurring_a_shadow_keeps_its_mass(blur_px) -> None:
    alpha = np.zeros((600, 600), np.uint8)
    alpha[250:350, 250:350] = 255
    cast = shadow_alpha(alpha, Shadow("drop", 1.0, blur_px, (0, 0))).astype(float)
    assert cast.sum() == pytest.approx(alpha.astype(float).sum(), rel=0.02)
    assert cast.max() <= 255


def test_a_contact_shadow_stays_at_the_subjects_feet() -> None:
    alpha = np.zeros((200, 200), np.uint8)
    alpha[20:160, 60:140] = 255
    cast = shadow_alpha(alpha, Shadow("contact", 0.5, 3, (0, 4)))
    assert cast[:130].max() == 0
    assert cast[158:166, 70:130].min() > 30
    assert shadow_alpha(alpha * 0, Shadow("contact", 0.5, 3, (0, 4))).max() == 0


def test_a_shadow_moved_out_of_the_frame_leaves_nothing() -> None:
    alpha = np.full((30, 40), 255, np.uint8)
    assert shadow_alpha(alpha, Shadow("drop", 1, 0, (40, 0))).max() == 0
    assert shadow_alpha(alpha, Shadow("drop", 1, 0, (0, -9999))).max() == 0


@pytest.mark.parametrize("shape", [(1, 1), (20000, 1), (1, 20000), (3, 2)])
@pytest.mark.parametrize("background", BACKGROUNDS, ids=lambda b: type(b).__name__)
@pytest.mark.parametrize("kind", ["drop", "contact"])
def test_thin_and_tiny_photos_are_laid_over_everything(shape, background, kind) -> None:
    image = _noise(*shape)
    matte = np.random.default_rng(2).random(shape, dtype=np.float32)
    rgb, alpha = lay_over(image, to_uint8(matte), image, background, Shadow(kind, 0.4, 12, (0, 8)))
    assert rgb.shape == (*shape, 3)
    assert alpha is None or alpha.shape == shape
