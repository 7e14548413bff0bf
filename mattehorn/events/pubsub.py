"""Pushes of Google Pub/Sub: is it a service account of ours that signed this? An OIDC token, a JWT, comes with each.

What it is not: it reads no notification; parse.py does, after this. Called by the webhook. The token says who sent and
for whom, not what: the body is protected by TLS alone, as Google means it. Anybody may have Google sign a token for any
audience, so the audience alone proves nothing: the service account's address is compared, too.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import jwt

from mattehorn.errors import EventError, Unavailable
from mattehorn.events.fetch import fetch_here, fetch_https
from mattehorn.events.fields import printable

log = logging.getLogger(__name__)

Fetch = Callable[[str], bytes]

ALGORITHM = "RS256"  # what Google signs with; "none" and all that use a shared secret are never taken
ISSUERS = ("https://accounts.google.com", "accounts.google.com")
LEEWAY_S = 60  # room for clocks that differ; a token lives an hour
REQUIRED = ("iss", "aud", "exp", "iat", "email", "email_verified")
TOKEN_CHARS = 8192  # Google's have about 1000

KEYS_FRESH_S = 6 * 3600  # Google publishes a key days before its first use and lets answers be cached for hours
KEYS_MOST_S = 24 * 3600  # older ones are not trusted while Google is away: it may have withdrawn them
KEYS_PAUSE_S = 30  # between two fetches, so that tokens with made-up key ids cost Google and us next to nothing


class PushVerifier:
    """Checks tokens for one audience and some service accounts; keeps the keys it has fetched. Threads may share it."""

    def __init__(
        self,
        audience: str,
        service_accounts: Collection[str],
        keys_url: str,
        *,
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` reads `keys_url` in place of the network; `clock` counts seconds for the keys' age alone."""
        self._audience, self._accounts, self._url = audience, frozenset(service_accounts), keys_url
        self._fetch = fetch or fetch_keys
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._lock = threading.Lock()

    def verify(self, token: str) -> str:
        """The e-mail address of the service account that signed. Raises EventError when the token is not to be
        trusted, Unavailable when Google's keys cannot be had."""
        key = self._key(_key_id(token))
        claims = self._claims(token, key)
        email = claims["email"]
        if claims["email_verified"] is not True:
            raise EventError("The Pub/Sub token's e-mail address is not verified by Google.", field="email_verified")
        if not isinstance(email, str) or email not in self._accounts:
            raise EventError(
                f"The Pub/Sub token is of {printable(str(email))}, which is none of the service accounts allowed here "
                "(events.pubsub_service_accounts).",
                field="email",
            )
        return email

    def _claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=ISSUERS,
                leeway=LEEWAY_S,
                options={"require": list(REQUIRED), "strict_aud": True},
            )
        except jwt.ExpiredSignatureError:
            raise EventError("The Pub/Sub token has expired; each push needs a fresh one.", field="exp") from None
        except jwt.InvalidAudienceError:
            raise EventError(
                "The Pub/Sub token is for another audience; set the subscription's push audience to the one that is "
                "set here (events.pubsub_audience).",
                field="aud",
            ) from None
        except jwt.InvalidIssuerError:
            raise EventError(f"The Pub/Sub token's issuer is not {ISSUERS[0]}.", field="iss") from None
        except jwt.MissingRequiredClaimError as error:
            raise EventError(f"The Pub/Sub token has no {error.claim}.", field=error.claim) from None
        except jwt.InvalidSignatureError:
            raise EventError("The Pub/Sub token's signature does not fit its content.") from None
        except jwt.PyJWTError as error:
            raise EventError(f"The Pub/Sub token is not valid: {printable(str(error)).rstrip('.')}.") from None

    def _key(self, key_id: str) -> jwt.PyJWK:
        """Google's key of that id, fetched anew when it is unknown or the keys are old. Raises EventError,
        Unavailable."""
        with self._lock:
            if self._age() > KEYS_FRESH_S or key_id not in self._keys:
                self._refresh()
            found = self._keys.get(key_id) if self._age() <= KEYS_MOST_S else None
            away = self._fetched_at != self._asked_at
        if found is None and away:
            raise Unavailable("Google's keys could not be fetched; send the push again.", retry_after_s=KEYS_PAUSE_S)
        if found is None:
            raise EventError(f"The Pub/Sub token is signed with a key that is not Google's ({printable(key_id)}).")
        return found

    def _age(self) -> float:
        """Seconds since the keys were fetched; infinite before that."""
        return math.inf if self._fetched_at is None else self._clock() - self._fetched_at

    def _refresh(self) -> None:
        """Fetches the keys, at most every KEYS_PAUSE_S. What is known stays when Google is away."""
        now = self._clock()
        if self._asked_at is not None and now - self._asked_at < KEYS_PAUSE_S:
            return
        self._asked_at = now
        try:
            self._keys = _read_keys(self._fetch(self._url))
        except (EventError, Unavailable) as error:
            log.warning("pubsub_keys_not_fetched reason=%s", error.message)
            return
        self._fetched_at = now


def fetch_keys(url: str) -> bytes:
    """Google's keys, a JWK set (RFC 7517): over https, or http from this machine's own loopback."""
    return fetch_here(url, who="Google's keys") if is_loopback(url) else fetch_https(url, who="Google's keys")


def is_loopback(url: str) -> bool:
    """Whether `url` is http on this machine's loopback, given as an address of it."""
    parts = urlsplit(url)
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def is_token(text: str) -> bool:
    """Whether `text` looks like a JWT: three parts, of which the first is a JSON object's base64."""
    return text.startswith("eyJ") and text.count(".") == 2


def _key_id(token: str) -> str:
    if len(token) > TOKEN_CHARS:
        raise EventError(f"The Pub/Sub token has more than {TOKEN_CHARS} characters.")
    try:
        header: Mapping[str, Any] = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise EventError("The Pub/Sub token is no JWT; turn on authentication for the push subscription.") from None
    if header.get("alg") != ALGORITHM:
        raise EventError(f"The Pub/Sub token is signed by {printable(str(header.get('alg')))}; {ALGORITHM} is needed.")
    key_id = header.get("kid")
    if not isinstance(key_id, str) or not key_id:
        raise EventError("The Pub/Sub token does not name its key (kid).")
    return key_id


def _read_keys(data: bytes) -> dict[str, jwt.PyJWK]:
    """RSA keys by id. Raises EventError for what is no JWK set."""
    try:
        found = jwt.PyJWKSet.from_dict(json.loads(data)).keys
    except (ValueError, TypeError, AttributeError, jwt.PyJWTError):
        raise EventError("The address of Google's keys holds no JWK set.") from None
    return {key.key_id: key for key in found if key.key_id and key.key_type == "RSA"}
