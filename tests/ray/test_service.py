"""The running service with its real parts: HAProxy, Serve, a real S3 server, a real Prometheus."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import time
import zipfile
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from mattehorn.ports import free_ports
from mattehorn.store.open import open_store
from tests.bulk_http import eventually
from tests.ray.conftest import keys
from tests.ray.load import photo, wait_for_sample
from tests.ray.running import ROOT, Running
from tests.s3.conftest import SetKeys, settings_for
from tests.s3.swift import S3Server
from tests.sites import Site
from tests.system_parts import find_tool

pytestmark = [pytest.mark.ray, pytest.mark.slow]

HUGE = 300 * 2**20
BOUNDED_GROWTH = 400 * 2**20  # of all replicas together: far less than one 300 MB body held twice
COFFEE = ROOT / "tests/photos/coffee.jpg"


def rgba(png: bytes) -> np.ndarray:
    picture = Image.open(BytesIO(png))
    assert (picture.format, picture.mode) == ("PNG", "RGBA")
    return np.asarray(picture)


def test_a_posted_photo_comes_back_as_a_cutout_of_its_size(service: Running) -> None:
    answer = httpx.post(f"{service.url}/v1/mattes", files={"file": ("shop/p.jpg", photo(3))}, timeout=60)
    assert answer.status_code == 200
    pixels = rgba(answer.content)
    assert pixels.shape == (120, 160, 4)
    assert pixels[60, 80, 3] == 255
    assert (pixels[2, 2] == 0).all()
    assert answer.headers["X-Mattehorn-Model"] == "fake@1"
    assert {"decode", "infer", "refine", "encode", "total"} <= {
        part.split(";")[0].strip() for part in answer.headers["Server-Timing"].split(",")
    }
    assert answer.headers["Content-Disposition"] == "inline; filename*=UTF-8''p_matte.png"


def test_the_stronger_model_answers_from_a_pool_of_its_own(service: Running) -> None:
    files, fields = {"file": ("cup.jpg", COFFEE.read_bytes())}, {"tier": "best", "recipe": "marketplace-white"}
    answer = httpx.post(f"{service.url}/v1/mattes", files=files, data=fields, timeout=60)
    assert (answer.status_code, answer.headers["X-Mattehorn-Model"]) == (200, "mattehorn-slim@1")
    assert answer.headers["X-Mattehorn-Recipe"].startswith("marketplace-white@2;")
    assert len(service.replicas("MattingStrong")) == 1
    models = httpx.get(f"{service.url}/v1/models", timeout=30).json()["models"]
    assert [(model["name"], model["device"]) for model in models] == [("fake", "cpu"), ("mattehorn-slim", "cpu")]


def test_a_request_id_is_taken_over_once(service: Running) -> None:
    answer = httpx.get(f"{service.url}/healthz", headers={"X-Request-ID": "order-17"})
    assert answer.headers.get_list("X-Request-ID") == ["order-17"]


def test_an_upload_above_the_default_message_limit_arrives(service: Running) -> None:
    noise = np.random.default_rng(7).integers(0, 255, (1500, 1500, 3), np.uint8)
    noise[400:1100, 400:1100] = (255, 0, 0)
    buffer = BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    assert len(buffer.getvalue()) > 4 * 2**20
    answer = httpx.post(f"{service.url}/v1/mattes", files={"file": ("big.png", buffer.getvalue())}, timeout=120)
    assert answer.status_code == 200
    assert rgba(answer.content).shape == (1500, 1500, 4)


def test_a_stored_result_is_in_the_s3_server_byte_equal_to_the_answer(service: Running, swift_s3: S3Server) -> None:
    answer = httpx.post(
        f"{service.url}/v1/mattes", files={"file": ("cup.jpg", COFFEE.read_bytes())}, data={"store": "true"}, timeout=60
    )
    assert answer.status_code == 200
    result_id = answer.headers["X-Mattehorn-Result-Id"]
    record = httpx.get(f"{service.url}/v1/results/{result_id}", timeout=30).json()
    assert record["key"].startswith("outputs/outputs_")
    assert record["key"].endswith("/cup_matte.png")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys(swift_s3).items():
            patch.setenv(name, value)
        assert open_store(settings_for(swift_s3, prefix="interactive")).get(record["key"]) == answer.content
    assert httpx.get(f"{service.url}/v1/results/{result_id}/image", timeout=30).content == answer.content


def test_a_result_without_base64_names_a_url_that_gives_its_bytes(service: Running) -> None:
    fields = {"store": "true", "inline": "false"}
    answer = httpx.post(f"{service.url}/v1/mattes", files={"file": ("p.jpg", photo(5))}, data=fields, timeout=60)
    document = answer.json()
    assert document["image"] is None
    assert rgba(httpx.get(document["result"]["url"], timeout=30).content).shape == (120, 160, 4)


BAD = [
    (b"", 400, "missing_image"),
    (b"this is no picture, whatever its name says\n" * 20, 415, "unsupported_image"),
    (photo(3)[: len(photo(3)) // 2], 422, "corrupt_image"),
]


@pytest.mark.parametrize(("data", "status", "code"), BAD, ids=["empty", "text", "half a JPEG"])
def test_a_bad_picture_gets_its_own_answer(service: Running, data: bytes, status: int, code: str) -> None:
    answer = httpx.post(f"{service.url}/v1/mattes", files={"file": ("p.jpg", data)}, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_photo_is_fetched_by_its_url_and_nothing_but_a_photo_in_public(service: Running, shop: Site) -> None:
    def named(url: str) -> httpx.Response:
        return httpx.post(f"{service.url}/v1/mattes", json={"image_url": url}, timeout=60)

    sent = httpx.post(f"{service.url}/v1/mattes", files={"file": ("cup.jpg", photo(3))}, timeout=60)
    fetched = named(shop.url("/cup.jpg"))
    assert fetched.status_code == 200, fetched.text
    assert fetched.content == sent.content
    assert fetched.headers["Server-Timing"].startswith("fetch;dur=")
    assert fetched.headers["Content-Disposition"] == sent.headers["Content-Disposition"]
    for url, status, code in (
        ("http://169.254.169.254/latest/meta-data/", 400, "url_not_allowed"),
        (service.url, 400, "url_not_allowed"),
        (shop.url("/to-a-file"), 400, "url_not_allowed"),
        (shop.url("/endless"), 413, "body_too_large"),
    ):
        refused = named(url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code), url
    assert shop.broken_off.wait(60)


def test_rembgs_own_calls_are_answered(service: Running, shop: Site) -> None:
    fetched = httpx.get(f"{service.url}/api/remove", params={"url": shop.url("/input.png")}, timeout=60)
    sent = httpx.post(f"{service.url}/api/remove", files={"file": ("input.jpg", photo(3))}, timeout=60)
    for answer in (fetched, sent):
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png"), answer.text
        assert rgba(answer.content).shape == (120, 160, 4)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert fetched.content == sent.content
    fields = {"om": "true", "ppm": "true", "model": "u2net"}
    mask = httpx.post(f"{service.url}/api/remove", files={"file": ("p", photo(3))}, data=fields, timeout=60)
    assert set(np.unique(np.asarray(Image.open(BytesIO(mask.content))))) == {0, 255}
    assert mask.headers["X-Mattehorn-Warnings"] == "model_substituted"
    assert mask.headers["X-Mattehorn-Model"] == "fake@1"
    asking = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    assert httpx.options(f"{service.url}/api/remove", headers=asking, timeout=30).status_code == 204
    refused = httpx.post(f"{service.url}/api/remove", files={"file": ("p", photo(3)[:900])}, timeout=60)
    assert (refused.status_code, set(refused.json())) == (400, {"detail"})
    docs = httpx.get(f"{service.url}/api", timeout=30, follow_redirects=True)
    assert (docs.status_code, docs.url.path) == (200, "/docs")


def test_an_announced_huge_upload_is_refused_before_a_byte_of_it(service: Running) -> None:
    with connected(service) as connection:
        connection.sendall(head("Content-Length", str(HUGE)))
        assert b" 413 " in connection.recv(4096).partition(b"\r\n")[0]
    assert httpx.get(f"{service.url}/readyz", timeout=30).status_code == 200


def test_a_huge_chunked_upload_is_refused_when_the_limit_has_come(service: Running) -> None:
    before = memory(service)
    chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
    sent = 0
    with connected(service) as connection:
        connection.sendall(head("Transfer-Encoding", "chunked"))
        while sent < HUGE and not select.select([connection], [], [], 0)[0]:
            connection.sendall(chunk)
            sent += 2**20
        assert b" 413 " in connection.recv(4096).partition(b"\r\n")[0]
    assert sent < HUGE
    assert memory(service) - before < BOUNDED_GROWTH
    assert httpx.get(f"{service.url}/readyz", timeout=30).status_code == 200


def connected(service: Running) -> socket.socket:
    url = httpx.URL(service.url)
    return socket.create_connection((url.host, url.port), timeout=60)


def head(name: str, value: str) -> bytes:
    return f"POST /v1/mattes HTTP/1.1\r\nHost: test\r\nContent-Type: image/jpeg\r\n{name}: {value}\r\n\r\n".encode()


def test_a_real_prometheus_reads_the_service_in_one_scrape(service: Running, tmp_path: Path) -> None:
    prometheus = find_tool("prometheus")
    httpx.post(f"{service.url}/v1/mattes", files={"file": ("p.jpg", photo(1))}, timeout=60).raise_for_status()
    assert wait_for_sample(service.url, "mattehorn_stage_seconds_count", 1)["mattehorn_stage_seconds_count"] >= 1
    (port,) = free_ports(1)
    target = service.url.removeprefix("http://")
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(
            {
                "scrape_configs": [
                    {
                        "job_name": "mattehorn",
                        "scrape_interval": "2s",
                        "scrape_timeout": "2s",
                        "static_configs": [{"targets": [target]}],
                    }
                ]
            }
        )
    )
    command = [
        prometheus,
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        query = 'sum(mattehorn_requests_total{route="/v1/mattes",code="200"})'
        assert _query(f"http://127.0.0.1:{port}", query) >= 1
        assert _query(f"http://127.0.0.1:{port}", "sum(mattehorn_stage_seconds_count{stage='refine'})") >= 1
    finally:
        process.terminate()
        process.wait(30)


def test_a_batch_is_uploaded_followed_live_fetched_as_a_zip_and_tidied_up(
    service: Running, swift_s3: S3Server, set_keys: SetKeys
) -> None:
    files = [("files", (f"{hue}.jpg", photo(hue))) for hue in range(3)]
    with httpx.Client(base_url=service.url, timeout=120) as client:
        answer = client.post("/v1/jobs", files=files, data={"recipe": "transparent-web"})
        assert answer.status_code == 202, answer.text
        url = answer.headers["Location"]
        with client.stream("GET", f"{url}/events") as stream:
            data = [line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: ")]
        assert (json.loads(data[-1])["state"], json.loads(data[-1])["success"]) == ("succeeded", 3)
        archive = zipfile.ZipFile(BytesIO(client.get(f"{url}/results.zip").content))
        names = sorted(archive.namelist())
        assert [name.split("_")[0] for name in names] == ["00001", "00002", "00003", "errors.json"]
        with Image.open(BytesIO(archive.read(names[0]))) as picture:
            assert (picture.format, picture.size, picture.mode) == ("WEBP", (160, 120), "RGBA")
        refused = client.post("/v1/events/s3", json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    set_keys(swift_s3)
    store = open_store(settings_for(swift_s3, prefix="interactive"))
    assert eventually(lambda: list(store.list("uploads/")) == [])
    assert len(list(store.list("bulk/"))) == 3


def _query(url: str, expression: str) -> float:
    """The value of a Prometheus expression, once it is there."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{url}/api/v1/query", params={"query": expression}, timeout=5).raise_for_status()
            if found := answer.json()["data"]["result"]:
                return float(found[0]["value"][1])
        except httpx.HTTPError:
            pass  # it answers 503 until its storage is open
        time.sleep(1)
    return 0.0


def memory(service: Running) -> int:
    """Resident bytes of all replicas."""
    total = 0
    for name in ("Ingress", "Compose", "Matting"):
        for replica in service.replicas(name):
            try:
                total += replica.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    return total
