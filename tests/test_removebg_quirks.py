"""One test for each quirk of remove.bg's published clients (contract 2.6), by its number there."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path
from urllib.parse import urlencode

import pytest

from deployments.ingress.compat.removebg.routes import MAX_WAIT_S
from tests.api_client import EMPTY, PHOTO, Client
from tests.removebg_table import REMOVE, error_of, upload
from tests.service import InProcessService, encoded, photo
from tests.sites import site

UNSET = (
    *("type_level", "roi", "crop", "crop_margin", "scale", "position", "add_shadow", "semitransparency", "bg_color"),
)


def test_1_unset_options_come_as_empty_texts(client: Client) -> None:
    plain = client.post(REMOVE, **upload(PHOTO, size="auto"))
    unset = client.post(REMOVE, **upload(PHOTO, size="auto", **dict.fromkeys(UNSET, "")))
    assert (unset.status_code, unset.content) == (200, plain.content)
    assert unset.headers["x-type"] == "other"


def test_2_a_zip_is_answered_as_a_zip_of_two_pictures_of_one_size(client: Client) -> None:
    for accept in ("*/*", "image/png", "application/zip"):
        response = client.post(REMOVE, **upload(PHOTO, format="zip"), headers={"accept": accept})
        assert response.headers["content-type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            assert archive.namelist() == ["color.jpg", "alpha.png"]


@pytest.mark.parametrize("raised", [None, RuntimeError("x"), MemoryError()], ids=str)
def test_3_the_first_title_can_be_read_of_every_error(tmp_path: Path, raised: Exception | None) -> None:
    with Client(InProcessService(tmp_path)) as client:
        client.service.error = raised
        response = client.post(REMOVE, **upload(EMPTY))
        assert response.status_code >= 400
        assert response.json()["errors"][0]["title"]


def test_4_a_wait_too_long_for_the_ruby_client_is_refused_before_the_body_is_read(tmp_path: Path) -> None:
    assert MAX_WAIT_S < 20  # its timeout, after which it sends the photo again
    with Client(InProcessService(tmp_path)) as client:
        client.service.pace.wait_s = lambda _=None: MAX_WAIT_S + 1  # type: ignore[method-assign]
        error_of(client.post(REMOVE, **upload(PHOTO)), 429, "rate_limit_exceeded")
        assert client.service.jobs == []
        assert client.post("/v1/mattes", files={"file": ("p", PHOTO)}).status_code == 200  # 30 s of patience
        client.service.pace.wait_s = lambda _=None: MAX_WAIT_S - 1  # type: ignore[method-assign]
        assert client.post(REMOVE, **upload(PHOTO)).status_code == 200


def test_4_an_answer_has_to_be_there_before_the_ruby_client_gives_up(tmp_path: Path) -> None:
    import time

    with Client(InProcessService(tmp_path)) as client:
        client.post(REMOVE, **upload(PHOTO))
        assert client.service.jobs[-1].deadline - time.time() <= 18


def test_5_a_429_says_when_to_come_again_in_whole_seconds(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path, limits={"requests_in_flight": 1})) as client:
        with client.service.admission.admit():
            response = client.post(REMOVE, **upload(PHOTO))
        error_of(response, 429, "rate_limit_exceeded", "Rate limit exceeded")
        assert response.headers["retry-after"].isdigit()


def test_6_axioss_accept_gets_bytes(client: Client) -> None:
    headers = {"accept": "application/json, text/plain, */*"}
    response = client.post(REMOVE, **upload(PHOTO, size="auto"), headers=headers)
    assert response.headers["content-type"] == "image/png"


def test_7_npm_sends_a_json_boolean_and_a_form_without_its_last_line_break(client: Client) -> None:
    sent = {"image_file_b64": base64.b64encode(PHOTO).decode(), "crop": False, "size": "preview"}
    response = client.post(REMOVE, json=sent, headers={"accept": "application/json"})
    assert set(response.json()["data"]) >= {"result_b64", "foreground_top"}
    head = b'--x\r\nContent-Disposition: form-data; name="crop"\r\n\r\nfalse\r\n--x\r\n'
    head += b'Content-Disposition: form-data; name="image_file"; filename="p.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x", "accept": "application/json"}
    response = client.post(REMOVE, content=head + PHOTO + b"\r\n--x--", headers=headers)
    assert response.status_code == 200, response.text


def test_8_the_browser_sample_sends_an_empty_twin_and_an_unknown_field(tmp_path: Path) -> None:
    with site(PHOTO) as shop, Client(InProcessService(tmp_path, url_allow=[shop.place])) as client:
        by_file = client.post(REMOVE, **upload(PHOTO, image_url="", api_key="K"))
        files = {"image_file": ("", b"", "application/octet-stream")}
        by_url = client.post(REMOVE, files=files, data={"image_url": shop.url("/p.jpg"), "api_key": "K"})
        assert by_file.status_code == by_url.status_code == 200
        assert by_file.content == by_url.content


def test_8_an_empty_twin_of_a_field_is_one_that_was_not_sent(client: Client) -> None:
    sent = [("image_file_b64", base64.b64encode(PHOTO).decode()), ("format", "webp"), ("format", ""), ("size", "auto")]
    urlencoded = client.post(
        REMOVE, content=urlencode(sent).encode(), headers={"content-type": "application/x-www-form-urlencoded"}
    )
    multipart = client.post(REMOVE, files=[(name, (None, text)) for name, text in sent])
    for response in (urlencoded, multipart):
        assert (response.status_code, response.headers["content-type"]) == (200, "image/webp"), response.text


def test_9_the_default_size_is_a_preview_whoever_asks(client: Client) -> None:
    large = encoded(photo(1000, 800))
    for agent in ("remove-bg-ruby-2.2.1", "remove-bg-node", "python-requests/2"):
        response = client.post(REMOVE, **upload(large), headers={"user-agent": agent})
        assert int(response.headers["x-width"]) * int(response.headers["x-height"]) <= 250_000


def test_10_pypi_sends_a_file_without_a_type_and_a_photo_may_lack_a_name(client: Client) -> None:
    plain = client.post(REMOVE, **upload(PHOTO)).content
    for part in (("p.jpg", PHOTO, ""), (None, PHOTO), ("p.txt", PHOTO, "text/plain")):
        response = client.post(REMOVE, files={"image_file": part})
        assert (response.status_code, response.content) == (200, plain), response.text
