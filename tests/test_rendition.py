"""What goes beyond the options: the size limit, regions, enclosed glass, islands, forms."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mattehorn.alpha import bounding_box, fill_enclosed, subject_box
from mattehorn.errors import OptionError
from mattehorn.image.decode import Decoded, SourceInfo
from mattehorn.layout.plan import END, START, AxisRule, Layout, plan
from mattehorn.models.fake import FakeModel
from mattehorn.options import Options
from mattehorn.pipeline import run
from mattehorn.rendition import (
    Rendition,
    check_region,
    render,
    scaled_box,
    scaled_region,
    shrunk,
    size_within,
)
from mattehorn.settings import Limits
from tests.service import decoded, encoded, photo

UNCROPPED = ((False, False), (False, False))
SIDES = st.integers(1, 20_000)


# size


@given(width=SIDES, height=SIDES, most=st.integers(1, 50_000_000))
def test_a_size_holds_its_limit_and_keeps_the_ratio(width: int, height: int, most: int) -> None:
    small, low = size_within(width, height, most)
    assert 1 <= small <= width
    assert 1 <= low <= height
    assert small * low <= max(most, 1)
    if width * height <= most:
        assert (small, low) == (width, height)
    elif min(small, low) > 50:
        assert small / low == pytest.approx(width / height, rel=0.03)


def test_known_sizes() -> None:
    assert size_within(4000, 3000, 250_000) == (577, 433)
    assert size_within(500, 333, 250_000) == (500, 333)
    assert size_within(20_000, 1, 250) == (250, 1)
    assert size_within(3000, 4000, None) == (3000, 4000)


def test_shrinking_averages_and_lets_no_hidden_colour_through() -> None:
    rgb = np.zeros((40, 40, 3), np.uint8)
    rgb[:, :20] = (250, 0, 0)
    rgb[:, 20:] = (0, 250, 0)
    alpha = np.zeros((40, 40), np.uint8)
    alpha[:, :19] = 255  # the boundary falls into a pixel of the result
    info = SourceInfo(40, 40, "png", "0", ())
    small = shrunk(Decoded(rgb, alpha, info), 100)
    assert small.rgb.shape == (10, 10, 3)
    assert small.info is info
    assert small.alpha is not None
    shown = small.rgb[small.alpha > 0]
    assert (shown[:, 1] <= 1).all()
    assert (shown[:, 0] >= 249).all()
    plain = shrunk(Decoded(rgb, None, info), 100)
    assert tuple(plain.rgb[5, 2]) == (250, 0, 0)
    untouched = Decoded(rgb, None, info)
    assert shrunk(untouched, 1600) is untouched


@given(
    box=st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 20), st.integers(1, 20)),
    large=st.tuples(SIDES, SIDES),
)
def test_a_box_scaled_to_the_source_lies_within_it_and_holds_all(
    box: tuple[int, int, int, int], large: tuple[int, int]
) -> None:
    shape = (30, 30)
    rows, cols = max(30, large[0]), max(30, large[1])
    scaled = scaled_box(box, shape, (rows, cols))
    assert scaled is not None
    top, left, height, width = scaled
    assert 0 <= top <= box[0] * rows / 30
    assert rows >= top + height >= (box[0] + box[2]) * rows / 30
    assert 0 <= left <= box[1] * cols / 30
    assert cols >= left + width >= (box[1] + box[3]) * cols / 30
    assert scaled_box(box, shape, shape) == box
    assert scaled_box(None, shape, (rows, cols)) is None


def test_a_region_keeps_a_pixel_when_it_is_shrunk() -> None:
    assert scaled_region((999, 0, 1000, 1000), (1000, 1000, 3), (10, 10, 3)) == (9, 0, 10, 10)
    assert scaled_region((100, 200, 500, 1000), (1000, 1000, 3), (10, 10, 3)) == (1, 2, 5, 10)
    assert scaled_region(None, (9, 9), (3, 3)) is None


def test_a_region_may_touch_the_border_but_not_leave_the_photo() -> None:
    check_region(Options(roi="0 0 64 48"), 64, 48)
    check_region(Options(), 64, 48)
    for roi, problem in (("0 0 65 48", "outside"), ("0 0 10% 48.1px", "outside"), ("5 5 5 9", "empty")):
        with pytest.raises(OptionError) as error:
            check_region(Options(roi=roi), 64, 48)
        assert (error.value.data["problem"], error.value.data["field"]) == (problem, "roi")


def test_the_network_sees_the_photo_at_its_own_size_whatever_the_limit() -> None:
    options = Options(alpha_threshold=0, output="alpha", format="png")
    model, data = FakeModel(), encoded(photo(400, 300))
    full = decoded(run(model, data, options, Limits()).data)
    small = run(model, data, options, Limits(), rendition=Rendition(most_pixels=7500))
    assert (small.width, small.height) == (100, 75)
    assert (small.source.width, small.source.height) == (400, 300)
    reduced = full.reshape(75, 4, 100, 4).mean(axis=(1, 3))
    assert np.abs(decoded(small.data) - reduced).mean() < 3


# the matte


def test_enclosed_glass_becomes_opaque_and_the_soft_outer_edge_stays() -> None:
    alpha = np.zeros((60, 60), np.float32)
    alpha[8:52, 8:52] = 0.4  # a soft rim, open to the outside
    alpha[12:48, 12:48] = 1
    alpha[20:30, 20:30] = 0.35  # a window
    alpha[35:45, 20:30] = 0.3  # a ring's inside: half of it is a hole
    alpha[38:42, 23:27] = 0
    filled = fill_enclosed(alpha)
    assert (filled[20:30, 20:30] == 1).all()
    assert np.array_equal(filled[31:], alpha[31:])
    assert filled[9, 9] == np.float32(0.4)
    assert alpha[25, 25] == np.float32(0.35)


def test_a_matte_without_glass_is_unchanged() -> None:
    for alpha in (np.zeros((9, 9), np.float32), np.ones((9, 9), np.float32), np.eye(9, dtype=np.float32)):
        assert np.array_equal(fill_enclosed(alpha), alpha)


def test_faint_islands_do_not_count_as_the_subject() -> None:
    alpha = np.zeros((40, 60), np.uint8)
    alpha[10:20, 10:30] = 255
    alpha[20:24, 15:20] = 40  # faint, but of the subject
    alpha[2:5, 50:55] = 100  # an island
    alpha[39, 59] = 9  # haze
    assert subject_box(alpha, 10) == (10, 10, 14, 20)
    assert bounding_box(alpha) == (2, 10, 38, 50)
    alpha[35:38, 2:5] = 128  # solid: a second subject
    assert subject_box(alpha, 10) == (10, 2, 28, 28)


def test_islands_count_wherever_a_tall_photo_has_them() -> None:
    alpha = np.zeros((3000, 300), np.uint8)
    alpha[4:8, 100:110] = 100
    alpha[1200:1300, 20:40] = 200
    alpha[2990:, 250:] = 128
    assert subject_box(alpha, 10) == (1200, 20, 1800, 280)
    alpha[1500:] = 0
    assert subject_box(alpha, 10) == (1200, 20, 100, 20)


def test_a_subject_that_is_nowhere_solid_counts_as_a_whole() -> None:
    alpha = np.zeros((9, 9), np.uint8)
    alpha[2:4, 3:8] = 60
    assert subject_box(alpha, 10) == (2, 3, 2, 5)
    assert subject_box(alpha, 60) is None


# forms


def test_auto_is_jpg_only_where_all_is_opaque() -> None:
    rgb, alpha = np.full((9, 9, 3), 80, np.uint8), np.full((9, 9), 255, np.uint8)
    assert render("auto", rgb, None, 90, None)[1] == "jpg"
    assert render("auto", rgb, alpha, 90, None)[1] == "jpg"
    alpha[0, 0] = 254
    assert render("auto", rgb, alpha, 90, None)[1] == "png"


def test_a_pair_has_its_dots_per_inch_and_an_opaque_alpha_where_nothing_is_given() -> None:
    data, extension = render("zip", np.full((9, 9, 3), 80, np.uint8), None, 90, 300)
    assert extension == "zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["color.jpg", "alpha.png"]
        assert decoded(archive.read("alpha.png")).min() == 255
        with Image.open(io.BytesIO(archive.read("color.jpg"))) as image:
            assert image.info["dpi"] == (300, 300)


# placement


def test_a_subject_that_keeps_its_size_is_moved_without_filtering() -> None:
    layout = Layout(AxisRule(anchor=END), AxisRule(anchor=START), scaling="keep", snap=False)
    placed = plan(layout, 100, 80, (10, 20, 30, 40), UNCROPPED, Limits())
    assert placed.unscaled
    assert (placed.width, placed.height) == (100, 80)
    assert (placed.horizontal.target.start, placed.vertical.target.start) == (60, 0)
