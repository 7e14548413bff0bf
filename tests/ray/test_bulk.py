"""Bulk work on the running service: a queue's messages become results with no HTTP request, from a pool at zero too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from mattehorn.bulk.inputs import reference
from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.messages import object_message
from mattehorn.bulk.places import Place, Places
from mattehorn.queue.open import open_queue
from mattehorn.settings import QueueSettings, StoreSettings
from tests.bulk_bench import POISON
from tests.ray.load import photo
from tests.ray.running import Running, running, write_config

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WITHIN_S = 120  # for what takes a few seconds on a quiet machine


class Bench:
    """The running service's store and queue, opened beside it as the command line does."""

    def __init__(self, service: Running, folder: Path) -> None:
        self.service = service
        self.places = Places(StoreSettings(url=f"file://{folder}/store"))
        self.queue = open_queue(**QueueSettings(url=f"sqlite:///{folder}/queue.db").model_dump())
        self.jobs = Jobs(self.places, self.queue)

    def add_photos(self, prefix: str, count: int) -> list[str]:
        keys = [f"{prefix}{number:03d}.jpg" for number in range(count)]
        for number, key in enumerate(keys):
            self.places.home.put(key, photo(number), content_type="image/jpeg")
        return keys

    def is_empty(self) -> bool:
        depth = self.queue.depth()
        return not depth.ready and not depth.leased

    def keys(self, prefix: str) -> list[str]:
        return list(self.places.home.list(prefix))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The fake model, whose matting pool goes to zero after a few idle seconds."""
    folder = tmp_path_factory.mktemp("bulk")
    scaling = {
        "min_replicas": 0,
        "initial_replicas": 1,
        "max_replicas": 1,
        "target_ongoing_requests": 8,
        "downscale_delay_s": 2,
        "downscale_to_zero_delay_s": 2,
        "metrics_interval_s": 1,
        "look_back_period_s": 2,
    }
    config = write_config(folder / "config.yaml", Matting={"autoscaling_config": scaling})
    pairs = ("model=fake", f"queue.url=sqlite:///{folder}/queue.db")
    with running(folder, *pairs, config=config) as service:
        made = Bench(service, folder)
        yield made
        made.queue.close()


def wait_until(reached: Callable[[], bool], within_s: float = WITHIN_S) -> bool:
    deadline = time.monotonic() + within_s
    while not (there := reached()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return there


def test_messages_become_results_without_any_request(bench: Bench) -> None:
    keys = bench.add_photos("messages/", 6)
    bodies = [object_message(reference(Place("", key)), "transparent-web", "out-messages/") for key in keys]
    bench.queue.send_many([*bodies, *bodies])
    assert wait_until(bench.is_empty)
    outputs = bench.keys("out-messages/")
    assert sorted(key.removeprefix("out-messages/").rpartition(".")[0][:-13] for key in outputs) == keys
    assert bench.queue.depth().dead == 0


def test_a_job_wakes_a_matting_pool_at_zero(bench: Bench) -> None:
    assert wait_until(lambda: not bench.service.replicas("Matting"))
    bench.add_photos("in/", 20)
    for name, data in POISON.items():
        bench.places.home.put(f"in/{name}", data, content_type="image/jpeg")
    spec = bench.jobs.submit({"input": {"prefix": "in/"}, "output": "out/", "recipe": "marketplace-white"})
    assert wait_until(lambda: bench.jobs.progress(spec.id).state == "succeeded")
    progress = bench.jobs.progress(spec.id)
    assert (progress.tally.success, progress.tally.failed) == (20, len(POISON))
    assert len(bench.keys("out/errors/")) == len(POISON)
    assert len(bench.keys("out/")) == 20 + len(POISON)
    assert wait_until(bench.is_empty)


def test_interactive_requests_are_answered_while_a_job_runs(bench: Bench) -> None:
    bench.add_photos("many/", 60)
    spec = bench.jobs.submit({"input": {"prefix": "many/"}, "output": "out-many/", "recipe": "transparent-web"})
    for number in range(10):
        sent = {"file": ("p.jpg", photo(number))}
        assert httpx.post(f"{bench.service.url}/v1/mattes", files=sent, timeout=60).status_code == 200
    assert wait_until(lambda: bench.jobs.progress(spec.id).state == "succeeded")
    assert len(bench.keys("out-many/")) == 60
