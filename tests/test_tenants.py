"""What tenants may spend and send, over HTTP, and that nobody sees what is another's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mattehorn.bulk.inputs import reference
from mattehorn.bulk.job_spec import JobSpec, Owner
from mattehorn.bulk.listing import _own
from mattehorn.bulk.places import Place
from mattehorn.cli.main import main
from mattehorn.errors import OptionError
from tests.api_client import PHOTO, Client, error_of
from tests.bulk_http import KeyedSite, Site
from tests.doors import Door, bearing, new_key
from tests.service import InProcessService, encoded, photo, serving

TWO = encoded(photo(1600, 1000))  # 2 megapixel images
FILE = {"file": ("p.png", PHOTO)}
KEPT = {"store": "true", "store_source": "true", "store_alpha": "true"}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with Door(tmp_path_factory.mktemp("tenants")) as door:
        yield door


def post(door: Client, headers: dict[str, str], data: bytes = PHOTO, **fields: str) -> httpx.Response:
    return door.post("/v1/mattes", files={"file": ("p.png", data)}, data=fields, headers=headers)


def rates(answer: httpx.Response) -> list[int]:
    return [int(answer.headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining")]


# budgets


def test_a_tenants_keys_share_a_budget_which_is_told_and_then_refused(door: Door) -> None:
    first = door.key("minute", megapixels_per_minute=3)
    second = door.key("minute")
    one = post(door, first)
    two = post(door, second, TWO)
    assert (rates(one), rates(two)) == ([3, 2], [3, 0])
    refused = post(door, first)
    error = error_of(refused, 429, "rate_limited")
    assert rates(refused) == [3, 0]
    assert 1 <= error["retry_after_s"] <= 61
    assert refused.headers["x-ratelimit-reset"] == one.headers["x-ratelimit-reset"]
    assert post(door, door.key("other")).status_code == 200


def test_a_month_that_is_spent_says_so(door: Door) -> None:
    key = door.key("month", megapixels_per_month=2)
    assert rates(post(door, key, TWO)) == [2, 0]
    assert error_of(post(door, key), 429, "quota_exceeded")["retry_after_s"] >= 1


def test_a_photo_that_no_window_could_hold_is_no_matter_of_waiting(door: Door) -> None:
    refused = post(door, door.key("small", megapixels_per_minute=1), TWO)
    error_of(refused, 413, "image_too_large")
    assert "x-ratelimit-limit" not in refused.headers


def test_what_fails_costs_nothing_and_a_400_carries_no_standing(door: Door) -> None:
    key = door.key("careful", megapixels_per_minute=1)
    for data, status in ((b"", 400), (b"no picture" * 20, 415), (PHOTO[:90], 422), (PHOTO, 500)):
        door.service.error = RuntimeError("a fault") if status == 500 else None
        failed = post(door, key, data)
        assert failed.status_code == status
        assert "x-ratelimit-limit" not in failed.headers
    door.service.error = None
    assert rates(post(door, key)) == [1, 0]


def test_of_many_at_once_exactly_the_budget_passes(door: Door) -> None:
    key = door.key("crowd", megapixels_per_minute=4)
    requests = [{"files": FILE, "headers": key} for _ in range(9)]
    assert sorted(answer.status_code for answer in door.post_together("/v1/mattes", requests)) == [200] * 4 + [429] * 5


def test_every_contract_charges_the_same_budget(door: Door) -> None:
    key = door.key("shims", megapixels_per_minute=2)
    answers = [
        door.post(path, files={name: ("p.png", PHOTO)}, headers=key)
        for path, name in (("/api/remove", "file"), ("/api/matting", "image"), ("/remove_background", "image"))
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    refused = door.post("/api/remove", files=FILE, headers=key)
    assert (refused.status_code, list(refused.json()), rates(refused)) == (429, ["detail"], [2, 0])


def test_usage_shows_a_tenant_its_own_and_an_admin_all(door: Door) -> None:
    key = door.key("seen", megapixels_per_minute=7)
    post(door, key, TWO)
    (own,) = door.get("/v1/usage", headers=key).json()["tenants"]
    assert (own["tenant"], own["minute"]["remaining"], own["month"]["spent"]) == ("seen", 5, 2)
    assert own["month"]["limit"] is None
    assert own["minute"]["reset_at"] is not None
    everybody = door.get("/v1/usage", headers=door.key("ops", "admin")).json()["tenants"]
    assert own in everybody
    assert [entry["tenant"] for entry in everybody] == sorted(entry["tenant"] for entry in everybody)
    assert {"ops", "seen"} <= {entry["tenant"] for entry in everybody}


def test_an_unlimited_tenant_is_counted_and_told_no_standing(door: Door) -> None:
    key = door.key("free")
    assert "x-ratelimit-limit" not in post(door, key, TWO).headers
    assert door.get("/v1/usage", headers=key).json()["tenants"][0]["month"]["spent"] == 2


# what a tenant may send


def test_bytes_of_one_tenant_are_bounded_below_the_services(door: Door) -> None:
    narrow, wide = door.key("narrow", body_bytes=500), door.key("wide", body_bytes=10**12)
    large = PHOTO + bytes(2000)
    raw: dict[str, Any] = {"content": large, "headers": narrow | {"content-type": "image/png"}}
    assert "500" in error_of(door.post("/v1/mattes", **raw), 413, "body_too_large")["message"]
    error_of(post(door, narrow, large), 413, "body_too_large")
    assert post(door, narrow).status_code == 200
    assert post(door, wide, large).status_code == 200
    error_of(post(door, wide, bytes(40 * 2**20)), 413, "body_too_large")
    bg = door.post("/v1.0/removebg", files={"image_file": ("p.png", large)}, headers=narrow)
    assert (bg.status_code, bg.json()["errors"][0]["code"]) == (400, "file_too_large")
    shim = door.post("/api/remove", files={"file": ("p.png", large)}, headers=narrow)
    assert (shim.status_code, list(shim.json())) == (413, ["detail"])


def test_pixels_of_one_tenant_are_bounded_also_behind_the_subject(door: Door) -> None:
    key = door.key("pixels", pixels=64 * 48)
    assert post(door, key).status_code == 200
    error_of(post(door, key, TWO), 413, "image_too_large")
    both = {"file": ("p.png", PHOTO), "background_file": ("b.jpg", TWO)}
    error_of(door.post("/v1/mattes", files=both, headers=key), 413, "image_too_large")


# whose is what


def test_a_stored_result_is_its_tenants_alone(door: Door) -> None:
    mine, other = door.key("mine"), door.key("other")
    answer = post(door, mine, **KEPT)
    result = answer.headers["x-mattehorn-result-id"]
    same = door.key("mine", "matte", "admin")
    for path in ("", "/image", "/alpha", "/source"):
        for key in (mine, same):
            assert door.get(f"/v1/results/{result}{path}", headers=key).status_code == 200
        hidden = door.get(f"/v1/results/{result}{path}", headers=other)
        error = error_of(hidden, 404, "result_not_found")
        nothing = door.get(f"/v1/results/{'0' * 26}{path}", headers=other)
        assert error["message"] == error_of(nothing, 404, "result_not_found")["message"]
        error_of(
            door.get(f"/v1/results/{result}{path}", headers=door.key("o", "matte", "admin")), 404, "result_not_found"
        )
    assert door.get(f"/v1/results/{result}", headers=mine).json()["tenant"] == "mine"
    again = {"data": {"result_id": result}}
    error_of(door.post("/v1/mattes", headers=other, **again), 404, "result_not_found")
    assert door.post("/v1/mattes", headers=mine, **again).content == answer.content


def test_what_was_made_without_keys_is_an_admins_afterwards(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path / "results")) as before:
        result = post(before, {}, **KEPT).headers["x-mattehorn-result-id"]
        records = tmp_path / "results" / ".results"
        record = records / "of" / "anonymous" / f"{result}.json"
        older = json.loads(record.read_text())
        assert older.pop("tenant") == "anonymous"
        record.unlink()
        (records / f"{result}.json").write_text(json.dumps(older))  # as version 0.1 did
        assert before.get(f"/v1/results/{result}").status_code == 200
    with Door(tmp_path) as door:
        error_of(door.get(f"/v1/results/{result}", headers=door.key("shop")), 404, "result_not_found")
        assert door.get(f"/v1/results/{result}", headers=door.key("ops", "matte", "admin")).status_code == 200
        theirs = post(door, door.key("shop"), store="true").headers["x-mattehorn-result-id"]
    with Client(InProcessService(tmp_path / "results")) as after:
        assert after.get(f"/v1/results/{result}").status_code == 200
        error_of(after.get(f"/v1/results/{theirs}"), 404, "result_not_found")


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[KeyedSite]:
    made = KeyedSite(tmp_path)
    yield made
    made.close()


def test_a_job_is_its_tenants_alone(keyed: KeyedSite) -> None:
    mine, other = keyed.door.key("mine", "jobs"), keyed.door.key("other", "jobs", "admin")
    job, theirs = keyed.made(mine), keyed.made(other)
    for path in ("", "/events", "/manifest.jsonl", "/results.zip"):
        error_of(keyed.door.get(f"/v1/jobs/{job}{path}", headers=other), 404, "job_not_found")
    error_of(keyed.door.post(f"/v1/jobs/{job}/cancel", headers=other), 404, "job_not_found")
    assert keyed.door.get(f"/v1/jobs/{job}", headers=mine).json()["state"] == "queued"
    assert keyed.door.get(f"/v1/jobs/{job}/manifest.jsonl", headers=mine).status_code == 200
    for key, own in ((mine, job), (other, theirs)):
        listed = keyed.door.get("/v1/jobs", headers=key).json()
        assert [entry["id"] for entry in listed["jobs"]] == [own]
        assert listed["next_cursor"] is None


def test_a_page_of_jobs_goes_on_behind_those_of_others(keyed: KeyedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.ingress.bulk.jobs_api.LOOKED_AT_MOST", 2)
    mine, other = keyed.door.key("mine", "jobs"), keyed.door.key("other", "jobs")
    oldest = keyed.made(mine)
    for _ in range(3):
        keyed.made(other)
    newest = keyed.made(mine)
    found: list[str] = []
    cursor = ""
    for _ in range(9):
        page = keyed.door.get("/v1/jobs", params={"cursor": cursor, "limit": 1}, headers=mine).json()
        found += [entry["id"] for entry in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == [newest, oldest]


def test_jobs_from_before_keys_are_an_admins(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.bench.home.put("photos/a.png", PHOTO, content_type="image/png")
    job = site.submit(input={"keys": ["photos/a.png"]})
    site.close()
    keyed = KeyedSite(tmp_path)
    try:
        shop, ops = keyed.door.key("shop", "jobs"), keyed.door.key("ops", "jobs", "admin")
        error_of(keyed.door.get(f"/v1/jobs/{job}", headers=shop), 404, "job_not_found")
        assert keyed.door.get(f"/v1/jobs/{job}", headers=ops).status_code == 200
    finally:
        keyed.close()


def test_a_spec_of_an_earlier_version_is_nobodys(bench: Any) -> None:
    bench.home.put("photos/a.png", PHOTO, content_type="image/png")
    spec = bench.jobs.submit({"input": {"keys": ["photos/a.png"]}, "recipe": "transparent-web"})
    document = spec.document()
    del document["tenant"], document["fenced"]
    assert (JobSpec.read(document).owner.tenant, JobSpec.read(document).owner.fenced) == ("anonymous", False)


STORE_NAMED: list[tuple[dict[str, Any], str]] = [
    ({"input": {"keys": ["outputs/a.png"]}}, "input.keys"),
    ({"input": {"prefix": "outputs/"}}, "input.prefix"),
    ({"input": {"prefix": "uploads/"}}, "input.prefix"),
    ({"input": {"manifest": "list.csv"}}, "input.manifest"),
    ({"input": {"prefix": "s3://shop/in/"}, "output": "outputs/"}, "output"),
]


@pytest.mark.parametrize(("body", "field"), STORE_NAMED)
def test_a_tenants_job_keeps_out_of_the_store_that_all_share(
    keyed: KeyedSite, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any], field: str
) -> None:
    monkeypatch.setattr("deployments.ingress.bulk.bulk_access.require_buckets", lambda places, body: None)
    keyed.bench.home.put("list.csv", b"bucket,key\n", content_type="text/csv")
    refused = keyed.door.post(
        "/v1/jobs", json={"recipe": "transparent-web", **body}, headers=keyed.door.key("shop", "jobs")
    )
    assert error_of(refused, 422, "invalid_option")["field"] == field
    if field != "output":  # that bucket is not there
        allowed = keyed.door.post(
            "/v1/jobs", json={"recipe": "transparent-web", **body}, headers=keyed.door.key("ops", "jobs", "admin")
        )
        assert allowed.status_code == 202, allowed.text


def test_a_tenants_manifest_cannot_name_what_others_uploaded(bench: Any) -> None:

    bench.home.put("photos/a.png", PHOTO, content_type="image/png")
    spec = bench.jobs.submit({"input": {"keys": ["photos/a.png"]}, "recipe": "transparent-web"})
    fenced = JobSpec.read(spec.document() | {"tenant": "shop", "fenced": True})
    assert fenced.owner == Owner("shop", fenced=True)
    own, others = Place("", f"uploads/{spec.id}/1.png"), Place("", "uploads/0/1.png")
    assert [ref.key for ref in _own(fenced, bench.jobs.places, iter([reference(own)]))] == [own.key]
    assert list(_own(spec, bench.jobs.places, iter([reference(others)])))
    with pytest.raises(OptionError, match="results store"):
        list(_own(fenced, bench.jobs.places, iter([reference(others)])))


def test_keys_of_two_files_are_two_services(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with Door(tmp_path / "a") as door:
        foreign = bearing(new_key(tmp_path / "b.json", "shop"))
        error_of(post(door, foreign), 401, "invalid_key")


def test_the_command_line_shows_the_key_of_a_file(
    keyed: KeyedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = keyed.door.key("shop", "jobs")
    job = keyed.made(header)
    file = tmp_path / "key"
    with serving(keyed.door.service) as url:
        for text, code in ((header["X-API-Key"] + "\n", 0), ("mh_a_0\n", 1), ("two\nlines", 2), ("", 2)):
            file.write_text(text)
            assert main(["jobs", "--server", url, "--key-file", str(file)]) == code
        assert main(["jobs", "--server", url]) == 1
    told = capsys.readouterr()
    assert job in told.out
    assert "invalid_key" in told.err
    assert "missing_key" in told.err
