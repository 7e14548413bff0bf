"""remove.bg's endpoints: answers, headers, placement and pixels. Contract: sections 2.1, 2.2 and 2.4."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from deployments.ingress.compat.removebg import schema
from deployments.ingress.compat.removebg.answers import subject_type
from deployments.ingress.compat.removebg.parameters import Sent
from deployments.ingress.compat.removebg.translate import PARAMETERS, translate
from mattehorn import telemetry
from tests.api_client import JSON, PHOTO, Client
from tests.removebg_client import post
from tests.removebg_table import ACCOUNT, IMPROVE, JSON_UTF8, REMOVE, SIZES, error_of, upload
from tests.service import BACKGROUND, SUBJECT, InProcessService, decoded, encoded, photo
from tests.sites import Site, site

RECORDED = {  # header names of the recorded 200s of the official Ruby client
    *("access-control-allow-origin", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
    *("x-width", "x-height", "x-max-width", "x-max-height", "x-type", "x-credits-charged", "content-type"),
}
CUP = encoded(photo(1600, 1200), "JPEG", quality=95)


@pytest.fixture(scope="module")
def shop() -> Iterator[Site]:
    with site(PHOTO, green=encoded(np.full((48, 64, 3), (0, 250, 0), np.uint8))) as started:
        yield started


def files_of(response: httpx.Response) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def opaque_box(picture: np.ndarray[Any, Any]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of what an RGBA picture shows."""
    rows, cols = (np.flatnonzero((picture[..., 3] >= 128).any(axis=axis)) for axis in (1, 0))
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


# answers


def test_bytes_come_with_every_recorded_header(client: Client) -> None:
    response = post(client)
    assert set(response.headers) >= RECORDED
    assert response.headers["content-type"] == "image/png"
    told = {name: response.headers[name] for name in ("x-width", "x-height", "x-max-width", "x-max-height")}
    assert told == {"x-width": "64", "x-height": "48", "x-max-width": "64", "x-max-height": "48"}
    box = [response.headers[f"x-foreground-{side}"] for side in ("top", "left", "width", "height")]
    assert box == ["12", "16", "32", "24"]
    cutout = decoded(response.content)
    assert tuple(cutout[24, 32]) == (*SUBJECT, 255)
    assert tuple(cutout[0, 0]) == (0, 0, 0, 0)


def test_json_comes_only_where_accept_prefers_it(client: Client) -> None:
    as_bytes = post(client).content
    for accept in ("*/*", "application/json, text/plain, */*", "image/webp", "text/html", "application/zip"):
        response = client.post(REMOVE, **upload(PHOTO), headers={"accept": accept})
        assert (response.headers["content-type"], response.content) == ("image/png", as_bytes), accept
    response = client.post(REMOVE, **upload(PHOTO), headers=JSON)
    assert response.headers["content-type"] == JSON_UTF8
    (data,) = response.json().values()
    assert base64.b64decode(data.pop("result_b64")) == as_bytes
    assert data == {"foreground_top": 12, "foreground_left": 16, "foreground_width": 32, "foreground_height": 24}
    assert response.headers["x-credits-charged"] == "0.25"
    zipped = client.post(REMOVE, **upload(PHOTO, format="zip"), headers=JSON).json()["data"]["result_b64"]
    assert base64.b64decode(zipped) == post(client, format="zip").content


@pytest.mark.parametrize(
    ("fields", "content_type"),
    [
        ({}, "image/png"),
        ({"format": "auto", "bg_color": "f00"}, "image/jpeg"),
        ({"format": "auto", "bg_color": "f008"}, "image/png"),
        ({"format": "png", "bg_color": "f00"}, "image/png"),
        ({"format": "jpg"}, "image/jpeg"),
        ({"format": "webp"}, "image/webp"),
        ({"format": "webp", "bg_color": "f00"}, "image/webp"),
        ({"format": "zip"}, "application/zip"),
        ({"format": "zip", "channels": "alpha"}, "application/zip"),
        ({"channels": "alpha"}, "image/png"),
        ({"channels": "alpha", "format": "jpg"}, "image/jpeg"),
        ({"channels": "alpha", "bg_color": "f00"}, "image/png"),
    ],
    ids=str,
)
def test_the_type_is_the_one_that_was_asked_for(client: Client, fields: dict[str, str], content_type: str) -> None:
    assert post(client, **fields).headers["content-type"] == content_type


def test_jpg_shows_transparency_on_white(client: Client) -> None:
    plain = decoded(post(client, format="jpg").content)
    assert plain.shape == (48, 64, 3)
    assert np.abs(plain[2, 2].astype(int) - 255).max() <= 2
    assert np.abs(plain[24, 32].astype(int) - SUBJECT).max() <= 4
    half = decoded(post(client, format="jpg", bg_color="ff000080").content)
    assert np.abs(half[2, 2].astype(int) - (255, 127, 127)).max() <= 4


def test_alpha_is_one_grey_plane_and_equal_in_every_contract(client: Client) -> None:
    plane = decoded(post(client, channels="alpha").content)
    assert plane.shape == (48, 64)
    edges = {"alpha_threshold": "0", "erode_px": "0", "feather_px": "0", "output": "alpha"}
    native = client.post("/v1/mattes", files={"file": ("p", PHOTO)}, data=edges)
    rembg = client.post("/api/remove", files={"file": ("p", PHOTO)}, data={"om": "1"})
    assert native.content == rembg.content == post(client, channels="alpha").content


def test_backgrounds_lie_behind_the_subject(tmp_path: Path, shop: Site) -> None:
    with Client(InProcessService(tmp_path, url_allow=[shop.place])) as client:
        files = {"image_file": ("p", PHOTO), "bg_image_file": ("b", encoded(photo()[::-1].copy()))}
        exact = decoded(client.post(REMOVE, files=files, data={"format": "png"}).content)
        assert np.array_equal(exact[..., :3], photo())  # the same size: pixel by pixel
        by_url = decoded(post(client, bg_image_url=shop.url("/green"), format="png").content)
        assert tuple(by_url[0, 0][:3]) == (0, 250, 0)
        assert tuple(by_url[24, 32][:3]) == SUBJECT


def test_a_background_covers_and_is_centred(client: Client) -> None:
    wide = np.zeros((48, 256, 3), np.uint8)
    wide[:, 96:160] = (9, 8, 250)
    files = {"image_file": ("p", PHOTO), "bg_image_file": ("b", encoded(wide))}
    covered = decoded(client.post(REMOVE, files=files, data={"format": "png"}).content)
    assert covered.shape[:2] == (48, 64)
    assert (covered[0, :, :3] == (9, 8, 250)).all()


# zip


def test_a_zip_is_colour_and_alpha_and_recomposes_the_photo(client: Client) -> None:
    files = files_of(post(client, format="zip"))
    assert list(files) == ["color.jpg", "alpha.png"]
    colour, alpha = decoded(files["color.jpg"]), decoded(files["alpha.png"])
    assert (colour.shape, alpha.shape, alpha.dtype) == ((48, 64, 3), (48, 64), np.uint8)
    with Image.open(io.BytesIO(files["color.jpg"])) as image:
        assert {component[1:3] for component in image.layer} == {(1, 1)}  # type: ignore[attr-defined]  # 4:4:4
    shares = alpha[..., None] / 255
    again = shares * colour + (1 - shares) * np.array(BACKGROUND)
    assert np.abs(again - photo()).max() <= 2


def test_the_subjects_colour_goes_on_beyond_its_edge(client: Client) -> None:
    colour = decoded(files_of(post(client, encoded(photo(64, 64)), format="zip"))["color.jpg"])
    assert np.abs(colour.astype(int) - SUBJECT).max() <= 2  # 16 px on each side of the subject's 32


def test_a_zip_with_a_background_is_the_composite_and_opaque(client: Client) -> None:
    for colour, shown in (("0000ff", (0, 0, 255)), ("0000ff80", (127, 127, 255)), ("0000", (255, 255, 255))):
        files = files_of(post(client, format="zip", bg_color=colour))
        assert decoded(files["alpha.png"]).min() == 255
        assert np.abs(decoded(files["color.jpg"])[0, 0].astype(int) - shown).max() <= 3


# size


@pytest.mark.parametrize("size", SIZES)
def test_a_size_shrinks_and_keeps_the_ratio_but_never_enlarges(client: Client, size: str) -> None:
    most = {"medium": 1_500_000, "hd": 4e6, "full": 25e6, "4k": 25e6, "50MP": 50e6, "auto": 50e6}.get(size, 250_000)
    response = post(client, CUP, size=size, format="jpg")
    width, height = int(response.headers["x-width"]), int(response.headers["x-height"])
    assert decoded(response.content).shape[:2] == (height, width)
    assert width * height <= most
    if most >= 1600 * 1200:
        assert (width, height) == (1600, 1200)
    else:
        assert width * height > most * 0.99
        assert width / height == pytest.approx(4 / 3, abs=0.005)
    assert (response.headers["x-max-width"], response.headers["x-max-height"]) == ("1600", "1200")
    preview = size in ("preview", "small", "regular")
    assert response.headers["x-credits-charged"] == ("0.25" if preview else "1")
    assert response.headers["x-ratelimit-limit"] == "500"


def test_the_box_is_in_source_pixels_whatever_the_size(client: Client) -> None:
    for size in ("preview", "full"):
        response = post(client, CUP, size=size)
        box = [int(response.headers[f"x-foreground-{side}"]) for side in ("left", "top", "width", "height")]
        assert np.abs(np.array(box) - (400, 300, 800, 600)).max() <= 1600 / 64, size  # a pixel of the model's


def test_a_png_has_at_most_ten_megapixels_and_auto_credits_go_by_the_photo() -> None:
    for form in ("png", "auto"):
        wish = translate(Sent({"size": "full", "format": form}))
        assert (wish.rendition.most_pixels, wish.most_of_full) == (10_000_000, 10_000_000)
    for fields in ({"format": "jpg"}, {"format": "zip"}, {"format": "webp"}, {"bg_color": "fff"}):
        assert translate(Sent({"size": "full", **fields})).rendition.most_pixels == 25_000_000


# placement: the worked examples of docs/migrate.md


@pytest.mark.parametrize(
    ("fields", "box"),
    [
        ({}, (16, 12, 48, 36)),
        ({"position": "original", "scale": "original"}, (16, 12, 48, 36)),
        ({"position": "center"}, (16, 12, 48, 36)),
        ({"position": "0%"}, (0, 0, 32, 24)),
        ({"position": "100% 0%"}, (32, 0, 64, 24)),
        ({"position": "0% 100%"}, (0, 24, 32, 48)),
        ({"position": "50% 25%"}, (16, 6, 48, 30)),
        ({"scale": "100%"}, (0, 0, 64, 48)),
        ({"scale": "25%"}, (24, 18, 40, 30)),
        ({"scale": "25%", "position": "100%"}, (48, 36, 64, 48)),
        ({"scale": "25%", "position": "original"}, (24, 18, 40, 30)),
    ],
    ids=str,
)
def test_scale_and_position_place_the_subject(
    client: Client, fields: dict[str, str], box: tuple[int, int, int, int]
) -> None:
    """The subject is 32x24 at (16, 12) of a 64x48 photo."""
    picture = decoded(post(client, **fields).content)
    assert picture.shape == (48, 64, 4) or fields == {"scale": "100%"}
    assert opaque_box(picture if picture.shape[2] == 4 else np.dstack((picture, picture[..., :1] | 255))) == box


@pytest.mark.parametrize(
    ("margin", "size", "corner"),
    [
        ("10px", (52, 44), (10, 10)),
        ("25%", (48, 36), (8, 6)),
        ("10px 20px", (72, 44), (20, 10)),
        ("1px 2px 3px 4px", (38, 28), (4, 1)),
        ("50% 0 10px 25%", (40, 46), (8, 12)),
        ("500px 0px", (32, 1024), (0, 500)),
    ],
)
def test_a_crop_has_its_margins_around_the_subject(
    client: Client, margin: str, size: tuple[int, int], corner: tuple[int, int]
) -> None:
    cropped = post(client, crop="true", crop_margin=margin, scale="50%", position="0%")
    picture = decoded(cropped.content)
    assert picture.shape[1::-1] == size
    assert (cropped.headers["x-width"], cropped.headers["x-height"]) == tuple(map(str, size))
    left, top = corner
    assert opaque_box(picture) == (left, top, left + 32, top + 24)


def test_a_crop_without_a_margin_is_all_subject_and_so_a_jpg(client: Client) -> None:
    response = post(client, crop="true")
    assert (response.headers["content-type"], response.headers["x-width"]) == ("image/jpeg", "32")
    assert decoded(post(client, crop="true", format="png").content).shape == (24, 32, 3)


def test_margins_that_make_too_large_a_picture_are_named(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path, limits={"pixels": 4000})) as client:
        response = client.post(REMOVE, **upload(PHOTO, crop="true", crop_margin="500px"))
        detail = error_of(response, 400, "invalid_crop_margin")["detail"]
        assert detail.endswith("4000 pixels in all.")


def test_a_region_leaves_the_rest_transparent(client: Client) -> None:
    for roi in ("0% 0% 50% 100%", "0 0 32 48", "0px 0px 32px 100%"):
        alpha = decoded(post(client, roi=roi).content)[..., 3]
        assert (alpha[24, 20], alpha[24, 31], alpha[24, 33]) == (255, 255, 0)


# type


@pytest.mark.parametrize(
    ("detected", "hint", "level", "told"),
    [
        ("person", "auto", "1", "person"),
        ("person", "car", "1", "person"),
        (None, "car", "1", "car"),
        (None, "auto", "1", "other"),
        ("transportation", "auto", "1", "other"),
        ("transportation", "auto", "latest", "transportation"),
        ("graphic", "auto", "2", "graphics"),
        ("other", "auto", "2", "other"),
        ("person", "auto", "none", None),
    ],
)
def test_the_type_is_what_was_seen_else_what_was_said(
    detected: str | None, hint: str, level: str, told: str | None
) -> None:
    assert subject_type(detected, translate(Sent({"type": hint, "type_level": level}))) == told


def test_no_type_is_told_when_none_is_asked_for(client: Client) -> None:
    assert "x-type" not in post(client, type_level="none").headers
    assert post(client, type="car").headers["x-type"] == "car"
    assert client.service.jobs[-1].options.subject == "car"


# what goes with it


def test_edges_are_left_alone_and_unknown_fields_counted(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path)) as client:
        post(client, api_key="secret", shadow_method="new")
        options = client.service.jobs[-1].options
        assert (options.alpha_threshold, options.erode_px, options.feather_px) == (0, 0, 0)
        counted = client.service.backend.registry.get_sample_value(telemetry.IGNORED_FIELDS.name, {"route": REMOVE})
        assert counted == 2


def test_any_page_may_ask_and_read(client: Client) -> None:
    asking = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    for path in (REMOVE, ACCOUNT, IMPROVE, "/api/removebg", "/api/account"):
        preflight = client.request("OPTIONS", path, headers=asking)
        assert (preflight.status_code, preflight.content) == (204, b"")
        assert "X-API-Key" in preflight.headers["access-control-allow-headers"]
    exposed = post(client).headers["access-control-expose-headers"]
    for name in ("X-Credits-Charged", "X-Type", "X-Max-Width", "X-RateLimit-Reset", "X-Foreground-Top"):
        assert name in exposed


def test_the_description_has_the_contracts_fields(client: Client) -> None:
    path = client.get("/openapi.json").json()["paths"][REMOVE]["post"]
    content = path["requestBody"]["content"]
    form, flat = (content[name]["schema"]["properties"] for name in ("multipart/form-data", "application/json"))
    assert set(form) == PARAMETERS
    assert set(flat) == PARAMETERS - {"image_file", "bg_image_file"}
    assert {"400", "402", "403", "429", "503"} <= set(path["responses"])
    assert set(schema.FIELDS["size"]["enum"]) == set(SIZES)
