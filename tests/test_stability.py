"""The check of stability: a network that sees its subject in the mirror as well, and one that does not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mattehorn.models.fake import FakeModel
from mattehorn.options import Options
from mattehorn.pipeline import run
from mattehorn.quality import assess
from mattehorn.resize import fit
from mattehorn.settings import Limits
from mattehorn.stability import disagreement, mirrored
from tests.service import encoded, photo


class LeftHalf(FakeModel):
    """Sees a subject in the left half of whatever it is shown."""

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        alpha = np.zeros(images.shape[:3], np.float32)
        alpha[:, :, : images.shape[2] // 2] = 1
        return alpha


def test_the_mirrored_input_is_padded_where_the_network_is_used_to_it() -> None:
    picture = np.arange(40 * 20 * 3, dtype=np.uint8).reshape(40, 20, 3)
    fitted = fit(picture, 64, "pad")
    turned = mirrored(fitted)
    assert turned.shape == fitted.pixels.shape
    width = fitted.content_width
    assert (turned[:, :width] == fitted.pixels[:, :width][:, ::-1]).all()
    assert (turned[:, width:] == turned[:, width - 1 : width]).all()


def test_disagreement_is_zero_for_mirror_images_and_one_for_opposites() -> None:
    fitted = fit(photo(64, 64), 64, "pad")
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:, :20] = 255
    assert disagreement(fitted, alpha, alpha[:, ::-1]) == 0
    assert disagreement(fitted, alpha, 255 - alpha[:, ::-1]) == pytest.approx(1)


def test_a_model_that_follows_the_subject_is_stable_and_one_that_does_not_is_told() -> None:
    lopsided = photo()
    lopsided[12:36, 32:48] = lopsided[0, 0]  # the subject fills the left half of its place
    asked, plain = Options(check_stability=True), Options()
    stable = run(FakeModel(), encoded(lopsided), asked, Limits()).quality
    assert stable == run(FakeModel(), encoded(lopsided), plain, Limits()).quality
    before = run(LeftHalf(), encoded(lopsided), plain, Limits()).quality
    after = run(LeftHalf(), encoded(lopsided), asked, Limits()).quality
    assert after.score < before.score
    assert after.reasons == (*before.reasons, "unstable")


@pytest.mark.parametrize(("differs", "lost"), [(None, 0), (0.0, 0), (0.015, 0), (0.0575, 0.3), (0.1, 0.6), (1.0, 0.6)])
def test_the_score_falls_between_two_bounds(differs: float | None, lost: float) -> None:
    alpha = np.zeros((64, 64), np.uint8)
    alpha[16:48, 16:48] = 255
    image = np.repeat(alpha[..., None], 3, axis=2)
    before, after = assess(alpha, image), assess(alpha, image, differs)
    assert after.score == pytest.approx(before.score * (1 - lost), abs=0.001)
    assert ("unstable" in after.reasons) is bool(lost)
