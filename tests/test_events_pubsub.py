"""`POST /v1/events/s3` for pushes of Google Pub/Sub: signed ones are queued, and nothing else opens for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.ingress.bulk.event_gate import WAITING, EventGate
from mattehorn.bulk.messages import Notification, parse_message
from mattehorn.errors import Overloaded
from mattehorn.events import parse_event
from mattehorn.settings import EventSettings
from tests.api_client import error_of
from tests.golden_events import GOLDEN, body_of
from tests.google_keys import ACCOUNT, AUDIENCE, OTHER_KEY, Google, google, token
from tests.test_events_api import BEARER, EVENT, TOKEN, Taking, application, headers_of, send

PUSH = body_of(GOLDEN["gcs-push"]).encode()
OIDC = {"pubsub_audience": AUDIENCE, "pubsub_service_accounts": [ACCOUNT]}


@pytest.fixture
def server() -> Iterator[Google]:
    with google() as state:
        yield state


def events(server: Google, **more: Any) -> dict[str, Any]:
    return {**OIDC, "pubsub_keys_url": server.url, **more}


def push(
    folder: Path, settings: dict[str, Any], headers: dict[str, str], body: bytes = PUSH
) -> tuple[httpx.Response, list[str]]:
    """The answer, and what was queued."""
    queue = Taking()
    return send(application(folder, settings, queue), body, headers), queue.bodies


def signed(**changes: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(**changes)}"}


def test_a_push_that_google_signed_for_us_is_queued(tmp_path: Path, server: Google) -> None:
    answer, queued = push(tmp_path, events(server), signed())
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "unrouted": 1, "ignored": []})
    expected = parse_event(PUSH)
    assert [parse_message(body) for body in queued] == [Notification(expected.objects, expected.ignored)]


def test_an_eventarc_event_with_the_same_token_is_queued(tmp_path: Path, server: Google) -> None:
    golden = GOLDEN["gcs-eventarc-binary"]
    answer, queued = push(tmp_path, events(server), headers_of(golden) | signed(), body_of(golden).encode())
    assert answer.status_code == 202, answer.text
    assert len(queued) == 1


@pytest.mark.parametrize(
    ("headers", "code", "said"),
    [
        ({}, "missing_key", "turn on authentication"),
        ({"authorization": ""}, "missing_key", "turn on authentication"),
        (BEARER, "invalid_key", "no JWT"),
        ({"x-eventbridge-signature-token": TOKEN}, "invalid_key", "no JWT"),
        (signed(aud="https://other.example"), "invalid_key", "events.pubsub_audience"),
        (signed(email="other@x"), "invalid_key", "events.pubsub_service_accounts"),
        (signed(email_verified=False), "invalid_key", "not verified"),
        (signed(iss="https://evil.example"), "invalid_key", "issuer"),
        (signed(iat=1, exp=2), "invalid_key", "expired"),
        (signed(key=OTHER_KEY), "invalid_key", "signature"),
        (signed(key=None, algorithm="none"), "invalid_key", "RS256"),
    ],
)
def test_any_other_push_is_401_even_with_the_shared_token(
    tmp_path: Path, server: Google, headers: dict[str, str], code: str, said: str
) -> None:
    answer, queued = push(tmp_path, events(server, token=TOKEN), headers)
    error = error_of(answer, 401, code)
    assert said in error["message"]
    assert answer.headers["www-authenticate"] == "Bearer"
    assert queued == []


def test_a_token_in_the_address_opens_for_no_push(tmp_path: Path, server: Google) -> None:
    gate = EventGate(EventSettings.model_validate(events(server, token=TOKEN)))
    with pytest.raises(Exception, match="no OIDC token"):
        asyncio.run(gate.admit(PUSH, {}, TOKEN))


def test_the_shared_token_still_opens_for_other_stores(tmp_path: Path, server: Google) -> None:
    answer, queued = push(tmp_path, events(server, token=TOKEN), BEARER, EVENT)
    assert (answer.status_code, len(queued)) == (202, 1)
    error_of(push(tmp_path, events(server, token=TOKEN), {}, EVENT)[0], 401, "missing_key")
    assert server.asked == 0


def test_without_the_settings_a_push_comes_in_by_the_shared_token(tmp_path: Path) -> None:
    answer, queued = push(tmp_path, {"token": TOKEN}, BEARER)
    assert (answer.status_code, len(queued)) == (202, 1)
    error_of(push(tmp_path, {"token": TOKEN}, signed())[0], 401, "invalid_key")


def test_google_being_away_is_503_so_that_the_push_comes_again(tmp_path: Path, server: Google) -> None:
    server.status = 503
    answer, queued = push(tmp_path, events(server), signed())
    error_of(answer, 503, "unavailable")
    assert queued == []


def test_the_path_of_events_is_closed_until_somebody_is_known(tmp_path: Path) -> None:
    error = error_of(push(tmp_path, {}, signed())[0], 403, "forbidden")
    assert "events.pubsub_audience" in error["message"]


def test_pushes_that_wait_for_google_are_bounded(server: Google) -> None:
    gate = EventGate(EventSettings.model_validate(events(server)))
    gate.google.waiting.taken = WAITING
    with pytest.raises(Overloaded):
        asyncio.run(gate.admit(PUSH, signed(), None))
