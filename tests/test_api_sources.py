"""Pictures that a request names: by URL, or as the photo of an earlier result."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api_client import JSON, PHOTO, Client, error_of, post
from tests.service import InProcessService, decoded, encoded, photo
from tests.sites import ENDLESS, HELD, Site, site

PATIENT = {"fetch_s": 60.0, "fetch_connect_s": 60.0, "work_s": 60.0}  # no busy machine reaches them
BLUE = encoded(np.full((30, 40, 3), (10, 20, 230), np.uint8))
METADATA = "http://169.254.169.254/latest/meta-data/"


@pytest.fixture(scope="module")
def shop() -> Iterator[Site]:
    """A shop's pictures, and servers that mean harm."""
    pages: dict[str, bytes | str] = {
        "blue.png": BLUE,
        "moved": "/cup.png",
        "text": b"no picture at all, whatever the name says\n" * 20,
        "half": PHOTO[: len(PHOTO) // 2],
        "to-a-file": "file:///etc/passwd",
        "to-metadata": METADATA,
        "gone": "404",
        "endless": ENDLESS,
        "slow": HELD,
    }
    with site(PHOTO, **pages) as started:
        yield started


@pytest.fixture(scope="module")
def buyer(tmp_path_factory: pytest.TempPathFactory, shop: Site) -> Iterator[Client]:
    """Requests to a service whose operator lists the shop."""
    service = InProcessService(tmp_path_factory.mktemp("results"), url_allow=[shop.place], limits=PATIENT)
    with Client(service) as client:
        yield client


def named(client: Client, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return client.post("/v1/mattes", json=fields, headers=headers or {})


def stages(response: httpx.Response) -> list[str]:
    return [part.partition(";")[0].strip() for part in response.headers["server-timing"].split(",")]


# by URL


def test_a_photo_by_its_url_is_answered_as_if_it_had_been_sent(buyer: Client, shop: Site) -> None:
    sent = post(buyer, format="webp")
    url = shop.url("/shop/my%20cup.png?size=1")
    as_json = named(buyer, image_url=url, format="webp")
    urlencoded = buyer.post("/v1/mattes", data={"image_url": url, "format": "webp"})
    form = buyer.post("/v1/mattes", files={"image_url": (None, url), "format": (None, "webp")})
    for response in (as_json, urlencoded, form):
        assert response.status_code == 200, response.text
        assert response.content == sent.content
        assert "my%20cup_matte.webp" in response.headers["content-disposition"]
        assert stages(response)[0] == "fetch"
    assert "fetch" not in stages(sent)
    assert shop.asked[-3:] == ["/shop/my%20cup.png?size=1"] * 3


def test_a_fetch_is_a_stage_of_the_answer_and_of_the_metrics(tmp_path: Path, shop: Site) -> None:
    with Client(InProcessService(tmp_path, url_allow=[shop.place], limits=PATIENT)) as client:
        timings = named(client, JSON, image_url=shop.url("/cup.png")).json()["timings_ms"]
        assert timings["total"] >= timings["fetch"] > 0
        text = client.get("/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    (count,) = [s.value for s in samples if s.name == "mattehorn_stage_seconds_count" and s.labels["stage"] == "fetch"]
    assert count == 1


def test_a_redirect_within_what_is_allowed_is_followed(buyer: Client, shop: Site) -> None:
    assert named(buyer, image_url=shop.url("/moved")).content == post(buyer).content
    assert shop.asked[-2:] == ["/moved", "/cup.png"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (METADATA, "not public"),
        ("http://127.0.0.1/cup.png", "not public"),
        ("http://[::ffff:169.254.169.254]/", "not public"),
        ("http://2130706433/", "unusual"),
        ("https://user:secret@shop.example/cup.png", "user"),
        ("file:///etc/passwd", "http"),
        ("data:image/png;base64,AAAA", "http"),
        ("cup.png", "no whole URL"),
        (" ", "no whole URL"),
        ("s3://bucket/cup.png", "(url_buckets)"),
        (" S3://bucket/cup.png", "POST /v1/jobs"),
        ("s3://-/cup.png", "no s3://bucket/key"),
    ],
)
def test_an_address_that_is_not_allowed_is_refused_by_name(buyer: Client, shop: Site, url: str, says: str) -> None:
    asked = len(shop.asked)
    error = error_of(named(buyer, image_url=url), 400, "url_not_allowed")
    assert error["field"] == "image_url"
    assert says in error["message"]
    assert "secret" not in error["message"]
    behind = error_of(post(buyer, background_url=url), 400, "url_not_allowed")
    assert behind["field"] == "background_url"
    assert len(shop.asked) == asked


@pytest.mark.parametrize("path", ["/to-a-file", "/to-metadata"])
def test_a_redirect_to_what_is_not_allowed_is_refused(buyer: Client, shop: Site, path: str) -> None:
    error = error_of(named(buyer, image_url=shop.url(path)), 400, "url_not_allowed")
    assert "redirects" in error["message"]
    assert "etc" not in error["message"]
    assert "169" not in error["message"]


def test_trouble_on_the_other_side_is_told_without_its_address(buyer: Client, shop: Site) -> None:
    error = error_of(named(buyer, image_url=shop.url("/gone?signature=secret")), 422, "fetch_failed")
    assert error["field"] == "image_url"
    assert "404" in error["message"]
    for hidden in ("secret", shop.place, "gone"):
        assert hidden not in error["message"]
    unknown = error_of(named(buyer, image_url="https://nowhere.example/cup.png"), 422, "fetch_failed")
    assert "no address" in unknown["message"]


def test_what_lies_at_a_url_is_judged_like_an_upload(buyer: Client, shop: Site) -> None:
    error_of(named(buyer, image_url=shop.url("/text")), 415, "unsupported_image")
    error_of(named(buyer, image_url=shop.url("/half")), 422, "corrupt_image")


def test_an_endless_picture_is_given_up_at_the_limit_of_an_upload(tmp_path: Path, shop: Site) -> None:
    limits = {**PATIENT, "body_bytes": 2**20}
    with Client(InProcessService(tmp_path, url_allow=[shop.place], limits=limits)) as client:
        shop.broken_off.clear()
        error = error_of(named(client, image_url=shop.url("/endless")), 413, "body_too_large")
        assert str(2**20) in error["message"]
        assert shop.broken_off.wait(60), "the connection stays open"
        assert client.service.admission.in_flight == 0


def test_a_fetch_ends_with_the_time_of_its_request(tmp_path: Path, shop: Site) -> None:
    shop.free.clear()
    limits = {**PATIENT, "fetch_s": 600.0, "work_s": 0.3}  # by itself the fetch would outlast the page
    with Client(InProcessService(tmp_path, url_allow=[shop.place], limits=limits)) as client:
        error_of(named(client, image_url=shop.url("/slow")), 422, "fetch_failed")
        assert client.service.jobs == []


def test_an_option_is_checked_before_anything_is_fetched(buyer: Client, shop: Site) -> None:
    asked = len(shop.asked)
    error_of(named(buyer, image_url=shop.url("/cup.png"), feather_px=99), 422, "invalid_option")
    assert len(shop.asked) == asked


# how many at once


def test_fetches_have_half_of_the_places_and_leave_the_others_to_uploads(tmp_path: Path, shop: Site) -> None:
    shop.free.clear()
    asked = len(shop.asked)
    slow = {"json": {"image_url": shop.url("/slow")}}
    sent = {"files": {"file": ("a.png", PHOTO)}}
    limits = {**PATIENT, "requests_in_flight": 4}
    with Client(InProcessService(tmp_path, url_allow=[shop.place], limits=limits)) as client:

        async def story() -> list[httpx.Response]:
            held = [asyncio.create_task(client.http.post("/v1/mattes", **slow)) for _ in range(2)]
            async with asyncio.timeout(60):
                while len(shop.asked) < asked + 2:
                    await asyncio.sleep(0.01)
            refused = await client.http.post("/v1/mattes", **slow)
            behind = await client.http.post("/v1/mattes", **sent, data={"background_url": shop.url("/slow")})
            upload = await client.http.post("/v1/mattes", **sent)
            shop.free.set()
            return [refused, behind, upload, *await asyncio.gather(*held)]

        refused, behind, upload, *held = client.run(story())
        for response in (refused, behind):
            assert error_of(response, 429, "overloaded")["retry_after_s"] >= 1
        assert [response.status_code for response in (upload, *held)] == [200, 200, 200]
        assert len(shop.asked) == asked + 2
        assert client.service.admission.in_flight == 0
        assert named(client, image_url=shop.url("/cup.png")).status_code == 200


# a background by URL


def test_a_background_by_its_url_is_the_same_as_one_that_is_sent(buyer: Client, shop: Site) -> None:
    url = shop.url("/blue.png")
    files = {"file": ("a.png", PHOTO), "background_file": ("b.png", BLUE)}
    expected = buyer.post("/v1/mattes", files=files, data={"format": "png"})
    assert tuple(decoded(expected.content)[0, 0]) == (10, 20, 230)
    text = base64.b64encode(PHOTO).decode()
    raw = buyer.post(
        "/v1/mattes",
        content=PHOTO,
        headers={"content-type": "image/png"},
        params={"background_url": url, "format": "png"},
    )
    for response in (
        post(buyer, background_url=url, format="png"),
        named(buyer, image_base64=text, background_url=url, format="png"),
        named(buyer, image_url=shop.url("/cup.png"), background_url=url, format="png"),
        raw,
    ):
        assert response.status_code == 200, response.text
        assert response.content == expected.content
        assert stages(response).count("fetch") == 1


def test_an_empty_background_url_was_not_sent(buyer: Client) -> None:
    assert post(buyer, background_url="").content == post(buyer).content
    text = base64.b64encode(PHOTO).decode()
    for empty in ("", None):
        assert named(buyer, image_base64=text, background_url=empty).content == post(buyer).content


def test_a_background_by_url_does_not_go_with_another_one(buyer: Client, shop: Site) -> None:
    asked = len(shop.asked)
    url = shop.url("/blue.png")
    files = {"file": ("a.png", PHOTO), "background_file": ("b.png", BLUE)}
    both = buyer.post("/v1/mattes", files=files, data={"background_url": url})
    assert "background_file and background_url" in error_of(both, 422, "conflicting_options")["message"]
    coloured = error_of(post(buyer, background_url=url, background_color="red"), 422, "conflicting_options")
    assert coloured["field"] == "background_url"
    cutout = error_of(post(buyer, background_url=url, output="cutout"), 422, "conflicting_options")
    assert "background_url needs output=composite" in cutout["message"]
    text = base64.b64encode(PHOTO).decode()
    error_of(named(buyer, image_base64=text, background_url=7), 422, "invalid_option")
    assert len(shop.asked) == asked


def test_a_broken_background_is_refused(buyer: Client, shop: Site) -> None:
    error_of(post(buyer, background_url=shop.url("/half")), 422, "corrupt_image")
    error = error_of(post(buyer, background_url=shop.url("/gone")), 422, "fetch_failed")
    assert error["field"] == "background_url"


# an earlier result


def test_a_result_whose_photo_was_kept_is_made_again(buyer: Client) -> None:
    first = post(buyer, store="true", store_source="true", name="cup.v2")
    result_id = first.headers["x-mattehorn-result-id"]
    again = named(buyer, result_id=result_id)
    assert again.content == first.content
    assert "cup.v2_matte.png" in again.headers["content-disposition"]
    assert "fetch" not in stages(again)
    composite = buyer.post("/v1/mattes", data={"result_id": result_id, "background_color": "red", "format": "png"})
    assert composite.content == post(buyer, background_color="red", format="png").content


def test_a_result_without_its_photo_is_not_found(buyer: Client) -> None:
    bare = post(buyer, store="true").headers["x-mattehorn-result-id"]
    assert "store_source" in error_of(named(buyer, result_id=bare), 404, "result_not_found")["message"]
    for unknown in ("0" * 26, "../../secret", "x"):
        error_of(named(buyer, result_id=unknown), 404, "result_not_found")


# exactly one


@pytest.mark.parametrize(
    "fields",
    [
        {"image_url": "http://shop.example/a.png", "image_base64": "AAAA"},
        {"image_url": "http://shop.example/a.png", "result_id": "0" * 26},
        {"result_id": "0" * 26, "image_base64": "AAAA"},
    ],
    ids=lambda fields: " ".join(fields),
)
def test_two_named_photos_are_too_many(buyer: Client, fields: dict[str, str]) -> None:
    error = error_of(named(buyer, **fields), 400, "multiple_images")
    for name in fields:
        assert name in error["message"]


def test_a_named_photo_beside_one_that_is_sent_is_too_many(buyer: Client, shop: Site) -> None:
    asked = len(shop.asked)
    error_of(post(buyer, image_url=shop.url("/cup.png")), 400, "multiple_images")
    raw = buyer.post(
        "/v1/mattes", content=PHOTO, headers={"content-type": "image/png"}, params={"image_url": shop.url("/cup.png")}
    )
    error_of(raw, 400, "multiple_images")
    assert len(shop.asked) == asked
    assert post(buyer, image_url="", result_id="").content == post(buyer).content


def test_without_any_photo_every_way_to_give_one_is_named(buyer: Client) -> None:
    error = error_of(named(buyer, format="png"), 400, "missing_image")
    for name in ("file", "image_url", "image_base64", "result_id"):
        assert name in error["message"]


def test_the_articles_endpoints_fetch_nothing(buyer: Client, shop: Site) -> None:
    asked = len(shop.asked)
    sent = {"image_url": shop.url("/cup.png"), "background_url": shop.url("/blue.png")}
    answer = buyer.post("/remove_background", files={"image": ("a.png", encoded(photo()))}, data=sent)
    assert answer.status_code == 200
    error_of(buyer.post("/remove_background", files={"x": (None, "1")}, data=sent), 400, "missing_image")
    assert len(shop.asked) == asked
