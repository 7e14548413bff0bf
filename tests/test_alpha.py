"""Edge options on known mattes: nothing rises, sure alpha stays, noise goes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattehorn import alpha as matte
from tests import scenes

SHAPES = [(1, 1), (20000, 1), (1, 20000), (300, 517)]


def _matte(height: int = 90, width: int = 130, seed: int = 5) -> scenes.Float:
    """Soft noise with large areas of exactly 0 and 1, and lone specks."""
    noise = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    soft = np.clip(cv2.GaussianBlur(noise, (0, 0), 4) * 8 + 0.5, 0, 1).astype(np.float32)
    soft[::37, ::41] = 1
    return soft


@given(threshold=st.integers(0, 254), value=st.floats(0, 1, width=32))
def test_the_threshold_never_raises_a_value_and_clears_what_is_below_it(threshold: int, value: float) -> None:
    before = np.full((1, 1), value, np.float32)
    after = matte.soften_threshold(before, threshold)[0, 0]
    assert 0 <= after <= before[0, 0]
    if value * 255 <= threshold and threshold:
        assert after <= 1e-6


@given(threshold=st.integers(1, 127), value=st.floats(0, 1, width=32))
def test_the_threshold_leaves_alpha_of_twice_itself_alone(threshold: int, value: float) -> None:
    if value * 255 >= 2 * threshold:
        after = matte.soften_threshold(np.full((1, 1), value, np.float32), threshold)[0, 0]
        assert after == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("threshold", range(255))
def test_the_threshold_never_makes_the_matte_binary(threshold: int) -> None:
    levels = np.linspace(0, 1, 4081, dtype=np.float32)[None]
    after = matte.soften_threshold(levels, threshold)
    assert after[0, -1] == 1
    assert (np.diff(after) >= -1e-7).all()
    assert np.diff(after).max() <= 255 / max(255 - threshold, 1) / 4080 * 2.01  # a slope, not a step


def test_threshold_zero_changes_nothing() -> None:
    before = _matte()
    np.testing.assert_array_equal(matte.soften_threshold(before, 0), before)


def test_the_threshold_of_the_contract_on_known_levels() -> None:
    levels = np.asarray([[0, 10, 11, 15, 20, 21, 255]], np.float32) / 255
    after = matte.soften_threshold(levels, 10) * 255
    np.testing.assert_allclose(after, [[0, 0, 2, 10, 20, 21, 255]], atol=1e-4)


def test_erosion_of_radius_zero_is_identity() -> None:
    before = _matte()
    np.testing.assert_array_equal(matte.erode(before, 0), before)


@pytest.mark.parametrize("radius", [1, 2, 5, 20])
def test_erosion_is_the_minimum_over_a_disc_also_across_tiles(radius: int) -> None:
    before = _matte(300, 290)
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    expected = cv2.erode(before, (x * x + y * y <= radius * radius).astype(np.uint8))
    np.testing.assert_array_equal(matte.erode(before, radius), expected)


def test_a_lone_transparent_pixel_grows_to_a_disc_of_the_radius() -> None:
    before = np.ones((9, 9), np.float32)
    before[4, 4] = 0
    assert np.count_nonzero(matte.erode(before, 1) == 0) == 5
    assert np.count_nonzero(matte.erode(before, 2) == 0) == 13


def test_fractional_erosion_blends_the_neighbouring_radii() -> None:
    before = _matte()
    half = (matte.erode(before, 1) + matte.erode(before, 2)) / 2
    np.testing.assert_allclose(matte.erode(before, 1.5), half, atol=1e-6)


def test_erosion_does_not_eat_at_the_border_of_the_picture() -> None:
    assert (matte.erode(np.ones((20, 30), np.float32), 7) == 1).all()


@pytest.mark.parametrize("sigma", [0.5, 1, 3.7, 4.5, 12, 50])
def test_feather_is_a_gaussian_also_across_tiles(sigma: float) -> None:
    before = scenes.soft_disc(600, edge_px=3).alpha
    expected = cv2.GaussianBlur(before, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(matte.feather(before, sigma), expected, atol=0.008)  # two of 255 levels


@pytest.mark.parametrize("sigma", [1, 50])
def test_feather_keeps_far_areas_exactly_zero_and_one_in_bytes(sigma: float) -> None:
    before = np.zeros((700, 900), np.float32)
    before[:, 450:] = 1
    after = matte.to_uint8(matte.feather(before, sigma))
    assert (after[:, :200] == 0).all()
    assert (after[:, 700:] == 255).all()


def test_edge_options_apply_in_the_contracts_order() -> None:
    before = _matte()
    expected = matte.feather(matte.erode(matte.soften_threshold(before, 30), 2), 1.5)
    np.testing.assert_array_equal(matte.refine_edges(before, 30, 2, 1.5), expected)
    np.testing.assert_array_equal(matte.refine_edges(before, 0, 0, 0), before)


def test_edge_options_leave_their_input_as_it_was() -> None:
    before = _matte()
    copy = before.copy()
    matte.refine_edges(before, 10, 1, 1)
    matte.combine_with_given(before, np.full(before.shape, 9, np.uint8), "multiply")
    np.testing.assert_array_equal(before, copy)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    threshold=st.integers(0, 254),
    erode_px=st.floats(0, 20),
    feather_px=st.floats(0, 50),
    seed=st.integers(0, 99),
)
def test_edge_options_keep_shape_and_range(height, width, threshold, erode_px, feather_px, seed) -> None:
    before = np.random.default_rng(seed).random((height, width), dtype=np.float32)
    after = matte.refine_edges(before, threshold, erode_px, feather_px)
    assert after.shape == before.shape
    assert after.dtype == np.float32
    assert after.min() >= 0
    assert after.max() <= 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("erode_px", "feather_px"), [(1, 1), (2.5, 9)])
def test_thin_and_tiny_mattes_pass_through_every_option(shape, erode_px, feather_px) -> None:
    after = matte.refine_edges(np.ones(shape, np.float32), 10, erode_px, feather_px)
    assert after.shape == shape
    assert (matte.to_uint8(after) == 255).all()


def test_multiply_never_makes_transparent_opaque() -> None:
    given_alpha = np.asarray([[0, 100, 255, 255]], np.uint8)
    predicted = np.asarray([[1, 0.5, 0.25, 1]], np.float32)
    result = matte.combine_with_given(predicted, given_alpha, "multiply")
    np.testing.assert_allclose(result * 255, [[0, 50, 63.75, 255]], atol=1e-4)
    assert (result <= predicted).all()


def test_trust_takes_the_given_alpha_and_ignore_the_predicted() -> None:
    given_alpha = np.asarray([[0, 100, 255]], np.uint8)
    predicted = np.asarray([[1, 0.5, 0.25]], np.float32)
    np.testing.assert_array_equal(
        matte.to_uint8(matte.combine_with_given(predicted, given_alpha, "trust")), given_alpha
    )
    assert matte.combine_with_given(predicted, given_alpha, "ignore") is predicted
    assert matte.combine_with_given(predicted, None, "trust") is predicted


def test_the_unknown_region_is_what_bytes_would_not_call_0_or_255() -> None:
    values = np.asarray([[0, 0.001, 0.5, 0.999, 1]], np.float32)
    np.testing.assert_array_equal(matte.unknown_region(values, 0), [[False, False, True, False, False]])
    assert matte.unknown_region(values, 1).sum() == 3


def test_bytes_round_halves_up_and_come_back_unchanged() -> None:
    assert matte.to_uint8(np.asarray([[0.5, 0.5 / 255, 2.5 / 255]], np.float32)).tolist() == [[128, 1, 3]]
    every = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(matte.to_uint8(every.astype(np.float32) / 255), every)


def test_the_box_holds_every_pixel_above_zero() -> None:
    levels = np.zeros((20, 30), np.uint8)
    assert matte.bounding_box(levels) is None
    levels[4, 7] = 1
    assert matte.bounding_box(levels) == (4, 7, 1, 1)
    levels[9, 20] = 255
    assert matte.bounding_box(levels) == (4, 7, 6, 14)
