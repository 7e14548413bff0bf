"""Our own signature of a body, both ways: on webhooks that we send, and on notifications sent to us.

`X-Mattehorn-Signature: t=UNIX,v1=HEX`, where HEX is the HMAC-SHA256 of `UNIX.body` under a shared secret. A sender that
changes its secret may give two `v1`. Copies within the five minutes are let through: work is idempotent here.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from mattehorn.errors import EventError

HEADER = "X-Mattehorn-Signature"
TOLERANCE_S = 5 * 60  # room for clocks that differ and a slow network, either way
MAX_HEADER_CHARS = 1024  # some ten signatures

TIME = re.compile(r"[0-9]{1,12}", re.ASCII)
DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


def make_signature(body: bytes, secret: str, at: float) -> str:
    """The header's value for `body`, sent at `at` (seconds since 1970). Raises ValueError for an empty secret."""
    if not secret:
        raise ValueError("A signature needs a secret.")
    moment = str(int(at))
    return f"t={moment},v1={_digest(moment, body, secret)}"


def check_signature(header: str | None, body: bytes, secret: str, now: float) -> None:
    """Returns when `header` signs `body` and is fresh at `now`; else raises EventError. An empty secret fits none."""
    if not header:
        raise EventError(f"The request has no {HEADER}; sign it, or send a token.", field=HEADER)
    moment, digests = _parse(header)
    if not secret or not any(hmac.compare_digest(_digest(moment, body, secret), digest) for digest in digests):
        raise EventError(f"The {HEADER} does not fit the body and the secret.", field=HEADER)
    if abs(now - int(moment)) > TOLERANCE_S:
        raise EventError(f"The {HEADER} is more than {TOLERANCE_S} s off our clock; sign anew.", field=HEADER)


def _parse(header: str) -> tuple[str, list[str]]:
    """The time's text and the v1 digests; parts with other names are left aside."""
    parts = [part.strip().partition("=") for part in header.split(",")] if len(header) <= MAX_HEADER_CHARS else []
    times = [value for name, _, value in parts if name == "t"]
    digests = [value.lower() for name, _, value in parts if name == "v1"]
    good = len(times) == 1 and TIME.fullmatch(times[0]) and digests and all(map(DIGEST.fullmatch, digests))
    if not good:
        raise EventError(f"The {HEADER} is not of the form t=UNIX,v1=HEX.", field=HEADER)
    return times[0], digests


def _digest(moment: str, body: bytes, secret: str) -> str:
    return hmac.new(secret.encode("utf-8"), f"{moment}.".encode("ascii") + body, hashlib.sha256).hexdigest()
