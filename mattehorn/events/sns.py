"""Messages of Amazon SNS over HTTP: is it SNS that sent this, for a topic of ours? And the confirmation of a
subscription.

What it is not: it reads no notification; parse.py does, after this. Called by the webhook. Messages that SNS put into
SQS need no check here: the queue's policy says who may send.

An address is fetched only when all that can be checked without it is good, and only at SNS itself, over https, for one
of the topics allowed. The certificate comes over that same https connection, whose own certificate is checked; its
chain is not followed a second time, nor its subject compared.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mattehorn.errors import EventError
from mattehorn.events.fetch import fetch_https
from mattehorn.events.fields import printable
from mattehorn.events.json_body import decode_object

Fetch = Callable[[str], bytes]

NOTIFICATION, CONFIRMATION = "Notification", "SubscriptionConfirmation"
# The names whose lines are signed, in this order; Subject only when the message has one.
SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    CONFIRMATION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
HASHES: Mapping[str, Callable[[], hashes.HashAlgorithm]] = {"1": hashes.SHA1, "2": hashes.SHA256}

# Whole addresses, so that no user part, port or odd character can lead elsewhere.
HOST = r"https://sns\.[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?"
CERTIFICATE_URL = re.compile(HOST + r"/[A-Za-z0-9_-]{1,128}\.pem", re.ASCII)
SUBSCRIBE_URL = re.compile(HOST + r"/\?[A-Za-z0-9%&=:._~+-]{1,2000}", re.ASCII)

MIN_KEY_BITS = 2048  # what SNS uses; less could be forged
CERTIFICATES_KEPT = 16  # one or two a region at a time; SNS changes them about once a year


@dataclass(frozen=True)
class SnsMessage:
    """A message that SNS signed for a topic allowed; only SnsVerifier.verify makes one."""

    type: str
    topic_arn: str
    message_id: str
    message: str
    subscribe_url: str | None

    @property
    def asks_for_confirmation(self) -> bool:
        return self.type == CONFIRMATION


class SnsVerifier:
    """Checks messages for the topics allowed; keeps the certificates it has fetched. Safe to share by threads."""

    def __init__(
        self,
        topic_arns: Collection[str],
        fetch: Fetch = fetch_https,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._topic_arns = frozenset(topic_arns)
        self._fetch = fetch
        self._now = now
        self._certificates: dict[str, x509.Certificate] = {}

    def verify(self, body: bytes | str) -> SnsMessage:
        """The message in `body`. Raises EventError when it is not to be trusted, Unavailable when SNS is."""
        document = decode_object(body)
        message = self._message(document)
        certificate_url = _matching(document, "SigningCertURL", CERTIFICATE_URL)
        algorithm = HASHES.get(_field(document, "SignatureVersion"))
        if algorithm is None:
            raise EventError(f"The SNS message's SignatureVersion is none of {', '.join(HASHES)}.")
        signature = _base64(_field(document, "Signature"))
        signed = string_to_sign(document)
        key = self._public_key(certificate_url)
        try:
            key.verify(signature, signed, padding.PKCS1v15(), algorithm())
        except (InvalidSignature, UnsupportedAlgorithm) as exc:
            raise EventError("The SNS message's signature does not fit its content.", field="Signature") from exc
        return message

    def confirm(self, message: SnsMessage) -> None:
        """Tells SNS that we want the subscription which `message`, once verified, offers."""
        if not message.asks_for_confirmation or message.subscribe_url is None:
            raise EventError(f"A {message.type} of SNS is nothing to confirm.", field="Type")
        self._fetch(message.subscribe_url)

    def _message(self, document: Mapping[str, object]) -> SnsMessage:
        """The parts of a message, each good by itself; the signature is still to be checked."""
        kind = _field(document, "Type")
        if kind not in SIGNED:
            raise EventError(
                f"The SNS message's Type {printable(kind)!r} is none of {', '.join(SIGNED)}.", field="Type"
            )
        topic = _field(document, "TopicArn")
        if topic not in self._topic_arns:
            raise EventError(f"The SNS topic {printable(topic)!r} is not one of those allowed.", field="TopicArn")
        confirms = kind == CONFIRMATION
        return SnsMessage(
            type=kind,
            topic_arn=topic,
            message_id=_field(document, "MessageId"),
            message=_field(document, "Message"),
            subscribe_url=_subscribe_url(document, topic) if confirms else None,
        )

    def _public_key(self, url: str) -> RSAPublicKey:
        certificate = self._certificates.get(url) or self._load(url)
        if not certificate.not_valid_before_utc <= self._now() <= certificate.not_valid_after_utc:
            raise EventError("The SNS message's certificate is not valid at this time.", field="SigningCertURL")
        try:
            key = certificate.public_key()
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise EventError("The SNS message's certificate has no key that can be read.") from exc
        if not isinstance(key, RSAPublicKey) or key.key_size < MIN_KEY_BITS:
            raise EventError(f"The SNS message's certificate has no RSA key of {MIN_KEY_BITS} bits or more.")
        return key

    def _load(self, url: str) -> x509.Certificate:
        try:
            certificate = x509.load_pem_x509_certificate(self._fetch(url))
        except ValueError as exc:
            raise EventError("The SNS message's SigningCertURL holds no certificate.", field="SigningCertURL") from exc
        while len(self._certificates) >= CERTIFICATES_KEPT:
            self._certificates.pop(next(iter(self._certificates), ""), None)
        self._certificates[url] = certificate
        return certificate


def string_to_sign(document: Mapping[str, object]) -> bytes:
    """The bytes that SNS signs: a line with the name and one with the value, for each name of SIGNED in its order."""
    names = [name for name in SIGNED[_field(document, "Type")] if name != "Subject" or document.get(name) is not None]
    return "".join(f"{name}\n{_field(document, name)}\n" for name in names).encode("utf-8")


def _field(document: Mapping[str, object], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise EventError(f"The SNS message has no {name}.", field=name)
    try:
        value.encode("utf-8")
    except UnicodeError as exc:
        raise EventError(f"The SNS message's {name} is not UTF-8.", field=name) from exc
    return value


def _matching(document: Mapping[str, object], name: str, form: re.Pattern[str]) -> str:
    url = _field(document, name)
    if not form.fullmatch(url):
        raise EventError(f"The SNS message's {name} is not an address of Amazon SNS.", field=name)
    return url


def _subscribe_url(document: Mapping[str, object], topic: str) -> str:
    """The address that confirms the subscription to `topic` and does nothing else."""
    url = _matching(document, "SubscribeURL", SUBSCRIBE_URL)
    asked = parse_qs(urlsplit(url).query)
    if asked.get("Action") != ["ConfirmSubscription"] or asked.get("TopicArn") != [topic]:
        raise EventError("The SNS message's SubscribeURL confirms something else.", field="SubscribeURL")
    return url


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise EventError("The SNS message's Signature is not base64.", field="Signature") from exc
