"""What a job hands over: the zip, streamed, and the webhook, told once."""

from __future__ import annotations

import io
import json
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from mattehorn.bulk import job_results
from mattehorn.bulk.job_results import JobRunning, manifest_lines, results_zip
from mattehorn.bulk.messages import webhook_message
from mattehorn.bulk.webhook import Webhook
from mattehorn.errors import FetchFailed, OptionError, Unavailable
from mattehorn.events.signatures import HEADER, check_signature
from mattehorn.fetch.addresses import Address
from mattehorn.fetch.fetch import Fetcher
from mattehorn.fetch.policy import UrlPolicy

from .bulk_bench import (
    JPEG,
    Bench,
    body,
)

SECRET = "a secret for tests"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


# ---- results.zip ----


def test_the_zip_has_every_result_under_its_key_and_the_errors(bench: Bench) -> None:
    bench.add_photos(4, "in/sub/")
    bench.home.put("in/text.jpg", b"text", content_type=JPEG)
    spec = bench.jobs.submit(body(output="out/"))
    bench.run()
    archive = zipfile.ZipFile(io.BytesIO(b"".join(results_zip(bench.jobs, spec.id))))
    assert archive.testzip() is None
    made = bench.outputs()
    assert archive.namelist() == [key.removeprefix("out/") for key in made] + ["errors.json"]
    assert archive.read(archive.namelist()[0]) == bench.home.get(made[0])
    errors = json.loads(archive.read("errors.json"))
    assert [row["file"] for row in errors] == ["in/text.jpg"]


def test_a_result_that_was_deleted_stands_among_the_errors(bench: Bench) -> None:
    bench.add_photos(2)
    spec = bench.jobs.submit(body(output="out/"))
    bench.run()
    bench.home.delete(bench.outputs()[0])
    archive = zipfile.ZipFile(io.BytesIO(b"".join(results_zip(bench.jobs, spec.id))))
    assert len(archive.namelist()) == 2
    assert json.loads(archive.read("errors.json"))[0]["error"].startswith("gone: ")


def test_a_zip_without_errors_says_so(bench: Bench) -> None:
    bench.add_photos(1)
    spec = bench.jobs.submit(body())
    bench.run()
    archive = zipfile.ZipFile(io.BytesIO(b"".join(results_zip(bench.jobs, spec.id))))
    assert json.loads(archive.read("errors.json")) == []


def test_a_running_job_has_no_zip_but_a_manifest_so_far(bench: Bench) -> None:
    spec = bench.jobs.submit(body())
    with pytest.raises(JobRunning):
        results_zip(bench.jobs, spec.id)
    assert list(manifest_lines(bench.jobs, spec.id)) == []


def test_a_zip_of_too_many_files_is_refused_before_its_first_byte(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add_photos(3)
    spec = bench.jobs.submit(body())
    bench.run()
    monkeypatch.setattr(job_results, "ZIP_FILES", 2)
    with pytest.raises(OptionError, match="manifest"):
        results_zip(bench.jobs, spec.id)


def test_the_zip_holds_one_picture_at_a_time(bench: Bench) -> None:
    size, count = 4 * 2**20, 12
    bench.add_photos(count)
    spec = bench.jobs.submit(body(output="out/"))
    bench.run()
    for key in bench.outputs():
        bench.home.put(key, bytes(size), content_type="image/webp")
    tracemalloc.start()
    try:
        total = sum(len(piece) for piece in results_zip(bench.jobs, spec.id))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total > size * count
    assert peak < 3.5 * size


# ---- webhook ----


@dataclass(frozen=True)
class Posted:
    url: str
    content: bytes
    headers: Mapping[str, str]


class Receiver(Fetcher):
    """The network and who is behind it: answers as scripted, then 200; keeps what it was sent."""

    def __init__(self, *answers: int | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.got: list[Posted] = []

    async def post(self, text: str, content: bytes, headers: Mapping[str, str], **more: Any) -> int:
        self.got.append(Posted(text, content, headers))
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return answer


def webhook_bench(folder: Path, receiver: Fetcher, **more: Any) -> Bench:
    return Bench(folder, webhook=Webhook(SECRET, receiver, clock=lambda: 1_700_000_000.0), **more)


def test_the_webhook_is_told_once_signed_with_the_jobs_answer(tmp_path: Path) -> None:
    receiver = Receiver()
    bench = webhook_bench(tmp_path, receiver)
    bench.add_photos(3)
    spec = bench.jobs.submit(body(webhook_url="https://example.com/done"))
    bench.run()
    (request,) = receiver.got
    check_signature(request.headers[HEADER], request.content, SECRET, 1_700_000_000.0)
    assert request.headers["X-Mattehorn-Delivery"] == spec.id
    assert json.loads(request.content) == bench.jobs.progress(spec.id).document()
    bench.queue.send_many([webhook_message(spec.id)] * 3)
    bench.run()
    assert len(receiver.got) == 1
    bench.close()


@pytest.mark.parametrize("trouble", [500, 404, 302, FetchFailed("slow")])
def test_a_receiver_that_does_not_take_it_is_told_again(tmp_path: Path, trouble: int | Exception) -> None:
    receiver = Receiver(trouble, trouble)
    bench = webhook_bench(tmp_path, receiver)
    bench.add_photos(1)
    bench.jobs.submit(body(webhook_url="https://example.com/done"))
    bench.run()
    assert len(receiver.got) == 3
    assert {request.url for request in receiver.got} == {"https://example.com/done"}
    assert bench.queue.depth().dead == 0
    bench.close()


def test_a_receiver_that_never_takes_it_leaves_a_dead_letter_and_an_ended_job(tmp_path: Path) -> None:
    bench = webhook_bench(tmp_path, Receiver(*[500] * 20), max_receive=3)
    bench.add_photos(1)
    spec = bench.jobs.submit(body(webhook_url="https://example.com/done"))
    bench.run()
    assert bench.queue.depth().dead == 1
    assert "500" in bench.queue.dead_letters(1)[0].reason
    assert bench.jobs.progress(spec.id).state == "succeeded"
    bench.close()


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_the_webhook_hears_of_every_end(tmp_path: Path, end: str) -> None:
    receiver = Receiver()
    bench = webhook_bench(tmp_path, receiver)
    spec = bench.jobs.submit(body(webhook_url="https://example.com/done"))
    if end == "cancel":
        bench.jobs.cancel(spec.id)
    else:
        bench.jobs.fail(spec.id, OptionError("No such bucket."))
    bench.run()
    assert json.loads(receiver.got[0].content)["state"] == {"cancel": "cancelled", "fail": "failed"}[end]
    bench.close()


def test_a_worker_that_died_between_the_end_and_its_message_is_made_up_for(tmp_path: Path) -> None:
    receiver = Receiver()
    bench = webhook_bench(tmp_path, receiver)
    bench.add_photos(1)
    spec = bench.jobs.submit(body(webhook_url="https://example.com/done"))
    original = bench.jobs._announce
    bench.jobs._announce = lambda spec: None  # type: ignore[method-assign]
    bench.run()
    bench.jobs._announce = original  # type: ignore[method-assign]
    bench.jobs.finish(spec.id, again=True)
    bench.run()
    assert len(receiver.got) == 1
    bench.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://",
        "https://user:pass@example.com/",
        "file:///etc/passwd",
        "//example.com/",
        "https://exämple.com/",
        "https://example.com:99999/",
        "http://127.0.0.1.example.com/",
        "http://[::ffff:10.0.0.1]/",
        "http://127.0.0.1:8080/x",
        "https://127.0.0.1/x",
        "https://localhost/x",
        "https://[::1]/x",
        "https://169.254.169.254/latest/",
        "https://2130706433/",
        "https://example.com:6379/",
        "https://example.com/" + "a" * 3000,
        "gopher://127.0.0.1/",
    ],
)
def test_an_address_that_may_not_be_called_is_refused_when_the_job_is_made(tmp_path: Path, url: str) -> None:
    bench = webhook_bench(tmp_path, Receiver())
    with pytest.raises(OptionError) as refused:
        bench.jobs.submit(body(webhook_url=url))
    assert refused.value.data["field"] == "webhook_url"
    bench.close()


def test_public_https_may_be_called_and_what_the_operator_lists() -> None:
    Webhook(SECRET).check_url("https://example.com/x?y=1")
    listing = Webhook(SECRET, Fetcher(UrlPolicy.of(["hooks.internal", "127.0.0.1:8080"])))
    for url in (
        "https://example.com/",
        "http://hooks.internal/x",
        "https://hooks.internal/x",
        "http://127.0.0.1:8080/",
    ):
        listing.check_url(url)
    for url in ("http://example.com/", "http://127.0.0.1:8081/", "https://hooks.internal:8443/"):
        with pytest.raises(OptionError):
            listing.check_url(url)


class Listener:
    """A real server on the loopback that takes every POST."""

    def __init__(self) -> None:
        got = self.got = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.append(Posted(self.path, body, {name.lower(): value for name, value in self.headers.items()}))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *said: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


def test_a_real_receiver_that_the_operator_lists_is_told(tmp_path: Path, listener: Listener) -> None:
    bench = webhook_bench(tmp_path, Fetcher(UrlPolicy.of([f"127.0.0.1:{listener.port}"])))
    bench.add_photos(1)
    spec = bench.jobs.submit(body(webhook_url=f"http://127.0.0.1:{listener.port}/done?a=b"))
    bench.run()
    (request,) = listener.got
    assert request.url == "/done?a=b"
    assert json.loads(request.content) == bench.jobs.progress(spec.id).document()
    check_signature(request.headers[HEADER.lower()], request.content, SECRET, 1_700_000_000.0)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == "mattehorn"
    assert request.headers["x-mattehorn-delivery"] == spec.id
    bench.close()


def test_a_name_that_leads_inside_is_not_called_and_the_job_has_ended(tmp_path: Path, listener: Listener) -> None:
    async def inside(host: str) -> list[Address]:
        asked.append(host)
        return [ip_address("127.0.0.1")]

    asked: list[str] = []
    bench = webhook_bench(tmp_path, Fetcher(UrlPolicy.of(ports=[listener.port]), resolve=inside))
    bench.add_photos(1)
    spec = bench.jobs.submit(body(webhook_url=f"https://hooks.example:{listener.port}/done"))
    bench.run()
    assert asked == ["hooks.example"]
    assert listener.got == []
    assert bench.queue.depth().dead == 0
    assert bench.jobs.progress(spec.id).state == "succeeded"
    bench.close()


def test_without_a_secret_no_job_may_have_a_webhook() -> None:
    with pytest.raises(OptionError, match="secret"):
        Webhook(None).check_url("https://example.com/")


def test_a_job_that_has_not_ended_is_not_told(bench: Bench) -> None:
    spec = bench.jobs.submit(body(webhook_url="https://example.com/"))
    with pytest.raises(Unavailable):
        Webhook(SECRET, Receiver()).deliver(bench.jobs, spec.id)
