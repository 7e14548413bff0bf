"""Who may post notifications: a bearer token, our HMAC over the body, or Amazon SNS's own signature.

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

from deployments.ingress.errors import Forbidden, InvalidKey, MissingKey
from deployments.ingress.streams import Slots
from mattehorn.errors import EventError
from mattehorn.events.fetch import fetch_https
from mattehorn.events.signatures import HEADER, check_signature
from mattehorn.events.sns import Fetch, SnsMessage, SnsVerifier
from mattehorn.settings import EventSettings

SNS_TYPE, SNS_RAW = "x-amz-sns-message-type", "x-amz-sns-rawdelivery"
ALIBABA_TOKEN = "x-eventbridge-signature-token"
SNS_THREADS = 2  # certificates are kept, so that a message is rarely more than a millisecond of arithmetic
SNS_WAITING = 16  # while Amazon does not answer


class EventGate:
    """One per ingress replica. Header names are given in lower case."""

    def __init__(
        self, settings: EventSettings, *, fetch: Fetch = fetch_https, clock: Callable[[], float] = time.time
    ) -> None:
        self._token = settings.token.get_secret_value() if settings.token else ""
        self._secret = settings.hmac_secret.get_secret_value() if settings.hmac_secret else ""
        self._sns = SnsVerifier(settings.sns_topics, fetch) if settings.sns_topics else None
        self._threads = ThreadPoolExecutor(SNS_THREADS, thread_name_prefix="sns")
        self._waiting = Slots(SNS_WAITING, "messages of Amazon SNS that wait for their certificate")
        self._clock = clock

    def require_configured(self) -> None:
        """Raises Forbidden while nobody may post."""
        if not (self._token or self._secret or self._sns):
            raise Forbidden(
                "No notifications are taken here. The operator sets events.token, events.hmac_secret or "
                "events.sns_topics first."
            )

    async def admit(self, body: bytes, headers: Mapping[str, str], query_token: str | None) -> None:
        """Returns when the sender is known; a subscription that SNS offers for a topic of ours is then confirmed.

        Raises MissingKey, InvalidKey; Unavailable when Amazon is away, Overloaded when too many wait for it.
        """
        if self._sns is not None and SNS_TYPE in headers and SNS_RAW not in headers:
            await self._admit_sns(self._sns, body)
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

        with self._waiting.held():
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, check)
            except EventError as error:
                raise InvalidKey(error.message) from None


def _presented(headers: Mapping[str, str]) -> str:
    """The token in the headers: `Bearer TOKEN`, the token alone as MinIO may send it, or Alibaba EventBridge's own."""
    text = headers.get("authorization", "").strip()
    scheme, space, token = text.partition(" ")
    return (token.strip() if space and scheme.lower() == "bearer" else text) or headers.get(ALIBABA_TOKEN, "")
