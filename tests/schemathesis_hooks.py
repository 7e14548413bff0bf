"""What schemathesis is told beyond the OpenAPI document; it imports this file by name (conformance.py).

A photo stands among the made-up pictures, so that what lies behind a readable one is reached; requests ask for their
answers in turn as clients do; and every answer is judged by two more rules of the contract.
"""

from __future__ import annotations

import zlib

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, HookContext, Response

from tests.service import encoded, photo

PHOTO = encoded(photo(16, 12))
ACCEPTS = ("*/*", "application/json", "image/webp", "application/json, text/plain, */*")

schemathesis.openapi.format("binary", st.one_of(st.just(PHOTO), st.binary(max_size=40)))


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: object) -> None:
    """One of ACCEPTS, the same for the same request: a run is like the run before it."""
    told = f"{case.path_parameters} {case.query} {case.body}".encode("utf-8", "backslashreplace")
    case.headers["Accept"] = ACCEPTS[zlib.crc32(told) % len(ACCEPTS)]


@schemathesis.check
def names_its_request(context: CheckContext, response: Response, case: Case) -> None:
    """Every answer has one X-Request-ID, and an error that tells it tells the same."""
    (request_id,) = response.headers["x-request-id"]
    if response.status_code >= 400 and response.headers["content-type"][0] == "application/json":
        told = response.json().get("error", {}).get("request_id", request_id)
        assert told == request_id, f"{told} in the body, {request_id} in the header"


@schemathesis.check
def tells_when_to_come_back(context: CheckContext, response: Response, case: Case) -> None:
    """429 and 503 have a Retry-After, in whole seconds from 1 on (contract 1.6)."""
    if response.status_code in (429, 503):
        (seconds,) = response.headers["retry-after"]
        assert int(seconds) >= 1


@schemathesis.check
def fails_only_without_a_bucket(context: CheckContext, response: Response, case: Case) -> None:
    """No 5xx but the 503 of a job that names a bucket: the service under test has none."""
    assert response.status_code < 500 or (response.status_code == 503 and "no credentials" in response.text)
