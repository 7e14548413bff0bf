"""Who may post notifications: a bearer token, our HMAC over the body, Amazon SNS's own signature, or the OIDC token of
a Pub/Sub push.

What it is not: it reads no notification (mattehorn/events). Called by events_api.py. With nothing configured nobody
may, wherever the service listens: a replica sees only the proxy in front of it, never who may reach that, and any web
page can make a browser on the same machine post to its loopback.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from deployments.ingress.errors import Forbidden, InvalidKey, MissingKey
from deployments.ingress.streams import Slots
from mattehorn.errors import EventError
from mattehorn.events import gcs
from mattehorn.events.fetch import fetch_https
from mattehorn.events.json_body import decode_object
from mattehorn.events.object_ref import Envelope
from mattehorn.events.pubsub import PushVerifier, is_token
from mattehorn.events.signatures import HEADER, check_signature
from mattehorn.events.sns import Fetch, SnsMessage, SnsVerifier
from mattehorn.settings import EventSettings

T = TypeVar("T")

SNS_TYPE, SNS_RAW = "x-amz-sns-message-type", "x-amz-sns-rawdelivery"
ALIBABA_TOKEN = "x-eventbridge-signature-token"
THREADS = 2  # of each signer: keys are kept, so that a message is rarely more than a millisecond of arithmetic
WAITING = 16  # while Amazon, or Google, does not answer


class Outside:
    """Checks that may have to ask a signer's own server first: on threads of their own, and not too many at once."""

    def __init__(self, name: str, what: str) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=name)
        self.waiting = Slots(WAITING, what)

    async def ask(self, check: Callable[[], T]) -> T:
        """Raises InvalidKey for a message not to be trusted; Unavailable, Overloaded."""
        with self.waiting.held():
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, check)
            except EventError as error:
                raise InvalidKey(error.message) from None


class EventGate:
    """One per ingress replica. Header names are given in lower case."""

    def __init__(
        self, settings: EventSettings, *, fetch: Fetch = fetch_https, clock: Callable[[], float] = time.time
    ) -> None:
        self._token = settings.token.get_secret_value() if settings.token else ""
        self._secret = settings.hmac_secret.get_secret_value() if settings.hmac_secret else ""
        self._sns = SnsVerifier(settings.sns_topics, fetch) if settings.sns_topics else None
        self._pubsub = (
            PushVerifier(settings.pubsub_audience, settings.pubsub_service_accounts, settings.pubsub_keys_url)
            if settings.pubsub_audience
            else None
        )
        self.amazon = Outside("sns", "messages of Amazon SNS that wait for their certificate")
        self.google = Outside("pubsub", "pushes of Pub/Sub that wait for Google's keys")
        self._clock = clock

    def require_configured(self) -> None:
        """Raises Forbidden while nobody may post."""
        if not (self._token or self._secret or self._sns or self._pubsub):
            raise Forbidden(
                "No notifications are taken here. The operator sets events.token, events.hmac_secret, "
                "events.sns_topics or events.pubsub_audience first."
            )

    async def admit(self, body: bytes, headers: Mapping[str, str], query_token: str | None) -> None:
        """Returns when the sender is known; a subscription that SNS offers for a topic of ours is then confirmed.

        Raises MissingKey, InvalidKey; Unavailable when Amazon or Google is away, Overloaded when too many wait for it.
        """
        if self._sns is not None and SNS_TYPE in headers and SNS_RAW not in headers:
            await self._admit_sns(self._sns, body)
        elif self._pubsub is not None and (is_token(_presented(headers)) or _is_push(body)):
            await self._admit_push(self._pubsub, _presented(headers))
        elif self._secret and HEADER.lower() in headers:
            self._check_signature(headers[HEADER.lower()], body)
        else:
            self._check_token(headers, query_token)

    def _check_token(self, headers: Mapping[str, str], query_token: str | None) -> None:
        sent = _presented(headers) or query_token
        if not sent:
            raise MissingKey(
                f"The notification has no token; send it as Authorization: Bearer TOKEN, or sign it in {HEADER}."
            )
        if not self._token or not hmac.compare_digest(sent.encode(), self._token.encode()):
            raise InvalidKey("The notification's token is not the one set here (events.token).")

    def _check_signature(self, header: str, body: bytes) -> None:
        try:
            check_signature(header, body, self._secret, self._clock())
        except EventError as error:
            raise InvalidKey(error.message) from None

    async def _admit_sns(self, verifier: SnsVerifier, body: bytes) -> None:
        def check() -> SnsMessage:
            message = verifier.verify(body)
            if message.asks_for_confirmation:
                verifier.confirm(message)
            return message

        await self.amazon.ask(check)

    async def _admit_push(self, verifier: PushVerifier, token: str) -> None:
        if not token:
            raise MissingKey(
                "The Pub/Sub push has no OIDC token; turn on authentication for the push subscription, with one of the "
                "service accounts and the audience that are set here."
            )
        await self.google.ask(lambda: verifier.verify(token))


def _is_push(body: bytes) -> bool:
    """Whether `body` is a Pub/Sub push of a GCS notification; only a signed one comes in once Pub/Sub has to sign."""
    try:
        return gcs.seen(Envelope(decode_object(body)))
    except EventError:
        return False


def _presented(headers: Mapping[str, str]) -> str:
    """The token in the headers: `Bearer TOKEN`, the token alone as MinIO may send it, or Alibaba EventBridge's own."""
    text = headers.get("authorization", "").strip()
    scheme, space, token = text.partition(" ")
    return (token.strip() if space and scheme.lower() == "bearer" else text) or headers.get(ALIBABA_TOKEN, "")
