"""Keys and budgets in the running service, whose ingress has two replicas, and what of a month outlives it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from mattehorn.access.keys import revoke_key
from mattehorn.access.keys_file import edit_keys
from tests.bulk_http import eventually
from tests.doors import bearing, new_key
from tests.ray.load import photo
from tests.ray.running import Running, running

pytestmark = [pytest.mark.ray, pytest.mark.slow]

BUDGET, ASKED = 7, 20
_widths = count(160)


def post(service: Running, key: str) -> int:
    files = {"file": ("p.jpg", photo(3, width=next(_widths)))}  # none twice: an answer that is kept costs nothing
    # a connection each, so that both replicas are asked
    return httpx.post(f"{service.url}/v1/mattes", files=files, headers=bearing(key), timeout=60).status_code


def spent(service: Running, key: str) -> int:
    answer = httpx.get(f"{service.url}/v1/usage", headers=bearing(key), timeout=30).raise_for_status()
    return int(answer.json()["tenants"][0]["month"]["spent"])


def job_of(service: Running, key: str, photos: int) -> tuple[int, list[str]]:
    """(photos done, codes of those that failed) of a job that has ended."""
    files = [("files", (f"{number}.jpg", photo(3, width=next(_widths)))) for number in range(photos)]
    form = {"files": files, "data": {"recipe": "transparent-web"}, "headers": bearing(key), "timeout": 60}
    job = service.url + httpx.post(f"{service.url}/v1/jobs", **form).raise_for_status().json()["url"]

    def read() -> dict[str, Any]:
        return dict(httpx.get(job, headers=bearing(key), timeout=30).raise_for_status().json())

    assert eventually(lambda: read()["state"] == "succeeded")
    ended = read()
    return ended["success"], [failure["error"].partition(":")[0] for failure in ended["failed"]]


def test_keys_and_budgets_hold_across_replicas_and_a_month_across_a_restart(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    key = new_key(keys, "shop", "matte", megapixels_per_month=BUDGET)
    batches = new_key(keys, "batches", "jobs", megapixels_per_month=3)
    settings = ("model=fake", f"keys_file={keys}")
    with running(tmp_path, *settings) as service:
        assert len(service.replicas("Ingress")) == 2
        with ThreadPoolExecutor(ASKED) as pool:
            answers = Counter(pool.map(lambda _: post(service, key), range(ASKED)))
        assert answers == {200: BUDGET, 429: ASKED - BUDGET}
        assert job_of(service, batches, 5) == (3, ["quota_exceeded"] * 2)
        assert spent(service, batches) == 3

        added = new_key(keys, "late", "matte")
        assert eventually(lambda: [post(service, added) for _ in range(4)] == [200] * 4)
        edit_keys(keys, lambda document: revoke_key(document, added.split("_")[1]))
        assert eventually(lambda: [post(service, added) for _ in range(4)] == [401] * 4)
        assert post(service, key) == 429
        assert httpx.get(f"{service.url}/metrics", timeout=30).status_code == 401
        assert httpx.get(f"{service.url}/v1/models", params={"api_key": key}, timeout=30).status_code == 401
        assert httpx.get(f"{service.url}/", timeout=30).status_code == 200
    assert not any(secret in (tmp_path / "service.log").read_text("utf-8") for secret in (key[12:], added[12:]))

    with running(tmp_path, *settings) as service:
        assert eventually(lambda: spent(service, key) == BUDGET)
        assert post(service, key) == 429
        assert eventually(lambda: spent(service, batches) == 3)
        files = {"files": ("p.jpg", photo(3))}
        refused = httpx.post(
            f"{service.url}/v1/jobs",
            files=files,
            data={"recipe": "transparent-web"},
            headers=bearing(batches),
            timeout=60,
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded")


def test_the_start_is_refused_where_others_could_come_in_without_a_key(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="open_without_keys=true"), running(tmp_path, "model=fake", host="0.0.0.0"):
        pass
