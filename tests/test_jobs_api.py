"""`/v1/jobs` over HTTP: made, listed, cancelled, handed over; with real stores, queue and worker in one process."""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deployments.ingress.bulk import jobs_api
from deployments.ingress.bulk.bulk_access import BulkAccess
from mattehorn.bulk.job_spec import KEYS_MOST
from mattehorn.bulk.jobs import Jobs
from mattehorn.errors import QueueUnavailable
from mattehorn.recipe.recipe import PRESETS
from mattehorn.store.records import ID_FORM
from tests.api_client import error_of
from tests.bulk_bench import photo
from tests.bulk_http import ENDED, FORM, RECIPE, Site, eventually, form, part
from tests.job_bench import FIELDS

# a job from beginning to end


def test_a_job_over_a_prefix_is_made_followed_and_handed_over(site: Site) -> None:
    site.bench.add_photos(3)
    site.bench.home.put("in/poison.jpg", b"no picture", content_type="image/jpeg")
    answer = site.client.post(
        "/v1/jobs", json={"input": {"prefix": "in/"}, "output": "out/", "recipe": "transparent-web@1"}
    )
    assert answer.status_code == 202
    job = answer.json()["id"]
    assert ID_FORM.fullmatch(job)
    assert answer.json() == {"id": job, "state": "queued", "url": f"/v1/jobs/{job}"}
    assert answer.headers["location"] == f"/v1/jobs/{job}"

    waiting = site.job(job)
    assert set(waiting) == FIELDS
    assert (waiting["state"], waiting["done"], waiting["finished_at"]) == ("queued", 0, None)
    error_of(site.client.get(f"/v1/jobs/{job}/results.zip"), 409, "job_running")

    site.bench.run()
    done = site.job(job)
    assert (done["state"], done["total"], done["done"], done["success"]) == ("succeeded", 4, 4, 3)
    (failure,) = done["failed"]
    assert failure["file"] == "in/poison.jpg"
    assert failure["error"].startswith("unsupported_image: ")

    manifest = site.client.get(f"/v1/jobs/{job}/manifest.jsonl")
    assert manifest.headers["content-type"] == "application/x-ndjson"
    rows = [json.loads(line) for line in manifest.text.splitlines()]
    assert [row["source"] for row in rows] == ["in/0000.jpg", "in/0001.jpg", "in/0002.jpg", "in/poison.jpg"]

    results = site.client.get(f"/v1/jobs/{job}/results.zip")
    assert results.headers["content-type"] == "application/zip"
    assert 'filename="batch_results.zip"' in results.headers["content-disposition"]
    archive = zipfile.ZipFile(io.BytesIO(results.content))
    assert archive.testzip() is None
    for row in rows[:3]:
        assert archive.read(row["output"].removeprefix("out/")) == site.bench.home.get(row["output"])
    assert json.loads(archive.read("errors.json")) == [failure]


def test_keys_and_options_reach_the_worker(site: Site) -> None:
    keys = site.bench.add_photos(2)
    job = site.submit(input={"keys": keys}, output="out/", options={"format": "png"})
    assert site.job(job)["total"] == 2
    site.bench.run()
    assert site.job(job)["success"] == 2
    assert [key.rpartition(".")[2] for key in site.bench.outputs()] == ["png", "png"]


def test_a_manifest_names_the_photos(site: Site) -> None:
    site.bench.add_photos(2)
    site.bench.home.put("list.jsonl", b'"in/0000.jpg"\n"in/0001.jpg"\n', content_type="application/x-ndjson")
    job = site.submit(input={"manifest": "list.jsonl"})
    site.bench.run()
    assert site.job(job)["success"] == 2


def test_a_job_without_photos_has_an_empty_manifest_and_a_zip(site: Site) -> None:
    job = site.submit(input={"prefix": "nothing/"})
    site.bench.run()
    assert site.job(job)["state"] == "succeeded"
    assert site.client.get(f"/v1/jobs/{job}/manifest.jsonl").content == b""
    archive = zipfile.ZipFile(io.BytesIO(site.client.get(f"/v1/jobs/{job}/results.zip").content))
    assert archive.namelist() == ["errors.json"]


def test_cancel_ends_a_job_and_is_harmless_after_its_end(site: Site) -> None:
    site.bench.add_photos(2)
    job = site.submit(input={"prefix": "in/"}, output="out/")
    answer = site.client.post(f"/v1/jobs/{job}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    site.bench.run()
    assert site.bench.outputs() == []
    assert site.client.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
    assert site.client.get(f"/v1/jobs/{job}/results.zip").status_code == 200


# the list


def test_the_list_shows_the_latest_first_in_pages(site: Site) -> None:
    made = []
    for number in range(5):
        made.append(site.submit(input={"prefix": f"in{number}/"}))
        time.sleep(0.003)  # ids count milliseconds
    seen: list[str] = []
    cursor, pages = "", 0
    while cursor is not None:
        page = site.client.get("/v1/jobs", params={"limit": 2, "cursor": cursor}).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert (seen, pages) == (made[::-1], 3)
    everything = site.client.get("/v1/jobs").json()
    assert everything["next_cursor"] is None
    assert set(everything["jobs"][0]) == FIELDS - {"failed"}


def test_the_list_leaves_out_folders_that_are_no_jobs(site: Site) -> None:
    assert site.client.get("/v1/jobs").json() == {"jobs": [], "next_cursor": None}
    job = site.submit(input={"prefix": "in/"})
    site.bench.home.put("jobs/stray/x", b"1", content_type="text/plain")
    site.bench.home.put(f"jobs/{site.bench.jobs.new_id()}/input.jsonl", b"", content_type="text/plain")
    assert [entry["id"] for entry in site.client.get("/v1/jobs").json()["jobs"]] == [job]


@pytest.mark.parametrize(("name", "value"), [("limit", "0"), ("limit", "101"), ("limit", "x"), ("cursor", "../etc")])
def test_a_bad_page_is_refused_by_name(site: Site, name: str, value: str) -> None:
    assert error_of(site.client.get("/v1/jobs", params={name: value}), 422, "invalid_option")["field"] == name


# what is refused

ROUTES = [
    ("GET", ""),
    ("POST", "/cancel"),
    ("GET", "/events"),
    ("GET", "/manifest.jsonl"),
    ("GET", "/results.zip"),
]


@pytest.mark.parametrize(("method", "rest"), ROUTES)
@pytest.mark.parametrize(
    "job", ["", "%2e%2e", "..%5c..%5cspec", "%00", "A" * 26, "i" * 26, "x" * 3000, "%ff%fe", "0" * 26]
)
def test_an_id_that_is_none_is_404_and_touches_nothing(site: Site, method: str, rest: str, job: str) -> None:
    code = "not_found" if not job and rest else "job_not_found"
    name = job or ("%2F" if rest else "0" * 26)
    error_of(site.client.request(method, f"/v1/jobs/{name}{rest}"), 404, code)
    assert list(site.bench.home.list("")) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": {"prefix": "in/"}, "recipe": None}, "recipe"),
        ({"input": {"prefix": "in/"}, "recipe": "no-such"}, "recipe"),
        ({"input": {"prefix": "in/", "keys": ["a"]}}, "input"),
        ({"input": {"keys": []}}, "input.keys"),
        ({"input": {"keys": ["../a.jpg", 7]}}, "input.keys"),
        ({"input": {"manifest": "no-such.csv"}}, "input.manifest"),
        ({"input": {"prefix": "in/"}, "output": "in/out/"}, "output"),
        ({"input": {"prefix": "in/"}, "output": "jobs/"}, "output"),
        ({"input": {"prefix": "s3://foreign/in/"}}, "input.prefix"),
        ({"input": {"prefix": "file:///etc/"}}, "input.prefix"),
        ({"input": {"prefix": "in/"}, "options": {"feather_px": 99}}, "feather_px"),
        ({"input": {"prefix": "in/"}, "options": {"model": "another"}}, "model"),
        ({"input": {"prefix": "in/"}, "recipe": {"name": "a", "version": 1, "options": {"model": "x"}}}, "model"),
        ({"input": {"prefix": "in/"}, "webhook_url": "https://shop.example/done"}, "webhook_url"),
        ({"input": {"prefix": "in/"}, "shiny": 1}, "shiny"),
    ],
)
def test_a_bad_job_is_refused_by_its_field_and_leaves_nothing(tmp_path: Path, body: dict[str, Any], field: str) -> None:
    site = Site(tmp_path, bulk={"buckets": []})
    answer = site.client.post("/v1/jobs", json={"recipe": "transparent-web", **body})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["field"] == field
    assert list(site.bench.home.list("")) == []
    assert site.messages() == []
    site.close()


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://shop.example/done", 202),
        ("http://127.0.0.1/done", 422),
        ("https://127.0.0.1/done", 422),
        ("http://shop.example/done", 422),
        ("https://user:pass@shop.example/", 422),
        ("file:///etc/passwd", 422),
        ("https://shop.example/" + "x" * 2000, 422),
    ],
)
def test_a_webhook_goes_to_public_https_once_a_secret_is_set(tmp_path: Path, url: str, status: int) -> None:
    site = Site(tmp_path, bulk={"webhook_secret": "s"})
    body = {"input": {"prefix": "in/"}, "recipe": "transparent-web", "webhook_url": url}
    assert site.client.post("/v1/jobs", json=body).status_code == status
    site.close()


def test_too_many_inline_keys_are_told_of_manifests(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"input": {"keys": ["a"] * (KEYS_MOST + 1)}, "recipe": "transparent-web"}
    error = error_of(site.client.post("/v1/jobs", json=body), 422, "invalid_option")
    assert "manifest" in error["message"]
    monkeypatch.setattr(jobs_api, "JSON_BYTES", 1000)
    error = error_of(site.client.post("/v1/jobs", json=body), 413, "body_too_large")
    assert "manifest" in error["message"]

    def in_chunks() -> Any:
        async def chunks() -> Any:
            for _ in range(30):
                yield b" " * 100

        return chunks()

    headers = {"content-type": "application/json"}
    error_of(site.client.post("/v1/jobs", content=in_chunks(), headers=headers), 413, "body_too_large")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'"x"', b"[" * 100_000, b"\xff\xfe{}"])
def test_a_body_that_is_no_json_object_is_400(site: Site, body: bytes) -> None:
    answer = site.client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    error_of(answer, 400, "invalid_body")


def test_a_job_without_a_recipe_is_told_which_there_are(site: Site) -> None:
    for answer in (
        site.client.post("/v1/jobs", json={"input": {"prefix": "in/"}}),
        site.client.post("/v1/jobs", **form(part("files", photo(), "a.png"))),
    ):
        error = error_of(answer, 422, "invalid_option")
        assert (error["field"], all(recipe.id in error["message"] for recipe in PRESETS)) == ("recipe", True)


def test_another_content_type_is_415(site: Site) -> None:
    for headers in ({}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}):
        error_of(site.client.post("/v1/jobs", content=b"{}", headers=headers), 415, "unsupported_media_type")


def test_a_half_surrogate_in_a_key_is_shown_as_it_came(site: Site) -> None:
    body = json.dumps({"input": {"keys": ["in/\ud800.jpg"]}, "recipe": "transparent-web"})
    answer = site.client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 202
    site.bench.run()
    job = site.client.get(answer.json()["url"])
    assert job.json()["state"] in ENDED
    assert site.client.get(f"{answer.json()['url']}/manifest.jsonl").status_code == 200


@pytest.mark.parametrize(
    ("site_", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 202), ("none", 202)]
)
def test_a_page_of_another_site_cannot_make_a_browser_post_a_batch(site: Site, site_: str, status: int) -> None:
    request = form(RECIPE, part("files", photo(), "a.png"))
    request["headers"] = {**FORM, "sec-fetch-site": site_}
    assert site.client.post("/v1/jobs", **request).status_code == status


def test_bulk_work_can_be_switched_off(tmp_path: Path) -> None:
    site = Site(tmp_path, bulk={"enabled": False})
    body = {"input": {"prefix": "in/"}, "recipe": "transparent-web"}
    error_of(site.client.post("/v1/jobs", json=body), 403, "forbidden")
    assert site.client.get("/v1/jobs").status_code == 200
    site.close()


# the store and the queue are away


def test_a_job_that_cannot_be_queued_is_503_and_withdrawn(tmp_path: Path) -> None:
    site = Site(tmp_path, queue={"url": f"sqlite:///{tmp_path}/locked/queue.db"})
    (tmp_path / "locked").write_bytes(b"a file where the queue's folder should be")
    answer = site.client.post("/v1/jobs", json={"input": {"prefix": "in/"}, "recipe": "transparent-web"})
    error_of(answer, 503, "unavailable")
    error_of(site.client.post("/v1/jobs", **form(RECIPE, part("files", b"x", "a.jpg"))), 503, "unavailable")
    assert eventually(lambda: site.uploads() == [])
    site.close()


class QueueAway:
    """Opened, but away when something is sent."""

    def send_many(self, bodies: Sequence[str]) -> None:
        raise QueueUnavailable("The queue is away.", retry_after_s=5)


def test_a_job_whose_message_was_not_taken_does_not_stay_queued_for_ever(site: Site) -> None:
    bulk = BulkAccess(site.client.service.settings)
    jobs = Jobs(site.bench.places, QueueAway())
    bulk._opened = jobs, QueueAway()
    body = {"input": {"prefix": "in/"}, "recipe": "transparent-web"}
    with pytest.raises(QueueUnavailable):
        asyncio.run(bulk.submit(body, job := jobs.new_id()))
    assert site.job(job)["state"] == "cancelled"


# the description


def test_openapi_describes_bulk_with_examples_and_errors(site: Site) -> None:
    paths = site.client.get("/openapi.json").json()["paths"]
    new = paths["/v1/jobs"]["post"]
    assert set(new["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    form_fields = set(new["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"])
    assert form_fields == {"files", "recipe", "options", "output", "webhook_url"}
    examples = new["requestBody"]["content"]["application/json"]["examples"]
    assert set(examples) == {"prefix", "keys", "manifest"}
    assert set(new["responses"]) == {"202", "400", "403", "413", "415", "422", "429", "503"}
    job = paths["/v1/jobs/{job_id}"]["get"]["responses"]["200"]["content"]["application/json"]
    assert set(job["schema"]["properties"]) == set(job["example"]) == FIELDS
    assert "409" in paths["/v1/jobs/{job_id}/results.zip"]["get"]["responses"]
    for name, source in (("prefix", {"prefix": "in/"}), ("keys", {"keys": ["in/1.jpg"]})):
        body = examples[name]["value"] | {"input": source, "output": "out/"}  # its own needs a bucket
        assert site.client.post("/v1/jobs", json=body).status_code == 202
