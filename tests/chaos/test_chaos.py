"""The faults of `python -m tests.chaos`, fewer and shorter, on the real service with moto's and with Swift's S3."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from tests.chaos.proxy import FaultProxy
from tests.chaos.scenarios import Run, check, everything
from tests.chaos.world import ENVIRONMENT, NOT_SET, made_world
from tests.s3.swift import why_not

SEED = 4
WITHIN_S = 180  # for the end of all work after the last fault
LEASE_S = 8.0  # what the killed ones held comes back after it


@pytest.mark.ray
@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.parametrize(("store", "images"), [("moto", 60), ("swift", 24)])
def test_all_faults_together_leave_each_result_once_and_nothing_lost(
    store: str, images: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store == "swift" and (reason := why_not(tmp_path)):
        pytest.skip(f"Swift cannot run: {reason}")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in NOT_SET:
        monkeypatch.delenv(name, raising=False)
    with made_world(store, tmp_path, LEASE_S) as world:
        run = Run(world, "everything", images, random.Random(SEED), within_s=WITHIN_S)
        everything(run, lambda: world.service(tmp_path), whole=store == "moto")
        result = check(run, exactly_one_create=store == "moto")
    print(store, dict(run.happened), result.counts)
    assert result.problems == []


# ---- the proxy itself: a fault that does not happen proves nothing ----


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    _Answers.asked = 0
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = FaultProxy(server.server_port).start()
        yield made
        made.stop()
        server.shutdown()


def ask(proxy: FaultProxy) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{proxy.port}/", timeout=20, trust_env=False)


def test_a_passing_proxy_passes(proxy: FaultProxy) -> None:
    assert ask(proxy).text == "ok"
    assert proxy.failed == 0


def test_a_refusing_proxy_answers_503_and_asks_nobody(proxy: FaultProxy) -> None:
    with proxy.fault("refusing", 0):
        assert ask(proxy).status_code == 503
    assert _Answers.asked == 0
    assert proxy.failed == 1


def test_a_proxy_that_is_away_closes_the_connection(proxy: FaultProxy) -> None:
    with proxy.fault("away", 0), pytest.raises(httpx.TransportError):
        ask(proxy)
    assert _Answers.asked == 0


def test_a_deaf_proxy_has_the_request_done_and_loses_the_answer(proxy: FaultProxy) -> None:
    with proxy.fault("deaf", 0), pytest.raises(httpx.TransportError):
        ask(proxy)
    assert _Answers.asked == 1


def test_a_fault_ends_with_its_block_and_the_connection_is_used_again(proxy: FaultProxy) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{proxy.port}", timeout=20, trust_env=False) as client:
        assert client.get("/").text == "ok"
        with proxy.fault("slow", 0):
            assert client.get("/").text == "ok"
        assert proxy.failed == 1
        assert client.get("/").text == "ok"
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5):
        pass
