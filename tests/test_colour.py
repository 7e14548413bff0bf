"""Colours and gradients as text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageColor

from mattehorn.colour import (
    BACKGROUND_TEMPLATES,
    colour_text,
    gradient_text,
    paint_gradient,
    parse_colour,
    parse_gradient,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#fff", (255, 255, 255, 255)),
        ("fff", (255, 255, 255, 255)),
        ("#1234", (0x11, 0x22, 0x33, 0x44)),
        ("1a2B3c", (0x1A, 0x2B, 0x3C, 255)),
        ("#1a2b3c80", (0x1A, 0x2B, 0x3C, 0x80)),
        ("white", (255, 255, 255, 255)),
        (" RebeccaPurple ", (0x66, 0x33, 0x99, 255)),
        ("transparent", (0, 0, 0, 0)),
    ],
)
def test_colours_of_the_contract_are_read(text, expected) -> None:
    assert parse_colour(text) == expected


@pytest.mark.parametrize("text", ["", "#", "ff", "#fffff", "#ggg", "whitish", "rgb(1,2,3)", "#fff #000", "##fff"])
def test_other_colours_are_refused_with_what_is_allowed(text) -> None:
    with pytest.raises(ValueError, match="allowed hex of 3, 4, 6 or 8 digits"):
        parse_colour(text)


@given(st.text(max_size=40))
def test_any_text_is_a_colour_or_a_value_error(text: str) -> None:
    try:
        colour = parse_colour(text)
    except ValueError:
        return
    assert all(0 <= part <= 255 for part in colour)


_WORDS = st.sampled_from(
    ["90deg", "-12.5deg", "radial", "#fff", "red", "blue,", "10%", "50%", "50%,", "101%", "x", "%"]
)


@given(st.lists(_WORDS, max_size=12).map(" ".join))
def test_any_words_are_a_gradient_in_order_or_a_value_error(text: str) -> None:
    try:
        places = [stop.position for stop in parse_gradient(text).stops]
    except ValueError:
        return
    assert 2 <= len(places) <= 8
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 1


def test_stops_without_positions_are_spread_between_their_neighbours() -> None:
    gradient = parse_gradient("45deg #fff, red, 60% blue #000")
    assert gradient.angle_deg == 45
    assert [stop.position for stop in gradient.stops] == pytest.approx([0, 0.6, 0.8, 1])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90deg #fff",
        "radial",
        "#fff #000",
        "90 #fff #000",
        "90deg 10% #fff #000",
        "90deg #fff 10% 20% #000",
        "90deg #fff 101% #000",
        "90deg #fff 60% #000 40%",
        "radial " + "#fff " * 9,
        "90deg white blanc",
    ],
)
def test_other_gradients_are_refused_with_an_example(text) -> None:
    with pytest.raises(ValueError, match="for example '90deg #fff 0% #ccc 100%'"):
        parse_gradient(text)


def test_ninety_degrees_run_to_the_right_and_zero_upward() -> None:
    right, _ = paint_gradient(parse_gradient("90deg black white"), 5, 256)
    np.testing.assert_allclose(right[2, :, 0], np.arange(256), atol=1)
    up, _ = paint_gradient(parse_gradient("0deg black white"), 256, 5)
    np.testing.assert_allclose(up[:, 2, 0], np.arange(255, -1, -1), atol=1)


def test_a_diagonal_reaches_its_ends_in_the_corners() -> None:
    rgb, alpha = paint_gradient(parse_gradient("135deg black white"), 40, 90)
    assert alpha is None
    assert rgb[0, 0, 0] == 0
    assert rgb[-1, -1, 0] == 255
    assert abs(int(rgb[20, 45, 0]) - 128) <= 2


def test_a_radial_gradient_runs_from_the_centre_to_the_corners() -> None:
    rgb, _ = paint_gradient(parse_gradient("radial white black"), 41, 61)
    assert rgb[20, 30, 0] == 255
    assert {int(rgb[y, x, 0]) for y in (0, -1) for x in (0, -1)} == {0}


def test_a_fade_to_transparent_keeps_its_colour() -> None:
    rgb, alpha = paint_gradient(parse_gradient("90deg red transparent"), 1, 101)
    assert alpha is not None
    assert abs(int(alpha[0, 50]) - 128) <= 1
    assert rgb[0, 50].tolist() == [255, 0, 0]


@pytest.mark.parametrize("shape", [(1, 1), (20000, 1), (1, 20000)])
@pytest.mark.parametrize("text", ["30deg #fff #0008", "radial #fff #0008"])
def test_thin_and_tiny_frames_are_painted(shape, text) -> None:
    rgb, alpha = paint_gradient(parse_gradient(text), *shape)
    assert rgb.shape == (*shape, 3)
    assert alpha is not None
    assert alpha.shape == shape


@pytest.mark.parametrize("name", BACKGROUND_TEMPLATES)
def test_every_template_is_an_opaque_gradient(name) -> None:
    gradient = parse_gradient(BACKGROUND_TEMPLATES[name])
    assert all(stop.colour[3] == 255 for stop in gradient.stops)


def test_a_name_that_pillow_has_looked_up_before_is_still_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ImageColor.colormap, "rebeccapurple", "#663399")  # put back as it was, whatever Pillow does
    ImageColor.getrgb("rebeccapurple")
    assert isinstance(ImageColor.colormap["rebeccapurple"], tuple)
    assert parse_colour("rebeccapurple") == (0x66, 0x33, 0x99, 255)


@pytest.mark.parametrize(
    ("texts", "one"),
    [
        (("#FFF", "white", "ffffff", "#ffffffff"), "#ffffff"),
        (("transparent", "0000", "#00000000"), "#00000000"),
        (("#1234",), "#11223344"),
    ],
    ids=["opaque", "clear", "half"],
)
def test_a_colour_has_one_spelling(texts: tuple[str, ...], one: str) -> None:
    assert {colour_text(parse_colour(text)) for text in texts} == {one}


@pytest.mark.parametrize(
    ("texts", "one"),
    [
        (("90deg #fff #000", "90.0deg, WHITE 0%, black 100.00%", "-270deg fff 000"), "90deg #ffffff #000000"),
        (("radial red 10% blue",), "radial #ff0000 10% #0000ff"),
        (
            ("0deg red lime 50% blue", "360deg red lime blue", "0deg red 0% lime blue"),
            "0deg #ff0000 #00ff00 #0000ff",
        ),
        (("0deg red lime 25% blue white",), "0deg #ff0000 #00ff00 25% #0000ff #ffffff"),
        (("0deg red lime 25.5% 0000 25.50% white",), "0deg #ff0000 #00ff00 25.5% #00000000 25.5% #ffffff"),
    ],
    ids=["two", "late", "even", "uneven", "hard"],
)
def test_a_gradient_has_one_spelling(texts: tuple[str, ...], one: str) -> None:
    assert {gradient_text(parse_gradient(text)) for text in texts} == {one}


@given(
    st.integers(0, 359),
    st.lists(st.tuples(st.sampled_from(["red", "#0008"]), st.integers(0, 100) | st.none()), min_size=2, max_size=8),
)
def test_a_gradients_spelling_means_the_same_and_is_its_own(angle: int, stops: list[tuple[str, int | None]]) -> None:
    places = iter(sorted(place for _, place in stops if place is not None))
    words = [colour if place is None else f"{colour} {next(places)}%" for colour, place in stops]
    gradient = parse_gradient(f"{angle}deg {' '.join(words)}")
    again = parse_gradient(gradient_text(gradient))
    assert [stop.position for stop in again.stops] == pytest.approx([stop.position for stop in gradient.stops])
    assert [stop.colour for stop in again.stops] == [stop.colour for stop in gradient.stops]
    assert gradient_text(again) == gradient_text(gradient)
