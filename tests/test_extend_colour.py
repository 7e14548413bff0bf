"""The subject's colour continued outward: from the nearest pixel of it, 16 px at least, at every size and on photos."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mattehorn.foreground import extend_colour
from mattehorn.rendition import BLEED_PX, render
from tests.scenes import blend
from tests.service import SUBJECT, decoded

PHOTOS = sorted((Path(__file__).parent / "photos").glob("*.jpg"))
Uint8 = NDArray[np.uint8]


def _blobs(height: int, width: int, seed: int) -> Uint8:
    """Alpha of round islands, soft and hard, some of a few pixels, some cut by the border or by a tile's."""
    rng = np.random.default_rng(seed)
    alpha = np.zeros((height, width), np.uint8)
    for _ in range(12):
        at, radius = (int(rng.integers(0, width)), int(rng.integers(0, height))), int(rng.integers(0, height // 8))
        cv2.circle(alpha, at, radius, int(rng.integers(1, 256)), -1)
    return alpha


def _ellipse(height: int, width: int) -> Uint8:
    rows, cols = np.ogrid[:height, :width]
    radius = np.hypot((rows / height - 0.5) / 0.3, (cols / width - 0.5) / 0.4)
    return np.asarray(np.clip((1 - radius) / 0.06 + 0.5, 0, 1) * 255, np.uint8)


def _places(height: int, width: int) -> Uint8:
    """A picture whose colours are places: the row in red and green, the column in green and blue."""
    rows, cols = np.mgrid[:height, :width]
    return np.stack((rows & 255, (rows >> 8 << 4) | (cols >> 8), cols & 255), axis=-1).astype(np.uint8)


def _hidden_within(alpha: Uint8, reach_px: int) -> NDArray[np.bool_]:
    """The hidden pixels with a shown one in the square of that reach."""
    side = 2 * reach_px + 1
    shown = np.asarray(cv2.inRange(alpha, 1, 255), np.uint8)
    return (cv2.dilate(shown, np.ones((side, side), np.uint8)) > 0) & (alpha == 0)


@pytest.mark.parametrize(("height", "width"), [(90, 120), (600, 700), (1500, 2000)], ids=["90", "600", "1500"])
@pytest.mark.parametrize("seed", [0, 1], ids=["blobs-0", "blobs-1"])
def test_a_hidden_pixel_takes_its_colour_from_the_nearest_that_is_shown(height: int, width: int, seed: int) -> None:
    alpha = _blobs(height, width, seed)
    extended = extend_colour(_places(height, width), alpha, BLEED_PX).astype(int)
    rows, cols = np.nonzero(_hidden_within(alpha, BLEED_PX))
    assert rows.size
    red, green, blue = extended[rows, cols].T
    from_row, from_col = red | green >> 4 << 8, blue | (green & 15) << 8
    assert (alpha[from_row, from_col] > 0).all()
    nearest = cv2.distanceTransform(cv2.inRange(alpha, 0, 0), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[rows, cols]
    taken = np.hypot(from_row - rows, from_col - cols)
    assert (taken < 1.05 * nearest + 0.01)[nearest <= BLEED_PX].all()  # OpenCV's 5x5 distance errs by 2 %
    assert (taken <= np.hypot(BLEED_PX, BLEED_PX) + 0.01).all()


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_no_seam_runs_along_the_edge_of_a_photos_subject(path: Path) -> None:
    """A pixel just outside has the very colour of one beside it that is inside, and nothing inside changes."""
    photo = decoded(path.read_bytes())
    alpha = _ellipse(*photo.shape[:2])
    extended = extend_colour(photo, alpha, BLEED_PX)
    np.testing.assert_array_equal(extended[alpha > 0], photo[alpha > 0])
    like_a_neighbour = np.zeros(alpha.shape, np.bool_)
    beside = np.zeros(alpha.shape, np.bool_)
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        shown = np.roll(alpha, step, axis) > 0
        beside |= shown
        like_a_neighbour |= shown & (np.roll(extended, step, axis) == extended).all(axis=2)
    edge = beside & (alpha == 0)
    assert edge.sum() > 500
    assert like_a_neighbour[edge].all()


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_composited_again_the_pair_shows_a_photos_subject_over_a_glaring_background(path: Path) -> None:
    """The JPEG of the pair may differ from the subject's own colour at its edge by no more than it does inside."""
    photo = decoded(path.read_bytes())
    alpha = _ellipse(*photo.shape[:2])
    glaring = np.broadcast_to(np.array((0, 255, 0), np.uint8), photo.shape)
    shown = np.where(alpha[..., None] > 0, photo, glaring)
    again = decoded(_members(render("zip", shown, alpha, 90, None)[0])["color.jpg"])
    error = np.abs(again.astype(int) - photo).max(axis=2)
    rim = (alpha > 0) & (cv2.erode(alpha, np.ones((9, 9), np.uint8)) == 0)
    inside = alpha == 255
    assert error[rim].mean() <= 1.5 * error[inside].mean() + 1
    bled = np.abs(decoded(_jpeg(shown)).astype(int) - photo).max(axis=2)
    assert bled[rim].mean() > 2 * error[rim].mean()  # as it is where nothing continues the colour


def test_a_flat_subject_has_no_other_colour_within_16_px_of_it_in_the_jpeg() -> None:
    alpha = _ellipse(300, 400)
    flat, blue = np.full((300, 400, 3), SUBJECT, np.uint8), np.full((300, 400, 3), (0, 0, 255), np.uint8)
    photo = blend(flat, blue, np.asarray(alpha > 0, np.float32))
    colour = decoded(_members(render("zip", photo, alpha, 90, None)[0])["color.jpg"])
    near = _hidden_within(alpha, BLEED_PX) | (alpha > 0)
    assert np.abs(colour.astype(int) - SUBJECT).max(axis=2)[near].max() <= 2


def test_what_lies_far_off_has_the_subjects_mean_colour() -> None:
    alpha = np.zeros((600, 700), np.uint8)
    alpha[500:520, 500:530] = 200
    photo = np.full((600, 700, 3), 9, np.uint8)
    photo[500:520, 500:515], photo[500:520, 515:530] = SUBJECT, (1, 2, 3)
    extended = extend_colour(photo, alpha, BLEED_PX)
    assert tuple(extended[510, 490]) == SUBJECT
    assert tuple(extended[510, 545]) == (1, 2, 3)
    mean = tuple(round((one + other) / 2) for one, other in zip(SUBJECT, (1, 2, 3), strict=True))
    assert tuple(extended[0, 0]) == tuple(extended[510, 600]) == mean


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 3000), (3000, 1), (8, 8)], ids=["1x1", "1x3000", "3000x1", "8x8"]
)
def test_colour_of_an_empty_and_of_a_full_matte(height: int, width: int) -> None:
    colour = np.full((height, width, 3), 7, np.uint8)
    assert extend_colour(colour, np.zeros((height, width), np.uint8), BLEED_PX).shape == colour.shape
    assert np.array_equal(extend_colour(colour, np.full((height, width), 9, np.uint8), BLEED_PX), colour)


def _members(pair: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(pair)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _jpeg(photo: Uint8) -> bytes:
    target = io.BytesIO()
    Image.fromarray(photo).save(target, "JPEG", quality=95, subsampling=0)
    return target.getvalue()
