"""A world for faults: an S3 server and SQS behind fault proxies, and the service that works on them.

Photos lie in one bucket, everything that the service writes in another, which keeps versions: each successful create is
one version, counted by the server itself.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

import psutil
from moto.server import ThreadedMotoServer

from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.places import Places
from mattehorn.queue.interface import LEASES_MOST, Queue
from mattehorn.queue.open import open_queue
from mattehorn.settings import StoreSettings
from mattehorn.store.open import s3_client
from tests.bulk_bench import photo
from tests.chaos.proxy import FaultProxy
from tests.ray.running import Running, running
from tests.s3.sqs import made_queue
from tests.s3.swift import S3Server, running_swift

PHOTOS, RESULTS = "chaos-photos", "chaos-results"
SOURCE, OUTPUT = "in/", "out/"
LEASE_S = 15.0  # what a killed worker held comes back after it; far below the default of 120 s, for the test's sake
QUIET_WITHIN_S = 420
KEYS = ("test:tester", "testing")  # Swift's; moto takes any
# The servers' keys for this process and the service, and nothing of this machine's own set-up.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": KEYS[0],
    "AWS_SECRET_ACCESS_KEY": KEYS[1],
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1,localhost",
}
NOT_SET = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION")


@dataclass
class World:
    """The servers as the test sees them, without proxies, and the settings that lead the service through them."""

    name: str
    store: FaultProxy
    queue_proxy: FaultProxy
    client: Any
    places: Places
    queue: Queue
    jobs: Jobs
    settings: tuple[str, ...]
    drawn: int = 0
    etags: dict[str, str] = field(default_factory=dict)

    def add_photos(self, folder: str, count: int) -> list[str]:
        """Keys of new photos, each with other bytes."""
        keys = [f"{SOURCE}{folder}/{number:04d}.png" for number in range(count)]
        for key in keys:
            self.put(key)
        return keys

    def put(self, key: str, data: bytes | None = None) -> None:
        if data is None:
            data, self.drawn = photo(self.drawn), self.drawn + 1
        answer = self.client.put_object(Bucket=PHOTOS, Key=key, Body=data)
        self.etags[key] = answer["ETag"].strip('"')

    def event(self, key: str) -> str:
        """AWS's notification of the photo as it is now."""
        described = {"key": quote_plus(key, safe="/"), "eTag": self.etags[key], "size": 1}
        record = {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "eventName": "ObjectCreated:Put",
            "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": PHOTOS}, "object": described},
        }
        return json.dumps({"Records": [record]})

    def results(self, folder: str) -> dict[str, list[str]]:
        """The etags of every version by whole key, of what lies below the output's `folder`."""
        return self.versions(f"{OUTPUT}{SOURCE}{folder}/")

    def errors(self, folder: str) -> dict[str, list[str]]:
        return self.versions(f"{OUTPUT}errors/{SOURCE}{folder}/")

    def error_code(self, key: str) -> str:
        return str(json.loads(self.client.get_object(Bucket=RESULTS, Key=key)["Body"].read())["code"])

    def versions(self, prefix: str) -> dict[str, list[str]]:
        """Deleted keys count, too; the probes of the store's abilities do not."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=RESULTS, Prefix=prefix)
        for page in pages:
            for version in page.get("Versions", []):
                if ".probe" not in version["Key"]:
                    found[version["Key"]].append(version["ETag"])
        return dict(found)

    def is_quiet(self) -> bool:
        depth = self.queue.depth()
        return not depth.ready and not depth.leased

    @contextmanager
    def service(self, folder: Path) -> Iterator[Running]:
        place = folder / f"run-{secrets.token_hex(3)}"
        place.mkdir(parents=True)
        with running(place, *self.settings) as started:
            yield started


def wait_until(reached: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not (there := reached()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return there


@contextmanager
def made_world(name: str, folder: Path, lease_s: float = LEASE_S) -> Iterator[World]:
    """`moto`: S3 and SQS in moto. `swift`: S3 in Swift, SQS in moto. The caller has set ENVIRONMENT."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # moto writes a line for each request
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        sqs = S3Server(f"http://{host}:{port}", *KEYS, checks_keys=False)
        if name == "moto":
            with _world(name, sqs, sqs, lease_s) as world:
                yield world
        else:
            (folder / "swift").mkdir()
            with running_swift(folder / "swift") as swift, _world(name, swift, sqs, lease_s) as world:
                yield world
    finally:
        moto.stop()


@contextmanager
def _world(name: str, s3: S3Server, sqs: S3Server, lease_s: float) -> Iterator[World]:
    proxies = [FaultProxy(urlsplit(server.endpoint_url).port or 80).start() for server in (s3, sqs)]
    direct = StoreSettings(url=f"s3://{RESULTS}/home", endpoint_url=s3.endpoint_url)
    client = s3_client(direct)
    for bucket in (PHOTOS, RESULTS):
        client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=RESULTS, VersioningConfiguration={"Status": "Enabled"})
    address = made_queue(sqs, max_receive=LEASES_MOST)  # as docs/bulk.md has it
    queue = open_queue(f"sqs://{address}", lease_s=lease_s, max_receive=5, endpoint_url=sqs.endpoint_url)
    places = Places(direct)
    store, queue_proxy = proxies
    path = urlsplit(address).path
    route = f"{{source: 's3://{PHOTOS}/{SOURCE}', recipe: transparent-web, output: 's3://{RESULTS}/{OUTPUT}'}}"
    settings = (
        "model=fake",
        "fake.batch_ms=100",  # so that the work lasts as long as the faults
        f"store.url={direct.url}",
        f"store.endpoint_url=http://127.0.0.1:{store.port}",
        f"queue.url=sqs://127.0.0.1:{queue_proxy.port}{path}",
        f"queue.endpoint_url=http://127.0.0.1:{queue_proxy.port}",
        f"queue.lease_s={lease_s}",
        f"bulk.routes=[{route}]",
    )
    try:
        yield World(name, store, queue_proxy, client, places, queue, Jobs(places, queue), settings)
    finally:
        queue.close()
        for proxy in proxies:
            proxy.stop()


def kill_all(service: Running) -> None:
    """As if the power went: every process of this service, at once and without warning."""
    family = [*psutil.Process(service.process.pid).children(recursive=True), psutil.Process(service.process.pid)]
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=20)


def source(key: str) -> str:
    """The photo's key of a result or an error: `out/[errors/]KEY.HASH.SUFFIX`."""
    return key.removeprefix(OUTPUT).removeprefix("errors/").rsplit(".", 2)[0]


def sources(keys: Iterable[str]) -> Counter[str]:
    """How many results (or errors) there are by the photo's key."""
    return Counter(map(source, keys))
