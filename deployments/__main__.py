"""`python -m deployments`: a Ray of its own, the application on it, and the end of both on Ctrl-C or SIGTERM.

For one machine. On a cluster KubeRay starts Ray and reads the same serve_config.yaml (infra/).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from deployments.config import default_config, load_config
from mattehorn.ports import free_ports

_DRAIN_S = 10.0  # of Ctrl-C, for photos of bulk work; Docker and a terminal's user wait no longer
_SAVE_S = 5.0  # one small write; a store that is away must not hold up the end
_READY_WITHIN_S = 300  # a cold disk takes a minute to import torch; a model that fails says so earlier

# HAProxy before the ingress replicas and gRPC between replicas: an order of magnitude more requests per CPU
# second (docs/performance.md). Both variables or neither.
ENVIRONMENT = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(256 * 2**20),  # 4 MB by default, which breaks uploads
    "RAY_SERVE_LOG_TO_STDERR": "1",  # throughput mode would fall silent
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",  # an idle connection; the default is an hour
    "RAY_AUTH_MODE": "token",  # Ray's own ports listen on all interfaces: without it, who reaches them runs code
    "RAY_USAGE_STATS_ENABLED": "0",
    "OPENBLAS_NUM_THREADS": "1",  # replicas share cores; a small product on many threads took 60 times as long
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a CPU replica keeps CUDA_VISIBLE_DEVICES as it is
}


def main() -> int:
    """The exit code: 0 after a signal, 1 when the application failed, 2 for a bad command line."""
    options = _parse()
    try:
        config = load_config(
            Path(options.config) if options.config else default_config(),
            options.set,
            host=options.host,
            port=options.port,
        )
    except (OSError, ValueError) as error:
        print(f"mattehorn serve: {error}", file=sys.stderr)
        return 2
    http = config["http_options"]
    taken = _why_not_free(http["host"], http["port"])
    if taken:
        print(
            f"mattehorn serve: {taken} Choose another port: PORT=8123 make serve, or --port 8123.",
            file=sys.stderr,
        )
        return 2
    stop = threading.Event()
    _catch_signals(stop)
    own = Path(tempfile.mkdtemp(prefix="mattehorn-"))
    _set_environment(own)
    try:
        return _serve(config, stop)
    finally:
        _end_proxy(own)
        shutil.rmtree(own, ignore_errors=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mattehorn serve", description="Serve the HTTP API and the page.")
    parser.add_argument("--host", help="address to listen on (default: the configuration's, 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: the configuration's, 8000)")
    parser.add_argument("--config", metavar="FILE", help=f"instead of the packaged {default_config().name}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. store.url=s3://b/p")
    return parser.parse_args()


def _catch_signals(stop: threading.Event) -> None:
    """SIGINT and SIGTERM end the service in order: `_watch` looks at `stop`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())


def _set_environment(own: Path) -> None:
    """Serve's variables, and HAProxy files and ports of this instance: two run side by side on one host."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"] = str(own / "haproxy.cfg")
    os.environ["RAY_SERVE_HAPROXY_SOCKET_PATH"] = str(own / "admin.sock")
    os.environ["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"] = str(own)
    os.environ["RAY_SERVE_HAPROXY_SERVER_STATE_FILE"] = str(own / "server-state")
    # The fallback proxy too: with its fixed numbers HAProxy would fall back to another service on this host.
    proxies = ("HAPROXY_METRICS", "HAPROXY_STATS", "FALLBACK_PROXY_HTTP", "FALLBACK_PROXY_GRPC")
    for proxy, port in zip(proxies, free_ports(len(proxies)), strict=True):
        os.environ.setdefault(f"RAY_SERVE_{proxy}_PORT", str(port))


def _serve(config: dict[str, Any], stop: threading.Event) -> int:
    import ray  # after the environment is set: Serve reads it at import
    from ray.serve._private.api import serve_start
    from ray.serve.schema import ServeDeploySchema

    ray.init("local", include_dashboard=False, log_to_driver=True)
    _catch_signals(stop)  # Ray has put its own handler of SIGTERM in place, which aborts while bulk work is given back
    try:
        schema = ServeDeploySchema.model_validate(config)
        client = serve_start(http_options=schema.http_options.model_dump(), proxy_location=schema.proxy_location)
        client.deploy_apps(schema)
        return _watch(config, stop)
    finally:
        if any(entry["name"] == "Bulk" for entry in config["applications"][0].get("deployments", [])):
            _drain_bulk(config["applications"][0]["name"])
        _save_usage(config["applications"][0]["name"])
        ray.shutdown()


def _drain_bulk(application: str) -> None:
    """Lets bulk work end or go back to its queue; without it the next start waits for leases to run out."""
    _tell(application, "Bulk", "drain", _DRAIN_S, within_s=3 * _DRAIN_S)


def _save_usage(application: str) -> None:
    """Has what tenants spent in the last seconds put into the store."""
    _tell(application, "Tally", "save", within_s=_SAVE_S)


def _tell(application: str, deployment: str, method: str, *arguments: float, within_s: float) -> None:
    """Calls a method of every replica before they end. A service that is not up, or too slow, ends without: it costs
    time, or a few seconds' counts."""
    import ray.exceptions
    from ray import serve
    from ray.serve.exceptions import RayServeException

    async def tell() -> None:  # in throughput mode a handle works on an event loop only
        replicas = serve.get_deployment_handle(deployment, application)
        await replicas.broadcast(method, *arguments).results_async(timeout_s=within_s, return_exceptions=True)

    try:
        overview = serve.status().applications.get(application)
        found = overview.deployments.get(deployment) if overview else None
        if found and found.replica_states.get("RUNNING"):
            asyncio.run(tell())
    except (TimeoutError, RayServeException, ray.exceptions.RayError) as error:
        print(f"mattehorn serve: {deployment} could not {method} ({type(error).__name__})", file=sys.stderr)


def _watch(config: dict[str, Any], stop: threading.Event) -> int:
    """Says when the service is ready, then waits for a signal; 1 when it cannot become ready."""
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    http, name = config["http_options"], config["applications"][0]["name"]
    url = f"http://{http['host']}:{http['port']}"
    began = time.monotonic()
    ready = False
    while not stop.wait(1.0):
        if ready:
            continue
        application = serve.status().applications.get(name)
        if application and application.status == ApplicationStatus.DEPLOY_FAILED:
            print(f"mattehorn serve: {application.message}", file=sys.stderr)
            return 1
        if _answers(f"{url}/readyz"):
            ready = True
            print(f"Mattehorn is ready: {url}  (API: {url}/docs, Ctrl-C ends it)", flush=True)
        elif time.monotonic() - began > _READY_WITHIN_S:
            print(
                f"mattehorn serve: not ready after {_READY_WITHIN_S} s; the log above says why.",
                file=sys.stderr,
            )
            return 1
    return 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _why_not_free(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return f"{host}:{port} cannot be used ({error.strerror})."
    return ""


def _end_proxy(own: Path) -> None:
    """Ends a HAProxy of this instance that outlived its actor: its command line names our folder."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if b"haproxy" in command.partition(b"\0")[0] and str(own).encode() in command:
            os.kill(int(entry.parent.name), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
