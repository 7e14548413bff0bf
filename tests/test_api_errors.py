"""The native API's errors: bad input as decided, and every code of the contract that can be reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mattehorn import errors
from mattehorn.errors import MattehornError
from mattehorn.options import Options
from tests.api_client import EMPTY, JSON, PHOTO, Client, error_of, post
from tests.make_images import black_png
from tests.service import InProcessService, decoded, encoded, photo

# bad input: the line of that name in the decisions


def test_bad_input_gets_the_answers_that_were_decided(client: Client) -> None:
    def raw(data: bytes) -> httpx.Response:
        return client.post("/v1/mattes", content=data, headers={"content-type": "image/jpeg"})

    error_of(raw(b""), 400, "missing_image")
    error_of(client.post("/v1/mattes"), 400, "missing_image")
    text = client.post("/v1/mattes", files={"file": ("photo.jpg", b"just text, no picture\n" * 20)})
    assert "text" in error_of(text, 415, "unsupported_image")["message"]
    jpeg = encoded(photo(640, 480), "JPEG")
    error_of(post(client, jpeg[: len(jpeg) // 2]), 422, "corrupt_image")
    bomb = error_of(post(client, black_png(20_000, 20_000)), 413, "image_too_large")
    assert "20" in bomb["message"]
    error_of(post(client, black_png(20_001, 1)), 413, "image_too_large")
    error_of(post(client, shiny="1"), 422, "unknown_option")
    error_of(post(client, encoded(photo(1, 1))), 422, "no_foreground")
    assert post(client, encoded(photo(1, 1)), allow_empty="true").status_code == 200
    strip = encoded(photo(20_000, 1))
    assert post(client, strip).status_code in (200, 422)
    assert post(client, strip, allow_empty="true").headers["x-width"] == "20000"


def test_a_body_announced_too_large_is_refused_at_once(client: Client) -> None:
    pulled = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal pulled
        while pulled < 300:
            pulled += 1
            yield bytes(2**20)

    headers = {"content-type": "image/png", "content-length": str(300 * 2**20)}
    response = client.post("/v1/mattes", content=pieces(), headers=headers)
    error = error_of(response, 413, "body_too_large")
    assert str(32 * 2**20) in error["message"]
    assert pulled == 0


@pytest.mark.parametrize("content_type", ["image/png", "multipart/form-data; boundary=y", "application/json"])
def test_a_body_that_grows_too_large_is_refused_when_the_limit_has_come(client: Client, content_type: str) -> None:
    pulled = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal pulled
        yield b'--y\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        while pulled < 300:
            pulled += 1
            yield bytes(2**20)

    response = client.post("/v1/mattes", content=pieces(), headers={"content-type": content_type})
    error_of(response, 413, "body_too_large")
    assert pulled < 60


def test_an_upload_that_takes_too_long_is_a_timeout(tmp_path: Path) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield PHOTO[:100]
        await asyncio.sleep(60)

    with Client(InProcessService(tmp_path, limits={"upload_s": 0.05})) as client:
        response = client.post("/v1/mattes", content=slow(), headers={"content-type": "image/png"})
        error_of(response, 408, "upload_timeout")
        assert client.service.admission.in_flight == 0


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_internal_error(client: Client) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/mattes",
        "query_string": b"",
        "headers": [(b"content-type", b"image/png")],
    }
    asyncio.run(client.app(scope, receive, send))
    assert sent[0]["status"] == 400
    assert client.service.admission.in_flight == 0


# errors: every code of the contract that this version can give


def test_bodies_that_cannot_be_read(client: Client) -> None:
    error_of(client.post("/v1/mattes", content=b"{", headers={"content-type": "application/json"}), 400, "invalid_body")
    error_of(client.post("/v1/mattes", json={"image_base64": "%%%"}), 400, "invalid_body")
    broken = {"content-type": "multipart/form-data; boundary=y"}
    error_of(client.post("/v1/mattes", content=b"no parts", headers=broken), 400, "invalid_body")


def test_no_photo_and_several_photos(client: Client) -> None:
    error_of(client.post("/v1/mattes", data={"format": "png"}, files={"file": ("", b"")}), 400, "missing_image")
    error_of(client.post("/v1/mattes", files={"file": (None, "photo.png")}), 400, "missing_image")
    two = [("file", ("a.png", PHOTO)), ("image", ("b.png", PHOTO))]
    error_of(client.post("/v1/mattes", files=two), 400, "multiple_images")


def test_unsupported_types(client: Client) -> None:
    error_of(
        client.post("/v1/mattes", content=PHOTO, headers={"content-type": "text/html"}), 415, "unsupported_media_type"
    )
    for data, kind in (
        (b"%PDF-1.7\n" + bytes(100), "pdf"),
        (b"<svg xmlns='x'></svg>", "svg"),
        (b"8BPS" + bytes(99), "psd"),
    ):
        error = error_of(post(client, data), 415, "unsupported_image")
        assert kind in error["message"].lower()


def test_what_is_not_there_and_what_is_not_allowed(client: Client) -> None:
    error_of(client.get("/v1/nothing"), 404, "not_found")
    error_of(client.get("/static/../../secret"), 404, "not_found")
    for path in ("/v1/mattes/", "/healthz/", "/v1/results/x%2F"):
        error_of(client.get(path), 404, "not_found")  # never a redirect
    wrong = client.get("/v1/mattes")
    error_of(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/v1/jobs", "/api/remove"])
def test_allow_names_every_method_of_a_path_that_several_routes_share(client: Client, path: str) -> None:
    assert client.request("DELETE", path).headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"feather_px": "99"}, "invalid_option", "feather_px"),
        ({"erode_px": "nan"}, "invalid_option", "erode_px"),
        ({"alpha_threshold": "255"}, "invalid_option", "alpha_threshold"),
        ({"alpha_threshold": "1.5"}, "invalid_option", "alpha_threshold"),
        ({"format": "gif"}, "invalid_option", "format"),
        ({"output": "mask"}, "invalid_option", "output"),
        ({"encode_quality": "0"}, "invalid_option", "encode_quality"),
        ({"background_color": "#12"}, "invalid_option", "background_color"),
        ({"background_gradient": "90deg red"}, "invalid_option", "background_gradient"),
        ({"background_template": "nope"}, "invalid_option", "background_template"),
        ({"background_blur_px": "0.1"}, "invalid_option", "background_blur_px"),
        ({"roi": "1 2 3"}, "invalid_option", "roi"),
        ({"roi": "50 40 50 48"}, "invalid_option", "roi"),
        ({"roi": "100 100 200 200"}, "invalid_option", "roi"),
        ({"store": "maybe"}, "invalid_option", "store"),
        ({"name": "a/b"}, "invalid_option", "name"),
        ({"name": "x" * 201}, "invalid_option", "name"),
        ({"include": "beta"}, "invalid_option", "include"),
        ({"refine": "best"}, "invalid_option", "refine"),
        ({"existing_alpha": "keep"}, "invalid_option", "existing_alpha"),
        ({"shadow_offset": "1"}, "invalid_option", "shadow_offset"),
        ({"crop_margin": "5px"}, "unknown_option", "crop_margin"),
        ({"model": "u2net"}, "unknown_model", "model"),
        ({"model": "fake@9"}, "unknown_model", "model"),
        ({"format": "jpg"}, "conflicting_options", "format"),
        ({"format": "png", "output": "zip"}, "conflicting_options", "format"),
        ({"background_color": "red", "output": "cutout"}, "conflicting_options", "background_color"),
        ({"background_color": "red", "background_blur_px": "3"}, "conflicting_options", "background_blur_px"),
        ({"background_color": "#fff8", "format": "jpg"}, "conflicting_options", "format"),
        ({"shadow": "drop"}, "conflicting_options", "shadow"),
        ({"store_alpha": "true"}, "conflicting_options", "store_alpha"),
        ({"inline": "false"}, "conflicting_options", "inline"),
    ],
    ids=str,
)
def test_a_bad_option_is_named_with_what_is_allowed(
    client: Client, fields: dict[str, str], code: str, field: str
) -> None:
    error = error_of(post(client, **fields), 422, code)
    assert error["field"] == field
    assert field.partition("_")[0] in error["message"]
    assert error["details"] == []


@pytest.mark.parametrize("fields", [{"model": "fake"}, {"model": "fake@1"}, {"model": "auto"}, {"model": ""}], ids=str)
def test_the_running_model_may_be_named(client: Client, fields: dict[str, str]) -> None:
    assert post(client, **fields).headers["x-mattehorn-model"] == "fake@1"


def test_several_bad_options_are_told_one_by_one(client: Client) -> None:
    error = error_of(post(client, feather_px="99", roi="x", shiny="1"), 422, "invalid_option")
    told = {entry["field"]: entry for entry in error["details"]}
    assert set(told) == {"feather_px", "roi", "shiny"}
    assert told["feather_px"] == {
        "code": "invalid_option",
        "field": "feather_px",
        "message": "feather_px is 99; allowed 0 to 50.",
    }
    assert told["shiny"]["code"] == "unknown_option"


def test_several_conflicts_are_told_one_by_one(client: Client) -> None:
    error = error_of(post(client, shadow="drop", store_alpha="true"), 422, "conflicting_options")
    assert [entry["field"] for entry in error["details"]] == ["shadow", "store_alpha"]


def test_an_empty_string_means_not_sent(client: Client) -> None:
    empty = dict.fromkeys(Options.model_fields, "")
    assert post(client, **empty).content == post(client).content


def test_no_foreground_is_an_error_unless_it_is_allowed(client: Client) -> None:
    error_of(post(client, EMPTY), 422, "no_foreground")
    allowed = post(client, EMPTY, allow_empty="true", headers=JSON).json()
    assert allowed["foreground"] is None
    assert allowed["quality"] == {"score": 0.0, "reasons": ["empty"]}
    plain = post(client, EMPTY, allow_empty="true")
    assert "x-foreground-top" not in plain.headers
    assert plain.headers["x-mattehorn-quality-reasons"] == "empty"
    assert not decoded(plain.content).any()


def test_a_full_service_answers_429_with_a_retry_after(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path, limits={"requests_in_flight": 2})) as client:
        responses = client.post_together("/v1/mattes", [{"files": {"file": ("a.png", PHOTO)}}] * 6)
        statuses = sorted(response.status_code for response in responses)
        assert statuses == [200, 200, 429, 429, 429, 429]
        refused = next(response for response in responses if response.status_code == 429)
        error = error_of(refused, 429, "overloaded")
        assert int(refused.headers["retry-after"]) == error["retry_after_s"] >= 1
        assert post(client).status_code == 200


def test_work_that_takes_too_long_ends_at_the_deadline(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path, limits={"work_s": 0.2})) as client:
        client.service.matting.model._batch_s = 1.0
        error_of(post(client), 504, "deadline_exceeded")
        assert client.service.admission.in_flight == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ModelLoading("The model is being loaded.", retry_after_s=5), 503),
        (errors.Unavailable("Compose was restarted too often.", retry_after_s=2), 503),
        (errors.StoreUnavailable("The store did not answer.", retry_after_s=5), 503),
        (errors.Overloaded("Full.", retry_after_s=2), 429),
        (errors.ModelNotAllowed("The licence of this model was not accepted."), 403),
        (errors.ModelError("The network's alpha is not finite."), 500),
    ],
    ids=lambda value: getattr(value, "code", value),
)
def test_errors_from_behind_keep_their_code_and_retry_after(tmp_path: Path, error: MattehornError, status: int) -> None:
    with Client(InProcessService(tmp_path)) as client:
        client.service.error = error
        response = post(client)
        assert error_of(response, status, error.code)["message"] == error.message
        if error.retry_after_s:
            assert response.headers["retry-after"] == str(error.retry_after_s)


def test_a_bug_is_told_as_nothing_and_has_the_headers_of_every_answer(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path)) as client:
        client.service.error = KeyError("/secret/path")
        response = post(client, headers={"x-request-id": "mine"})
        error = error_of(response, 500, "internal")
        assert response.headers["x-request-id"] == "mine"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "secret" not in error["message"]
        assert client.service.admission.in_flight == 0


def test_what_a_caller_sent_comes_back_in_a_message_even_where_utf8_cannot_hold_it(client: Client) -> None:
    body = '{"image_base64": "AAAA", "\\ud800x": 1, "roi": "\\udfff", "name": "\\ud83d"}'
    response = client.post("/v1/mattes", content=body.encode(), headers={"content-type": "application/json"})
    error = error_of(response, 422, "invalid_option")
    assert "\ud83d" in error["details"][1]["message"] + error["details"][2]["message"]
    assert {entry["field"] for entry in error["details"]} == {"\\ud800x", "roi", "name"}


def test_a_photo_sent_as_deeply_nested_json_is_no_internal_error(client: Client) -> None:
    body = b'{"image_base64": "AAAA", "roi": ' + b"[" * 900 + b"]" * 900 + b', "output": {"a": {}}}'
    response = client.post("/v1/mattes", content=body, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
