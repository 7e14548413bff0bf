"""A subject on its canvas: exact where nothing is scaled, clean edges where it is, empty margins; the frame around."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mattehorn.alpha import bounding_box, to_uint8
from mattehorn.errors import OptionError
from mattehorn.layout import pixels as layout_pixels
from mattehorn.layout.pixels import place_alpha, place_frame, place_subject
from mattehorn.layout.plan import AxisPlacement, Placement, Span, cropped_sides, plan
from mattehorn.options import parse_options
from mattehorn.settings import Limits
from tests import scenes
from tests.test_layout_any import LAYOUTS, sent

Uint8 = NDArray[np.uint8]
LIMITS = Limits(pixels=200_000, side_px=2000)


def placement(fields: dict[str, Any], alpha: Uint8) -> Placement:
    height, width = alpha.shape
    layout = parse_options(fields).layout
    assert layout is not None
    return plan(layout, width, height, bounding_box(alpha), cropped_sides(alpha), Limits())


def rectangle(width: int, height: int, left: int, top: int, right: int, bottom: int) -> Uint8:
    alpha = np.zeros((height, width), np.uint8)
    alpha[top:bottom, left:right] = 255
    return alpha


def noise(height: int, width: int, seed: int = 0) -> Uint8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def axis(source: Span, target: Span, canvas: int, clip: Span | None = None) -> AxisPlacement:
    return AxisPlacement(canvas, source, target, clip or Span(0, canvas))


# the contract's worked example, in pixels


@pytest.mark.parametrize(("bottom", "last_row"), [(400, 899), (380, 819)])
def test_the_worked_examples_last_row(bottom: int, last_row: int) -> None:
    """A subject that is cut at the bottom stands on the margin; one that is not keeps the padding under it."""
    alpha = rectangle(500, 400, 100, bottom - 300, 300, bottom)  # higher than wide: it fills the height
    place = placement({"output_size": "1000x1000", "margin": "0.1", "padding": "0.1"}, alpha)
    levels = place_alpha(place, alpha)
    rows, cols = np.nonzero(levels >= 128)
    assert rows.max() == last_row
    assert rows.min() == 180
    assert abs(cols.min() + cols.max() - 999) <= 1, "centred, to half a pixel"
    assert levels[899].max() == (255 if last_row == 899 else 0), "a cut edge stays opaque to its last row"
    assert not levels[900:].any()


# nothing is scaled


def test_a_cropped_subject_is_the_same_pixels() -> None:
    rgb, alpha = noise(30, 40), noise(30, 40, 1)[..., 0]
    alpha[:5], alpha[-6:], alpha[:, :3], alpha[:, -8:] = 0, 0, 0, 0
    place = placement({"crop": "1", "padding": "2px", "margin_left": "3px"}, alpha)
    colour, levels = place_subject(place, rgb, alpha)
    assert colour.shape == (30 - 11 + 4, 40 - 11 + 7, 3)
    inside = np.s_[2:-2, 5:-2]
    cut = alpha[5:-6, 3:-8]
    np.testing.assert_array_equal(levels[inside], cut)
    np.testing.assert_array_equal(colour[inside], rgb[5:-6, 3:-8] * (cut > 0)[..., None])
    assert levels.sum() == cut.sum()
    assert not colour[levels == 0].any()
    np.testing.assert_array_equal(place_alpha(place, alpha), levels)


def test_the_frame_of_an_unscaled_subject_is_the_photo_mirrored_beyond_its_border() -> None:
    rgb, alpha = noise(30, 40), rectangle(40, 30, 10, 5, 20, 25)
    frame = place_frame(placement({"crop": "1", "padding": "15px", "snap_cropped_sides": "0"}, alpha), rgb)
    assert frame.shape == (50, 40, 3)
    np.testing.assert_array_equal(frame[10:40, 5:40], rgb[:, :35])
    np.testing.assert_array_equal(frame[9, 5:40], rgb[0, :35])
    np.testing.assert_array_equal(frame[40, 5:40], rgb[29, :35])
    np.testing.assert_array_equal(frame[10:40, 4], rgb[:, 0])


def test_a_frame_much_smaller_than_the_canvas_is_mirrored_again_and_again() -> None:
    one = np.full((1, 1, 3), (9, 80, 200), np.uint8)
    place = Placement(axis(Span(0, 1), Span(50, 1), 100), axis(Span(0, 1), Span(7, 1), 60))
    frame = place_frame(place, one)
    assert frame.shape == (60, 100, 3)
    assert (frame == (9, 80, 200)).all()


# scaled


@pytest.mark.parametrize("size", ["40x40", "100x100", "333x333", "1200x1200"])
def test_one_colour_stays_one_colour_at_every_scale(size: str) -> None:
    """No black of transparent pixels and no overshoot gets into the edge."""
    scene = scenes.soft_disc(200)
    colour = np.full_like(scene.image, (200, 100, 50))
    colour[scene.alpha == 0] = 0
    alpha = to_uint8(scene.alpha)
    rgb, levels = place_subject(placement({"output_size": size, "padding": "0.1"}, alpha), colour, alpha)
    assert len(np.unique(levels)) > 20
    assert np.abs(rgb[levels > 0].astype(int) - (200, 100, 50)).max() <= 1
    assert not rgb[levels == 0].any()


@pytest.mark.parametrize("size", [37, 130, 201, 571, 900])
def test_a_sharp_edge_has_no_ripple(size: int) -> None:
    alpha = rectangle(400, 400, 150, 120, 250, 280)
    levels = place_alpha(placement({"output_size": f"{size}x{size}", "reference_box": "original"}, alpha), alpha)
    steps = np.diff(levels[size // 2].astype(int))
    changes = steps[steps != 0]
    assert (np.diff(np.sign(changes)) != 0).sum() == 1, "it rises once and falls once"


def test_a_half_opaque_subject_is_never_more_than_that() -> None:
    alpha = rectangle(300, 300, 60, 90, 200, 210) // 2
    for size in ("50x50", "299x299", "900x900"):
        levels = place_alpha(placement({"output_size": size, "margin": "0.1"}, alpha), alpha)
        assert levels.max() == 127


def test_detail_is_kept_when_the_size_is_nearly_the_same() -> None:
    """Scaled by 0.9 and back: far closer to the photo than an area average's way."""
    scene = scenes.bars(400)
    opaque = np.full((400, 400), 255, np.uint8)
    small, _ = place_subject(placement({"output_size": "360x360"}, opaque), scene.image, opaque)
    back, _ = place_subject(placement({"output_size": "400x400"}, opaque[:360, :360]), small, opaque[:360, :360])
    area = cv2.resize(scene.image, (360, 360), interpolation=cv2.INTER_AREA)
    area_back = cv2.resize(area, (400, 400), interpolation=cv2.INTER_LINEAR)
    errors = [float(np.abs(found.astype(int) - scene.image).mean()) for found in (back, area_back)]
    assert errors[0] < 0.6 * errors[1]


def test_tiles_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scenes.hairs(300)
    alpha = to_uint8(scene.alpha)
    for size in ("120x120", "700x700"):
        place = placement({"output_size": size, "padding": "0.05"}, alpha)
        whole = place_subject(place, scene.image, alpha)
        monkeypatch.setattr(layout_pixels, "_TILE_PX", 37)
        monkeypatch.setattr(layout_pixels, "_SOURCE_TILE_PX", 61)
        tiled = place_subject(place, scene.image, alpha)
        monkeypatch.undo()
        assert np.abs(whole[1].astype(int) - tiled[1]).max() <= 1
        seen = whole[1] > 8
        assert np.abs(whole[0].astype(int) - tiled[0])[seen].max() <= 2


@pytest.mark.parametrize("shape", [(20, 6000), (6000, 20), (3000, 3000)])
def test_what_shrinks_very_much_keeps_its_mean(shape: tuple[int, int]) -> None:
    """The photo is averaged down first here."""
    height, width = shape
    rgb = np.tile(np.asarray([[(250, 20, 80), (50, 120, 180)]], np.uint8), (height, width // 2, 1))
    alpha = np.full(shape, 255, np.uint8)
    colour, levels = place_subject(placement({"output_size": "60x60"}, alpha), rgb, alpha)
    shown = levels > 0
    assert shown.any()
    assert (levels[shown] == 255).all()
    assert np.abs(colour[shown].mean(axis=0) - (150, 70, 130)).max() < 2


def test_fill_of_a_thin_subject_costs_what_is_seen_of_it() -> None:
    """Scaled to 50,000 x 50 px, of which 50 x 50 are on the canvas."""
    rgb, alpha = noise(20, 20_000), np.full((20, 20_000), 255, np.uint8)
    place = placement({"output_size": "50x50", "scaling": "fill"}, alpha)
    assert place.horizontal.target.length == 50_000
    colour, levels = place_subject(place, rgb, alpha)
    assert (levels == 255).all()
    middle = rgb[:, 9990:10_010].astype(float).mean(axis=(0, 1))
    assert np.abs(colour.astype(float).mean(axis=(0, 1)) - middle).max() < 12


def test_fill_is_cut_at_the_margins_and_reaches_into_the_paddings() -> None:
    alpha = rectangle(400, 200, 10, 10, 390, 190)
    levels = place_alpha(
        placement({"output_size": "200x200", "margin": "20px", "padding": "20px", "scaling": "fill"}, alpha), alpha
    )
    rows, cols = np.nonzero(levels >= 128)
    assert (cols.min(), cols.max()) == (20, 179)
    assert (rows.min(), rows.max()) == (40, 159)


# the frame


def test_the_frame_lies_where_the_subject_lies() -> None:
    scene = scenes.soft_disc(240)
    alpha = to_uint8(scene.alpha)
    for size in ("90x120", "500x300"):
        place = placement({"output_size": size, "padding": "0.2", "horizontal_alignment": "left"}, alpha)
        rgb, levels = place_subject(place, scene.image, alpha)
        solid = levels == 255
        assert solid.any()
        assert np.abs(place_frame(place, scene.image)[solid].astype(int) - rgb[solid]).max() <= 3


# anything at all


@st.composite
def subjects(draw: st.DrawFn) -> tuple[Uint8, Uint8]:
    """A small photo of noise and a matte with one blob, perhaps at the border, perhaps empty."""
    width, height, seed = draw(st.integers(1, 60)), draw(st.integers(1, 60)), draw(st.integers(0, 99))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    rng = np.random.default_rng(seed)
    alpha = np.zeros((height, width), np.uint8)
    highest = draw(st.sampled_from([0, 1, 127, 200, 255]))
    alpha[top:bottom, left:right] = rng.integers(0, highest + 1, (bottom - top, right - left), np.uint8)
    return noise(height, width, seed), alpha


@given(LAYOUTS, subjects())
@settings(max_examples=400, deadline=None)
def test_what_holds_for_any_layout_of_any_subject(fields: dict[str, Any], subject: tuple[Uint8, Uint8]) -> None:
    rgb, alpha = subject
    layout = sent(fields).layout
    if layout is None:
        return
    height, width = alpha.shape
    try:
        place = plan(layout, width, height, bounding_box(alpha), cropped_sides(alpha), LIMITS)
    except OptionError:
        return
    colour, levels = place_subject(place, rgb, alpha)
    assert colour.shape == (place.height, place.width, 3)
    assert levels.shape == (place.height, place.width)
    assert levels.max() <= alpha.max()
    assert not colour[levels == 0].any()
    outside = np.ones_like(levels)
    outside[
        place.vertical.clip.start : place.vertical.clip.end, place.horizontal.clip.start : place.horizontal.clip.end
    ] = 0
    assert not levels[outside > 0].any(), "margins are empty"
    np.testing.assert_array_equal(place_alpha(place, alpha), levels)
    assert place_frame(place, rgb).shape == colour.shape
