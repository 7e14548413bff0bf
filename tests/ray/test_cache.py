"""Equal requests at a running service of two ingress replicas: computed once, whoever of the two they reach."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.ray.load import photo, wait_for_sample
from tests.ray.running import Running, running

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SLOW_MS = 1500  # of the fake model: all of a burst are there before the first one is done
BURST = 8  # each on a connection of its own, which HAProxy spreads over the replicas


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = ("model=fake", f"fake.batch_ms={SLOW_MS}", "cache.max_bytes=1000000", "bulk.enabled=false")
    with running(tmp_path_factory.mktemp("service"), *settings) as started:
        yield started


def burst(service: Running, data: bytes, **headers: str) -> list[httpx.Response]:
    def send(_: int) -> httpx.Response:
        return httpx.post(f"{service.url}/v1/mattes", files={"file": data}, headers=headers, timeout=60)

    with ThreadPoolExecutor(BURST) as threads:
        return list(threads.map(send, range(BURST)))


def test_equal_requests_at_once_are_one_inference_and_equal_answers(service: Running) -> None:
    assert len(service.replicas("Ingress")) == 2
    answers = burst(service, photo(3))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sorted(answer.headers["X-Mattehorn-Cache"] for answer in answers) == ["hit"] * (BURST - 1) + ["miss"]
    again = burst(service, photo(3))
    assert {(answer.headers["X-Mattehorn-Cache"], answer.content) for answer in again} == {("hit", answers[0].content)}
    counted = wait_for_sample(service.url, "mattehorn_cache_requests_total", 2 * BURST)
    assert counted["mattehorn_cache_requests_total"] == 2 * BURST
    assert counted["mattehorn_batch_size_sum"] <= 1  # its node agent may lag behind the ingress's


def test_a_key_in_work_is_refused_and_later_replayed_by_every_replica(service: Running) -> None:
    key = {"Idempotency-Key": "order-17"}
    answers = burst(service, photo(4), **key)
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * (BURST - 1)
    (first,) = (answer for answer in answers if answer.status_code == 200)
    assert all(answer.headers["Retry-After"] for answer in answers if answer.status_code == 409)
    again = burst(service, photo(4), **key)
    assert {(one.status_code, one.headers.get("Idempotency-Replayed"), one.content) for one in again} == {
        (200, "true", first.content)
    }
    reused = httpx.post(f"{service.url}/v1/mattes", files={"file": photo(5)}, headers=key, timeout=60)
    assert reused.json()["error"]["code"] == "idempotency_key_reused"
