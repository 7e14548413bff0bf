"""A photo that brings its own transparency: multiply, trust and ignore, each with a known matte."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mattehorn.errors import NoForeground
from mattehorn.pipeline import NO_MODEL
from tests.service import SUBJECT, decoded, encoded, photo
from tests.test_pipeline import INSIDE, NO_EDGES, OUTSIDE, PHOTO, Model64, cut


def rgba(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> bytes:
    return encoded(np.dstack((rgb, alpha)))


GIVEN = np.zeros((48, 64), np.uint8)
GIVEN[8:40, 8:30], GIVEN[8:40, 30:34], GIVEN[8:40, 34:40] = 255, 128, 60
GIVEN_PHOTO = rgba(photo(), GIVEN)


def test_multiply_never_makes_transparent_opaque_and_still_cuts_out() -> None:
    alpha = decoded(cut(GIVEN_PHOTO, output="alpha", **NO_EDGES).data)
    assert (alpha <= GIVEN).all()
    assert (alpha[16:32, 20:28] == 255).all()


def test_multiply_keeps_a_sheer_subject_sheer_and_ignore_does_not() -> None:
    sheer = np.full((48, 64), 255, np.uint8)
    sheer[INSIDE] = 200  # enough to be seen as subject
    multiplied = decoded(cut(rgba(photo(), sheer), output="alpha", existing_alpha="multiply", **NO_EDGES).data)
    ignored = decoded(cut(rgba(photo(), sheer), output="alpha", existing_alpha="ignore", **NO_EDGES).data)
    centre = (slice(20, 28), slice(24, 40))
    assert (multiplied[centre] == 200).all()
    assert (ignored[centre] == 255).all()
    assert not multiplied[OUTSIDE].any()
    assert not ignored[OUTSIDE].any()


def test_a_sheer_subjects_own_colour_stays() -> None:
    """Colour beside straight alpha is not mixed with anything, so nothing is to be taken out of it."""
    sheer = np.full((48, 64), 255, np.uint8)
    sheer[INSIDE] = 200
    cutout = decoded(cut(rgba(photo(), sheer), **NO_EDGES).data)
    assert (cutout[20:28, 24:40] == (*SUBJECT, 200)).all()


def test_the_model_sees_transparency_as_mid_grey() -> None:
    """Black or white, whichever hides below, would look like a part of the picture."""
    seen = []

    class Watching(Model64):
        def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            seen.append(images[0].copy())
            return super().predict(images)

    cut(GIVEN_PHOTO, model=Watching(), allow_empty=True)
    (shown,) = seen
    assert shown.shape == (64, 64, 3)
    assert (shown[2, 2] == 128).all()
    assert tuple(shown[24, 24]) == SUBJECT


def test_trust_keeps_the_given_matte_and_runs_no_model() -> None:
    model = Model64()
    result = cut(GIVEN_PHOTO, model=model, output="alpha", existing_alpha="trust", **NO_EDGES)
    assert (model.asked, result.model) == (0, NO_MODEL)
    assert np.array_equal(decoded(result.data), GIVEN)
    assert "infer" not in result.timings_ms


def test_trust_keeps_the_given_colours() -> None:
    """Colour beside straight alpha is the subject's own already: there is no fringe to take out."""
    cutout = decoded(cut(GIVEN_PHOTO, existing_alpha="trust", **NO_EDGES).data)
    shown = GIVEN > 0
    assert np.array_equal(cutout[..., :3][shown], photo()[shown])


def test_trust_keeps_to_the_region_too() -> None:
    alpha = decoded(cut(GIVEN_PHOTO, output="alpha", existing_alpha="trust", roi="0 0 64 20", **NO_EDGES).data)
    assert np.array_equal(alpha[:20], GIVEN[:20])
    assert not alpha[20:].any()


def test_trust_runs_the_model_where_nothing_is_transparent() -> None:
    model = Model64()
    result = cut(PHOTO, model=model, existing_alpha="trust")
    assert (model.asked, result.model) == (1, "fake@1")
    assert result.data == cut(PHOTO).data


def test_a_wholly_transparent_photo_holds_no_foreground() -> None:
    nothing = rgba(photo(), np.zeros((48, 64), np.uint8))
    for mode in ("multiply", "trust"):
        with pytest.raises(NoForeground):
            cut(nothing, existing_alpha=mode)
