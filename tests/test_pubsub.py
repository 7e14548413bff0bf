"""Pushes of Pub/Sub: a token that Google signed for us passes, any other is refused, and keys are fetched rarely."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from pydantic import ValidationError

from mattehorn.errors import EventError, Unavailable
from mattehorn.events.pubsub import KEYS_FRESH_S, KEYS_MOST_S, KEYS_PAUSE_S, TOKEN_CHARS, PushVerifier, is_token
from mattehorn.settings import EventSettings
from tests.clock import Clock
from tests.google_keys import ACCOUNT, AUDIENCE, KEY, OTHER_KEY, Google, google, key_set, token


@pytest.fixture
def server() -> Iterator[Google]:
    with google() as state:
        yield state


def verifier(server: Google, clock: Clock | None = None, accounts: tuple[str, ...] = (ACCOUNT,)) -> PushVerifier:
    return PushVerifier(AUDIENCE, accounts, server.url, clock=clock or Clock(1000.0))


# ---- what passes


@pytest.mark.parametrize("issuer", ["https://accounts.google.com", "accounts.google.com"])
def test_a_token_of_a_service_account_of_ours_passes(server: Google, issuer: str) -> None:
    assert verifier(server, accounts=("other@x.iam.gserviceaccount.com", ACCOUNT)).verify(token(iss=issuer)) == ACCOUNT


def test_keys_are_fetched_once_for_many_tokens(server: Google) -> None:
    push = verifier(server)
    assert [push.verify(token(sub=str(number))) for number in range(5)] == [ACCOUNT] * 5
    assert server.asked == 1


def test_a_clock_that_differs_by_less_than_a_minute_does_no_harm(server: Google) -> None:
    now = int(time.time())
    push = verifier(server)
    assert push.verify(token(iat=now + 20, exp=now + 3620)) == ACCOUNT
    assert push.verify(token(iat=now - 3620, exp=now - 20)) == ACCOUNT


# ---- what is refused


NOW = int(time.time())
WRONG_CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"aud": "https://other.example"}, "another audience"),
    ({"aud": [AUDIENCE]}, "audience"),
    ({"aud": None}, "has no aud"),
    ({"iss": "https://accounts.google.com.evil.example"}, "issuer"),
    ({"iss": None}, "has no iss"),
    ({"exp": NOW - 3600, "iat": NOW - 7200}, "expired"),
    ({"exp": None}, "has no exp"),
    ({"exp": "soon"}, "not valid"),
    ({"iat": NOW + 7200, "exp": NOW + 10_800}, "not valid"),
    ({"iat": None}, "has no iat"),
    ({"nbf": NOW + 7200}, "not valid"),
    ({"email": "other@project.iam.gserviceaccount.com"}, "other@project.*none of the service accounts"),
    ({"email": ACCOUNT.upper()}, "none of the service accounts"),
    ({"email": [ACCOUNT]}, "none of the service accounts"),
    ({"email": None}, "has no email"),
    ({"email_verified": False}, "not verified"),
    ({"email_verified": "true"}, "not verified"),
    ({"email_verified": 1}, "not verified"),
    ({"email_verified": None}, "has no email_verified"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG_CLAIMS, ids=map(str, range(len(WRONG_CLAIMS))))
def test_a_token_with_a_wrong_claim_is_refused_and_says_which(
    server: Google, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(EventError, match=said):
        verifier(server).verify(token(**changes))


def test_a_token_by_another_key_is_refused(server: Google) -> None:
    with pytest.raises(EventError, match="signature does not fit"):
        verifier(server).verify(token(OTHER_KEY))


def test_a_token_that_was_changed_is_refused(server: Google) -> None:
    head, body, signature = token(email="other@x").split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    forged = base64.urlsafe_b64encode(json.dumps(claims | {"email": ACCOUNT}).encode()).decode().rstrip("=")
    with pytest.raises(EventError, match="signature does not fit"):
        verifier(server).verify(f"{head}.{forged}.{signature}")


def test_an_unsigned_token_and_one_under_a_shared_secret_are_refused_unfetched(server: Google) -> None:
    for made in (token(None, algorithm="none"), token("secret" * 10, algorithm="HS256")):
        with pytest.raises(EventError, match="RS256 is needed"):
            verifier(server).verify(made)
    assert server.asked == 0


@pytest.mark.parametrize(
    "text", ["", "x", "a.b.c", "eyJ.eyJ.eyJ", "\xff.\xff.\xff", "eyJhbGciOiJSUzI1NiJ9..", "x" * (TOKEN_CHARS + 1)]
)
def test_what_is_no_token_is_refused_unfetched(server: Google, text: str) -> None:
    with pytest.raises(EventError, match="Pub/Sub token"):
        verifier(server).verify(text)
    assert server.asked == 0


def test_a_token_without_a_key_id_is_refused_unfetched(server: Google) -> None:
    with pytest.raises(EventError, match="kid"):
        verifier(server).verify(token(key_id=None))
    assert server.asked == 0


# ---- keys


def test_a_new_key_is_fetched_when_a_token_names_it(server: Google) -> None:
    clock = Clock(1000.0)
    push = verifier(server, clock)
    push.verify(token())
    server.body = key_set(one=KEY, two=OTHER_KEY)
    clock.now += KEYS_PAUSE_S
    assert push.verify(token(OTHER_KEY, "two")) == ACCOUNT
    assert server.asked == 2


def test_made_up_key_ids_ask_google_once_in_a_pause(server: Google) -> None:
    clock = Clock(1000.0)
    push = verifier(server, clock)
    for number in range(20):
        with pytest.raises(EventError, match="not Google's"):
            push.verify(token(key_id=f"made-up-{number}"))
    assert server.asked == 1
    clock.now += KEYS_PAUSE_S
    with pytest.raises(EventError, match="not Google's"):
        push.verify(token(key_id="made-up"))
    assert server.asked == 2


def test_a_withdrawn_key_is_forgotten_once_the_keys_are_old(server: Google) -> None:
    clock = Clock(1000.0)
    push = verifier(server, clock)
    push.verify(token())
    server.body = key_set(two=OTHER_KEY)
    clock.now += KEYS_FRESH_S + 1
    with pytest.raises(EventError, match="not Google's"):
        push.verify(token())


@pytest.mark.parametrize(("status", "body"), [(503, b""), (404, b""), (200, b"<html>"), (200, b"[]"), (200, b"{}")])
def test_keys_that_cannot_be_had_are_an_outage_and_not_a_refusal(server: Google, status: int, body: bytes) -> None:
    server.status, server.body = status, body
    clock = Clock(1000.0)
    push = verifier(server, clock)
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            push.verify(token())
        assert caught.value.retry_after_s == KEYS_PAUSE_S
    assert server.asked == 1
    server.status, server.body = 200, key_set(one=KEY)
    clock.now += KEYS_PAUSE_S
    assert push.verify(token()) == ACCOUNT


def test_known_keys_serve_on_while_google_is_away_but_not_for_ever(server: Google) -> None:
    clock = Clock(1000.0)
    push = verifier(server, clock)
    push.verify(token())
    server.status = 503
    clock.now += KEYS_FRESH_S + 1
    assert push.verify(token()) == ACCOUNT
    clock.now += KEYS_MOST_S
    with pytest.raises(Unavailable):
        push.verify(token())


def test_many_threads_fetch_the_keys_once(server: Google) -> None:
    push = verifier(server)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(push.verify(token()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (found, server.asked) == ([ACCOUNT] * 8, 1)


def test_no_key_is_fetched_in_plain_text_from_elsewhere() -> None:
    push = PushVerifier(AUDIENCE, (ACCOUNT,), "http://keys.example/certs")
    with pytest.raises(Unavailable):
        push.verify(token())


def test_a_token_is_told_from_a_plain_secret() -> None:
    assert is_token(token())
    assert is_token(jwt.encode({}, "s" * 32))
    assert not any(map(is_token, ["", "secret", "a.b.c", "eyJhbGciOi"]))


# ---- settings


@pytest.mark.parametrize("given", [{"pubsub_audience": AUDIENCE}, {"pubsub_service_accounts": [ACCOUNT]}])
def test_an_audience_without_accounts_and_the_other_way_round_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="need each other"):
        EventSettings.model_validate(given)


@pytest.mark.parametrize(
    "url", ["http://keys.example/", "file:///keys", "http://127.0.0.1.evil.example/", "http://127.evil.example/", ""]
)
def test_keys_come_over_https_or_from_the_loopback(url: str) -> None:
    with pytest.raises(ValidationError):
        EventSettings.model_validate({"pubsub_keys_url": url})
