"""Layout through the main path: every output on its canvas, backgrounds over all of it, dpi; nothing where unasked."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mattehorn.cli.main import main
from mattehorn.errors import OptionError
from mattehorn.options import Options
from mattehorn.pipeline import Result, cut_out, prepare, run
from mattehorn.settings import Limits
from tests.api_client import Client
from tests.service import BACKGROUND, CARD_64, SUBJECT, decoded, encoded, photo
from tests.test_pipeline import EMPTY, PHOTO, Model64, cut

Uint8 = NDArray[np.uint8]
CANVAS = {"output_size": "120x100", "margin": "10px", "padding": "0.1"}
CLIP = np.s_[10:90, 10:110]


def cut_shape(alpha: Uint8, **options: Any) -> Result:
    """A red subject of this very matte."""
    rgb = np.full((*alpha.shape, 3), SUBJECT, np.uint8)
    return cut(encoded(np.dstack((rgb, alpha))), existing_alpha="trust", alpha_threshold=0, **options)


def blob(width: int = 64, height: int = 48, left: int = 16, top: int = 12, right: int = 48, bottom: int = 36) -> Uint8:
    alpha = np.zeros((height, width), np.uint8)
    alpha[top:bottom, left:right] = 255
    return alpha


# every output


@pytest.mark.parametrize(
    "options",
    [
        {"output": "cutout"},
        {"output": "cutout", "format": "webp"},
        {"output": "alpha"},
        {"output": "alpha", "format": "jpg"},
        {"output": "composite"},
        {"output": "composite", "format": "avif", "shadow": "drop"},
        {"background_blur_px": "3"},
        {"background_template": "mint", "shadow": "contact"},
    ],
    ids=str,
)
def test_every_output_has_the_canvas_size_and_says_so(options: dict[str, Any]) -> None:
    result = cut(**options, **CANVAS)
    assert (result.width, result.height) == (120, 100)
    with Image.open(io.BytesIO(result.data)) as image:
        assert image.size == (120, 100)


def test_the_foreground_box_and_the_source_stay_in_source_pixels() -> None:
    plain, laid = cut(), cut(**CANVAS)
    assert laid.foreground_box == plain.foreground_box
    assert (laid.source.width, laid.source.height) == (64, 48)
    assert laid.quality == plain.quality


def test_a_laid_out_cutout_is_the_subject_within_its_margins() -> None:
    cutout = decoded(cut_shape(blob(), **CANVAS).data)
    outside = np.ones(cutout.shape[:2], bool)
    outside[CLIP] = False
    assert not cutout[outside].any()
    rows, cols = np.nonzero(cutout[..., 3] >= 128)
    assert (cols.min(), cols.max()) == (20, 99)  # 100 within margins, 80 within paddings, for 32 x 24
    assert (rows.min(), rows.max()) == (20, 79)
    assert (cutout[cutout[..., 3] > 0][:, :3] == SUBJECT).all()
    assert not cutout[cutout[..., 3] == 0].any()


def test_alpha_is_the_cutouts_own_and_so_is_the_one_beside_any_output() -> None:
    alpha = decoded(cut(**CANVAS).data)[..., 3]
    assert np.array_equal(decoded(cut(output="alpha", **CANVAS).data), alpha)
    for output in ("cutout", "alpha", "composite", "zip"):
        beside = cut(output=output, include="alpha", **CANVAS).alpha_png
        assert beside is not None
        assert np.array_equal(decoded(beside), alpha)


def test_a_zip_is_laid_out_and_its_colour_goes_on_beyond_the_edge() -> None:
    result = cut(output="zip", **CANVAS)
    with zipfile.ZipFile(io.BytesIO(result.data)) as archive:
        colour, alpha = decoded(archive.read("color.jpg")), decoded(archive.read("alpha.png"))
        meta = json.loads(archive.read("meta.json"))
    assert (meta["width"], meta["height"]) == (120, 100)
    assert meta["options"]["margin"] == "10px"
    assert np.array_equal(alpha, decoded(cut(output="alpha", **CANVAS).data))
    assert colour.shape == (100, 120, 3)
    edge = (alpha > 0) & (alpha < 255)
    assert edge.any()
    assert np.abs(colour[edge].astype(int) - SUBJECT).max() < 40, "black would be 200 away"
    assert colour.min() > 20


@pytest.mark.parametrize("name", ["margin", "scaling", "output_size", "crop", "snap_cropped_sides"])
@pytest.mark.parametrize("output", ["cutout", "alpha", "composite", "zip"])
def test_without_a_layout_option_the_bytes_are_the_same(output: str, name: str) -> None:
    assert cut(output=output, **{name: ""}).data == cut(output=output).data


def test_the_original_frame_on_the_original_canvas_changes_no_pixel() -> None:
    laid = decoded(cut(reference_box="original").data)
    assert np.array_equal(laid, decoded(cut().data))


def test_a_cropped_subject_is_the_very_pixels_of_the_cutout() -> None:
    whole, cropped = cut(), cut(crop=True)
    assert whole.foreground_box is not None
    top, left, height, width = whole.foreground_box
    assert np.array_equal(decoded(cropped.data), decoded(whole.data)[top : top + height, left : left + width])


def test_snapping_goes_by_the_matte_that_the_caller_gets() -> None:
    """Eroding takes the subject off no border; a region does."""
    at_bottom = blob(bottom=48)
    stands = decoded(cut_shape(at_bottom, output="alpha", erode_px=2, **CANVAS).data)
    assert stands[89].max() == 255
    lifted = decoded(cut_shape(at_bottom, output="alpha", roi="0 0 64 44", **CANVAS).data)
    assert lifted[80].max() == 255
    assert not lifted[82:].any(), "18 of margin and padding are below it"


# what lies behind


@pytest.mark.parametrize(
    "options",
    [
        {"background_color": "#0000ff"},
        {"background_gradient": "90deg blue blue"},
    ],
    ids=str,
)
def test_a_background_covers_the_canvas_margins_and_all(options: dict[str, Any]) -> None:
    composite = decoded(cut_shape(blob(), format="png", **options, **CANVAS).data)
    outside = np.ones(composite.shape[:2], bool)
    outside[CLIP] = False
    assert (composite[outside] == (0, 0, 255)).all()
    assert (composite[30:70, 30:90] == SUBJECT).all()


def test_a_background_picture_fills_the_canvas_or_fits_into_it() -> None:
    blue = encoded(np.full((10, 10, 3), (0, 0, 255), np.uint8))
    filled = decoded(cut(background=blue, format="png", **CANVAS).data)
    assert filled.shape == (100, 120, 3)
    assert all(tuple(filled[at]) == (0, 0, 255) for at in ((0, 0), (99, 119)))
    fitted = decoded(cut(background=blue, background_scaling="fit", **CANVAS).data)
    assert (fitted[50, 5, 3], fitted[5, 60, 3]) == (0, 255)


@pytest.mark.parametrize("size", ["200x60", "60x200", "64x48", "20x20"])
@pytest.mark.parametrize("options", [{}, {"reference_box": "original", "padding": "0.3"}, {"scaling": "fill"}], ids=str)
def test_a_blurred_background_covers_the_canvas_without_the_subject(size: str, options: dict[str, Any]) -> None:
    """Beyond the photo's border it is mirrored; nothing of the subject shows, nothing is black."""
    result = cut(background_blur_px="3", output_size=size, margin="0.1", format="png", **options)
    alpha = decoded(cut(output="alpha", output_size=size, margin="0.1", **options).data)
    composite = decoded(result.data).astype(int)
    assert np.abs(composite[alpha == 0] - BACKGROUND).max() <= 8


def test_a_blurs_sigma_is_in_pixels_of_the_result() -> None:
    """A step in the background is equally soft however much the photo is enlarged."""
    pixels = photo()
    pixels[:6, 32:] = 255
    soft = []
    for size in ("256x192", "512x384"):
        result = cut(
            encoded(pixels),
            background_blur_px="8",
            output_size=size,
            reference_box="original",
            format="png",
            roi="0 9 64 48",
        )
        row = decoded(result.data)[4, :, 0].astype(int)
        soft.append(int(((row > 60) & (row < 235)).sum()))
    assert soft[0] > 10
    assert abs(soft[0] - soft[1]) <= 4


def test_a_shadow_falls_on_the_canvas_and_may_reach_into_the_margin() -> None:
    options = {"output": "composite", "format": "png", "scaling": "fill", "output_size": "100x100", "margin": "20px"}
    plain = decoded(cut_shape(blob(), **options).data).astype(int)
    shadowed = decoded(
        cut_shape(blob(), shadow="drop", shadow_blur_px="0", shadow_offset="0 15", **options).data
    ).astype(int)
    assert (plain[80:] == 255).all()
    assert (shadowed[82:94, 40:60] == 153).all()
    assert np.array_equal(shadowed[21:79, 21:79], plain[21:79, 21:79])


# nothing there, odd sizes, limits


@pytest.mark.parametrize("output", ["cutout", "alpha", "composite", "zip"])
@pytest.mark.parametrize("fields", [{"output_size": "30x20"}, {"crop": True}, {"max_width": 16}], ids=str)
def test_an_allowed_empty_matte_is_laid_out_by_its_frame(output: str, fields: dict[str, Any]) -> None:
    result = cut(EMPTY, output=output, allow_empty=True, **fields)
    assert result.foreground_box is None
    assert (result.width, result.height) == {"30x20": (30, 20)}.get(
        fields.get("output_size", ""), (16, 12) if "max_width" in fields else (64, 48)
    )


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (20_000, 1), (1, 20_000)])
@pytest.mark.parametrize("fields", [{"output_size": "90x70"}, {"crop": True}, {"scaling": "fill"}], ids=str)
@pytest.mark.parametrize("options", [{}, {"background_blur_px": 200}, {"output": "zip"}], ids=str)
def test_the_smallest_and_the_longest_photos_are_laid_out(
    size: tuple[int, int], fields: dict[str, Any], options: dict[str, Any]
) -> None:
    pixels = np.full((size[1], size[0], 3), SUBJECT, np.uint8)
    result = cut(encoded(pixels), allow_empty=True, **options, **fields)
    assert (result.width, result.height) == ((90, 70) if "output_size" in fields else size)


def test_a_padding_that_takes_a_long_photo_over_the_limit_is_refused() -> None:
    pixels = np.full((1, 20_000, 3), SUBJECT, np.uint8)
    with pytest.raises(OptionError, match="20006x7"):
        cut(encoded(pixels), allow_empty=True, crop=True, padding="3px")


def test_a_canvas_above_the_limits_is_refused_before_anything_is_decoded() -> None:
    with pytest.raises(OptionError, match="20001x1") as caught:
        prepare(b"not even a picture", Options(output_size="20001x1"), CARD_64, Limits())
    assert caught.value.data["field"] == "output_size"
    with pytest.raises(OptionError, match="320x240 pixels; allowed are sides up to 400 and 3072 pixels"):
        run(Model64(), PHOTO, Options(crop=True, padding="0.45"), Limits(pixels=64 * 48, side_px=400), None)


def test_the_python_door_takes_layout() -> None:
    result = cut_out(PHOTO, model="fake", output_size="50x50", padding=0.1)
    assert decoded(result.data).shape == (50, 50, 4)


# dots per inch


@pytest.mark.parametrize(
    ("options", "format"),
    [
        ({}, "PNG"),
        ({"output": "alpha"}, "PNG"),
        ({"output": "alpha", "format": "jpg"}, "JPEG"),
        ({"background_color": "white"}, "JPEG"),
        ({"background_color": "#fff8"}, "PNG"),
    ],
    ids=str,
)
def test_dpi_is_the_photos_own_unless_another_is_asked_for(options: dict[str, Any], format: str) -> None:
    stating = encoded(photo(), "PNG", dpi=(300, 300))
    for sent, expected in (({}, 300), ({"dpi": 96}, 96)):
        result = cut(stating, include="alpha", **sent, **options)
        for data in (result.data, result.alpha_png):
            assert data is not None
            with Image.open(io.BytesIO(data)) as image:
                assert image.format == (format if data is result.data else "PNG")
                assert image.info["dpi"] == pytest.approx((expected, expected), abs=0.02)
    with Image.open(io.BytesIO(cut(**options).data)) as image:
        assert "dpi" not in image.info or image.info.get("jfif_unit") == 0, "a photo that states none leads to none"
    assert cut(dpi=96, **options).warnings == ()


def test_dpi_changes_no_pixel_and_no_size() -> None:
    plain, stated = cut(), cut(dpi=600)
    assert np.array_equal(decoded(plain.data), decoded(stated.data))


def test_a_zips_pictures_state_dpi() -> None:
    with zipfile.ZipFile(io.BytesIO(cut(output="zip", dpi=200).data)) as archive:
        for name in ("color.jpg", "alpha.png"):
            with Image.open(io.BytesIO(archive.read(name))) as image:
                assert image.info["dpi"] == pytest.approx((200, 200), abs=0.02)


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_where_dpi_has_no_place_a_warning_says_so(format: str) -> None:
    assert cut(format=format, dpi=200).warnings == ("dpi_not_written",)
    assert cut(encoded(photo(), "PNG", dpi=(300, 300)), format=format).warnings == ()


# the other doors


def test_the_api_says_the_results_size_and_the_foreground_in_source_pixels(client: Client) -> None:
    plain = client.post("/v1/mattes", files={"file": ("a.png", PHOTO)})
    laid = client.post("/v1/mattes", files={"file": ("a.png", PHOTO)}, data=CANVAS)
    assert (laid.headers["x-width"], laid.headers["x-height"]) == ("120", "100")
    for side in ("top", "left", "width", "height"):
        assert laid.headers[f"x-foreground-{side}"] == plain.headers[f"x-foreground-{side}"]
    document = client.post(
        "/v1/mattes", files={"file": ("a.png", PHOTO)}, data=CANVAS, headers={"accept": "application/json"}
    ).json()
    assert (document["width"], document["height"]) == (120, 100)
    assert (document["source"]["width"], document["source"]["height"]) == (64, 48)


def test_the_api_tells_what_came_and_what_is_allowed(client: Client) -> None:
    for fields, field, code in (
        ({"output_size": "20001x20"}, "output_size", "invalid_option"),
        ({"output_size": "9x9", "margin": "5px"}, "margin", "invalid_option"),
        ({"margin": "0.5"}, "margin", "invalid_option"),
        ({"crop": "true", "output_size": "9x9"}, "crop", "conflicting_options"),
    ):
        answer = client.post("/v1/mattes", files={"file": ("a.png", PHOTO)}, data=fields)
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert (error["field"], error["code"]) == (field, code)


def test_the_command_line_takes_layout(tmp_path: Path) -> None:
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    source.write_bytes(PHOTO)
    sent = ["--output-size", "50x40", "--margin-left", "10%", "--snap-cropped-sides", "false", "--dpi", "300"]
    assert main(["cut", str(source), str(target), "--model", "fake", *sent]) == 0
    assert decoded(target.read_bytes()).shape == (40, 50, 4)
    assert main(["cut", str(source), str(target), "--model", "fake", "--crop", "--max-width", "9"]) == 0
    assert decoded(target.read_bytes()).shape[1] == 9
