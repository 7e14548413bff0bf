"""Messages of SNS: a good signature passes, a foreign or broken message is refused before anything is fetched."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mattehorn.errors import EventError
from mattehorn.events import parse_event
from mattehorn.events.sns import CERTIFICATES_KEPT, SnsVerifier, string_to_sign

TOPIC = "arn:aws:sns:eu-central-1:000000000000:photos"
HOST = "https://sns.eu-central-1.amazonaws.com"
CERTIFICATE_URL = f"{HOST}/SimpleNotificationService-0123456789abcdef.pem"
SUBSCRIBE_URL = f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=0123abcd"
NOW = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
DAY = timedelta(days=1)


def certificate(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = KEY, begins: datetime = NOW - DAY, ends: datetime = NOW + DAY
) -> bytes:
    """A self-made certificate in PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begins, ends)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


GOOD_CERTIFICATE = certificate()


class Network:
    """Answers every address with `answer`, and remembers the addresses asked for."""

    def __init__(self, answer: bytes = GOOD_CERTIFICATE) -> None:
        self.answer, self.asked = answer, list[str]()

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        return self.answer


def verifier(network: Network, topics: tuple[str, ...] = (TOPIC,), now: datetime = NOW) -> SnsVerifier:
    return SnsVerifier(topics, network, lambda: now)


def signed(version: str = "1", key: rsa.RSAPrivateKey = KEY, **fields: str | None) -> bytes:
    """A Notification, or what `fields` make of it, signed; a field given as None is left out."""
    values = {
        "Type": "Notification",
        "MessageId": "22b80b92-0000-4000-8000-000000000002",
        "TopicArn": TOPIC,
        "Message": '{"Records": []}',
        "Timestamp": "2026-03-14T09:26:53.589Z",
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE_URL,
        **fields,
    }
    document: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    algorithm = hashes.SHA1() if version == "1" else hashes.SHA256()
    signature = key.sign(string_to_sign(document), padding.PKCS1v15(), algorithm)
    return json.dumps(document | {"Signature": base64.b64encode(signature).decode()}).encode()


def confirmation(kind: str = "SubscriptionConfirmation", url: str = SUBSCRIBE_URL, **fields: str) -> bytes:
    return signed(Type=kind, Message="You have chosen to subscribe.", Token="0123abcd", SubscribeURL=url, **fields)


def changed(body: bytes, **fields: object) -> bytes:
    """`body` with fields changed after it was signed."""
    return json.dumps(json.loads(body) | fields).encode()


# ---- the string to sign


def test_a_notification_is_signed_by_these_lines_in_this_order() -> None:
    document = json.loads(signed(Subject="My subject"))
    assert string_to_sign(document).decode() == (
        'Message\n{"Records": []}\nMessageId\n22b80b92-0000-4000-8000-000000000002\nSubject\nMy subject\n'
        f"Timestamp\n2026-03-14T09:26:53.589Z\nTopicArn\n{TOPIC}\nType\nNotification\n"
    )


def test_the_subject_has_no_line_when_there_is_none() -> None:
    assert b"Subject" not in string_to_sign(json.loads(signed()))
    assert b"Subject" not in string_to_sign(json.loads(signed()) | {"Subject": None})


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_a_confirmation_is_signed_by_these_lines_in_this_order(kind: str) -> None:
    assert string_to_sign(json.loads(confirmation(kind))).decode() == (
        "Message\nYou have chosen to subscribe.\nMessageId\n22b80b92-0000-4000-8000-000000000002\n"
        f"SubscribeURL\n{SUBSCRIBE_URL}\nTimestamp\n2026-03-14T09:26:53.589Z\nToken\n0123abcd\n"
        f"TopicArn\n{TOPIC}\nType\n{kind}\n"
    )


# ---- good messages


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", [None, "Amazon S3 Notification", "Grüße 鞋"])
def test_a_good_signature_passes(version: str, subject: str | None) -> None:
    network = Network()
    body = signed(version, Subject=subject)
    message = verifier(network).verify(body)
    assert (message.type, message.topic_arn, message.message) == ("Notification", TOPIC, '{"Records": []}')
    assert not message.asks_for_confirmation
    assert parse_event(body) == parse_event(message.message)
    assert network.asked == [CERTIFICATE_URL]


def test_a_certificate_is_fetched_once() -> None:
    network = Network()
    sns = verifier(network)
    for number in range(3):
        sns.verify(signed(MessageId=str(number)))
    assert network.asked == [CERTIFICATE_URL]


def test_the_number_of_certificates_kept_is_bounded() -> None:
    network = Network()
    sns = verifier(network)
    for number in [*range(CERTIFICATES_KEPT + 1), CERTIFICATES_KEPT, 0]:
        sns.verify(signed(SigningCertURL=f"{HOST}/SimpleNotificationService-{number}.pem"))
    assert len(network.asked) == CERTIFICATES_KEPT + 2  # the first was given up and fetched again


@pytest.mark.parametrize(
    "host", ["sns.us-gov-west-1.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn", "sns.ap-southeast-2.amazonaws.com"]
)
def test_certificates_of_every_region_are_fetched(host: str) -> None:
    verifier(Network()).verify(signed(SigningCertURL=f"https://{host}/SimpleNotificationService-00.pem"))


def test_a_subscription_is_confirmed_at_its_address_and_only_when_asked() -> None:
    network = Network()
    sns = verifier(network)
    message = sns.verify(confirmation())
    assert message.asks_for_confirmation
    assert network.asked == [CERTIFICATE_URL]
    sns.confirm(message)
    assert network.asked == [CERTIFICATE_URL, SUBSCRIBE_URL]


def test_a_subscribe_address_may_have_its_topic_escaped() -> None:
    url = SUBSCRIBE_URL.replace(TOPIC, quote(TOPIC, safe=""))
    assert verifier(Network()).verify(confirmation(url=url)).subscribe_url == url


@pytest.mark.parametrize("body", [signed(), confirmation("UnsubscribeConfirmation")])
def test_other_messages_are_nothing_to_confirm(body: bytes) -> None:
    network = Network()
    sns = verifier(network)
    message = sns.verify(body)
    with pytest.raises(EventError, match="nothing to confirm"):
        sns.confirm(message)
    assert network.asked == [CERTIFICATE_URL]


# ---- refused with no request at all

FOREIGN = [
    "http://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0.pem",
    "https://sns.eu-central-1.amazonaws.com.evil.example/SimpleNotificationService-0.pem",
    "https://evil.example/sns.eu-central-1.amazonaws.com/SimpleNotificationService-0.pem",
    "https://sns.eu-central-1.amazonaws.com@evil.example/SimpleNotificationService-0.pem",
    "https://evil.example#sns.eu-central-1.amazonaws.com/SimpleNotificationService-0.pem",
    "https://sns.eu-central-1.amazonaws.com:8443/SimpleNotificationService-0.pem",
    "https://sns.eu-central-1.amazonaws.com\\@evil.example/x.pem",
    "https://sns.eu-central-1.amazonaws.com/../x.pem",
    "https://sns.eu-central-1.amazonaws.com/x.pem?y",
    "https://sns.eu-central-1.amazonaws.com/x.pem\n",
    "https://snsXeu-central-1.amazonaws.com/x.pem",
    "https://sns.evil.amazonaws.com/x.pem",
    "https://sns.eu-central-1.s3.amazonaws.com/x.pem",
    "https://s3.eu-central-1.amazonaws.com/evil/x.pem",
    "https://SNS.eu-central-1.amazonaws.com/x.pem",
    "https://sns.eu-central-１.amazonaws.com/x.pem",
    "https://169.254.169.254/x.pem",
    "file:///etc/passwd.pem",
    "",
]


@pytest.mark.parametrize("url", FOREIGN)
def test_a_certificate_from_elsewhere_is_refused_unfetched(url: str) -> None:
    network = Network()
    with pytest.raises(EventError, match="SigningCertURL"):
        verifier(network).verify(signed(SigningCertURL=url))
    assert network.asked == []


@pytest.mark.parametrize(
    "url",
    [
        *(url.replace(".pem", f"/?Action=ConfirmSubscription&TopicArn={TOPIC}") for url in FOREIGN),
        f"{HOST}/?Action=Publish&TopicArn={TOPIC}",
        f"{HOST}/?Action=ConfirmSubscription&Action=Publish&TopicArn={TOPIC}",
        f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}2",
        f"{HOST}/?TopicArn={TOPIC}",
        f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=" + "a" * 3000,
    ],
)
def test_a_confirmation_that_leads_elsewhere_is_refused_unfetched(url: str) -> None:
    network = Network()
    with pytest.raises(EventError, match="SubscribeURL"):
        verifier(network).verify(confirmation(url=url))
    assert network.asked == []


@pytest.mark.parametrize("topics", [(), ("arn:aws:sns:eu-central-1:000000000000:photo",), (TOPIC + "s",)])
def test_a_foreign_topic_is_refused_unfetched(topics: tuple[str, ...]) -> None:
    network = Network()
    for body in (signed(), confirmation()):
        with pytest.raises(EventError, match="topic"):
            verifier(network, topics).verify(body)
    assert network.asked == []


@pytest.mark.parametrize(
    "fields",
    [
        {"Type": "Hello"},
        {"Type": None},
        {"Type": ["Notification"]},
        {"TopicArn": [TOPIC]},
        {"Message": None},
        {"MessageId": 5},
        {"Timestamp": None},
        {"Subject": 5},
        {"SignatureVersion": "3"},
        {"SignatureVersion": 1},
        {"Signature": "%%"},
        {"Signature": None},
        {"SigningCertURL": None},
        {"Message": "\ud800"},
    ],
    ids=str,
)
def test_a_message_with_a_broken_field_is_refused_unfetched(fields: dict[str, object]) -> None:
    network = Network()
    with pytest.raises(EventError):
        verifier(network).verify(changed(signed(), **fields))
    assert network.asked == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"hello", b"\xff"])
def test_a_body_that_is_no_message_is_refused_unfetched(body: bytes) -> None:
    network = Network()
    with pytest.raises(EventError):
        verifier(network).verify(body)
    assert network.asked == []


# ---- refused after the certificate, and nothing else fetched


@pytest.mark.parametrize(
    "fields",
    [
        {"Message": "{}"},
        {"MessageId": "x"},
        {"Timestamp": "2026-03-14T09:26:54.589Z"},
        {"Subject": "x"},
        {"SignatureVersion": "2"},
        {"Signature": base64.b64encode(b"x" * 256).decode()},
        {"Signature": ""},
    ],
    ids=str,
)
def test_a_signature_of_something_else_is_refused(fields: dict[str, object]) -> None:
    network = Network()
    with pytest.raises(EventError, match="signature does not fit"):
        verifier(network).verify(changed(signed(), **fields))
    assert network.asked == [CERTIFICATE_URL]


def test_a_signature_by_another_key_is_refused() -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(EventError, match="signature does not fit"):
        verifier(Network()).verify(signed(key=other))


def test_a_confirmation_with_a_bad_signature_confirms_nothing() -> None:
    network = Network()
    with pytest.raises(EventError, match="signature does not fit"):
        verifier(network).verify(changed(confirmation(), Token="other"))
    assert SUBSCRIBE_URL not in network.asked


@pytest.mark.parametrize("days", [-2, 2], ids=["not yet valid", "expired"])
def test_a_certificate_out_of_its_time_is_refused_and_not_fetched_again(days: int) -> None:
    network = Network()
    sns = verifier(network, now=NOW + days * DAY)
    for body in (signed(), confirmation()):
        with pytest.raises(EventError, match="not valid at this time"):
            sns.verify(body)
    assert network.asked == [CERTIFICATE_URL]


def test_a_certificate_that_expires_while_kept_is_refused_with_no_request() -> None:
    network, clock = Network(), [NOW]
    sns = SnsVerifier([TOPIC], network, lambda: clock[0])
    sns.verify(signed())
    clock[0] = NOW + 2 * DAY
    with pytest.raises(EventError, match="not valid at this time"):
        sns.verify(signed())
    assert network.asked == [CERTIFICATE_URL]


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", GOOD_CERTIFICATE[:-200], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
)
def test_an_answer_that_is_no_certificate_is_refused_and_not_kept(answer: bytes) -> None:
    network = Network(answer)
    sns = verifier(network)
    with pytest.raises(EventError, match="no certificate"):
        sns.verify(signed())
    network.answer = GOOD_CERTIFICATE
    sns.verify(signed())
    assert len(network.asked) == 2


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(public_exponent=65537, key_size=1024)]
)
def test_a_certificate_with_a_weak_or_foreign_key_is_refused(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
) -> None:
    with pytest.raises(EventError, match="no RSA key of 2048 bits"):
        verifier(Network(certificate(key))).verify(signed())
