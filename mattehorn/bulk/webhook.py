"""A job's end told to an address of the caller's: one signed POST, tried again by the queue until it is taken.

The body is that of `GET /v1/jobs/{id}`; `X-Mattehorn-Signature` is over it (events/signatures.py), and
`X-Mattehorn-Delivery` is the job's id, by which a receiver knows a repetition. A mark in the store keeps it to one
delivery a job, except when a worker dies between the answer and the mark.

What it is not: no guard against every server-side request forgery. Here is the least: https only, or this machine's
loopback; no redirects; `allow` may say more. Called by worker.py and, for the address, by the jobs.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httpx

from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.progress import ENDED
from mattehorn.errors import OptionError, Unavailable
from mattehorn.events.signatures import HEADER, make_signature

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0  # a receiver stores the message and answers; it does not work on it first
RETRY_S = 30
URL_CHARS = 2000
DELIVERY = "X-Mattehorn-Delivery"


@dataclass(frozen=True)
class Webhook:
    """How webhooks are sent. Without a secret no job may have one. `allow` says which https hosts may be called;
    `transport` takes the network's place in tests."""

    secret: str | None
    allow: Callable[[SplitResult], bool] = lambda url: True
    transport: httpx.BaseTransport | None = None
    clock: Callable[[], float] = time.time

    def check_url(self, url: str) -> None:
        """Raises OptionError (field `webhook_url`) for an address that may not be called."""
        if not self.secret:
            raise _bad("is not possible here: the operator has set no secret to sign it with (bulk.webhook_secret)")
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise _bad("is no URL") from None
        if len(url) > URL_CHARS or not parts.hostname or parts.username or not url.isascii():
            raise _bad(f"is an https URL of at most {URL_CHARS} ASCII characters without a user name")
        if _is_loopback(parts.hostname) and parts.scheme in ("http", "https"):
            return
        if parts.scheme != "https" or not self.allow(parts):
            raise _bad("begins with https:// and names a host that this service may call")

    def deliver(self, jobs: Jobs, job: str) -> None:
        """Tells the job's end, unless it has been told. Raises Unavailable when the receiver did not take it."""
        spec, state = jobs.spec(job), jobs.state(job)
        if spec.webhook_url is None or state.exists("webhook.done"):
            return
        progress = jobs.progress(job)
        if progress.state not in ENDED:  # its end is not to be seen yet
            raise Unavailable("The job has not ended.", retry_after_s=RETRY_S)
        self.check_url(spec.webhook_url)  # the operator may have changed what is allowed
        self._post(
            spec.webhook_url, job, json.dumps(progress.document(), ensure_ascii=False).encode("utf-8", "replace")
        )
        state.create_json("webhook.done", {"at": self.clock()})

    def _post(self, url: str, job: str, body: bytes) -> None:
        assert self.secret  # check_url has just seen it
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "mattehorn",
            HEADER: make_signature(body, self.secret, self.clock()),
            DELIVERY: job,
        }
        try:
            with (
                httpx.Client(
                    transport=self.transport, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False
                ) as http,
                http.stream("POST", url, content=body, headers=headers) as answer,
            ):
                status = answer.status_code  # its body is not read: it may be anything, of any length
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            log.info("bulk_webhook_failed job=%s error=%s", job, type(error).__name__)
            raise Unavailable("The job's webhook did not answer.", retry_after_s=RETRY_S) from error
        if not 200 <= status < 300:
            log.info("bulk_webhook_failed job=%s status=%d", job, status)
            raise Unavailable(f"The job's webhook answered {status}; 2xx is needed.", retry_after_s=RETRY_S)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bad(what: str) -> OptionError:
    return OptionError(f"webhook_url {what}.", field="webhook_url")
