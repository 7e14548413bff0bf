"""Starts the whole service as a user does (`python -m deployments`) on a free port, and ends it by its pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil
import yaml

from mattehorn.ports import free_ports

ROOT = Path(__file__).parent.parent.parent
READY_WITHIN_S = 240  # a busy two-core machine; about 20 s on a quiet one
STOPPED_WITHIN_S = 60
SETTLED_AFTER_S = 3  # HAProxy reloads once more when the last ingress replica has come, and drops what it just accepted


@dataclass(frozen=True)
class Running:
    """A service that answers at `url`; `process` is the one a terminal would hold."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """The replica processes of one deployment of this very service."""
        title = f"ServeReplica:mattehorn:{deployment}"
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if title in _title(child)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def write_config(path: Path, **changes: Any) -> Path:
    """serve_config.yaml with changes by deployment name, for a two-core machine."""
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text("utf-8"))
    for deployment in config["applications"][0]["deployments"]:
        deployment.update(changes.get(deployment["name"], {}))
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path


@contextmanager
def running(
    folder: Path,
    *settings: str,
    config: Path | None = None,
    host: str = "127.0.0.1",
    environment: Mapping[str, str] = MappingProxyType({}),
    program: Sequence[str] = ("-m", "deployments"),
) -> Iterator[Running]:
    """The service with `settings` (KEY=VALUE), ready; everything it started is gone afterwards."""
    (port,) = free_ports(1)
    command = [
        sys.executable,
        *program,
        "--host",
        host,
        "--port",
        str(port),
        "--config",
        str(config or ROOT / "serve_config.yaml"),
    ]
    # no cache, unless a test is about it: the others count what equal photos cost
    for pair in (f"store.url=file://{folder}/store", "cache.max_bytes=0", *settings):
        command += ["--set", pair]
    variables = {**os.environ, **environment}
    log = folder / "service.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, cwd=folder, env=variables)
    service = Running(f"http://127.0.0.1:{port}", process, log)
    family: list[psutil.Process] = []
    try:
        _wait_until_ready(service)
        family = psutil.Process(process.pid).children(recursive=True)
        yield service
    finally:
        stop(process, family)


def stop(process: subprocess.Popen[bytes], family: list[psutil.Process]) -> None:
    """Ends the service as a terminal would; what outlives it is killed, one by one."""
    if process.poll() is None:
        family = [*family, *psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOPPED_WITHIN_S)
    finally:
        _, alive = psutil.wait_procs(family, timeout=10)
        for child in alive:
            child.kill()
        if process.poll() is None:
            process.kill()


def _wait_until_ready(service: Running) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            raise RuntimeError(f"the service ended with {service.process.returncode}:\n{_tail(service.log)}")
        try:
            if httpx.get(f"{service.url}/readyz", timeout=5).status_code == 200:
                time.sleep(SETTLED_AFTER_S)
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"the service was not ready after {READY_WITHIN_S} s:\n{_tail(service.log)}")


def _tail(log: Path) -> str:
    return log.read_text("utf-8", errors="replace")[-4000:]
