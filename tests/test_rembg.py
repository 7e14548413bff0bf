"""rembg's endpoint: its parameters, its answers and its errors over the native path. Contract, section 3."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mattehorn import telemetry
from mattehorn.alpha import binarise
from tests.api_client import EMPTY, PHOTO, Client
from tests.rembg_client import REMOVE, detail, post
from tests.service import BACKGROUND, SUBJECT, InProcessService, decoded, encoded, photo
from tests.sites import ENDLESS, Site, site


@pytest.fixture(scope="module")
def shop() -> Iterator[Site]:
    pages: dict[str, bytes | str] = {"gone": "404", "text": b"no picture\n" * 30, "endless": ENDLESS}
    with site(PHOTO, **pages) as started:
        yield started


@pytest.fixture(scope="module")
def buyer(tmp_path_factory: pytest.TempPathFactory, shop: Site) -> Iterator[Client]:
    """Requests to a service whose operator lists the shop."""
    service = InProcessService(tmp_path_factory.mktemp("results"), url_allow=[shop.place], limits={"fetch_s": 60.0})
    with Client(service) as client:
        yield client


def options(client: Client) -> dict[str, Any]:
    return client.service.jobs[-1].options.model_dump()


# the answer


def test_an_upload_comes_back_as_an_rgba_png(client: Client) -> None:
    response = post(client)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    cutout = decoded(response.content)
    assert cutout.shape == (48, 64, 4)
    assert tuple(cutout[24, 32]) == (*SUBJECT, 255)
    assert tuple(cutout[0, 0]) == (0, 0, 0, 0)
    assert response.headers["x-mattehorn-model"] == "fake@1"
    assert "x-mattehorn-warnings" not in response.headers


def test_a_url_is_fetched_by_get_and_post_and_the_answer_is_the_uploads(buyer: Client, shop: Site) -> None:
    sent, url = post(buyer), shop.url("/cup.png?size=1")
    got = buyer.get(REMOVE, params={"url": url})
    assert got.status_code == 200, got.text
    assert got.headers["server-timing"].startswith("fetch;dur=")
    in_query = buyer.post(REMOVE, params={"url": url})
    in_form = buyer.post(REMOVE, files={"url": (None, url)})
    urlencoded = buyer.post(REMOVE, data={"url": url})
    for response in (got, in_query, in_form, urlencoded):
        assert response.content == sent.content
    assert shop.asked[-4:] == ["/cup.png?size=1"] * 4


def test_an_upload_goes_before_a_url(buyer: Client, shop: Site) -> None:
    asked = len(shop.asked)
    assert post(buyer, url=shop.url("/cup.png")).status_code == 200
    assert len(shop.asked) == asked


def test_edges_are_left_alone_as_rembg_does(client: Client) -> None:
    post(client)
    sent = options(client)
    assert (sent["alpha_threshold"], sent["erode_px"], sent["feather_px"]) == (0, 0, 0)
    native = client.post(
        "/v1/mattes",
        files={"file": ("p.jpg", PHOTO)},
        data={"alpha_threshold": "0", "erode_px": "0", "feather_px": "0"},
    )
    assert post(client).content == native.content


def test_colour_is_straight_and_not_multiplied_by_alpha(client: Client) -> None:
    given = np.zeros((48, 64, 4), np.uint8)
    given[12:36, 16:48] = (250, 20, 10, 200)
    cutout = decoded(post(client, encoded(given)).content)
    assert tuple(cutout[24, 32]) == (250, 20, 10, 200)  # rembg: 196, 16, 8
    assert tuple(cutout[0, 0]) == (0, 0, 0, 0)


def test_a_photo_without_a_subject_is_an_answer_as_in_rembg(client: Client) -> None:
    response = post(client, EMPTY)
    assert response.status_code == 200
    assert decoded(response.content)[..., 3].max() == 0
    assert response.headers["x-mattehorn-quality"] == "0.000"


def test_accept_never_changes_the_answer(client: Client) -> None:
    response = client.post(REMOVE, files={"file": ("p", PHOTO)}, headers={"accept": "application/json"})
    assert response.headers["content-type"] == "image/png"


def test_a_photo_without_a_file_name_is_taken_as_well(client: Client) -> None:
    assert len(PHOTO) < 64 * 1024
    noise = np.random.default_rng(3).integers(0, 255, (240, 240, 3), np.uint8)
    noise[:60], noise[:, :60] = BACKGROUND, BACKGROUND
    large = encoded(noise)
    assert len(large) > 64 * 1024
    for data in (PHOTO, large):
        response = client.post(REMOVE, files={"file": (None, data)})
        assert response.status_code == 200, response.text
        assert response.content == post(client, data).content


# parameters


def test_every_parameter_is_taken_from_the_query_and_from_the_form_which_goes_first(client: Client) -> None:
    wished = {"om": "true", "format": "webp", "a": "1"}
    for response in (post(client, query=wished), post(client, **wished)):
        assert response.headers["content-type"] == "image/webp"
        assert (options(client)["output"], options(client)["refine"]) == ("alpha", "matting")
    post(client, query={"bgc": "255,0,0", "format": "webp"}, bgc="0,0,255")
    assert (options(client)["background_color"], options(client)["format"]) == ("#0000ff", "webp")
    post(client, query={"bgc": "255,0,0"}, bgc="")
    assert options(client)["background_color"] == "#ff0000"


def test_only_mask_is_one_grey_plane_whatever_the_background(client: Client) -> None:
    cutout = decoded(post(client).content)
    mask = decoded(post(client, om="true", bgc="255,0,0").content)
    assert mask.shape == (48, 64)
    assert np.array_equal(mask, cutout[..., 3])


@pytest.mark.parametrize(("sent", "colour"), [("255,0,0", (255, 0, 0)), (" 1, 2 ,3,255", (1, 2, 3))])
def test_bgc_lies_behind_the_subject(client: Client, sent: str, colour: tuple[int, int, int]) -> None:
    response = post(client, bgc=sent)
    assert response.headers["content-type"] == "image/png"
    picture = decoded(response.content)
    assert tuple(picture[0, 0][:3]) == colour
    assert tuple(picture[24, 32][:3]) == SUBJECT


def test_a_translucent_bgc_stays_translucent(client: Client) -> None:
    picture = decoded(post(client, bgc="10,200,30,100").content)
    assert tuple(picture[0, 0]) == (10, 200, 30, 100)
    assert tuple(picture[24, 32]) == (*SUBJECT, 255)


@pytest.mark.parametrize("format", ["png", "webp", "avif", "jpg", "jpeg"])
def test_format_picks_the_file_type(client: Client, format: str) -> None:
    response = post(client, format=format, bgc="255,255,255")
    expected = {"jpg": "jpeg"}.get(format, format)
    assert response.headers["content-type"] == f"image/{expected}"
    with Image.open(io.BytesIO(response.content)) as image:
        assert (image.format or "").lower() == expected


def test_a_mask_may_be_a_jpg(client: Client) -> None:
    response = post(client, om="true", format="jpg")
    assert response.headers["content-type"] == "image/jpeg", response.text
    grey = decoded(response.content).reshape(48, 64, -1)
    assert (grey == grey[..., :1]).all()
    assert (grey[24, 32, 0], grey[0, 0, 0]) == (255, 0)


def test_ppm_makes_the_matte_binary_and_nothing_else_does(client: Client) -> None:
    ramp = photo(128, 96)
    share = np.linspace(0, 1, 24)[None, :, None]
    ramp[24:72, 32:56] = (np.array(BACKGROUND) * (1 - share) + np.array(SUBJECT) * share).astype(np.uint8)
    soft = np.unique(decoded(post(client, encoded(ramp), om="1").content))
    assert len(soft) > 2
    hard = np.unique(decoded(post(client, encoded(ramp), om="1", ppm="1").content))
    assert hard.tolist() == [0, 255]
    assert np.unique(decoded(post(client, encoded(ramp), ppm="yes").content)[..., 3]).tolist() == [0, 255]


def test_binarise_drops_specks_and_keeps_areas() -> None:
    alpha = np.zeros((40, 40), np.float32)
    alpha[10:30, 10:30] = 0.8
    alpha[3, 3] = 1
    alpha[20:28, 33:37] = 0.3
    binary = binarise(alpha)
    assert set(np.unique(binary)) == {0.0, 1.0}
    assert binary[20, 20] == 1
    assert binary[3, 3] == 0
    assert binary[24, 35] == 0
    assert alpha[3, 3] == 1


def test_alpha_matting_is_ours_and_its_trimap_is_said_to_be_left_aside(client: Client) -> None:
    plain = post(client, a="true", af="240", ab="10", ae="10")
    assert options(client)["refine"] == "matting"
    assert "x-mattehorn-warnings" not in plain.headers
    assert post(client, a="true", ae="15").headers["x-mattehorn-warnings"] == "trimap_ignored"
    assert "x-mattehorn-warnings" not in post(client, ae="15").headers
    assert options(client)["refine"] == "guided"


@pytest.mark.parametrize(
    ("sent", "warned"),
    [('{"sam_prompt": []}', True), ("{}", False), ("{oops", False), ("[1]", False), ("[" * 9999, False)],
)
def test_extras_have_no_effect_and_what_is_no_json_is_ignored(client: Client, sent: str, warned: bool) -> None:
    response = post(client, extras=sent)
    assert response.content == post(client).content
    assert (response.headers.get("x-mattehorn-warnings") == "extras_ignored") is warned


def test_unknown_fields_are_left_aside_and_counted(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path)) as client:
        plain = post(client)
        files = {"file": ("p.jpg", PHOTO), "mask": ("m", b"x")}
        response = client.post(f"{REMOVE}?vm=1&om=", files=files, data={"dc": "1", "a": ""})
        assert (response.status_code, response.content) == (200, plain.content)
        counted = client.service.backend.registry.get_sample_value(telemetry.IGNORED_FIELDS.name, {"route": REMOVE})
        assert counted == 2


@pytest.mark.parametrize(("path", "status"), [("/gone", 400), ("/text", 415), ("/endless", 413)])
def test_urls_that_give_no_picture(buyer: Client, shop: Site, path: str, status: int) -> None:
    assert "image_url" not in detail(buyer.get(REMOVE, params={"url": shop.url(path)}), status)


def test_an_empty_twin_of_a_parameter_is_one_that_was_not_sent(client: Client) -> None:
    photos: list[tuple[str, Any]] = [("file", ("p.png", PHOTO)), ("file", ("", b""))]
    in_query = client.post(REMOVE, files=photos, params=[("om", "true"), ("om", "")])
    in_form = client.post(REMOVE, files=[*photos, ("om", (None, "true")), ("om", (None, ""))])
    for response in (in_query, in_form):
        assert response.status_code == 200, response.text
        assert decoded(response.content).ndim == 2


# around it


def test_any_page_may_ask_and_read_but_not_the_native_api(client: Client) -> None:
    asking = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    preflight = client.request("OPTIONS", REMOVE, headers=asking)
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "Content-Type" in preflight.headers["access-control-allow-headers"]
    response = post(client)
    assert response.headers["access-control-allow-origin"] == "*"
    assert "X-Mattehorn-Model" in response.headers["access-control-expose-headers"]
    for native in (client.post("/v1/mattes", content=b""), client.request("OPTIONS", "/v1/mattes", headers=asking)):
        assert "access-control-allow-origin" not in native.headers


def test_rembgs_documentation_page_leads_to_ours(client: Client) -> None:
    response = client.get("/api")
    assert (response.status_code, response.headers["location"]) == (307, "/docs")


def test_the_description_has_every_parameter_in_both_places(client: Client) -> None:
    path = client.get("/openapi.json").json()["paths"][REMOVE]
    names = {"model", "a", "af", "ab", "ae", "om", "ppm", "bgc", "extras", "format"}
    assert {parameter["name"] for parameter in path["get"]["parameters"]} == {"url", *names}
    assert {parameter["name"] for parameter in path["post"]["parameters"]} == names
    form = path["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"file", "url", *names}
    assert {"400", "413", "415", "422", "429", "503"} <= set(path["get"]["responses"])
