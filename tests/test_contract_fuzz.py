"""Whatever is sent to the shims is answered in their own shape: never 500, every field with any text, number or truth.

The fields are those of the OpenAPI document, so that a new one is asked as well. POST /v1/mattes by its options:
test_options_fuzz.py.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api_client import Client
from tests.service import InProcessService, encoded, photo
from tests.test_options_fuzz import BAD, PHOTOS, WHOLE

PHOTO = encoded(photo(16, 12))
MANY = 10**6  # megapixel images a minute: these tests are not about budgets
TEXTS = [*BAD, "true", "0", "1", "255", "256", "#fff", "red", "10%", "10% 20%", "1 2 9 9", "50px", "png", "jpg", "zip"]
TEXTS += [
    "auto",
    "full",
    "rgba",
    "alpha",
    "255,0,0",
    "1,2,3,4",
    "none",
    "latest",
    "u2net",
    '{"a": 1}',
    "\ud7ff",
    "é" * 40,
]
LOOSE = st.one_of(st.sampled_from(TEXTS), st.text(max_size=20))
VALUES = st.one_of(LOOSE, st.none(), st.booleans(), st.integers(), st.floats(), st.lists(LOOSE, max_size=2))
ACCEPTS = st.sampled_from(["*/*", "application/json", "image/png", "application/json, text/plain, */*", "text/html"])
OPTIONS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def shims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    removebg = {"megapixels_per_minute": MANY, "improve": True}
    with Client(InProcessService(tmp_path_factory.mktemp("results"), removebg=removebg)) as client:
        yield client


def fields_of(client: Client, path: str) -> list[str]:
    """What the document says can be sent to `path` by POST, files aside."""
    operation = client.app.openapi()["paths"][path]["post"]
    (form,) = (entry["schema"] for name, entry in operation["requestBody"]["content"].items() if "multipart" in name)
    return [name for name, schema in form["properties"].items() if schema.get("format") != "binary"]


def check_native(response: httpx.Response) -> None:
    assert response.json()["error"]["request_id"] == response.headers["x-request-id"]
    assert response.json()["error"]["message"]


def check_rembg(response: httpx.Response) -> None:
    detail = response.json()["detail"]
    if response.status_code == 422:
        assert all({"type", "loc", "msg"} <= set(entry) for entry in detail)
    assert detail


def check_removebg(response: httpx.Response) -> None:
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.status_code in (400, 403) or int(response.headers["retry-after"]) >= 1  # improve: 100 a day
    errors = response.json()["errors"]
    assert errors
    assert all(entry["title"] and entry["code"] for entry in errors)
    assert "x-credits-charged" not in response.headers


SHAPES: dict[str, Callable[[httpx.Response], None]] = {
    "/api/matting": check_native,
    "/remove_background": check_native,
    "/api/remove": check_rembg,
    "/v1.0/removebg": check_removebg,
    "/v1.0/improve": check_removebg,
}
JSON_TAKEN = ["/v1.0/removebg", "/v1.0/improve"]


def check(path: str, response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    assert response.headers["x-request-id"]
    if response.status_code != 200:
        SHAPES[path](response)


@pytest.mark.parametrize("path", SHAPES)
@given(data=st.data(), picture=PHOTOS, accept=ACCEPTS)
@OPTIONS
def test_any_form_is_answered_in_the_contracts_shape(
    shims: Client, path: str, data: st.DataObject, picture: bytes, accept: str
) -> None:
    names = st.one_of(st.sampled_from(fields_of(shims, path)), st.text(max_size=8))
    fields = data.draw(st.dictionaries(names, LOOSE, max_size=5))
    part = data.draw(st.sampled_from(["file", "image", "image_file", "bg_image_file"]))
    files = {part: ("a.png", picture), **({"image_file": ("b.png", PHOTO)} if part == "bg_image_file" else {})}
    check(path, shims.post(path, files=files, data=fields, headers={"accept": accept}))


@pytest.mark.parametrize("path", ["/api/remove", "/v1.0/removebg"])
@given(data=st.data())
@OPTIONS
def test_a_good_photo_with_any_values_in_every_field_is_answered(shims: Client, path: str, data: st.DataObject) -> None:
    """One field at a time: what the others would have refused first is reached."""
    field = data.draw(st.sampled_from(fields_of(shims, path)))
    picture = data.draw(st.sampled_from(WHOLE))
    part = "file" if path == "/api/remove" else "image_file"
    check(path, shims.post(path, files={part: ("a.png", picture)}, data={field: data.draw(LOOSE)}))


@pytest.mark.parametrize("path", JSON_TAKEN)
@given(data=st.data(), accept=ACCEPTS)
@OPTIONS
def test_any_json_is_answered_in_the_contracts_shape(
    shims: Client, path: str, data: st.DataObject, accept: str
) -> None:
    names = st.one_of(st.sampled_from(fields_of(shims, path)), st.text(max_size=8))
    body: dict[str, Any] = data.draw(st.dictionaries(names, VALUES, max_size=4))
    if data.draw(st.booleans()):
        body["image_file_b64"] = base64.b64encode(PHOTO).decode()
    headers = {"content-type": "application/json", "accept": accept}
    check(path, shims.post(path, content=json.dumps(body), headers=headers))


@given(query=st.dictionaries(st.one_of(st.sampled_from(["url", "model", "a", "af", "bgc", "extras"]), LOOSE), LOOSE))
@OPTIONS
def test_any_query_of_rembgs_get_is_answered(shims: Client, query: dict[str, str]) -> None:
    check("/api/remove", shims.get("/api/remove", params=query))


@pytest.mark.parametrize("path", SHAPES)
@given(
    body=st.binary(max_size=120),
    media_type=st.sampled_from(
        [
            "multipart/form-data; boundary=y",
            "multipart/form-data",
            "application/json",
            "application/x-www-form-urlencoded",
            "",
        ]
    ),
)
@OPTIONS
def test_any_bytes_are_answered_in_the_contracts_shape(shims: Client, path: str, body: bytes, media_type: str) -> None:
    check(path, shims.post(path, content=body, headers={"content-type": media_type} if media_type else {}))
