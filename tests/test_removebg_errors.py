"""What remove.bg's endpoint refuses, and how: every documented error, always `{"errors": [..]}`. Contract: 2.1, 2.3."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.ingress.compat.removebg.errors import TABLE, carvekit_error, code_of, error_response
from deployments.ingress.compat.removebg.routes import SHAPES
from deployments.ingress.compat.removebg.translate import PARAMETERS as PARAMETER_NAMES
from deployments.ingress.errors import Forbidden, InvalidKey, MissingKey, shape_of
from mattehorn.access.budgets import Standing
from mattehorn.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    MattehornError,
    ModelLoading,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from tests.api_client import EMPTY, PHOTO, Client
from tests.removebg_table import (
    ACCOUNT,
    FAULTS,
    IMPROVE,
    PARAMETERS,
    REMOVE,
    TYPES,
    Fault,
    Row,
    check_fault,
    check_parameter,
    error_of,
    upload,
)
from tests.service import InProcessService
from tests.sites import ENDLESS, Site, site

REACHED_ELSEWHERE = {
    *("failed_image_download", "failed_bg_download", "unknown_foreground", "improve_disabled", "upload_timeout"),
    *("not_found", "method_not_allowed", "internal", "unavailable", "rate_limit_exceeded", "insufficient_credits"),
    *("auth_failed", "forbidden"),
}


@pytest.fixture(scope="module")
def shop() -> Iterator[Site]:
    with site(PHOTO, gone="404", endless=ENDLESS) as started:
        yield started


@pytest.fixture(scope="module")
def buyer(tmp_path_factory: pytest.TempPathFactory, shop: Site) -> Iterator[Client]:
    """Requests to a service whose operator lists the shop."""
    with Client(InProcessService(tmp_path_factory.mktemp("results"), url_allow=[shop.place])) as client:
        yield client


# the table


@pytest.mark.parametrize("row", PARAMETERS, ids=lambda row: f"{row.name}-{row.code}")
def test_every_parameter_takes_its_good_values_and_refuses_bad_ones(client: Client, row: Row) -> None:
    check_parameter(client, row, PHOTO)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_has_its_code_and_title(client: Client, fault: Fault) -> None:
    check_fault(client, fault, PHOTO)


@pytest.mark.parametrize("kind", TYPES)
def test_an_unknown_type_is_as_auto(client: Client, kind: str) -> None:
    assert client.post(REMOVE, **upload(PHOTO, type=kind)).status_code == 200


def test_every_code_of_the_contract_is_reached_by_a_test() -> None:
    reached = {row.code for row in PARAMETERS} | {fault.code for fault in FAULTS} | REACHED_ELSEWHERE
    assert reached == set(TABLE)


def test_the_api_document_has_every_parameter_and_code() -> None:
    text = (Path(__file__).parent.parent / "docs" / "api.md").read_text("utf-8")
    section = text.partition("## remove.bg's endpoints")[2].partition("\n## ")[0]
    assert [name for name in (*PARAMETER_NAMES, *TABLE) if f"`{name}`" not in section] == []


def test_a_bad_value_costs_nothing_and_says_what_is_allowed(client: Client) -> None:
    entry = error_of(client.post(REMOVE, **upload(PHOTO, size="huge")), 400, "invalid_size")
    assert entry["detail"].startswith("size is 'huge'; allowed: preview, ")
    first, second = (client.post(REMOVE, **upload(PHOTO)).headers["x-ratelimit-remaining"] for _ in range(2))
    client.post(REMOVE, **upload(PHOTO, size="huge"))
    client.post(REMOVE, **upload(EMPTY))
    third = client.post(REMOVE, **upload(PHOTO)).headers["x-ratelimit-remaining"]
    assert [int(first) - 1, int(first) - 2] == [int(second), int(third)]


# what a photo's contents or its server lead to


def test_a_photo_without_a_subject_is_an_unknown_foreground(client: Client) -> None:
    response = client.post(REMOVE, **upload(EMPTY))
    assert "detail" not in error_of(response, 400, "unknown_foreground", "Could not identify foreground in image.")


def test_a_download_that_fails_says_with_which_status(buyer: Client, shop: Site) -> None:
    title = "Failed to download image from given image_url: HTTP Status 404"
    response = buyer.post(REMOVE, data={"image_url": shop.url("/gone"), "size": "auto"})
    error_of(response, 400, "failed_image_download", title)


def test_a_background_that_cannot_be_downloaded_is_named(buyer: Client, shop: Site) -> None:
    url = shop.url("/gone")
    response = buyer.post(REMOVE, **upload(PHOTO, bg_image_url=url))
    title = f"Failed to download background image from given image_url: {url}"
    entry = error_of(response, 400, "failed_bg_download", title)
    assert entry["detail"].startswith("bg_image_url: ")


def test_a_download_that_never_ends_is_too_large(tmp_path: Path, shop: Site) -> None:
    service = InProcessService(
        tmp_path, url_allow=[shop.place], limits={"body_bytes": 2**20}, removebg={"body_bytes": 2**20}
    )
    with Client(service) as client:
        response = client.post(REMOVE, json={"image_url": shop.url("/endless")})
        error_of(response, 400, "file_too_large", "File too large")


@pytest.mark.parametrize("name", ["image_url", "bg_image_url"])
@pytest.mark.parametrize("page", ["endless", "larger"])
def test_a_picture_by_url_has_the_limit_of_this_contract(tmp_path: Path, shop: Site, name: str, page: str) -> None:
    shop.pages["/larger"] = PHOTO + bytes(2**20)
    service = InProcessService(tmp_path, url_allow=[shop.place], removebg={"body_bytes": 2**20})
    with Client(service) as client:
        photo = {} if name == "image_url" else {"image_file_b64": base64.b64encode(PHOTO).decode()}
        response = client.post(REMOVE, json={**photo, name: shop.url(f"/{page}")})
        entry = error_of(response, 400, "file_too_large", "File too large")
        assert entry["detail"] == "File exceeds limit of 1MB"


@pytest.mark.parametrize(
    ("most", "said"), [(22 * 2**20, "22MB"), (3 * 2**19, "1.5MB"), (300_000, "293kB"), (2048, "2kB")], ids=str
)
def test_a_limit_is_told_in_a_unit_that_shows_it(most: int, said: str) -> None:
    response = error_response(BodyTooLarge("Too much.", most_bytes=most))
    assert json.loads(bytes(response.body))["errors"][0]["detail"] == f"File exceeds limit of {said}"


@pytest.mark.parametrize("path", [REMOVE, "/api/removebg"])
def test_base64_is_counted_decoded_in_every_body(tmp_path: Path, path: str) -> None:
    most = 2**21
    with Client(InProcessService(tmp_path, removebg={"body_bytes": most})) as client:
        for size in (most, most + 1):  # trailing bytes after a picture's end are no fault
            text = base64.encodebytes(PHOTO + bytes(size - len(PHOTO))).decode()
            for sent in ({"json": {"image_file_b64": text}}, {"files": {"image_file_b64": (None, text)}}):
                response = client.post(path, **sent)
                if size == most:
                    assert response.status_code == 200, response.text
                else:
                    assert error_of(response, 400, "file_too_large")["detail"] == "File exceeds limit of 2MB"


def test_the_room_for_base64_is_none_for_files(tmp_path: Path) -> None:
    most = 2**21
    with Client(InProcessService(tmp_path, removebg={"body_bytes": most})) as client:
        large = PHOTO + bytes(most * 5 // 4 - len(PHOTO))
        both = {"image_file": ("p", PHOTO + bytes(most // 2)), "bg_image_file": ("b", PHOTO + bytes(most // 2))}
        for sent in (upload(large), {"files": both}):
            assert error_of(client.post(REMOVE, **sent), 400, "file_too_large")["detail"] == "File exceeds limit of 2MB"


def test_a_background_that_is_no_picture_is_refused(client: Client) -> None:
    files = {"image_file": ("p", PHOTO), "bg_image_file": ("b", b"only text" * 9)}
    error_of(client.post(REMOVE, files=files), 400, "invalid_file_type")


# around the request


def test_other_paths_and_methods_below_this_version_have_the_same_shape(client: Client) -> None:
    missing = client.get("/v1.0/removebgs")
    assert (missing.status_code, missing.json()["errors"][0]["code"]) == (404, "not_found")
    for path in (REMOVE, "/api/removebg"):
        response = client.get(path)
        error_of(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "POST"
    error_of(client.post(ACCOUNT), 405, "method_not_allowed")
    error_of(client.post(IMPROVE, **upload(PHOTO)), 403, "improve_disabled")


def test_a_slow_upload_ends(tmp_path: Path) -> None:
    async def trickle():  # type: ignore[no-untyped-def]
        yield b"--x"
        import asyncio

        await asyncio.sleep(30)

    with Client(InProcessService(tmp_path, limits={"upload_s": 0.05})) as client:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        error_of(client.post(REMOVE, content=trickle(), headers=headers), 408, "upload_timeout")


@pytest.mark.parametrize(
    ("raised", "status", "code", "retry_after"),
    [
        (Unavailable("No replica is there.", retry_after_s=2), 503, "unavailable", "2"),
        (ModelLoading("Loading.", retry_after_s=7), 503, "unavailable", "7"),
        (DeadlineExceeded("Not done in time."), 504, "unavailable", None),
        (Overloaded("Full."), 429, "rate_limit_exceeded", "1"),
        (RuntimeError("/secret/path"), 500, "internal", None),
        (MattehornError("A fault."), 500, "internal", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_faults_of_the_service_have_an_entry_too(
    tmp_path: Path, raised: Exception, status: int, code: str, retry_after: str | None
) -> None:
    with Client(InProcessService(tmp_path)) as client:
        client.service.error = raised
        response = client.post(REMOVE, **upload(PHOTO))
        error_of(response, status, code)
        assert response.headers.get("retry-after") == retry_after
        assert "secret" not in response.text


def test_a_spent_minute_is_a_429_with_its_numbers_and_a_spent_month_a_402(tmp_path: Path) -> None:
    standing = Standing(500, 0, 1_800_000_000, "rate_limited", 30)
    minute = error_response(RateLimited("Spent.", retry_after_s=30, standing=standing))
    assert (minute.status_code, minute.headers["retry-after"]) == (429, "30")
    assert minute.headers["x-ratelimit-remaining"] == "0"
    month = error_response(QuotaExceeded("Spent.", retry_after_s=9999, standing=standing))
    assert (month.status_code, b"insufficient_credits" in bytes(month.body)) == (402, True)


def test_a_key_that_is_wrong_is_told_byte_for_byte_as_remove_bg_does() -> None:
    wrong = error_response(InvalidKey("No such key."))
    assert (wrong.status_code, bytes(wrong.body)) == (
        403,
        b'{"errors":[{"title":"API Key invalid","code":"auth_failed"}]}',
    )
    missing = error_response(MissingKey("Send a key."))
    assert (missing.status_code, bytes(missing.body)) == (
        403,
        b'{"errors":[{"title":"Missing API Key","code":"auth_failed"}]}',
    )
    assert bytes(carvekit_error(MissingKey("Send a key.")).body) == b'{"errors":[{"title":"Missing API Key"}]}'
    assert bytes(carvekit_error(InvalidKey("No.")).body) == bytes(wrong.body)
    forbidden = error_response(Forbidden("This key may not do this."))
    assert (forbidden.status_code, b'"forbidden"' in bytes(forbidden.body)) == (403, True)
    assert "www-authenticate" not in wrong.headers


def test_an_error_that_this_contract_does_not_know_is_still_one_of_its_codes() -> None:
    assert code_of(IdempotencyInProgress("Still running.", retry_after_s=1)) == "rate_limit_exceeded"
    assert code_of(IdempotencyKeyReused("Another photo.")) == "invalid_parameter"
    assert all(status >= 400 and title for status, title in TABLE.values())


def test_shapes_go_by_path_and_by_the_longest_folder() -> None:
    assert shape_of(SHAPES, "/v1.0/anything") is error_response
    assert shape_of(SHAPES, "/api/removebg") is carvekit_error
    assert shape_of(SHAPES, "/v1/mattes") not in (error_response, carvekit_error)
    assert shape_of(SHAPES, "/v1.0") is not error_response


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["1", "0", "true", "10%", "50%", "5px 5px", "center", "png", "zip", "jpg", "auto", "f00", "hd"]),
)
NAMES = st.sampled_from(
    [
        *("image_file_b64", "image_url", "size", "type", "type_level", "format", "roi", "crop", "crop_margin", "scale"),
        *("position", "channels", "add_shadow", "shadow_type", "shadow_opacity", "semitransparency", "bg_color"),
        *("bg_image_url", "api_key", "shadow_method"),
    ]
)


@given(sent=st.dictionaries(NAMES, TEXTS, max_size=8))
@settings(max_examples=150, deadline=None)
def test_no_text_is_a_fault_of_the_service(client: Client, sent: dict[str, str]) -> None:
    response = client.post(REMOVE, **upload(PHOTO, **sent))
    assert response.status_code in (200, 400, 429), response.text
    if response.status_code != 200:
        error_of(response, response.status_code, response.json()["errors"][0]["code"])


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(sent=st.dictionaries(NAMES, ANY_JSON, max_size=5))
@settings(max_examples=100, deadline=None)
def test_no_json_is_a_fault_of_the_service(client: Client, sent: dict[str, object]) -> None:
    headers = {"content-type": "application/json"}
    response = client.post(REMOVE, content=json.dumps(sent).encode(), headers=headers)
    error_of(response, 400, response.json()["errors"][0]["code"])
