"""Template scenes: painted the same for ever, at any size, with a floor below the wall."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from mattehorn.composite import SceneFill, lay_over
from mattehorn.errors import OptionError
from mattehorn.options import parse_options
from mattehorn.scenes import SCENES, paint_scene
from tests.service import decoded, encoded, photo

EACH = pytest.mark.parametrize("name", SCENES)


@EACH
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (48, 64), (1500, 700)])
def test_a_scene_fills_any_canvas(name: str, height: int, width: int) -> None:
    rgb = paint_scene(name, height, width)
    assert (rgb.shape, rgb.dtype) == ((height, width, 3), np.uint8)


@EACH
def test_a_scene_is_the_same_at_every_call(name: str) -> None:
    first, again = (hashlib.sha256(paint_scene(name, 90, 120)).hexdigest() for _ in range(2))
    assert first == again


@EACH
def test_a_larger_canvas_shows_the_same_scene(name: str) -> None:
    large = cv2.resize(paint_scene(name, 1800, 2400), (400, 300), interpolation=cv2.INTER_AREA)
    assert np.abs(large.astype(int) - paint_scene(name, 300, 400)).mean() < 6  # levels: only texture differs


@EACH
def test_the_floor_differs_from_the_wall_above_it(name: str) -> None:
    rgb = paint_scene(name, 400, 400).astype(float)
    wall, floor = rgb[160:240].mean(axis=(0, 1)), rgb[340:].mean(axis=(0, 1))
    assert np.abs(wall - floor).max() > 6


def test_no_two_scenes_look_alike() -> None:
    pictures = [paint_scene(name, 60, 80).astype(int) for name in SCENES]
    for index, one in enumerate(pictures):
        assert all(np.abs(one - other).mean() > 8 for other in pictures[index + 1 :])


def test_the_subject_stands_before_the_scene() -> None:
    pixels = photo()
    alpha = np.zeros(pixels.shape[:2], np.uint8)
    alpha[12:36, 16:48] = 255
    rgb, left_over = lay_over(pixels, alpha, pixels, SceneFill("marble"))
    assert left_over is None
    assert (rgb[12:36, 16:48] == pixels[12:36, 16:48]).all()
    assert (rgb[:12] == paint_scene("marble", 48, 64)[:12]).all()


def test_a_scene_is_a_template_by_name() -> None:
    assert parse_options({"background_template": "garden"}).kind == "composite"
    with pytest.raises(OptionError, match="garden"):
        parse_options({"background_template": "gardens"})


def test_a_composite_over_a_scene_is_an_opaque_jpg() -> None:
    from mattehorn.models.fake import FakeModel
    from mattehorn.pipeline import run
    from mattehorn.settings import Limits

    result = run(FakeModel(), encoded(photo()), parse_options({"background_template": "window-light"}), Limits())
    assert (result.extension, decoded(result.data).shape) == ("jpg", (48, 64, 3))
