"""The native API's answers over the real pipeline with the fake model: bodies, Accept, stored results."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mattehorn.options import Options
from tests.api_client import JSON, PHOTO, Client, error_of, post
from tests.make_images import exif
from tests.service import SUBJECT, decoded, encoded, photo

# the answer


def test_a_photo_comes_back_as_a_cutout_with_a_clean_edge(client: Client) -> None:
    response = post(client)
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    cutout = decoded(response.content)
    assert cutout.shape == (48, 64, 4)
    assert tuple(cutout[24, 32]) == (*SUBJECT, 255)
    assert not cutout[0, 0].any()
    assert not cutout[cutout[..., 3] == 0].any()


def test_the_answers_headers_say_what_was_made(client: Client) -> None:
    headers = post(client, erode_px="0", feather_px="0").headers
    assert (headers["x-width"], headers["x-height"]) == ("64", "48")
    assert headers["x-mattehorn-model"] == "fake@1"
    assert 0 < float(headers["x-mattehorn-quality"]) <= 1
    assert headers["content-disposition"] == "inline; filename*=UTF-8''my%20photo_matte.png"
    top, left, height, width = (int(headers[f"x-foreground-{side}"]) for side in ("top", "left", "height", "width"))
    assert (abs(top - 12), abs(left - 16), abs(height - 24), abs(width - 32)) <= (1, 1, 2, 2)
    stages = dict(part.split(";dur=") for part in headers["server-timing"].split(", "))
    assert list(stages) == ["decode", "queue", "infer", "refine", "encode", "total"]
    assert all(float(ms) >= 0 for ms in stages.values())
    assert "x-mattehorn-warnings" not in headers
    assert "x-mattehorn-result-id" not in headers


def test_json_carries_the_same_picture_and_facts(client: Client) -> None:
    plain = post(client)
    response = post(client, headers=JSON, include="alpha")
    body = response.json()
    assert base64.b64decode(body["image"]) == plain.content
    alpha = decoded(base64.b64decode(body["alpha"]))
    assert np.array_equal(alpha, decoded(plain.content)[..., 3])
    assert (body["content_type"], body["width"], body["height"]) == ("image/png", 64, 48)
    source = body["source"]
    assert (source["width"], source["height"], source["format"], len(source["sha256"])) == (64, 48, "png", 64)
    assert body["foreground"] == {
        side: int(plain.headers[f"x-foreground-{side}"]) for side in ("top", "left", "width", "height")
    }
    assert body["model"] == {"name": "fake", "version": "1"}
    assert set(body["quality"]) == {"score", "reasons"}
    assert set(body["timings_ms"]) == {"decode", "queue", "infer", "refine", "encode", "total"}
    assert (body["result"], body["warnings"]) == (None, [])
    assert body["request_id"] == response.headers["x-request-id"]


def test_json_without_include_carries_no_alpha(client: Client) -> None:
    assert post(client, headers=JSON).json()["alpha"] is None


@pytest.mark.parametrize(
    ("fields", "content_type", "mode"),
    [
        ({"output": "cutout", "format": "webp"}, "image/webp", "RGBA"),
        ({"output": "cutout", "format": "avif"}, "image/avif", "RGBA"),
        ({"output": "alpha"}, "image/png", "L"),
        ({"output": "alpha", "format": "jpeg"}, "image/jpeg", None),
        ({"background_color": "#fff"}, "image/jpeg", "RGB"),
        ({"background_color": "#fff8"}, "image/png", "RGBA"),
        ({"output": "composite"}, "image/jpeg", "RGB"),
        ({"background_gradient": "90deg red blue", "format": "png"}, "image/png", "RGB"),
        ({"background_template": "studio-white"}, "image/jpeg", "RGB"),
        ({"background_blur_px": "3"}, "image/jpeg", "RGB"),
    ],
    ids=str,
)
def test_output_and_format_lead_to_the_right_type(
    client: Client, fields: dict[str, str], content_type: str, mode: str | None
) -> None:
    response = post(client, **fields)
    assert (response.status_code, response.headers["content-type"]) == (200, content_type), response.text
    with Image.open(io.BytesIO(response.content)) as image:
        assert image.size == (64, 48)
        assert mode in (None, image.mode)


def test_a_zip_holds_colour_alpha_and_facts(client: Client) -> None:
    response = post(client, output="zip", headers={"accept": "application/zip"})
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["content-disposition"].endswith("_matte.zip")
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.namelist() == ["color.jpg", "alpha.png", "meta.json"]
        assert decoded(archive.read("alpha.png")).shape == (48, 64)
        assert decoded(archive.read("color.jpg")).shape == (48, 64, 3)
        assert json.loads(archive.read("meta.json"))["width"] == 64


def test_a_background_file_is_what_the_subject_stands_before(client: Client) -> None:
    behind = encoded(np.full((10, 10, 3), (0, 0, 255), np.uint8))
    files = {"file": ("a.png", PHOTO), "background_file": ("b.png", behind)}
    response = client.post("/v1/mattes", files=files, data={"format": "png"})
    composite = decoded(response.content)
    assert tuple(composite[24, 32]) == SUBJECT
    assert tuple(composite[0, 0]) == (0, 0, 255)


def test_the_name_option_names_the_file_in_any_script(client: Client) -> None:
    header = post(client, name="鞋 1").headers["content-disposition"]
    assert header == "inline; filename*=UTF-8''%E9%9E%8B%201_matte.png"


def test_a_hostile_file_name_stays_one_plain_header(client: Client) -> None:
    name = '../../a"\\b;c\r\nX-Evil: 1.png'
    content = (
        b'--y\r\nContent-Disposition: form-data; name="file"; filename="'
        + name.replace("\r\n", " ").replace('"', "%22").encode()
        + b'"\r\n\r\n'
        + PHOTO
        + b"\r\n--y--\r\n"
    )
    response = client.post("/v1/mattes", content=content, headers={"content-type": "multipart/form-data; boundary=y"})
    assert response.status_code == 200
    assert "x-evil" not in response.headers
    assert "/" not in response.headers["content-disposition"]


def test_a_turned_photo_is_measured_upright(client: Client) -> None:
    turned = encoded(photo(), "JPEG", exif=exif(6), quality=95)
    response = post(client, turned)
    assert (response.headers["x-width"], response.headers["x-height"]) == ("48", "64")
    assert decoded(response.content).shape == (64, 48, 4)


def test_warnings_are_told_in_header_and_json(client: Client) -> None:
    frames = [Image.fromarray(photo()), Image.fromarray(photo()[:, ::-1, ::-1].copy())]
    target = io.BytesIO()
    frames[0].save(target, "GIF", save_all=True, append_images=frames[1:], duration=50)
    assert post(client, target.getvalue()).headers["x-mattehorn-warnings"] == "animated_first_frame"
    assert post(client, target.getvalue(), headers=JSON).json()["warnings"] == ["animated_first_frame"]


# the four body forms


def test_every_body_form_gives_the_same_bytes(client: Client) -> None:
    text = base64.b64encode(PHOTO).decode()
    expected = post(client, format="webp").content
    raw = client.post(
        "/v1/mattes", content=PHOTO, headers={"content-type": "image/png"}, params={"format": "webp", "sku": ""}
    )
    flat = client.post("/v1/mattes", json={"image_base64": "data:image/png;base64," + text, "format": "webp"})
    urlencoded = client.post("/v1/mattes", data={"image_base64": text, "format": "webp"})
    for response in (raw, flat, urlencoded):
        assert response.status_code == 200, response.text
        assert response.content == expected


def test_json_takes_typed_values_and_null_for_not_sent(client: Client) -> None:
    body = {"image_base64": base64.b64encode(PHOTO).decode(), "feather_px": True, "erode_px": 0.5, "roi": None}
    assert client.post("/v1/mattes", json=body | {"allow_empty": True, "encode_quality": 80}).status_code == 200
    assert client.service.jobs[-1].options.erode_px == 0.5


def test_every_option_of_the_contract_is_known() -> None:
    table = """model tier subject check_stability roi output format encode_quality background_color background_blur_px
    background_gradient background_template background_scaling shadow shadow_opacity shadow_blur_px shadow_offset
    alpha_threshold erode_px
    feather_px refine foreground existing_alpha store store_alpha store_source name sku include inline allow_empty
    output_size crop max_width max_height reference_box margin margin_top margin_right margin_bottom margin_left padding
    padding_top padding_right padding_bottom padding_left snap_cropped_sides horizontal_alignment vertical_alignment
    scaling dpi"""
    assert set(Options.model_fields) == set(table.split())


# Accept


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "image/png"),
        ("*/*", "image/png"),
        ("application/json, text/plain, */*", "image/png"),
        ("application/json", "application/json"),
        ("application/json, */*; q=0.01", "application/json"),
        ("image/webp", "image/webp"),
        ("image/avif, image/webp;q=0.9, */*;q=0.1", "image/png"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "image/png"),
        ("image/jpeg, */*;q=0.5", "image/png"),  # a cutout cannot be a jpg, and something else may be sent
        ("text/html, application/json;q=0.1", "application/json"),
    ],
)
def test_accept_picks_bytes_or_json_and_the_type(client: Client, accept: str | None, content_type: str) -> None:
    response = post(client, headers={} if accept is None else {"accept": accept})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == content_type


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/gif", "image/jpeg", "image/png;q=0"])
def test_what_cannot_be_given_is_not_acceptable(client: Client, accept: str) -> None:
    error = error_of(post(client, headers={"accept": accept}), 406, "not_acceptable")
    assert accept.partition(";")[0] in error["message"]


def test_a_sent_format_is_not_overruled_by_accept(client: Client) -> None:
    assert post(client, headers={"accept": "image/webp, */*"}, format="avif").headers["content-type"] == "image/avif"
    error_of(post(client, headers={"accept": "image/webp"}, format="png"), 406, "not_acceptable")


def test_accept_picks_the_format_of_a_composite_too(client: Client) -> None:
    response = post(client, headers={"accept": "image/webp"}, background_color="red")
    assert response.headers["content-type"] == "image/webp"


# the results store


def test_a_stored_result_is_the_answer_byte_for_byte(client: Client) -> None:
    response = post(client, store="true", store_alpha="1", store_source="yes", sku="A/1".replace("/", "-"), name="shoe")
    result_id = response.headers["x-mattehorn-result-id"]
    image = client.get(f"/v1/results/{result_id}/image")
    assert (image.content, image.headers["content-type"]) == (response.content, "image/png")
    alpha = client.get(f"/v1/results/{result_id}/alpha")
    assert np.array_equal(decoded(alpha.content), decoded(response.content)[..., 3])
    source = client.get(f"/v1/results/{result_id}/source")
    assert source.content == PHOTO
    facts = client.get(f"/v1/results/{result_id}").json()
    assert (facts["id"], facts["name"], facts["sku"]) == (result_id, "shoe", "A-1")
    assert facts["key"].endswith("/shoe_matte.png")
    assert facts["created_at"].endswith("Z")
    assert facts["options"]["store_alpha"] is True
    assert facts["model"] == "fake@1"
    kept = Path(client.service.settings.store.url.removeprefix("file://")) / facts["key"]
    assert kept.read_bytes() == response.content


def test_stored_json_names_the_result_and_its_url(client: Client) -> None:
    body = post(client, headers=JSON, store="true").json()
    image = client.get(body["result"]["url"])
    assert image.content == base64.b64decode(body["image"])
    assert body["result"]["id"] in body["result"]["url"]
    assert "store" in body["timings_ms"]


def test_inline_false_gives_a_url_in_place_of_base64_whatever_accept_says(client: Client) -> None:
    for headers in ({}, JSON, {"accept": "*/*"}):
        response = post(client, headers=headers, store="true", inline="false")
        assert response.headers["content-type"] == "application/json"
        body = response.json()
        assert body["image"] is None
        assert client.get(body["result"]["url"]).status_code == 200


def test_what_was_not_kept_is_not_found(client: Client) -> None:
    result_id = post(client, store="true").headers["x-mattehorn-result-id"]
    for part in ("alpha", "source"):
        error_of(client.get(f"/v1/results/{result_id}/{part}"), 404, "result_not_found")


@pytest.mark.parametrize(
    "result_id", ["nope", "0" * 26, "..%2F..%2Fetc%2Fpasswd", "%00", "x" * 5000, "%ED%A0%80", ".results"]
)
def test_an_unknown_result_is_not_found(client: Client, result_id: str) -> None:
    for part in ("", "/image", "/alpha", "/source"):
        response = client.get(f"/v1/results/{result_id}{part}")
        assert response.status_code == 404
        assert response.json()["error"]["code"] in ("result_not_found", "not_found")
