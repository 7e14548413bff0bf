"""Each reason on a picture that shows it and, as far as it can be told, nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattehorn.alpha import to_uint8
from mattehorn.quality import assess
from tests import scenes


def _disc(size: int = 300, radius: int = 90, centre: tuple[int, int] = (150, 150)) -> scenes.Uint8:
    return cv2.circle(np.zeros((size, size), np.uint8), centre, radius, 255, -1, cv2.LINE_AA)


def _photo(alpha: scenes.Uint8, inside: int = 200, outside: int = 50) -> scenes.Uint8:
    grey = np.where(alpha >= 128, inside, outside).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize("make", [scenes.hairs, scenes.soft_disc], ids=lambda make: make.__name__)
def test_a_true_matte_of_one_subject_is_not_suspected(make) -> None:
    scene = make()
    assert assess(scene.alpha, scene.image).reasons == ()
    assert assess(scene.alpha, scene.image).score > 0.5


def test_the_score_falls_as_the_edge_grows_hazy() -> None:
    blurred = [cv2.GaussianBlur(_disc(), (0, 0), sigma) for sigma in (1, 8, 30)]
    scores = [assess(alpha, _photo(alpha)).score for alpha in blurred]
    assert scores[0] > 0.9 > scores[1] > scores[2]


def test_an_empty_matte_scores_zero() -> None:
    alpha = np.zeros((300, 300), np.uint8)
    alpha[3, 3] = 255
    quality = assess(alpha, _photo(alpha))
    assert quality.score == 0
    assert quality.reasons == ("empty",)


def test_a_subject_that_runs_out_of_the_frame_is_cut_by_the_border() -> None:
    alpha = _disc(centre=(150, 270))
    quality = assess(alpha, _photo(alpha))
    assert quality.reasons == ("cut_by_border",)
    assert 0.8 < quality.score < 1


def test_glass_is_mostly_semi_transparent() -> None:
    scene = scenes.glass()
    quality = assess(scene.alpha, scene.image)
    assert quality.reasons == ("mostly_semi_transparent",)
    assert quality.score < 0.6


def test_two_equal_parts_are_fragmented_and_specks_are_not() -> None:
    two = cv2.bitwise_or(_disc(radius=50, centre=(80, 150)), _disc(radius=50, centre=(220, 150)))
    assert assess(two, _photo(two)).reasons == ("fragmented",)
    specks = _disc()
    specks[20:280:40, 20] = 255
    assert assess(specks, _photo(specks)).reasons == ()


def test_a_hole_in_the_subjects_colour_is_suspected_and_a_view_through_it_is_not() -> None:
    alpha = _disc()
    cv2.circle(alpha, (150, 150), 30, 0, -1)
    seen_through = _photo(alpha)
    assert assess(alpha, seen_through).reasons == ()
    bitten = seen_through.copy()
    cv2.circle(bitten, (150, 150), 30, (195, 195, 195), -1)
    assert assess(alpha, bitten).reasons == ("holes",)


def test_an_edge_that_cannot_be_seen_in_the_photo_has_low_contrast() -> None:
    alpha = _disc()
    assert assess(alpha, _photo(alpha, 105, 100)).reasons == ("low_edge_contrast",)
    assert assess(alpha, _photo(alpha, 160, 100)).reasons == ()


def test_bytes_floats_and_larger_copies_are_judged_alike() -> None:
    scene = scenes.glass()
    score = assess(scene.alpha, scene.image).score
    assert assess(to_uint8(scene.alpha), scene.image).score == pytest.approx(score, abs=0.01)
    large = cv2.resize(scene.image, (1900, 1900)), cv2.resize(scene.alpha, (1900, 1900))
    assert assess(large[1], large[0]).score == pytest.approx(score, abs=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (20000, 1), (1, 20000), (3, 2)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_thin_and_tiny_mattes_have_a_score(shape, value) -> None:
    quality = assess(np.full(shape, value, np.uint8), np.zeros((*shape, 3), np.uint8))
    assert 0 <= quality.score <= 1


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), seed=st.integers(0, 999))
def test_any_matte_scores_between_0_and_1_and_a_low_score_has_a_reason(height, width, seed) -> None:
    rng = np.random.default_rng(seed)
    alpha = rng.integers(0, 256, (height, width), dtype=np.uint8)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    quality = assess(alpha, image)
    assert 0 <= quality.score <= 1
    assert bool(quality.reasons) or quality.score >= 0.5
