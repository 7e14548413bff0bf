"""Our own signature: a known value, what fits it, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mattehorn.errors import EventError
from mattehorn.events.signatures import HEADER, TOLERANCE_S, check_signature, make_signature

BODY, SECRET, AT = b'{"id": "job-1", "state": "succeeded"}', "correct horse", 1_700_000_000
# printf '1700000000.{"id": "job-1", "state": "succeeded"}' | openssl dgst -sha256 -hmac 'correct horse'
DIGEST = "a5c93eaf9bffd4d0b7c28409cc5873d696f6f8754d78d21c74759a4023a825e4"


def test_a_signature_is_the_hmac_of_time_and_body() -> None:
    assert make_signature(BODY, SECRET, AT + 0.9) == f"t={AT},v1={DIGEST}"


@given(
    body=st.binary(max_size=300), secret=st.text(st.characters(codec="utf-8"), min_size=1), at=st.integers(0, 10**10)
)
def test_what_is_made_is_accepted(body: bytes, secret: str, at: int) -> None:
    check_signature(make_signature(body, secret, at), body, secret, now=at)


@pytest.mark.parametrize("drift", [-TOLERANCE_S, 0, TOLERANCE_S])
def test_five_minutes_either_way_are_fresh(drift: int) -> None:
    check_signature(make_signature(BODY, SECRET, AT), BODY, SECRET, now=AT + drift)


@pytest.mark.parametrize("drift", [-TOLERANCE_S - 1, TOLERANCE_S + 1, 10**9])
def test_an_old_or_future_signature_is_refused(drift: int) -> None:
    with pytest.raises(EventError, match="300 s"):
        check_signature(make_signature(BODY, SECRET, AT), BODY, SECRET, now=AT + drift)


@pytest.mark.parametrize(
    ("header", "body", "secret"),
    [
        (f"t={AT},v1={DIGEST}", BODY + b" ", SECRET),
        (f"t={AT},v1={DIGEST}", BODY, "another"),
        (f"t={AT},v1={DIGEST}", BODY, ""),
        (f"t={AT + 1},v1={DIGEST}", BODY, SECRET),
        (f"t={AT},v1={'0' * 64}", BODY, SECRET),
    ],
    ids=["another body", "another secret", "no secret of ours", "another time", "another digest"],
)
def test_a_signature_of_something_else_is_refused(header: str, body: bytes, secret: str) -> None:
    with pytest.raises(EventError, match="does not fit"):
        check_signature(header, body, secret, now=AT)


@pytest.mark.parametrize(
    "header",
    [
        f"v1={DIGEST}",
        f"t={AT}",
        f"t={AT},v0={DIGEST}",
        f"t={AT},t={AT},v1={DIGEST}",
        f"t=-{AT},v1={DIGEST}",
        f"t={AT}.0,v1={DIGEST}",
        f"t=١٧,v1={DIGEST}",
        f"t={AT},v1={DIGEST[:-1]}",
        f"t={AT},v1={DIGEST}0",
        f"t={AT},v1={'g' * 64}",
        f"t={AT},v1=",
        f"t={AT},v1={DIGEST}" + "," * 2000,
        "\ud800",
    ],
)
def test_a_header_of_another_form_is_refused(header: str) -> None:
    with pytest.raises(EventError, match="not of the form"):
        check_signature(header, BODY, SECRET, now=AT)


@pytest.mark.parametrize("header", [None, ""])
def test_a_missing_header_is_refused(header: str | None) -> None:
    with pytest.raises(EventError, match=HEADER):
        check_signature(header, BODY, SECRET, now=AT)


@pytest.mark.parametrize(
    "header",
    [
        f"v1={DIGEST},t={AT}",
        f" t={AT} , v1={DIGEST} ",
        f"t={AT},v1={DIGEST.upper()}",
        f"t={AT},v1={'0' * 64},v1={DIGEST}",
        f"t={AT},v1={DIGEST},v2=later",
    ],
    ids=["order", "blanks", "capitals", "two secrets", "a later version"],
)
def test_spelling_and_further_parts_do_not_matter(header: str) -> None:
    check_signature(header, BODY, SECRET, now=AT)


def test_signing_needs_a_secret() -> None:
    with pytest.raises(ValueError, match="secret"):
        make_signature(BODY, "", AT)
