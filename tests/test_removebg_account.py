"""remove.bg's budget, account and improvement program, and carvekit's names. Contract: sections 2.4, 2.5 and 4."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.ingress.compat.removebg import improve
from deployments.ingress.compat.removebg.account import UNLIMITED, account
from mattehorn.access.tenant import Budget
from mattehorn.errors import RateLimited
from mattehorn.settings import Limits
from mattehorn.store.open import open_store
from tests.api_client import PHOTO, Client
from tests.doors import Door
from tests.removebg_client import post
from tests.removebg_table import ACCOUNT, IMPROVE, JSON_UTF8, REMOVE, error_of, upload
from tests.service import InProcessService, encoded, photo

CUP = encoded(photo(1600, 1200), "JPEG", quality=95)


# the budget of megapixels


def test_a_photo_costs_its_megapixels_and_the_minute_ends_in_a_429(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path, removebg={"megapixels_per_minute": 3})) as client:
        first = post(client, CUP)
        assert [first.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining")] == ["3", "1"]
        refused = client.post(REMOVE, **upload(CUP))
        error_of(refused, 429, "rate_limit_exceeded", "Rate limit exceeded")
        assert refused.headers["x-ratelimit-remaining"] == "1"
        second = post(client)
        assert second.headers["x-ratelimit-remaining"] == "0"
        assert second.headers["x-ratelimit-reset"] == first.headers["x-ratelimit-reset"]
    with Client(InProcessService(tmp_path, removebg={"megapixels_per_minute": None})) as client:
        assert "x-ratelimit-limit" not in post(client).headers


# account


def test_the_account_has_exactly_the_keys_that_the_ruby_client_takes(client: Client) -> None:
    response = client.get(ACCOUNT)
    assert (response.status_code, response.headers["content-type"]) == (200, JSON_UTF8)
    attributes = response.json()["data"]["attributes"]
    assert attributes == {
        "credits": {"total": 99_999, "subscription": 99_999, "payg": 0, "enterprise": 0},
        "api": {"free_calls": 99_999, "sizes": "all"},
    }


def test_an_account_is_what_is_left_of_the_month() -> None:
    def total(budget: Budget, spent: int) -> int:
        return int(account(budget, spent)["data"]["attributes"]["credits"]["total"])

    assert total(Budget(), 7) == UNLIMITED
    assert total(Budget(per_minute=500), 7) == UNLIMITED
    assert [total(Budget(per_month=1000), spent) for spent in (0, 999, 2000)] == [1000, 1, 0]


def test_what_a_key_spends_is_gone_from_its_account_until_the_month_is_spent(tmp_path: Path) -> None:
    with Door(tmp_path) as door:
        key = door.key("shop", megapixels_per_month=3)

        def total() -> int:
            return int(door.get(ACCOUNT, headers=key).json()["data"]["attributes"]["credits"]["total"])

        assert total() == 3
        assert door.post(REMOVE, headers=key, **upload(CUP)).status_code == 200
        assert total() == 1
        error_of(door.post(REMOVE, headers=key, **upload(CUP)), 402, "insufficient_credits", "Insufficient credits")
        assert total() == 1


# improve


def test_a_hard_case_is_kept_by_tenant_with_what_was_said(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path, removebg={"improve": True})) as client:
        response = client.post(IMPROVE, **upload(PHOTO, image_filename="cup.png", tag="glass", size="hd"))
        assert (response.status_code, set(response.json())) == (200, {"id"})
        keys = list(client.service.store.list(improve.PLACE))
        name = response.json()["id"]
        assert [key.rpartition("/")[2] for key in keys] == [f"{name}.json", f"{name}.png"]
        assert keys[0].startswith(f".improve/anonymous/{datetime.now(UTC):%Y-}")
        assert client.service.store.get(keys[1]) == PHOTO
        record = json.loads(client.service.store.get(keys[0]))
        assert (record["image_filename"], record["tag"], record["format"]) == ("cup.png", "glass", "png")
        error_of(client.post(IMPROVE, data={"tag": "x"}), 400, "missing_source")
        error_of(client.post(IMPROVE, **upload(b"text" * 9)), 400, "invalid_file_type")
        large = client.post(IMPROVE, **upload(PHOTO + bytes(12 * 2**20)))
        assert error_of(large, 400, "file_too_large")["detail"] == "File exceeds limit of 12MB"


def test_a_day_has_room_for_so_many_hard_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(improve, "PHOTOS_A_DAY", 2)
    store = open_store(InProcessService(tmp_path).settings.store)
    evening, night = (datetime(2026, 5, day, hour, tzinfo=UTC) for day, hour in ((1, 23), (2, 0)))
    for _ in range(2):
        improve.keep(store, "a/../b", PHOTO, {}, Limits(), lambda: evening)
    with pytest.raises(RateLimited) as refused:
        improve.keep(store, "a/../b", PHOTO, {}, Limits(), lambda: evening)
    assert refused.value.retry_after_s == 3600
    improve.keep(store, "a/../b", PHOTO, {}, Limits(), lambda: night)
    improve.keep(store, "other", PHOTO, {}, Limits(), lambda: evening)


# carvekit


def test_carvekits_form_is_full_size_and_its_json_a_preview(client: Client) -> None:
    form = client.post("/api/removebg", **upload(CUP, format="jpg"))
    assert (form.headers["x-width"], form.headers["x-credits-charged"]) == ("1600", "1")
    sent = {"image_file_b64": base64.b64encode(CUP).decode(), "format": "jpg"}
    preview = client.post("/api/removebg", json=sent)
    assert int(preview.headers["x-width"]) * int(preview.headers["x-height"]) <= 250_000
    assert client.get("/api/account").json() == client.get(ACCOUNT).json()
    error_of(client.post("/api/removebg", **upload(PHOTO, size="huge")), 400, "invalid_size")
