"""The HTTP service and a bulk worker over one results folder and one queue, for tests of jobs and events."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deployments.bulk.accounts import make_accounts
from tests.api_client import PHOTO, Client
from tests.bulk_bench import Bench
from tests.doors import Door
from tests.service import InProcessService

BOUNDARY = "b0undary"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
ENDED = ("succeeded", "failed", "cancelled")


def service_over(folder: Path, **args: Any) -> InProcessService:
    """A service whose store and queue are those of `Bench(folder)`."""
    queue = {"url": f"sqlite:///{folder}/queue.db", **args.pop("queue", {})}
    return InProcessService(folder / "results", queue=queue, **args)


class Site:
    """`client` asks the API; `bench` works on what is queued and looks into the store."""

    def __init__(self, folder: Path, **args: Any) -> None:
        self.bench = Bench(folder)
        self.client = Client(service_over(folder, **args))

    def submit(self, **body: Any) -> str:
        """The id of a new job."""
        answer = self.client.post("/v1/jobs", json={"recipe": "transparent-web", **body})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/jobs/{job}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def uploads(self) -> list[str]:
        return list(self.bench.home.list("uploads/"))

    def messages(self) -> list[str]:
        """The bodies that wait in the queue."""
        return [message.body for message in self.bench.queue.receive(10)]

    def close(self) -> None:
        self.client.__exit__()
        self.bench.close()


class KeyedSite(Site):
    """A service with keys over a bulk worker's folder."""

    def __init__(self, folder: Path, **args: Any) -> None:
        self.bench = Bench(folder)
        self.client = self.door = Door(folder, service_over(folder, keys_file=str(folder / "keys.json"), **args))
        self.bench.accounts = make_accounts(self.door.service.settings, self.door.service.tally)

    def made(self, key: dict[str, str]) -> str:
        files = [("files", ("p.png", PHOTO))]
        answer = self.door.post("/v1/jobs", files=files, data={"recipe": "transparent-web"}, headers=key)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


def eventually(found: Callable[[], bool]) -> bool:
    """True once `found`; what runs in other threads has time."""
    deadline = time.monotonic() + 60
    while not found():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def part(name: str, data: bytes, file_name: str | None = None) -> bytes:
    shown = "" if file_name is None else f'; filename="{file_name}"'
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n\r\n'.encode() + data + b"\r\n"


def form(*parts: bytes, end: bytes = f"--{BOUNDARY}--\r\n".encode()) -> dict[str, Any]:
    return {"content": b"".join(parts) + end, "headers": FORM}


RECIPE = part("recipe", b"transparent-web")
