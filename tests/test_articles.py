"""The source articles' endpoints: their own field names and defaults over the native path. Contract, section 4."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mattehorn import telemetry
from mattehorn.options import Options
from tests.api_client import Client, error_of
from tests.service import BACKGROUND, SUBJECT, InProcessService, decoded, encoded, photo

PHOTO = encoded(photo())
MATTING, REMOVE = "/api/matting", "/remove_background"
BOTH = pytest.mark.parametrize("path", [MATTING, REMOVE])


def post(client: Client, path: str, *, part: str = "image", accept: str = "*/*", **fields: str) -> httpx.Response:
    return client.post(path, files={part: ("p.jpg", PHOTO)}, data=fields, headers={"accept": accept})


def last_options(client: Client) -> dict[str, Any]:
    return client.service.jobs[-1].options.model_dump()


@BOTH
@pytest.mark.parametrize("part", ["image", "file"])
def test_a_photo_comes_back_as_an_rgba_png(client: Client, path: str, part: str) -> None:
    response = post(client, path, part=part)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    cutout = decoded(response.content)
    assert cutout.shape == (48, 64, 4)
    assert tuple(cutout[24, 32]) == (*SUBJECT, 255)
    assert cutout[0, 0, 3] == 0


@BOTH
def test_the_result_is_the_native_ones(client: Client, path: str) -> None:
    native = client.post("/v1/mattes", files={"file": ("p.png", PHOTO)})
    response = post(client, path)
    assert response.content == native.content
    for name in ("x-mattehorn-model", "x-width", "x-height", "x-mattehorn-quality", "x-foreground-top"):
        assert response.headers[name] == native.headers[name]
    assert response.headers["content-disposition"] == "inline; filename*=UTF-8''p_matte.png"


@BOTH
def test_the_articles_names_reach_the_native_options(client: Client, path: str) -> None:
    post(client, path, alpha_threshold="20", feather="2.5", erode="0", background_color="#ffffff", output_format="jpeg")
    options = last_options(client)
    assert (options["alpha_threshold"], options["feather_px"], options["erode_px"]) == (20, 2.5, 0)
    assert (options["background_color"], options["format"]) == ("#ffffff", "jpg")


@BOTH
def test_defaults_are_the_native_ones(client: Client, path: str) -> None:
    post(client, path)
    options = last_options(client)
    assert options == Options(format="png").model_dump()


@BOTH
@pytest.mark.parametrize("said", ["true", "1", "on", "YES"])
def test_feather_and_erode_may_be_booleans(client: Client, path: str, said: str) -> None:
    post(client, path, feather=said, erode="false")
    options = last_options(client)
    assert (options["feather_px"], options["erode_px"]) == (1, 0)


@BOTH
def test_a_background_gives_a_picture_without_transparency(client: Client, path: str) -> None:
    response = post(client, path, background_color="#0000ff")
    assert response.headers["content-type"] == "image/png"
    composite = decoded(response.content)
    assert composite.shape == (48, 64, 3)
    assert tuple(composite[0, 0]) == (0, 0, 255)
    jpeg = post(client, path, background_color="#0000ff", output_format="jpeg")
    assert jpeg.headers["content-type"] == "image/jpeg"
    assert "x-mattehorn-warnings" not in jpeg.headers


@BOTH
@pytest.mark.parametrize("colour", ["", "transparent", "#ffffff80"])
def test_transparency_is_never_lost_to_a_jpeg_and_the_answer_says_so(client: Client, path: str, colour: str) -> None:
    response = post(client, path, output_format="jpeg", background_color=colour)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert response.headers["x-mattehorn-warnings"] == "png_keeps_transparency"
    assert decoded(response.content)[..., 3].min() < 255


@BOTH
def test_an_empty_output_format_is_one_that_was_not_sent(client: Client, path: str) -> None:
    response = post(client, path, output_format="", background_color="red", feather="")
    assert response.headers["content-type"] == "image/png"


def test_api_matting_gives_three_views_as_json(client: Client) -> None:
    plain = post(client, MATTING)
    response = post(client, MATTING, accept="application/json")
    body = response.json()
    assert set(body) == {"result", "alpha", "width", "height", "result_id"}
    assert base64.b64decode(body["result"]) == plain.content
    assert np.array_equal(decoded(base64.b64decode(body["alpha"])), decoded(plain.content)[..., 3])
    assert (body["width"], body["height"], body["result_id"]) == (64, 48, None)
    assert response.headers["x-mattehorn-model"] == "fake@1"


def test_api_matting_tells_warnings_with_json_too(client: Client) -> None:
    response = post(client, MATTING, accept="application/json", output_format="jpeg")
    assert response.headers["x-mattehorn-warnings"] == "png_keeps_transparency"


def test_remove_background_gives_bytes_whatever_accept_says(client: Client) -> None:
    assert post(client, REMOVE, accept="application/json").headers["content-type"] == "image/png"


@BOTH
def test_save_alpha_keeps_the_result_and_its_matte(client: Client, path: str) -> None:
    response = post(client, path, save_alpha="true")
    result_id = response.headers["x-mattehorn-result-id"]
    assert client.get(f"/v1/results/{result_id}/image").content == response.content
    matte = decoded(client.get(f"/v1/results/{result_id}/alpha").content)
    assert np.array_equal(matte, decoded(response.content)[..., 3])
    assert "/p_matte.png" in client.get(f"/v1/results/{result_id}").json()["key"]


@BOTH
def test_unknown_fields_and_files_are_left_aside_and_counted(tmp_path: Path, path: str) -> None:
    with Client(InProcessService(tmp_path)) as client:
        plain = post(client, path)
        files = {"image": ("p.jpg", PHOTO), "background_file": ("b.png", b"no picture"), "mask": ("m", b"x")}
        response = client.post(path, files=files, data={"api_key": "K", "size": "auto", "format": "jpg"})
        assert (response.status_code, response.content) == (200, plain.content), response.text
        counted = client.service.backend.registry.get_sample_value(telemetry.IGNORED_FIELDS.name, {"route": path})
        assert counted == 3


@BOTH
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"feather": "99"}, "invalid_option"),
        ({"output_format": "gif"}, "invalid_option"),
        ({"background_color": "#12"}, "invalid_option"),
        ({"alpha_threshold": "x"}, "invalid_option"),
        ({"model": "u2net"}, "unknown_model"),
        ({"background_color": "#12", "output_format": "jpeg"}, "invalid_option"),
    ],
    ids=str,
)
def test_bad_values_are_native_errors(client: Client, path: str, fields: dict[str, str], code: str) -> None:
    response = post(client, path, **fields)
    assert response.status_code == 422
    assert response.json()["error"]["code"] == code


@BOTH
@pytest.mark.parametrize(
    ("sent", "begins"),
    [
        ({"feather": "99"}, "feather is 99; allowed 0 to 50."),
        ({"erode": "x"}, "erode is x; "),
        ({"output_format": "gif"}, "output_format is gif; allowed png, "),
        ({"save_alpha": "feather_px"}, "save_alpha is feather_px; allowed true or false."),
        ({"alpha_threshold": "x"}, "alpha_threshold is x; "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_errors_name_fields_as_they_were_sent(client: Client, path: str, sent: dict[str, str], begins: str) -> None:
    error = error_of(post(client, path, **sent), 422, "invalid_option")
    assert error["message"].startswith(begins)
    assert [error["field"]] == list(sent)


@BOTH
def test_several_bad_fields_are_each_named_as_sent(client: Client, path: str) -> None:
    error = error_of(post(client, path, feather="99", output_format="gif"), 422, "invalid_option")
    assert sorted(entry["field"] for entry in error["details"]) == ["feather", "output_format"]
    for entry in error["details"]:
        assert entry["message"].startswith(f"{entry['field']} is ")


@BOTH
def test_any_page_may_ask_and_read(client: Client, path: str) -> None:
    asking = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    preflight = client.request("OPTIONS", path, headers=asking)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, "*")
    for response in (post(client, path), post(client, path, feather="99")):
        assert response.headers["access-control-allow-origin"] == "*"
        assert "X-Mattehorn-Warnings" in response.headers["access-control-expose-headers"]


@BOTH
def test_other_bodies_and_bad_photos_are_native_errors(client: Client, path: str) -> None:
    def code(response: httpx.Response) -> tuple[int, str]:
        return response.status_code, response.json()["error"]["code"]

    assert code(client.post(path, content=PHOTO, headers={"content-type": "image/png"})) == (
        415,
        "unsupported_media_type",
    )
    assert code(client.post(path, files={"image": ("", b"")}, data={"a": "b"})) == (400, "missing_image")
    assert code(client.post(path, files={"image": ("a.jpg", b"only text" * 9)})) == (415, "unsupported_image")
    assert code(client.get(path)) == (405, "method_not_allowed")
    empty = encoded(np.full((48, 64, 3), BACKGROUND, np.uint8))
    assert code(client.post(path, files={"image": ("a.png", empty)})) == (422, "no_foreground")


@BOTH
def test_a_full_service_refuses_here_too(tmp_path: Path, path: str) -> None:
    with Client(InProcessService(tmp_path, limits={"requests_in_flight": 1})) as client:
        requests = [{"files": {"image": ("p.png", PHOTO)}}] * 3
        statuses = sorted(response.status_code for response in client.post_together(path, requests))
        assert statuses == [200, 429, 429]
