"""The one address that a message of SNS makes us fetch: https only, no redirects, little and soon."""

from __future__ import annotations

import io
import urllib.request
import urllib.response
from email.message import Message

import pytest

from mattehorn.errors import EventError, Unavailable
from mattehorn.events.fetch import MAX_BYTES, TOTAL_TIMEOUT_S, fetch_https

HOST = "https://sns.eu-central-1.amazonaws.com"
CERTIFICATE_URL = f"{HOST}/SimpleNotificationService-0123456789abcdef.pem"
SUBSCRIBE_URL = (
    f"{HOST}/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-central-1:000000000000:photos&Token=0123abcd"
)


class FakeHttps(urllib.request.BaseHandler):
    """Opens https in place of the network."""

    def __init__(
        self, status: int = 200, body: bytes = b"", location: str = "", error: Exception | None = None
    ) -> None:
        self.status, self.body, self.location, self.error = status, body, location, error
        self.asked: list[str] = []

    def https_open(self, request: urllib.request.Request) -> urllib.response.addinfourl:
        self.asked.append(request.full_url)
        assert request.timeout is not None
        if self.error:
            raise self.error
        headers = Message()
        headers["Location"] = self.location
        answer = urllib.response.addinfourl(io.BytesIO(self.body), headers, request.full_url, self.status)
        answer.msg = "said"  # type: ignore[attr-defined]  # as http.client's answer has it
        return answer


def test_a_document_is_fetched_whole() -> None:
    assert fetch_https(CERTIFICATE_URL, handler=FakeHttps(body=b"x" * MAX_BYTES)) == b"x" * MAX_BYTES


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    https = FakeHttps(status, location="https://evil.example/")
    with pytest.raises(EventError, match=str(status)):
        fetch_https(CERTIFICATE_URL, handler=https)
    assert https.asked == [CERTIFICATE_URL]


def test_a_missing_document_is_final_and_a_broken_server_is_not() -> None:
    with pytest.raises(EventError, match="404"):
        fetch_https(CERTIFICATE_URL, handler=FakeHttps(404))
    with pytest.raises(Unavailable) as caught:
        fetch_https(CERTIFICATE_URL, handler=FakeHttps(503))
    assert caught.value.retry_after_s


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), OSError("no route")])
def test_an_outage_is_worth_another_try_and_names_no_address(error: Exception) -> None:
    with pytest.raises(Unavailable) as caught:
        fetch_https(SUBSCRIBE_URL, handler=FakeHttps(error=error))
    assert "Token" not in str(caught.value)


def test_a_large_document_is_refused() -> None:
    with pytest.raises(EventError, match="more than"):
        fetch_https(CERTIFICATE_URL, handler=FakeHttps(body=b"x" * (MAX_BYTES + 1)))


def test_a_slow_document_is_given_up() -> None:
    ticks = iter([0.0, 1.0, TOTAL_TIMEOUT_S + 1.0])
    with pytest.raises(Unavailable, match="took more"):
        fetch_https(CERTIFICATE_URL, handler=FakeHttps(body=b"x" * MAX_BYTES), clock=lambda: next(ticks))


@pytest.mark.parametrize("url", ["http://sns.eu-central-1.amazonaws.com/", "file:///etc/passwd", "ftp://host/x", ""])
def test_nothing_but_https_is_fetched(url: str) -> None:
    https = FakeHttps()
    with pytest.raises(EventError, match="https"):
        fetch_https(url, handler=https)
    assert https.asked == []
