"""The history over HTTP: listed, searched, whose it is, and removed for good, also where an answer was kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.ingress.removal_sweep import RemovalSweep
from mattehorn.errors import StoreUnavailable
from tests.api_client import JSON, PHOTO, Client, error_of
from tests.cache_bench import until
from tests.doors import Door
from tests.service import InProcessService
from tests.test_options_fuzz import BAD

RESULTS = "/v1/results"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Client]:
    with Client(InProcessService(tmp_path)) as client:
        yield client


def store(client: Client, name: str = "photo", headers: dict[str, str] | None = None, **fields: str) -> str:
    sent = {"store": "true", "name": name, **fields}
    response = client.post("/v1/mattes", files={"file": ("p.png", PHOTO)}, data=sent, headers=headers or {})
    assert response.status_code == 200, response.text
    return str(response.headers["x-mattehorn-result-id"])


def listed(client: Client, headers: dict[str, str] | None = None, **query: Any) -> list[str]:
    body = client.get(RESULTS, params=query, headers=headers or {}).json()
    return [entry["id"] for entry in body["results"]]


def remove(client: Client, result: str, headers: dict[str, str] | None = None) -> Any:
    return client.request("DELETE", f"{RESULTS}/{result}", headers=headers or {})


def files(client: Client) -> list[str]:
    """What the store holds, but for what is kept for equal requests."""
    return [key for key in client.service.store.list("") if not key.startswith((".cache/", ".idempotency/"))]


# list and search


def test_an_entry_is_what_its_id_gives_and_its_url_leads_to_the_picture(shop: Client) -> None:
    result = store(shop, sku="A-1")
    (entry,) = shop.get(RESULTS).json()["results"]
    assert entry == shop.get(f"{RESULTS}/{result}").json()
    assert (entry["id"], entry["sku"], entry["tenant"]) == (result, "A-1", "anonymous")
    picture = shop.get(entry["url"])
    assert picture.content == shop.get(f"{RESULTS}/{result}/image").content


def test_pages_follow_each_other_newest_first(shop: Client) -> None:
    made = [store(shop, f"photo {number}") for number in range(5)]
    first = shop.get(RESULTS, params={"limit": 2}).json()
    assert [entry["name"] for entry in first["results"]] == ["photo 4", "photo 3"]
    store(shop, "a new one")
    assert remove(shop, made[3]).status_code == 204  # the very one that the cursor was made of
    second = shop.get(RESULTS, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [entry["name"] for entry in second["results"]] == ["photo 2", "photo 1"]
    last = shop.get(RESULTS, params={"limit": 2, "cursor": second["next_cursor"]}).json()
    assert ([entry["id"] for entry in last["results"]], last["next_cursor"]) == ([made[0]], None)
    assert len(listed(shop)) == 5


def test_a_search_takes_names_skus_models_recipes_and_times(shop: Client) -> None:
    shoe = store(shop, "Red Shoe", sku="A-1")
    mug = store(shop, "mug", sku="red-7", recipe="transparent-web")
    assert listed(shop, q="RED") == [mug, shoe]
    assert listed(shop, q="a-1") == [shoe]
    assert listed(shop, model="fake") == listed(shop, model="fake@1") == [mug, shoe]
    assert listed(shop, model="fak") == []
    assert listed(shop, recipe="transparent-web") == [mug]
    at = shop.get(f"{RESULTS}/{mug}").json()["created_at"]
    assert listed(shop, since=at) == [mug]
    assert listed(shop, until=at) == [shoe]
    assert listed(shop, since=at.replace("Z", " 00:00")) == [mug]  # a plus that was not escaped
    assert listed(shop, q="", cursor="", limit="", since="") == [mug, shoe]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=ten", "limit"),
        ("limit=%D9%A1", "limit"),
        ("since=yesterday", "since"),
        ("since=2026-01-01", "since"),
        ("since=2026-01-01T00:00:00", "since"),
        ("until=2026-13-01T00:00:00Z", "until"),
        ("until=2026-01-01T00:00:00%2B24:00", "until"),
        ("q=" + "x" * 201, "q"),
        ("model=" + "x" * 201, "model"),
        ("cursor=zz", "cursor"),
        ("cursor=" + "0" * 34, "cursor"),
        ("cursor=%00", "cursor"),
        ("q=a&q=b", "q"),
    ],
)
def test_a_bad_field_is_named(client: Client, query: str, field: str) -> None:
    assert error_of(client.get(f"{RESULTS}?{query}"), 422, "invalid_option")["field"] == field


def test_an_unknown_field_is_refused(client: Client) -> None:
    assert error_of(client.get(RESULTS, params={"tenant": "shop"}), 422, "unknown_option")["field"] == "tenant"


VALUES = st.one_of(
    st.sampled_from([*BAD, "0", "1", "200", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"]),
    st.sampled_from(["9999-12-31T23:59:59.999999999-23:59", "1969-12-31T23:59:59Z", "2026-01-01T00:00:60Z"]),
    st.text(max_size=20),
)
FIELDS = st.sampled_from(["q", "since", "until", "model", "recipe", "limit", "cursor", "x"])


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(query=st.dictionaries(FIELDS, VALUES, max_size=3))
def test_any_query_is_answered(client: Client, query: dict[str, str]) -> None:
    sent = {name: value.encode("utf-8", "surrogatepass") for name, value in query.items()}
    response = client.get(RESULTS, params=sent)
    assert response.status_code in (200, 422), response.text
    if response.status_code == 422:
        assert response.json()["error"]["field"] in query


@pytest.mark.parametrize(
    "result_id", ["nope", "0" * 26, "..%2F..%2Fetc%2Fpasswd", "%00", "x" * 5000, "%ED%A0%80", ".results", "of%2Fa"]
)
def test_nothing_is_removed_under_a_hostile_id(client: Client, result_id: str) -> None:
    before = files(client)
    response = remove(client, result_id)
    assert response.status_code == 404
    assert response.json()["error"]["code"] in ("result_not_found", "not_found")
    assert files(client) == before


# whose it is


def test_a_history_is_its_tenants_alone(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path / "results")) as before:
        old = store(before)
    with Door(tmp_path) as door:
        mine, other, ops = door.key("mine"), door.key("other"), door.key("ops", "matte", "admin")
        made = [store(door, f"mine {number}", mine) for number in range(3)]
        theirs = store(door, headers=other)
        assert listed(door, mine) == made[::-1]
        assert listed(door, other) == [theirs]
        assert listed(door, ops) == [old]  # made without keys: an admin's
        cursor = door.get(RESULTS, params={"limit": 1}, headers=mine).json()["next_cursor"]
        assert listed(door, mine, cursor=cursor) == [made[1], made[0]]
        refused = door.get(RESULTS, params={"cursor": cursor}, headers=other)
        assert error_of(refused, 422, "invalid_option")["field"] == "cursor"
        for key in (other, ops):
            error_of(remove(door, made[0], key), 404, "result_not_found")
        error_of(remove(door, old, mine), 404, "result_not_found")
        jobs = door.key("mine", "jobs")
        error_of(door.get(RESULTS, headers=jobs), 403, "forbidden")
        error_of(remove(door, made[0], jobs), 403, "forbidden")
        assert listed(door, mine) == made[::-1]
        assert remove(door, old, ops).status_code == remove(door, made[0], mine).status_code == 204
        assert (listed(door, ops), listed(door, mine)) == ([], [made[2], made[1]])


# removal


def test_a_removed_result_is_gone_with_its_pictures(shop: Client) -> None:
    result = store(shop, store_alpha="true", store_source="true")
    answer = remove(shop, result)
    assert (answer.status_code, answer.content) == (204, b"")
    for part in ("", "/image", "/alpha", "/source"):
        error_of(shop.get(f"{RESULTS}/{result}{part}"), 404, "result_not_found")
    error_of(shop.post("/v1/mattes", data={"result_id": result}), 404, "result_not_found")
    error_of(remove(shop, result), 404, "result_not_found")
    assert listed(shop) == files(shop) == []


def test_a_removal_that_the_store_broke_off_is_ended_by_the_same_request_or_by_the_sweep(
    shop: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(key: str) -> None:
        if not key.startswith(".results/of/"):
            raise StoreUnavailable("The results store did not answer. Try again.", retry_after_s=5)
        delete(key)

    first, second = store(shop, "first"), store(shop, "second")
    delete = shop.service.store.delete
    with monkeypatch.context() as patch:
        patch.setattr(shop.service.store, "delete", away)
        for result in (first, second):
            error_of(remove(shop, result), 503, "unavailable")
            error_of(shop.get(f"{RESULTS}/{result}"), 404, "result_not_found")
        sweep = RemovalSweep(shop.service.store)
        assert asyncio.run(sweep.once()) == 0  # it may still be at work
        assert asyncio.run(sweep.once()) == 0  # the store is away
    assert remove(shop, first).status_code == 204
    assert asyncio.run(sweep.once()) == 1
    assert files(shop) == []


def test_after_a_removal_an_equal_request_is_computed_anew_and_gets_a_new_id(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path, cache={"max_bytes": 2**20})) as client:
        first = store(client)
        client.run(until(lambda: any(key.startswith(".cache/objects/") for key in client.service.store.list(""))))
        assert store(client) == first
        remove(client, first)
        again = store(client)
        assert again != first
        assert client.get(f"{RESULTS}/{again}/image").status_code == 200
        assert len(client.service.jobs) == 2


@pytest.mark.parametrize("accept", [{}, JSON], ids=["bytes", "json"])
def test_an_idempotency_key_hands_out_no_removed_result_and_makes_no_new_one(
    shop: Client, accept: dict[str, str]
) -> None:
    key = {"idempotency-key": "order 7", **accept}
    result = store(shop, headers=key)
    assert store(shop, headers=key) == result
    remove(shop, result)
    sent = {"store": "true", "name": "photo"}
    again = shop.post("/v1/mattes", files={"file": ("p.png", PHOTO)}, data=sent, headers=key)
    assert "send another key" in error_of(again, 404, "result_not_found")["message"]
    assert len(shop.service.jobs) == 1
    assert store(shop, headers={"idempotency-key": "order 8"}) != result


def test_removals_and_equal_saves_at_once_leave_every_listed_picture_readable(tmp_path: Path) -> None:
    """Real threads, real files, one key for all of them."""
    one_key = {"url": tmp_path.as_uri(), "key_template": "{stem}.{ext}"}
    with Client(InProcessService(tmp_path, store=one_key)) as shop:
        old = [store(shop) for _ in range(4)]
        request = {"files": {"file": ("p.png", PHOTO)}, "data": {"store": "true", "name": "photo"}}

        async def all_at_once() -> list[Any]:
            removals = (shop.http.delete(f"{RESULTS}/{result}") for result in old)
            saves = (shop.http.post("/v1/mattes", **request) for _ in range(4))
            return await asyncio.gather(*removals, *saves)

        answers = shop.run(all_at_once())
        assert [answer.status_code for answer in answers] == [204] * 4 + [200] * 4
        new = [answer.headers["x-mattehorn-result-id"] for answer in answers[4:]]
        assert sorted(listed(shop)) == sorted(new)
        for result, answer in zip(new, answers[4:], strict=True):
            assert shop.get(f"{RESULTS}/{result}/image").content == answer.content
