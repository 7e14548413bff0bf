"""What rembg's endpoint refuses, and how: `{"detail": ..}`, never a 500 for bad input. Contract, sections 3 and 6."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattehorn.errors import Unavailable
from tests.api_client import PHOTO, Client
from tests.rembg_client import REMOVE, detail, post, refused
from tests.service import InProcessService, encoded, photo


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "zz-u2net-zz"),
        ("model", "attn-unet-r34"),
        ("bgc", "red"),
        ("bgc", "1,2"),
        ("bgc", "1,2,256"),
        ("bgc", "1,2,3,4,5"),
        ("bgc", "1,,3"),
        ("bgc", "-1,2,3"),
        ("a", "maybe"),
        ("om", "2"),
        ("ppm", "x"),
        ("af", "256"),
        ("ab", "-1"),
        ("ae", "ten"),
        ("ae", "9" * 99),
        ("format", "gif"),
        ("format", "jpg"),
    ],
)
def test_a_bad_value_is_named_with_its_place(client: Client, name: str, value: str) -> None:
    in_form = refused(post(client, **{name: value}), "body", name)
    assert in_form["input"] == value
    assert in_form["msg"].startswith(f"{name} ")
    assert in_form["msg"].endswith(".")
    assert refused(post(client, query={name: value}), "query", name)["msg"] == in_form["msg"]


def test_jpg_over_a_translucent_background_is_refused(client: Client) -> None:
    refused(post(client, format="jpg", bgc="1,2,3,4"), "body", "format")


def test_what_is_missing_is_named_as_fastapi_does(client: Client) -> None:
    missing = {"type": "missing", "loc": ["query", "url"], "msg": "Field required", "input": None}
    assert detail(client.get(REMOVE), 422) == [missing]
    missing["loc"] = ["body", "file"]
    assert detail(client.post(REMOVE), 422) == [missing]
    assert detail(client.post(REMOVE, files={"file": ("p.jpg", b"")}), 422) == [missing]


@pytest.mark.parametrize(
    ("data", "status"),
    [(PHOTO[: len(PHOTO) // 2], 400), (b"only text" * 9, 415), (b"%PDF-1.7 " * 30, 415)],
    ids=["half", "text", "pdf"],
)
def test_pictures_that_cannot_be_read(client: Client, data: bytes, status: int) -> None:
    assert isinstance(detail(post(client, data), status), str)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://169.254.169.254/latest/meta-data/", 400),
        ("http://127.0.0.1/cup.png", 400),
        ("file:///etc/passwd", 400),
        ("s3://bucket/cup.png", 400),
        ("cup.png", 400),
    ],
)
def test_urls_that_are_not_allowed(client: Client, url: str, status: int) -> None:
    said = detail(client.get(REMOVE, params={"url": url}), status)
    assert said.startswith("url ")
    assert "image_url" not in said


def test_other_bodies_methods_and_too_much(tmp_path: Path) -> None:
    limits = {"body_bytes": 20_000, "pixels": 10_000}
    with Client(InProcessService(tmp_path, limits=limits)) as client:
        headers = {"content-type": "image/png"}
        assert isinstance(detail(client.post(REMOVE, content=PHOTO, headers=headers), 415), str)
        assert isinstance(detail(client.request("PUT", REMOVE), 405), str)
        headers = {"content-type": "multipart/form-data; boundary=x"}
        assert isinstance(detail(client.post(REMOVE, content=b"no form", headers=headers), 400), str)
        cut = b'--x\r\nContent-Disposition: form-data; name="file"; filename="p"\r\n\r\n' + PHOTO
        assert "last boundary" in detail(client.post(REMOVE, content=cut, headers=headers), 400)
        assert isinstance(detail(post(client, PHOTO + bytes(400_000)), 413), str)
        assert isinstance(detail(post(client, encoded(photo(200, 200))), 413), str)
        assert isinstance(detail(post(client, extras="x" * 100_000), 400), str)


def test_a_full_and_an_absent_service_and_a_fault(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path, limits={"requests_in_flight": 1})) as client:
        with client.service.admission.admit():
            response = post(client)
            assert isinstance(detail(response, 429), str)
            assert int(response.headers["retry-after"]) >= 1
        client.service.error = Unavailable("No replica is there.", retry_after_s=2)
        response = post(client)
        assert detail(response, 503) == "No replica is there."
        assert response.headers["retry-after"] == "2"
        client.service.error = RuntimeError("/secret/path")
        assert "secret" not in detail(post(client), 500)


@given(
    place=st.sampled_from(["params", "data"]),
    sent=st.dictionaries(
        st.sampled_from(["model", "a", "af", "ab", "ae", "om", "ppm", "bgc", "extras", "format", "url", "dc"]),
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
            st.sampled_from(["1", "0", "u2net", "10", "1,2,3", "1,2,3,4", "png", "jpg", "{}", "true"]),
        ),
    ),
)
@settings(max_examples=150, deadline=None)
def test_no_value_is_a_fault_of_the_service(client: Client, place: str, sent: dict[str, str]) -> None:
    response = client.post(REMOVE, files={"file": ("p.png", PHOTO)}, **{place: sent})
    assert response.status_code in (200, 422), response.text
    if response.status_code == 422:
        detail(response, 422)
