"""A real S3 server for tests: OpenStack Swift with its s3api, four processes over a temporary folder.

It checks signatures and digests and has conditional writes, which several racing writers may win; all of it
comes from pip. Started by conftest.py once a session, on free ports, with one device, one replica and no
memcached.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mattehorn.ports import free_ports

BIN = Path(sys.executable).parent
SERVICES = ("account", "container", "object", "proxy")
READY_S = 60  # 3 s on an idle machine; a busy one may need much more
END_S = 5  # between SIGTERM and SIGKILL

RINGS = """
import sys
from swift.common.ring import RingBuilder
for kind, port in (("account", sys.argv[2]), ("container", sys.argv[3]), ("object", sys.argv[4])):
    builder = RingBuilder(6, 1, 1)  # 64 partitions, one replica
    device = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1", "weight": 1.0}
    builder.add_dev(device)
    builder.rebalance()
    builder.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""

COMMON = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
log_level = WARNING
"""

SERVER = """devices = {folder}/devices
mount_check = false
disable_fallocate = true
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

PLAIN_FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "copy", "bulk", "slo", "dlo", "symlink")
PROXY = """[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache s3api tempauth copy bulk slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{dead_port}
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin .reseller_admin
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
"""  # noqa: E501  the pipeline is one line in Swift's format


@dataclass(frozen=True)
class S3Server:
    """Where a test server listens and the key pair it takes. `checks_keys`: a wrong secret is refused."""

    endpoint_url: str
    access_key: str
    secret_key: str
    checks_keys: bool


def why_not(folder: Path) -> str | None:
    """What this machine lacks to run Swift over `folder`; None when nothing."""
    for module, package in (("swift", "swift"), ("pyeclib", "pyeclib")):
        if importlib.util.find_spec(module) is None:
            return f"the package {package} is missing: pip install -e '.[test]'"
    if not hasattr(os, "setxattr"):
        return "Swift keeps its metadata in extended attributes as Linux has them"
    try:
        os.setxattr(folder, "user.swift.probe", b"1")
    except OSError as exc:
        return f"the temporary folder's file system has no extended attributes ({exc.strerror}); use --basetemp"
    return None


@contextmanager
def running_swift(folder: Path) -> Iterator[S3Server]:
    """Swift over `folder`, ready. Its processes are ended at the end, whatever happened."""
    ports = free_ports(len(SERVICES) + 1)
    _configure(folder, ports)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for kind in SERVICES:
            with (folder / f"{kind}.log").open("wb") as output:
                command = [
                    sys.executable,
                    str(BIN / f"swift-{kind}-server"),
                    str(folder / f"{kind}-server.conf"),
                ]
                processes.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        start_new_session=True,  # a group of its own, so that it can be ended as a whole
                    )
                )
        endpoint = f"http://127.0.0.1:{ports[SERVICES.index('proxy')]}"
        _wait_until_ready(f"{endpoint}/healthcheck", processes, folder)
        yield S3Server(endpoint, "test:tester", "testing", checks_keys=True)
    finally:
        _end(processes)


def _configure(folder: Path, ports: list[int]) -> None:
    (folder / "devices" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = mh\nswift_hash_path_suffix = mh\n"
        "[storage-policy:0]\nname = gold\ndefault = yes\n"
    )
    for kind, port in zip(SERVICES, ports, strict=False):
        body = PROXY if kind == "proxy" else SERVER
        if kind == "proxy":
            body += "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in PLAIN_FILTERS)
        values = {
            "port": port,
            "user": getpass.getuser(),
            "folder": folder,
            "kind": kind,
            "dead_port": ports[-1],
        }
        (folder / f"{kind}-server.conf").write_text((COMMON + body).format(**values))
    arguments = [str(folder), *map(str, ports[:3])]
    subprocess.run([sys.executable, "-c", RINGS, *arguments], check=True, capture_output=True, timeout=READY_S)


def _wait_until_ready(url: str, processes: list[subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        ended = [kind for kind, process in zip(SERVICES, processes, strict=True) if process.poll() is not None]
        if ended:
            said = (folder / f"{ended[0]}.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"swift-{ended[0]}-server ended at once:\n{said}")
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.read() == b"OK":
                return
        time.sleep(0.1)
    raise RuntimeError(f"Swift was not ready within {READY_S} s; its logs are in {folder}.")


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=END_S)
