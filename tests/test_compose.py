"""One compose replica's own class without a cluster: the matting pool behind it is a fake that can fail."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.exceptions
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError

from deployments import calls
from deployments.calls import Answer, Job, Refused
from mattehorn import telemetry
from mattehorn.errors import (
    CorruptImage,
    DeadlineExceeded,
    ImageTooLarge,
    ModelError,
    OptionError,
    Overloaded,
    Unavailable,
)
from mattehorn.options import Options
from mattehorn.pipeline import NO_MODEL
from mattehorn.store.open import open_store
from mattehorn.store.results import load_alpha, load_image, load_result, load_source
from tests.service import InProcessService, decoded, encoded, photo

PHOTO = encoded(photo())


@pytest.fixture(autouse=True)
def keep_the_metrics_back_end() -> Iterator[None]:
    before = telemetry._backend
    yield
    telemetry._backend = before


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcessService:
    monkeypatch.setattr(calls, "PAUSES_S", (0.0, 0.0))
    return InProcessService(tmp_path)


def job(photo: bytes = PHOTO, *, left_s: float = 30, background: bytes | None = None, **options: Any) -> Job:
    return Job(photo, Options(**options), "id-1", time.time() + left_s, "shoe", background)


def cut_out(service: InProcessService, one: Job) -> Answer:
    """The answer, as who calls with call_with_retries has it."""
    answer = asyncio.run(service.compose.cut_out(one))
    if isinstance(answer, Refused):
        raise answer.error
    assert isinstance(answer, Answer)
    return answer


def test_a_job_becomes_an_answer(service: InProcessService) -> None:
    answer = cut_out(service, job())
    assert decoded(answer.result.data).shape == (48, 64, 4)
    assert (answer.result.model, answer.stored) == ("fake@1", None)
    assert list(answer.result.timings_ms) == ["decode", "queue", "infer", "refine", "encode"]
    assert service.matting.asked == 1


@pytest.mark.parametrize("death", [ray.exceptions.RayActorError, lambda: ReplicaUnavailableError("gone")])
def test_a_matting_replica_that_dies_costs_the_caller_nothing(
    service: InProcessService, death: Callable[[], Exception]
) -> None:
    service.matting.failures = [death(), death()]
    assert cut_out(service, job()).result.model == "fake@1"
    assert service.matting.asked == 3


def test_a_matting_pool_that_keeps_dying_is_unavailable(service: InProcessService) -> None:
    service.matting.failures = [ray.exceptions.RayActorError() for _ in range(3)]
    with pytest.raises(Unavailable):
        cut_out(service, job())
    assert service.compose._permits.held == 0


def test_a_full_matting_queue_is_overloaded(service: InProcessService) -> None:
    service.matting.failures = [BackPressureError(num_queued_requests=9, max_queued_requests=8)]
    with pytest.raises(Overloaded):
        cut_out(service, job())
    assert service.matting.asked == 1


def test_an_error_of_the_network_passes(service: InProcessService) -> None:
    service.matting.failures = [ModelError("The network's alpha is not finite.")]
    with pytest.raises(ModelError):
        cut_out(service, job())


def test_a_matting_pool_that_does_not_answer_ends_at_the_deadline(service: InProcessService) -> None:
    service.matting.model._batch_s = 0.5
    with pytest.raises(DeadlineExceeded):
        cut_out(service, job(left_s=0.1))
    assert service.compose._permits.held == 0


def test_a_job_that_waits_for_memory_ends_at_its_deadline(tmp_path: Path) -> None:
    service = InProcessService(tmp_path, limits={"megapixels_in_flight": 1})

    async def check() -> None:
        async with service.compose._permits.hold(1):
            with pytest.raises(DeadlineExceeded):
                await asyncio.wait_for(service.compose.cut_out(job(left_s=0.05)), 1)
        assert service.compose._permits.held == 0

    asyncio.run(check())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (PHOTO[: len(PHOTO) // 2], CorruptImage),
        (encoded(photo(20_001, 1)), ImageTooLarge),
    ],
)
def test_a_bad_photo_reaches_no_network_and_holds_no_memory(
    service: InProcessService, data: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        cut_out(service, job(data))
    assert service.matting.asked == 0
    assert service.compose._permits.held == 0


def test_trusted_transparency_asks_no_network(service: InProcessService) -> None:
    rgba = encoded(np.dstack((photo(), photo()[..., 0])))
    answer = cut_out(service, job(rgba, existing_alpha="trust"))
    assert (answer.result.model, service.matting.asked) == (NO_MODEL, 0)


def test_photo_and_background_count_for_the_memory_permit(tmp_path: Path) -> None:
    service = InProcessService(tmp_path)
    held: list[float] = []
    real = service.matting.predict.remote

    async def watching(pixels: Any, lane: str) -> Any:
        held.append(service.compose._permits.held)
        return await real(pixels, lane)

    service.matting.predict.remote = watching
    behind = encoded(photo(100, 100))
    cut_out(service, job(background=behind, output="composite"))
    assert held == [pytest.approx((64 * 48 + 100 * 100) / 1e6)]


@pytest.mark.parametrize(
    ("options", "pixels"),
    [
        ({"output_size": "700x500"}, 700 * 500),
        ({"output_size": "original"}, 64 * 48),
        ({"crop": True, "padding": "100px"}, 264 * 248),  # as if the subject were the whole photo
    ],
    ids=str,
)
def test_a_layouts_canvas_counts_for_the_memory_permit(tmp_path: Path, options: dict[str, Any], pixels: int) -> None:
    service = InProcessService(tmp_path)
    held: list[float] = []
    predict = service.matting.predict.remote

    async def watch(*args: Any) -> Any:
        held.append(service.compose._permits.held)
        return await predict(*args)

    service.matting.predict.remote = watch
    cut_out(service, job(**options))
    assert held == [pytest.approx((64 * 48 + pixels) / 1e6, abs=2e-6)]
    assert service.compose._permits.held == 0


def test_photos_beyond_the_memory_permit_wait_for_their_turn(tmp_path: Path) -> None:
    service = InProcessService(tmp_path, limits={"megapixels_in_flight": 1})
    at_once, most = 0, 0
    real = service.matting.predict.remote

    async def watching(pixels: Any, lane: str) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            return await real(pixels, lane)
        finally:
            at_once -= 1

    service.matting.predict.remote = watching
    large = encoded(photo(800, 600))  # 0.48 MP: two fit into one megapixel

    async def check() -> list[Answer]:
        return await asyncio.gather(*(service.compose.cut_out(job(large)) for _ in range(5)))

    answers = asyncio.run(check())
    assert most <= 2
    assert len({answer.result.data for answer in answers}) == 1
    assert service.compose._permits.held == 0


def test_memory_is_freed_only_when_the_thread_of_a_caller_that_left_is_done(service: InProcessService) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        go_on.wait(10)

    async def check() -> None:
        async def hold() -> None:
            async with service.compose._permits.hold(1):
                await service.compose._in_thread(slow, job())

        task = asyncio.ensure_future(hold())
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert service.compose._permits.held == 1  # the thread still has its pixels
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert service.compose._permits.held == 0

    asyncio.run(check())


def test_work_of_a_caller_that_left_is_not_begun(service: InProcessService) -> None:
    release, begun = threading.Event(), threading.Event()

    async def leave_while_the_threads_are_busy() -> None:
        busy = [asyncio.create_task(service.compose._in_thread(release.wait, job())) for _ in range(2)]
        waiting = asyncio.create_task(service.compose._in_thread(begun.set, job()))
        await asyncio.sleep(0.05)
        waiting.cancel()
        timer = threading.Timer(5, release.set)  # ends the test, and fails it, if the line is waited out
        timer.start()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not release.is_set()
        timer.cancel()
        release.set()
        await asyncio.gather(*busy)
        await service.compose._in_thread(lambda: None, job())  # whatever was in the line before has had its turn

    asyncio.run(leave_while_the_threads_are_busy())
    assert not begun.is_set()


def test_what_was_asked_for_is_stored_and_found_again(service: InProcessService) -> None:
    answer = cut_out(service, job(store=True, store_alpha=True, store_source=True, sku="A-1"))
    assert answer.stored is not None
    store = open_store(service.settings.store)
    record = load_result(store, answer.stored.id)
    assert record == answer.stored
    assert load_image(store, record) == answer.result.data
    assert (decoded(load_alpha(store, record)) == decoded(answer.result.data)[..., 3]).all()
    assert load_source(store, record) == PHOTO
    assert (record.name, record.sku, record.width, record.height) == ("shoe", "A-1", 64, 48)
    assert record.options["store_source"] is True
    assert record.quality == {"score": answer.result.quality.score, "reasons": list(answer.result.quality.reasons)}
    assert "store" in answer.result.timings_ms


def test_the_name_option_goes_before_the_files_name(service: InProcessService) -> None:
    stored = cut_out(service, job(store=True, name="boot")).stored
    assert stored is not None
    assert stored.name == "boot"
    assert stored.key.endswith("/boot_matte.png")


def test_a_stored_matte_does_not_travel_unless_it_was_asked_for(service: InProcessService) -> None:
    assert cut_out(service, job(store=True, store_alpha=True)).result.alpha_png is None
    assert cut_out(service, job(include="alpha")).result.alpha_png is not None


def test_equal_pictures_share_their_bytes_and_others_get_a_number(tmp_path: Path) -> None:
    service = InProcessService(tmp_path, store={"url": tmp_path.as_uri(), "key_template": "kept/{stem}.{ext}"})
    first, again, other = (
        cut_out(service, one).stored
        for one in (job(store=True), job(store=True), job(encoded(photo(32, 32)), store=True))
    )
    assert first is not None
    assert again is not None
    assert other is not None
    assert (first.key, again.key, other.key) == ("kept/shoe.png", "kept/shoe.png", "kept/shoe-2.png")
    assert len({first.id, again.id, other.id}) == 3


def test_a_callers_fault_is_a_value_and_the_services_own_is_raised(service: InProcessService) -> None:
    for bad, error in ((job(PHOTO[:100]), CorruptImage), (job(roi="90% 90% 90% 90%"), OptionError)):
        answer = asyncio.run(service.compose.cut_out(bad))
        assert isinstance(answer, Refused)
        assert isinstance(answer.error, error)
    service.matting.failures = [ModelError("The network's alpha is not finite.")]
    with pytest.raises(ModelError):
        asyncio.run(service.compose.cut_out(job()))


def test_the_depth_gauge_ends_at_zero_after_errors_too(service: InProcessService) -> None:
    cut_out(service, job())
    with pytest.raises(CorruptImage):
        cut_out(service, job(PHOTO[:100]))
    assert service.backend.registry.get_sample_value(telemetry.QUEUE_IMAGES.name) == 0


def test_describe_tells_what_the_pool_runs(service: InProcessService) -> None:
    pool = asyncio.run(service.compose.describe())
    assert (pool.model, pool.device) == ("fake@1", "cpu")
