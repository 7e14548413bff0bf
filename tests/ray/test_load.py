"""The service under load, with a fake device and with the embedded model, and with a replica killed midway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.load import post_many, wait_for_sample
from tests.ray.running import Running, running, write_config

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ONE_REPLICA = {"min_replicas": 1, "max_replicas": 1}
BATCH_MS = 1000  # in which more than half of a batch arrives on the busiest of machines


@pytest.fixture(scope="module")
def one_fake_replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("fake")
    config = write_config(folder / "config.yaml", Matting={"autoscaling_config": ONE_REPLICA})
    with running(folder, "model=fake", f"fake.batch_ms={BATCH_MS}", "max_batch=8", config=config) as service:
        yield service


def test_a_busy_pool_fills_its_batches(one_fake_replica: Running) -> None:
    outcome = post_many(one_fake_replica.url, posts=100, clients=32)
    assert outcome.statuses == {200: 100}
    assert outcome.wrong == 0
    pictures, mean = batches(one_fake_replica.url, 100)
    print(f"\nfake model: {pictures:.0f} pictures, mean batch {mean:.2f}")
    assert pictures == 100
    assert mean > 4


def test_a_killed_matting_replica_costs_no_client_an_error(one_fake_replica: Running) -> None:
    (replica,) = one_fake_replica.replicas("Matting")

    def kill(count: int) -> None:
        if count == 12:  # in the middle of a batch, and another one waits
            replica.kill()

    outcome = post_many(one_fake_replica.url, posts=80, clients=16, on_answer=kill)
    assert outcome.statuses == {200: 80}, outcome.errors
    assert outcome.wrong == 0
    assert wait_for_sample(one_fake_replica.url, "mattehorn_retries_total", 1)["mattehorn_retries_total"] >= 1


def test_the_embedded_model_answers_every_client(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        outcome = post_many(service.url, posts=96, clients=32)
        assert set(outcome.statuses) <= {200, 422}  # a disc may be no foreground to a network; no other answer may be
        assert sum(outcome.statuses.values()) == 96
        pictures, mean = batches(service.url, 96)
        print(f"\nembedded model: {pictures:.0f} pictures, mean batch {mean:.2f}")
        assert pictures == 96


def batches(url: str, count: int) -> tuple[float, float]:
    """(pictures, mean pictures a batch) once `count` pictures are counted."""
    seen = wait_for_sample(url, "mattehorn_batch_size_sum", count)
    pictures = seen.get("mattehorn_batch_size_sum", 0.0)
    return pictures, pictures / max(1.0, seen.get("mattehorn_batch_size_count", 0.0))
