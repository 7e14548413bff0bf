"""A picture by `s3://bucket/key`: from listed buckets alone, bounded, and its trouble told as a URL's."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mattehorn.store.open import open_bucket
from tests.api_client import PHOTO, Client, error_of, post
from tests.doors import Door
from tests.service import InProcessService

from .conftest import BUCKET, settings_for
from .swift import S3Server

OTHER = "mattehorn-others"


@pytest.fixture
def place(moto: S3Server) -> str:
    """A prefix of the bucket with a photo, `cup 1%.png`, an empty object and a large one."""
    prefix, bucket = f"in/{secrets.token_hex(6)}", open_bucket(BUCKET, settings_for(moto))
    for name, data in {"cup 1%.png": PHOTO, "empty": b"", "large": b"x" * 70_000}.items():
        bucket.put(f"{prefix}/{name}", data, content_type="text/plain")
    return f"s3://{BUCKET}/{prefix}"


@pytest.fixture
def client(moto: S3Server, tmp_path: Path) -> Iterator[Client]:
    """Requests to a service with a results folder beside the listed bucket, and a limit of 64 kB."""
    store = {"url": tmp_path.as_uri(), "endpoint_url": moto.endpoint_url}
    limits = {"body_bytes": 65_536}
    with Client(InProcessService(tmp_path, store=store, url_buckets=[BUCKET], limits=limits)) as client:
        yield client


def named(client: Client, url: str, **kwargs: Any) -> Any:
    return client.post("/v1/mattes", json={"image_url": url}, **kwargs)


def test_a_photo_in_a_listed_bucket_is_answered_as_if_it_had_been_sent(client: Client, place: str) -> None:
    answer = named(client, f"{place}/cup 1%.png")
    assert answer.status_code == 200, answer.text
    assert answer.content == post(client).content
    assert "cup%201%25_matte.png" in answer.headers["content-disposition"]
    assert answer.headers["server-timing"].startswith("fetch")
    behind = post(client, background_url=f" S3:{place[3:]}/cup 1%.png")
    assert (behind.status_code, behind.headers["content-type"]) == (200, "image/jpeg")


@pytest.mark.parametrize(
    ("name", "status", "code", "says"),
    [
        ("gone", 422, "fetch_failed", "answered 404"),
        ("empty", 422, "fetch_failed", "empty object"),
        ("large", 413, "body_too_large", "more than 65536 bytes"),
        ("../cup", 400, "url_not_allowed", "no store can hold"),
    ],
)
def test_trouble_with_an_object_is_told(
    client: Client, place: str, name: str, status: int, code: str, says: str
) -> None:
    error = error_of(named(client, f"{place}/{name}"), status, code)
    assert says in error["message"]
    assert error["field"] == "image_url"
    assert place not in error["message"]


def test_a_bucket_that_is_not_listed_is_refused_whatever_the_credentials_reach(client: Client) -> None:
    error = error_of(named(client, f"s3://{OTHER}/cup.png"), 400, "url_not_allowed")
    assert f"{OTHER!r}" in error["message"]
    error_of(post(client, background_url=f"s3://{OTHER}/cup.png"), 400, "url_not_allowed")


def test_a_listed_bucket_that_is_not_there_and_a_store_that_is_away_are_fetch_failed(
    moto: S3Server, tmp_path: Path
) -> None:
    store = {"url": tmp_path.as_uri(), "endpoint_url": moto.endpoint_url}
    with Client(InProcessService(tmp_path, store=store, url_buckets=[OTHER])) as client:
        assert "answered 404" in error_of(named(client, f"s3://{OTHER}/a"), 422, "fetch_failed")["message"]
    store["endpoint_url"] = "http://127.0.0.1:9"  # discard: nobody listens there
    with Client(InProcessService(tmp_path, store=store, url_buckets=[OTHER])) as client:
        assert "did not answer" in error_of(named(client, f"s3://{OTHER}/a"), 422, "fetch_failed")["message"]


def test_the_results_store_is_out_of_reach_of_a_tenant_and_its_state_of_everybody(
    moto: S3Server, tmp_path: Path
) -> None:
    store = settings_for(moto)
    with Door(tmp_path, store=store.model_dump(), url_buckets=[BUCKET]) as door:
        door.service.store.put("outputs/a.png", PHOTO, content_type="image/png")
        door.service.store.put("jobs/a.png", PHOTO, content_type="image/png")
        shop, admin = door.key("shop"), door.key("boss", "matte", "admin")
        error = error_of(named(door, f"{store.url}/outputs/a.png", headers=shop), 400, "url_not_allowed")
        assert "result_id" in error["message"]
        assert named(door, f"{store.url}/outputs/a.png", headers=admin).status_code == 200
        error_of(named(door, f"{store.url}/jobs/a.png", headers=admin), 400, "url_not_allowed")
