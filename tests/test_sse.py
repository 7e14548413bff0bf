"""Server-sent events of a job: what is sent and when, over a real socket too, and what ends the stream."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

from deployments.ingress.bulk import jobs_api
from deployments.ingress.bulk.sse import Pace, progress_events
from deployments.ingress.errors import JobNotFound
from deployments.ingress.streams import PIECE_BYTES, BoundedStream, Slots, in_pieces
from mattehorn.errors import Overloaded, StoreUnavailable
from tests.api_client import error_of
from tests.bulk_http import Site, service_over
from tests.service import serving

PACE = Pace(poll_s=1, heartbeat_s=3, most_s=100)
Step = Mapping[str, Any] | Exception


def document(state: str = "running", done: int = 0) -> dict[str, Any]:
    return {"id": "j", "state": state, "done": done, "failed": [{"file": "a\nb\ud800", "error": "x"}]}


def sent(first: Mapping[str, Any], *later: Step, pace: Pace = PACE) -> list[str]:
    """What is sent when the job is `first`, and at the following looks `later`; the last one stays."""
    steps = list(later) or [first]

    async def read() -> Mapping[str, Any]:
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        if isinstance(step, Exception):
            raise step
        return step

    async def no_wait(_: float) -> None:
        return

    async def everything() -> list[str]:
        return [piece.decode() async for piece in progress_events(first, read, pace, sleep=no_wait)]

    return asyncio.run(everything())


def data_of(event: str) -> Any:
    (line,) = [line for line in event.splitlines() if line.startswith("data: ")]
    return json.loads(line.removeprefix("data: "))


# what is sent


def test_an_event_comes_at_once_and_at_each_change_until_the_end() -> None:
    steps = [document(done=0), document(done=1), document(done=1), document("succeeded", done=2)]
    retry, *events = sent(document("queued"), *steps)
    assert retry.startswith("retry: ")
    assert [(data_of(event)["state"], data_of(event)["done"]) for event in events] == [
        ("queued", 0),
        ("running", 0),
        ("running", 1),
        ("succeeded", 2),
    ]
    assert data_of(events[-1]) == document("succeeded", done=2)
    assert all("event: progress\n" in event and event.endswith("\n\n") for event in events)
    assert ["id: final\n" in event for event in events] == [False, False, False, True]


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_job_that_has_ended_gets_one_event(state: str) -> None:
    assert [data_of(event)["state"] for event in sent(document(state))[1:]] == [state]


def test_silence_is_broken_by_comments() -> None:
    pieces = sent(document(), *[document()] * 7, document("succeeded"))
    assert [piece[0] for piece in pieces[2:]] == [":", ":", "i"]


def test_a_store_that_is_away_for_a_while_is_waited_for() -> None:
    away = StoreUnavailable("away", retry_after_s=5)
    pieces = sent(document(), away, away, away, away, document("succeeded"))
    assert [piece[0] for piece in pieces] == ["r", "e", ":", "i"]


def test_a_job_that_is_gone_ends_the_stream_as_broken() -> None:
    with pytest.raises(JobNotFound):
        sent(document(), JobNotFound("gone"))


def test_a_stream_does_not_stay_for_days() -> None:
    assert len(sent(document(), pace=Pace(poll_s=1, heartbeat_s=30, most_s=100))) == 2 + 3


# over a socket


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_api, "PACE", Pace(poll_s=0.05, heartbeat_s=0.2, most_s=60))


def events_of(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    return (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))


@pytest.mark.usefixtures("quick")
def test_a_running_job_is_followed_live_to_its_end(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.bench.add_photos(12)
    job = site.submit(input={"prefix": "in/"}, output="out/")
    with (
        serving(service_over(tmp_path)) as url,
        httpx.stream("GET", f"{url}/v1/jobs/{job}/events", timeout=60) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        lines = answer.iter_lines()
        first = next(events_of(lines))  # before anybody works on the job
        assert (first["state"], first["done"]) == ("queued", 0)
        assert any(line.startswith(":") for line in lines)
        working = threading.Thread(target=site.bench.run)
        working.start()
        events = list(events_of(lines))
        working.join(60)
    assert (events[-1]["state"], events[-1]["success"]) == ("succeeded", 12)
    assert [event["done"] for event in events] == sorted(event["done"] for event in events)
    assert events[-1] == site.job(job)
    site.close()


@pytest.mark.usefixtures("quick")
def test_event_streams_are_bounded_and_a_client_that_leaves_gives_its_place_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_api, "EVENT_STREAMS", 2)
    site = Site(tmp_path)
    job = site.submit(input={"prefix": "in/"})
    with serving(service_over(tmp_path)) as url, httpx.Client(base_url=url, timeout=60) as client:
        path = f"/v1/jobs/{job}/events"
        with client.stream("GET", path) as one, client.stream("GET", path) as two:
            held = [one.iter_lines(), two.iter_lines()]  # an iterator that is dropped closes its stream
            assert all(next(lines).startswith("retry:") for lines in held)
            refused = client.get(path)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert client.get(f"/v1/jobs/{job}").status_code == 200
        deadline = time.monotonic() + 60
        while True:  # both have left; the service notices soon
            with client.stream("GET", path) as again:
                if again.status_code == 200:
                    break
            assert time.monotonic() < deadline, "the places were not given back"
            time.sleep(0.05)
    site.close()


def test_an_ended_job_tells_browsers_not_to_come_back(site: Site) -> None:
    job = site.submit(input={"prefix": "in/"})
    site.client.post(f"/v1/jobs/{job}/cancel")
    answer = site.client.get(f"/v1/jobs/{job}/events")
    assert [data["state"] for data in events_of(iter(answer.text.splitlines()))] == ["cancelled"]
    again = site.client.get(f"/v1/jobs/{job}/events", headers={"last-event-id": "final"})
    assert (again.status_code, again.content) == (204, b"")


def test_downloads_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots(0, "downloads of jobs")
    monkeypatch.setattr(jobs_api, "Slots", lambda *_: slots)
    full = Site(site.bench.folder)
    job = full.submit(input={"prefix": "in/"})
    error_of(full.client.get(f"/v1/jobs/{job}/manifest.jsonl"), 429, "overloaded")
    assert slots.taken == 0
    full.close()


# streams


def stream(response: BoundedStream, *, leaves: bool = False, version: str = "2.3") -> list[Message]:
    """The messages sent to a client that stays, or leaves after the first piece."""
    messages: list[Message] = []
    left = asyncio.Event()

    async def receive() -> Message:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)
        if leaves and message.get("body"):
            left.set()

    async def run() -> None:
        scope = {"type": "http", "asgi": {"spec_version": version}}
        await asyncio.wait_for(response(scope, receive, send), 60)

    asyncio.run(run())
    return messages


def test_a_stream_whose_client_leaves_is_closed_and_frees_its_place() -> None:
    closed: list[bool] = []
    slots = Slots(1, "streams")

    async def content() -> Any:
        try:
            yield b"first"
            assert slots.taken == 1
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    messages = stream(BoundedStream(content(), slots), leaves=True)
    assert [message.get("body") for message in messages[1:]] == [b"first"]
    assert (closed, slots.taken) == ([True], 0)


def test_a_stream_without_a_place_is_refused_before_it_begins() -> None:
    async def content() -> Any:
        yield b"never"

    with pytest.raises(Overloaded) as caught:
        stream(BoundedStream(content(), Slots(0, "streams")))
    assert caught.value.retry_after_s is not None


def collected(parts: Iterator[bytes]) -> list[bytes]:
    async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(call, *arguments)

    async def run() -> list[bytes]:
        return [piece async for piece in await in_pieces(parts, in_thread)]

    return asyncio.run(run())


def test_small_parts_go_out_together_and_nothing_is_lost() -> None:
    parts = [b"%d\n" % number for number in range(50_000)]
    pieces = collected(iter(parts))
    assert b"".join(pieces) == b"".join(parts)
    assert len(pieces) < 10
    assert all(len(piece) >= PIECE_BYTES for piece in pieces[:-1])
    assert collected(iter([])) == []
    assert collected(iter([b""])) == []


def test_an_error_before_the_first_piece_comes_before_the_answer_begins() -> None:
    def broken() -> Iterator[bytes]:
        raise StoreUnavailable("away", retry_after_s=5)
        yield b""

    async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    waiting: Awaitable[Any] = in_pieces(broken(), in_thread)
    with pytest.raises(StoreUnavailable):
        asyncio.run(asyncio.wait_for(waiting, 60))
