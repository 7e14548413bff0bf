"""Composite, then recover: the estimated foreground against the one the scene was made from."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattehorn.alpha import refine_edges
from mattehorn.foreground import estimate_foreground, zero_hidden
from tests import scenes


def _error(scene: scenes.Scene, foreground: scenes.Uint8) -> float:
    """Mean |alpha (F_est - F)| over the unknown region, in levels of 255."""
    difference = np.abs(foreground.astype(np.float32) - scene.foreground) * scene.alpha[..., None]
    return float(difference[scene.unknown].mean())


@pytest.mark.parametrize("make", scenes.ALL, ids=lambda make: make.__name__)
def test_an_exact_matte_lowers_the_colour_error_at_least_threefold(make, record_property) -> None:
    scene = make()
    kept = _error(scene, scene.image)
    estimated = _error(scene, estimate_foreground(scene.image, scene.alpha))
    record_property("colour_error", f"{scene.name}: {kept:.1f} -> {estimated:.2f} ({kept / estimated:.1f}x)")
    assert kept >= 3 * estimated


@pytest.mark.parametrize("make", scenes.ALL, ids=lambda make: make.__name__)
def test_a_matte_blurred_by_1_2_px_still_lowers_the_colour_error(make, record_property) -> None:
    scene = make()
    blurred = np.clip(cv2.GaussianBlur(scene.alpha, (0, 0), 1.2), 0, 1)
    kept = _error(scene, scene.image)
    estimated = _error(scene, estimate_foreground(scene.image, blurred))
    record_property("colour_error", f"{scene.name}: {kept:.1f} -> {estimated:.2f} ({kept / estimated:.1f}x)")
    assert kept > 1.2 * estimated


def test_a_reduced_solve_still_recovers_hair_of_a_large_photo() -> None:
    scene = scenes.hairs(1024, count=300)  # 1 MP: solved at 1/2
    kept = _error(scene, scene.image)
    assert kept >= 3 * _error(scene, estimate_foreground(scene.image, scene.alpha))


def test_a_grey_half_transparent_edge_over_white_has_the_right_colour() -> None:
    """A grey (128) subject before black, its edge at 50 %: the photo shows 64 there, the cutout over white 191."""
    alpha = np.zeros((64, 64), np.float32)
    alpha[:, 30:34] = 0.5
    alpha[:, 34:] = 1
    grey, black = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64, 3), np.uint8)
    foreground = estimate_foreground(scenes.blend(grey, black, alpha), alpha)
    over_white = scenes.blend(foreground, black + np.uint8(255), alpha)
    assert np.abs(over_white[:, 30:34].astype(int) - 192).max() <= 3
    assert np.abs(foreground[:, 30:].astype(int) - 128).max() <= 5


def test_the_photo_is_kept_where_the_matte_is_opaque() -> None:
    scene = scenes.hairs()
    foreground = estimate_foreground(scene.image, scene.alpha)
    opaque = scene.alpha > 0.99
    np.testing.assert_array_equal(foreground[opaque], scene.image[opaque])


def test_estimated_colours_explain_the_photo() -> None:
    """With F known, B = (I - aF) / (1 - a) must be a colour: the estimate may not overshoot."""
    scene = scenes.soft_disc()
    foreground = estimate_foreground(scene.image, scene.alpha).astype(np.float32)
    alpha = scene.alpha[..., None]
    left = scene.image - alpha * foreground
    assert (left >= -8)[scene.unknown].mean() > 0.99
    assert (left <= 255 * (1 - alpha) + 8)[scene.unknown].mean() > 0.99


def test_the_subjects_colour_continues_beyond_its_edge_for_the_feather() -> None:
    scene = scenes.soft_disc()
    foreground = estimate_foreground(scene.image, scene.alpha).astype(np.float32)
    outside = (scene.alpha == 0) & (cv2.dilate(scene.alpha, np.ones((7, 7), np.uint8)) > 0)
    to_subject = np.abs(foreground - scene.foreground)[outside].mean()
    assert to_subject < 0.5 * np.abs(scene.image.astype(np.float32) - scene.foreground)[outside].mean()


@pytest.mark.parametrize("make", [scenes.hairs, scenes.bars], ids=lambda make: make.__name__)
def test_the_matte_before_the_edge_options_gives_the_better_foreground(make) -> None:
    """Erosion and feather change alpha but not the photo, so after them I = aF + (1 - a)B no longer holds."""
    scene = make()
    shown = refine_edges(scene.alpha, 10, 1, 1)
    edge = (shown > 0) & (shown < 1)

    def error(matte: scenes.Float) -> float:
        estimated = estimate_foreground(scene.image, matte).astype(np.float32)
        return float((np.abs(estimated - scene.foreground) * shown[..., None])[edge].mean())

    assert 3 * error(scene.alpha) < error(shown)


@pytest.mark.parametrize("shape", [(1, 1), (20000, 1), (1, 20000), (2, 3)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_thin_and_tiny_photos_have_a_foreground(shape, value) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    foreground = estimate_foreground(image, np.full(shape, value, np.float32))
    assert foreground.shape == image.shape
    assert foreground.dtype == np.uint8
    if value == 1:
        np.testing.assert_array_equal(foreground, image)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 48), width=st.integers(1, 48), seed=st.integers(0, 99), colour=st.integers(0, 255))
def test_one_flat_colour_is_its_own_foreground_whatever_the_matte(height, width, seed, colour) -> None:
    alpha = np.random.default_rng(seed).random((height, width), dtype=np.float32)
    image = np.full((height, width, 3), colour, np.uint8)
    foreground = estimate_foreground(image, alpha)
    assert np.abs(foreground.astype(int) - colour).max() <= 1


def test_hidden_pixels_are_zeroed_and_others_kept() -> None:
    image = np.full((3, 4, 3), 200, np.uint8)
    alpha = np.zeros((3, 4), np.uint8)
    alpha[1, 2], alpha[0, 0] = 1, 255
    result = zero_hidden(image, alpha)
    assert (image == 200).all()
    assert result.sum() == 2 * 600
    assert result[1, 2].tolist() == [200, 200, 200]
