"""The process itself: how it starts, ends, scales to zero and refuses what it cannot do."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
import torch

from tests.ray.load import photo
from tests.ray.running import ROOT, STOPPED_WITHIN_S, Running, running, write_config

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WAKES_WITHIN_S = 90


def post(service: Running) -> httpx.Response:
    return httpx.post(f"{service.url}/v1/mattes", files={"file": ("p.jpg", photo(3))}, timeout=60)


def test_two_services_run_side_by_side_and_a_signal_ends_one_with_all_its_processes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with running(tmp_path / "a", "model=fake") as first, running(tmp_path / "b", "model=fake") as second:
        family = psutil.Process(first.process.pid).children(recursive=True)
        assert any("haproxy" in child.name() for child in family)
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(STOPPED_WITHIN_S) == 0
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == []
        assert post(second).status_code == 200


SLOW_DRAIN = """
import sys, time
import deployments.__main__ as program

def slowly(application):
    time.sleep(8)  # Ray's own handler of SIGTERM aborts the process after about 3 s
    print("gave bulk work back", flush=True)

program._drain_bulk = slowly
sys.exit(program.main())
"""


def test_sigterm_waits_until_bulk_work_is_given_back(tmp_path: Path) -> None:
    with running(tmp_path, "model=fake", program=("-c", SLOW_DRAIN), environment={"PYTHONPATH": str(ROOT)}) as service:
        family = psutil.Process(service.process.pid).children(recursive=True)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(STOPPED_WITHIN_S) == 0, service.log.read_text("utf-8")[-2000:]
        assert "gave bulk work back" in service.log.read_text("utf-8")
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == []


def test_a_pool_at_zero_is_ready_and_cold_and_wakes_with_a_photo(tmp_path: Path) -> None:
    scaling = {
        "min_replicas": 0,
        "initial_replicas": 1,
        "max_replicas": 1,
        "upscale_delay_s": 0.5,
        "downscale_delay_s": 2,
        "downscale_to_zero_delay_s": 2,
        "metrics_interval_s": 0.5,
        "look_back_period_s": 2,
    }
    matting = {"autoscaling_config": scaling, "graceful_shutdown_timeout_s": 2}
    config = write_config(tmp_path / "config.yaml", Matting=matting)
    with running(tmp_path, "model=fake", config=config) as service:
        deadline = time.monotonic() + WAKES_WITHIN_S
        while not (state := httpx.get(f"{service.url}/readyz", timeout=20).json()).get("cold"):
            assert time.monotonic() < deadline, state
            time.sleep(1)
        assert state["status"] == "ready"
        assert service.replicas("Matting") == []
        assert post(service).status_code == 200
        assert len(service.replicas("Matting")) == 1


def test_a_taken_port_is_named_and_another_proposed() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = serve("--port", str(port))
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert "PORT=8123" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set", "colour=red"],
        ["--set", "max_batch=0"],
        ["--set", "store.key_template={secret}"],
        ["--config", "gone.yaml"],
    ],
)
def test_a_bad_setting_stops_the_start(arguments: list[str]) -> None:
    done = serve("--port", "1", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("mattehorn serve: ")


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployments", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_gpu_that_is_asked_for_and_not_there_stops_the_replica(tmp_path: Path) -> None:
    """Logical GPUs make Ray place the replica; torch then finds no device: never the CPU in silence."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device; the test is about one that has none")
    matting = {
        "ray_actor_options": {"num_cpus": 0.5, "num_gpus": 1},
        "autoscaling_config": {"min_replicas": 1, "max_replicas": 1},
    }
    config = write_config(tmp_path / "config.yaml", Matting=matting)
    with (
        pytest.raises(RuntimeError, match="sees no CUDA device"),
        running(tmp_path, config=config, environment={"RAY_OVERRIDE_RESOURCES": '{"GPU": 1}'}),
    ):
        pass


def test_serves_default_mode_gives_the_same_answers(tmp_path: Path) -> None:
    """Without HAProxy and gRPC, errors of an inner deployment arrive wrapped, and a proxy stands before the ingress."""
    plain = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}
    with running(tmp_path, "model=fake", environment=plain) as service:
        answer = post(service)
        assert (answer.status_code, answer.headers["X-Mattehorn-Model"]) == (200, "fake@1")
        bad = httpx.post(f"{service.url}/v1/mattes", files={"file": ("p.jpg", b"no picture" * 20)}, timeout=60)
        assert (bad.status_code, bad.json()["error"]["code"]) == (415, "unsupported_image")
        service.replicas("Matting")[0].kill()
        assert post(service).status_code == 200
