"""The main path in one process with the fake model: what goes in is made up, so every answer is known."""

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

from mattehorn.errors import ConflictingOptions, ImageTooLarge, NoForeground, OptionError
from mattehorn.image.encode import CONTENT_TYPES
from mattehorn.models.fake import FakeModel
from mattehorn.options import Options, parse_options
from mattehorn.pipeline import Result, cut_out, finish, prepare, run
from mattehorn.settings import Limits
from tests import scenes
from tests.make_images import exif
from tests.service import BACKGROUND, CARD_64, SUBJECT, decoded, encoded, photo

PHOTO = encoded(photo())
EMPTY = encoded(np.full((48, 64, 3), BACKGROUND, np.uint8))
NO_EDGES = {"alpha_threshold": 0, "erode_px": 0, "feather_px": 0}
INSIDE, OUTSIDE = (slice(16, 32), slice(20, 44)), (slice(0, 6), slice(0, 64))  # well away from the subject's edge


class Model64(FakeModel):
    """The fake model with a small input, so that a test costs milliseconds; counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.card = CARD_64
        self.asked = 0

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.asked += 1
        return super().predict(images)


def cut(
    data: bytes = PHOTO, *, background: bytes | None = None, model: FakeModel | None = None, **options: Any
) -> Result:
    wanted = parse_options(options, background_file=background is not None)
    return run(model or Model64(), data, wanted, Limits(), background)


# the cutout


def test_a_cutout_has_the_subject_opaque_and_the_rest_transparent_black() -> None:
    result = cut()
    assert (result.content_type, result.extension, result.model) == ("image/png", "png", "fake@1")
    assert (result.width, result.height) == (64, 48)
    cutout = decoded(result.data)
    assert (cutout[INSIDE] == (*SUBJECT, 255)).all()
    assert not cutout[OUTSIDE].any()
    assert not cutout[cutout[..., 3] == 0].any()


def test_the_foreground_box_holds_the_matte_exactly() -> None:
    result = cut(feather_px=4)
    assert result.foreground_box is not None
    top, left, height, width = result.foreground_box
    alpha = decoded(result.data)[..., 3]
    rows, cols = np.nonzero(alpha)
    assert (rows.min(), cols.min()) == (top, left)
    assert (rows.max() + 1, cols.max() + 1) == (top + height, left + width)


def test_the_source_is_described_as_it_came() -> None:
    source = cut(encoded(photo(), "JPEG", exif=exif(8), quality=95)).source
    assert (source.width, source.height, source.format, len(source.sha256)) == (48, 64, "jpeg", 64)


def test_stage_times_are_noted_in_order() -> None:
    assert list(cut().timings_ms) == ["decode", "infer", "refine", "encode"]
    assert list(cut(background_color="red").timings_ms) == ["decode", "infer", "refine", "composite", "encode"]


def test_fringe_colour_is_taken_out_of_the_edge_and_original_keeps_it() -> None:
    scene = scenes.soft_disc(128)
    alpha_net = scene.alpha  # exact, so that only the foreground's estimate is judged
    errors = {}
    for foreground in ("estimate", "original"):
        options = Options(foreground=foreground, alpha_threshold=0, erode_px=0, feather_px=0, refine="none")
        card = CARD_64.__class__(**{**CARD_64.__dict__, "input_size": 128})
        result = finish(prepare(encoded(scene.image), options, card, Limits()), alpha_net)
        cutout = decoded(result.data)
        soft = (cutout[..., 3] > 60) & (cutout[..., 3] < 200)
        errors[foreground] = np.abs(cutout[..., :3][soft].astype(float) - scene.foreground[soft]).mean()
    assert errors["estimate"] * 3 < errors["original"]


# every output and format


@pytest.mark.parametrize("format", ["png", "webp", "jpg", "avif"])
@pytest.mark.parametrize("output", ["cutout", "alpha", "composite"])
def test_every_output_in_every_format(output: str, format: str) -> None:
    if (output, format) == ("cutout", "jpg"):
        with pytest.raises(ConflictingOptions):
            cut(output=output, format=format)
        return
    result = cut(output=output, format=format)
    assert (result.content_type, result.extension) == (CONTENT_TYPES[format], format)
    with Image.open(io.BytesIO(result.data)) as image:
        assert image.size == (64, 48)
        inside, outside = image.convert("RGBA").getpixel((32, 24)), image.convert("RGBA").getpixel((1, 1))
    expected = {
        "cutout": ((*SUBJECT, 255), (0, 0, 0, 0)),
        "alpha": ((255, 255, 255, 255), (0, 0, 0, 255)),
        "composite": ((*SUBJECT, 255), (255, 255, 255, 255)),
    }[output]
    assert np.abs(np.subtract((inside, outside), expected)).max() <= 12  # what lossy codecs change


def test_the_alpha_output_is_the_cutouts_own_alpha() -> None:
    alpha = decoded(cut(output="alpha").data)
    assert alpha.ndim == 2
    assert np.array_equal(alpha, decoded(cut().data)[..., 3])


@pytest.mark.parametrize("output", ["cutout", "composite", "alpha", "zip"])
def test_include_alpha_gives_the_same_matte_beside_every_output(output: str) -> None:
    result = cut(output=output, include="alpha")
    assert result.alpha_png is not None
    assert np.array_equal(decoded(result.alpha_png), decoded(cut(output="alpha").data))
    assert cut(output=output).alpha_png is None


def test_a_zip_holds_opaque_colour_alpha_and_facts() -> None:
    result = cut(output="zip", sku="A-1")
    assert (result.content_type, result.extension) == ("application/zip", "zip")
    with zipfile.ZipFile(io.BytesIO(result.data)) as archive:
        assert archive.namelist() == ["color.jpg", "alpha.png", "meta.json"]
        colour, alpha = decoded(archive.read("color.jpg")), decoded(archive.read("alpha.png"))
        meta = json.loads(archive.read("meta.json"))
    assert (colour.shape, alpha.shape) == ((48, 64, 3), (48, 64))
    assert np.array_equal(alpha, decoded(cut(output="alpha").data))
    assert np.abs(colour[INSIDE].astype(int) - SUBJECT).max() <= 3
    assert (meta["width"], meta["height"], meta["source"]["format"]) == (64, 48, "png")
    assert meta["options"]["sku"] == "A-1"


def test_equal_requests_give_equal_bytes() -> None:
    for output in ("cutout", "composite", "alpha", "zip"):
        assert cut(output=output).data == cut(output=output).data


# backgrounds


@pytest.mark.parametrize(
    ("options", "corner"),
    [
        ({"output": "composite"}, (255, 255, 255)),
        ({"background_color": "#0000ff"}, (0, 0, 255)),
        ({"background_gradient": "180deg red red"}, (255, 0, 0)),
        ({"background_blur_px": "2"}, BACKGROUND),
    ],
    ids=str,
)
def test_the_subject_stands_before_the_background(options: dict[str, Any], corner: tuple[int, int, int]) -> None:
    composite = decoded(cut(format="png", **options).data)
    assert composite.shape == (48, 64, 3)
    assert (composite[INSIDE] == SUBJECT).all()
    assert np.abs(composite[:4, :4].astype(int) - corner).max() <= 1


def test_every_background_template_can_be_painted() -> None:
    from mattehorn.options import TEMPLATE_NAMES

    pictures = {cut(background_template=name, format="png").data for name in TEMPLATE_NAMES}
    assert len(pictures) == len(TEMPLATE_NAMES)


def test_a_background_picture_fills_the_frame_or_fits_into_it() -> None:
    behind = encoded(np.full((10, 10, 3), (0, 0, 255), np.uint8))
    filled = decoded(cut(background=behind, format="png").data)
    assert tuple(filled[0, 0]) == (0, 0, 255)
    fitted = decoded(cut(background=behind, background_scaling="fit").data)
    assert fitted.shape == (48, 64, 4)
    assert fitted[24, 0, 3] == 0  # the gap is transparent
    assert tuple(fitted[0, 10]) == (0, 0, 255, 255)


def test_a_background_with_transparency_keeps_it_and_is_never_a_jpeg() -> None:
    result = cut(background_color="#0000ff80")
    assert result.content_type == "image/png"
    composite = decoded(result.data)
    assert (composite[INSIDE] == (*SUBJECT, 255)).all()
    assert tuple(composite[0, 0]) == (0, 0, 255, 128)
    with pytest.raises(ConflictingOptions):
        cut(background_color="#0000ff80", format="jpg")
    assert cut(background_color="#0000ff").content_type == "image/jpeg"


def test_a_shadow_darkens_the_background_and_not_the_subject() -> None:
    plain = decoded(cut(output="composite", format="png").data).astype(int)
    shadowed = decoded(
        cut(output="composite", format="png", shadow="drop", shadow_blur_px="2", shadow_offset="0 8").data
    ).astype(int)
    assert (shadowed <= plain).all()
    assert shadowed[40, 32].max() < plain[40, 32].min()
    assert np.array_equal(shadowed[INSIDE], plain[INSIDE])


def test_a_broken_background_picture_is_the_callers_error() -> None:
    with pytest.raises(ImageTooLarge):
        run(Model64(), PHOTO, Options(output="composite"), Limits(pixels=64 * 48), encoded(photo(65, 48)))


# region of interest


@pytest.mark.parametrize("roi", ["0 0 32 48", "0% 0% 50% 100%", "0px 0% 32px 100%", "0 0 32 999"])
def test_outside_the_region_is_background(roi: str) -> None:
    alpha = decoded(cut(output="alpha", roi=roi).data)
    assert not alpha[:, 33:].any()
    assert (alpha[20:28, 20:28] == 255).all()


def test_a_region_without_a_pixel_is_refused() -> None:
    for roi in ("64 0 90 48", "5 5 5 9", "9 9 5 5", "0.1 0.1 0.2 0.2"):
        with pytest.raises(OptionError) as caught:
            cut(roi=roi)
        assert caught.value.data["field"] == "roi"
        assert "64x48" in caught.value.message


def test_a_region_is_meant_in_the_upright_photo() -> None:
    turned = encoded(photo(), "JPEG", exif=exif(6), quality=95)  # 48 wide, 64 high
    alpha = decoded(cut(turned, output="alpha", roi="0 0 48 32").data)
    assert alpha.shape == (64, 48)
    assert not alpha[34:].any()
    assert (alpha[24:28, 20:28] > 250).all()


# nothing there, and odd sizes


def test_no_foreground_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(NoForeground, match="allow_empty"):
        cut(EMPTY)


@pytest.mark.parametrize("output", ["cutout", "alpha", "composite", "zip"])
def test_an_allowed_empty_matte_is_an_answer(output: str) -> None:
    result = cut(EMPTY, output=output, allow_empty=True)
    assert result.foreground_box is None
    assert (result.quality.score, result.quality.reasons) == (0, ("empty",))
    if output == "composite":
        assert (decoded(result.data) > 250).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 2), (3, 3), (20_000, 1), (1, 20_000), (4000, 2)])
@pytest.mark.parametrize("output", ["cutout", "composite", "zip"])
def test_the_smallest_and_the_longest_photos_are_answered(size: tuple[int, int], output: str) -> None:
    result = cut(encoded(photo(*size)), output=output, allow_empty=True, refine="matting")
    assert (result.width, result.height) == size
    with pytest.raises(ImageTooLarge):
        cut(encoded(photo(20_001, 1)), output=output)


def test_a_long_strip_keeps_its_subject_at_full_length() -> None:
    alpha = decoded(cut(encoded(photo(20_000, 1)), output="alpha", **NO_EDGES).data)
    assert alpha.shape == (1, 20_000)
    assert (alpha[0, 6000:14_000] == 255).all()
    assert not alpha[0, :4000].any()


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_exif_turn_gives_the_upright_cutout(turn: int) -> None:
    upright = photo()
    upright[14:20, 18:24] = (250, 250, 20)  # a mark, so that a mirror shows
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[turn]
    result = cut(encoded(np.ascontiguousarray(stored), exif=exif(turn)))
    assert (result.width, result.height) == (64, 48)
    cutout = decoded(result.data)
    assert tuple(cutout[17, 21]) == (250, 250, 20, 255)
    assert tuple(cutout[28, 40]) == (*SUBJECT, 255)


@pytest.mark.parametrize("size", [(640, 480), (50, 37)])
@pytest.mark.parametrize("refine", ["none", "guided", "matting"])
def test_the_matte_is_right_at_full_size_however_it_gets_there(size: tuple[int, int], refine: str) -> None:
    width, height = size
    alpha = decoded(cut(encoded(photo(width, height)), output="alpha", refine=refine, **NO_EDGES).data)
    truth = np.zeros((height, width), np.uint8)
    truth[height // 4 : height - height // 4, width // 4 : width - width // 4] = 255
    assert np.abs(alpha.astype(float) - truth).mean() < 8  # a network pixel is 10 px wide here
    assert (alpha[height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2] == 255).all()


# the two halves and the Python door


def test_the_halves_with_8_bit_alpha_in_between_agree_with_run() -> None:
    """The service sends the matte as 8 bits from pool to pool."""
    model = Model64()
    prepared = prepare(PHOTO, Options(), model.card, Limits())
    assert prepared.fitted is not None
    alpha = np.round(model.predict(prepared.fitted.pixels[None])[0] * 255).astype(np.uint8)
    split, whole = decoded(finish(prepared, alpha).data).astype(int), decoded(cut().data).astype(int)
    assert np.abs(split[..., 3] - whole[..., 3]).max() <= 2


def test_cut_out_takes_bytes_and_paths_and_saves(tmp_path: Path) -> None:
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    source.write_bytes(PHOTO)
    result = cut_out(source, model="fake")
    result.save(target)
    assert target.read_bytes() == result.data == cut_out(PHOTO, model="fake").data
    assert decoded(result.data).shape == (48, 64, 4)


def test_cut_out_takes_options_a_background_and_limits() -> None:
    result = cut_out(PHOTO, model="fake", background=encoded(photo(9, 9)), format="webp")
    assert result.content_type == "image/webp"
    with pytest.raises(OptionError):
        cut_out(PHOTO, model="fake", feather=3)
    with pytest.raises(ImageTooLarge):
        cut_out(PHOTO, model="fake", limits=Limits(pixels=100))
