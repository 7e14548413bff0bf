"""Jobs of tenants over HTTP: what their photos cost shows in the usage, and a month that is spent takes no job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mattehorn.access.budgets import month_ends
from tests.api_client import PHOTO, error_of
from tests.bulk_http import KeyedSite

FILES = [("files", (f"{number}.png", PHOTO)) for number in range(3)]
RECIPE = {"recipe": "transparent-web"}


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[KeyedSite]:
    made = KeyedSite(tmp_path)
    yield made
    made.close()


def usage(site: KeyedSite, key: dict[str, str]) -> dict[str, Any]:
    (own,) = site.door.get("/v1/usage", headers=key).json()["tenants"]
    return dict(own)


def test_photos_of_a_job_count_in_the_month_and_not_in_the_minute(keyed: KeyedSite) -> None:
    key = keyed.door.key("shop", "jobs", megapixels_per_minute=1, megapixels_per_month=10)
    answer = keyed.door.post("/v1/jobs", files=FILES, data=RECIPE, headers=key)
    keyed.bench.run()
    job = keyed.door.get(answer.json()["url"], headers=key).json()
    assert (job["state"], job["success"], job["failed"]) == ("succeeded", 3, [])
    own = usage(keyed, key)
    assert (own["month"]["spent"], own["month"]["remaining"]) == (3, 7)
    assert (own["minute"]["spent"], own["minute"]["reset_at"]) == (0, None)


def test_requests_and_jobs_share_the_month(keyed: KeyedSite) -> None:
    key = keyed.door.key("shop", "matte", "jobs", megapixels_per_month=2)
    assert keyed.door.post("/v1/mattes", files={"file": ("p.png", PHOTO)}, headers=key).status_code == 200
    answer = keyed.door.post("/v1/jobs", files=FILES, data=RECIPE, headers=key)
    keyed.bench.run()
    job = keyed.door.get(answer.json()["url"], headers=key).json()
    assert (job["success"], [failure["error"][:15] for failure in job["failed"]]) == (1, ["quota_exceeded:"] * 2)
    refused = keyed.door.post("/v1/mattes", files={"file": ("p.png", PHOTO)}, headers=key)
    error_of(refused, 429, "quota_exceeded")


def test_a_spent_month_takes_no_job_and_says_when_it_will(keyed: KeyedSite) -> None:
    key = keyed.door.key("shop", "matte", "jobs", megapixels_per_month=1)
    assert keyed.door.post("/v1/mattes", files={"file": ("p.png", PHOTO)}, headers=key).status_code == 200
    for sent in ({"files": FILES, "data": RECIPE}, {"json": {**RECIPE, "input": {"prefix": "s3://shop/in/"}}}):
        before = time.time()
        refused = keyed.door.post("/v1/jobs", headers=key, **sent)
        error = error_of(refused, 429, "quota_exceeded")
        assert "1 megapixel images" in error["message"]
        assert int(refused.headers["retry-after"]) == error["retry_after_s"]
        assert month_ends(before) - before - 60 <= error["retry_after_s"] <= month_ends(before) - before + 1
    assert keyed.messages() == []
    assert keyed.uploads() == []
    other = keyed.door.key("other", "jobs")
    assert keyed.door.post("/v1/jobs", files=FILES, data=RECIPE, headers=other).status_code == 202
