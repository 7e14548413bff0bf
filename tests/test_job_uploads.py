"""Web batches over HTTP: photos of one form kept as they come, a job over them, and nothing left of a bad one."""

from __future__ import annotations

import asyncio
import io
import socket
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from deployments.ingress.bulk.job_form import FILES_MOST
from tests.api_client import error_of
from tests.bulk_bench import photo
from tests.bulk_http import BOUNDARY, FORM, RECIPE, Site, eventually, form, part, service_over
from tests.service import serving


def test_a_batch_of_uploads_becomes_a_job_with_flat_names(site: Site) -> None:
    files = [("files", ("my cat.PNG", photo(1))), ("files", ("dog.jpg", photo(2))), ("files", ("empty.jpg", b""))]
    answer = site.client.post("/v1/jobs", files=files, data={"recipe": "transparent-web", "options": ""})
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    assert site.job(job)["total"] == 2
    assert all(key.startswith(f"uploads/{job}/") for key in site.uploads())
    site.bench.run()
    assert site.job(job)["success"] == 2
    archive = zipfile.ZipFile(io.BytesIO(site.client.get(f"/v1/jobs/{job}/results.zip").content))
    names = sorted(archive.namelist())
    assert [name.partition("_")[0] for name in names] == ["00001", "00002", "errors.json"]
    assert all("/" not in name for name in names)
    assert all(name.endswith(".webp") for name in names[:2])


def test_a_batchs_options_are_a_json_text(site: Site) -> None:
    answer = site.client.post(
        "/v1/jobs", **form(part("options", b'{"format": "png"}'), RECIPE, part("files", photo(), "a.png"))
    )
    assert answer.status_code == 202, answer.text
    site.bench.run()
    assert site.job(answer.json()["id"])["success"] == 1
    assert [key.rpartition(".")[2] for key in site.bench.outputs("bulk/")] == ["png"]


def test_one_large_file_and_many_small_ones_arrive_whole_in_any_pieces(site: Site) -> None:
    files = [bytes([number]) * (number * 997) for number in range(1, 20)] + [b"\r\n--b0undar" * 5000]
    whole = b"".join([RECIPE, *(part("files", data, f"{number}.jpg") for number, data in enumerate(files))])
    whole += f"--{BOUNDARY}--\r\n".encode()

    async def chunks() -> Any:
        step = 1
        start = 0
        while start < len(whole):
            yield whole[start : start + step]
            start, step = start + step, step % 1000 + 7

    answer = site.client.post("/v1/jobs", content=chunks(), headers=FORM)
    assert answer.status_code == 202, answer.text
    assert [site.bench.home.get(key) for key in site.uploads()] == files


def test_a_photo_is_kept_while_the_next_is_still_coming(site: Site) -> None:
    kept: list[int] = []

    async def chunks() -> Any:
        opening = f"--{BOUNDARY}\r\n".encode()
        for number in range(3):
            whole = part("files", photo(number), f"{number}.png")
            yield whole[len(opening) if number else 0 :] + opening  # a part ends where the next one begins
            deadline = time.monotonic() + 60
            while len(site.uploads()) <= number and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            kept.append(len(site.uploads()))
        yield RECIPE[len(opening) :] + f"--{BOUNDARY}--\r\n".encode()

    answer = site.client.post("/v1/jobs", content=chunks(), headers=FORM)
    assert answer.status_code == 202, answer.text
    assert kept == [1, 2, 3]


def test_an_empty_twin_of_a_field_is_one_that_was_not_sent(site: Site) -> None:
    for twins in ([RECIPE, part("recipe", b"")], [part("recipe", b""), RECIPE]):
        answer = site.client.post("/v1/jobs", **form(*twins, part("files", photo(), "a.png")))
        assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("name", ["../../etc/passwd", "..\\..\\boot.ini", "a\x00b.jpg", "", ".", "ü" * 300, "a/b.jpg"])
def test_a_hostile_file_name_stays_in_the_jobs_folder(site: Site, name: str) -> None:
    answer = site.client.post("/v1/jobs", **form(RECIPE, part("files", photo(), name)))
    assert answer.status_code == 202, answer.text
    (key,) = site.uploads()
    folder, _, rest = key.rpartition("/")
    assert folder == f"uploads/{answer.json()['id']}"
    assert rest.startswith("00001_")


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([RECIPE], 400, "missing_image"),
        ([RECIPE, part("files", b"", "a.jpg")], 400, "missing_image"),
        ([RECIPE, part("files", b"text")], 400, "invalid_body"),
        ([part("files", b"x", "a.jpg")], 422, "invalid_option"),
        ([part("recipe", b"no-such"), part("files", b"x", "a.jpg")], 422, "unknown_recipe"),
        ([RECIPE, RECIPE, part("files", b"x", "a.jpg")], 422, "invalid_option"),
        ([RECIPE, part("files", b"x", "a.jpg"), part("shiny", b"1")], 422, "unknown_option"),
        ([RECIPE, part("files", b"x", "a.jpg"), part("other", b"1", "b.jpg")], 422, "invalid_option"),
        ([RECIPE, part("files", b"x", "a.jpg"), part("options", b"[]")], 400, "invalid_body"),
        ([RECIPE, part("files", b"x", "a.jpg"), part("options", b'{"shiny": 1}')], 422, "unknown_option"),
        ([RECIPE, part("files", b"x", "a.jpg"), part("options", b"\xff")], 400, "invalid_body"),
        ([RECIPE, part("files", b"x", "a.jpg"), part("output", b"s3://foreign/")], 422, "invalid_option"),
        ([RECIPE, part("files", b"x", "a.jpg"), part("webhook_url", b"https://a.example")], 422, "invalid_option"),
    ],
)
def test_a_bad_batch_is_refused_and_its_uploads_are_removed(
    tmp_path: Path, parts: list[bytes], status: int, code: str
) -> None:
    site = Site(tmp_path, bulk={"buckets": []})
    error_of(site.client.post("/v1/jobs", **form(*parts)), status, code)
    assert eventually(lambda: site.uploads() == [])
    assert site.messages() == []
    site.close()


@pytest.mark.parametrize(
    "request_",
    [
        form(RECIPE, part("files", b"half a pho", "a.jpg"), end=b""),
        form(RECIPE, part("files", b"x", "a.jpg"), end=b"--b0undary"),
        form(b"garbage before all"),
        form(b"--b0undary\r\nContent-Disposition: form-data\r\n\r\nx\r\n"),
        form(b"--b0undary\r\n" + b"X-A: b\r\n" * 100 + b"\r\nx\r\n"),
        form(b"--b0undary\r\nX-A: " + b"b" * 100_000 + b"\r\n\r\nx\r\n"),
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=" + "b" * 10_000}},
        {"content": b"", "headers": FORM},
        form(RECIPE, part("output", b"x" * (64 * 2**10 + 1)), part("files", b"x", "a.jpg")),
        form(RECIPE, *(part(f"f{number}", b"x") for number in range(60))),
        form(RECIPE, *(part("files", b"x", "a.jpg") for _ in range(FILES_MOST + 1))),
    ],
    ids=range(12),
)
def test_a_broken_form_is_refused_and_leaves_nothing(site: Site, request_: dict[str, Any]) -> None:
    answer = site.client.post("/v1/jobs", **request_)
    assert answer.status_code in (400, 422), answer.text
    assert eventually(lambda: site.uploads() == [])
    assert site.messages() == []


def test_a_client_that_leaves_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    body = RECIPE + part("files", photo(), "a.png") + part("files", photo(), "b.png")[:-40]
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['content-type']}\r\nContent-Length: 9999999\r\n\r\n"
    )
    with serving(service_over(tmp_path)) as url:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=60) as sending:
            sending.sendall(head.encode() + body)
            assert eventually(lambda: len(site.uploads()) == 1)
        assert eventually(lambda: site.uploads() == [])
    assert site.messages() == []
    site.close()


def test_a_file_over_the_limit_of_a_photo_is_413(tmp_path: Path) -> None:
    site = Site(tmp_path, limits={"body_bytes": 1000})
    answer = site.client.post(
        "/v1/jobs", **form(RECIPE, part("files", b"x" * 1000, "a.jpg"), part("files", b"x" * 1001, "b.jpg"))
    )
    assert "File 2 " in error_of(answer, 413, "body_too_large")["message"]
    assert eventually(lambda: site.uploads() == [])
    site.close()


def test_a_batch_may_be_larger_than_one_photo_but_not_without_bound(tmp_path: Path) -> None:
    site = Site(tmp_path, limits={"body_bytes": 2**20})
    files = [part("files", b"x" * 2**20, f"{number}.jpg") for number in range(3)]
    assert site.client.post("/v1/jobs", **form(RECIPE, *files)).status_code == 202
    headers = {**FORM, "content-length": str(2**30)}
    error_of(site.client.post("/v1/jobs", content=b"x", headers=headers), 413, "body_too_large")
    site.close()


def test_uploads_are_bounded(site: Site) -> None:
    one = {"headers": FORM, "content": form(RECIPE, part("files", b"x" * 100, "a.jpg"))["content"]}
    statuses = [answer.status_code for answer in site.client.post_together("/v1/jobs", [one] * 8)]
    assert set(statuses) == {202, 429}
    assert site.client.post("/v1/jobs", **one).status_code == 202
