"""A job's end told to an address of the caller's: one signed POST, tried again by the queue until it is taken.

The body is that of `GET /v1/jobs/{id}`; `X-Mattehorn-Signature` is over it (events/signatures.py), and
`X-Mattehorn-Delivery` is the job's id, by which a receiver knows a repetition. A mark in the store keeps it to one
delivery a job, except when a worker dies between the answer and the mark.

The address is https and public, as those of pictures are (fetch/), or the operator lists its host. Called by worker.py
and, for the address, by the jobs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.progress import ENDED
from mattehorn.errors import FetchFailed, OptionError, Unavailable, UrlNotAllowed
from mattehorn.events.signatures import HEADER, make_signature
from mattehorn.fetch.fetch import Fetcher
from mattehorn.fetch.urls import BadUrl, parse_url

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0  # a receiver stores the message and answers; it does not work on it first
RETRY_S = 30
URL_CHARS = 2000
DELIVERY = "X-Mattehorn-Delivery"
FIELD = "webhook_url"


@dataclass(frozen=True)
class Webhook:
    """How webhooks are sent. Without a secret no job may have one. `fetcher` says which hosts may be called, and calls
    them."""

    secret: str | None
    fetcher: Fetcher = field(default_factory=Fetcher)
    clock: Callable[[], float] = time.time

    def check_url(self, text: str) -> None:
        """Raises OptionError (field `webhook_url`) for an address that may not be called, as far as can be told without
        a look-up; the look-up comes with the call."""
        if not self.secret:
            raise _bad("is not possible here: the operator has set no secret to sign it with (bulk.webhook_secret)")
        if len(text) > URL_CHARS or not text.isascii():
            raise _bad(f"has at most {URL_CHARS} ASCII characters")
        try:
            url = parse_url(text)
            self.fetcher.policy.check(url)
        except BadUrl as error:
            raise _bad(str(error)) from None
        if url.scheme != "https" and not self.fetcher.policy.lists(url):
            raise _bad("begins with https://, unless the operator lists its host (url_allow)")

    def deliver(self, jobs: Jobs, job: str) -> None:
        """Tells the job's end, unless it has been told.

        Raises Unavailable when the receiver did not take it, OptionError when its address may not be called.
        """
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
            HEADER: make_signature(body, self.secret, self.clock()),
            DELIVERY: job,
        }
        try:
            # the caller is a thread without an event loop
            status = asyncio.run(self.fetcher.post(url, body, headers, field=FIELD, within_s=TIMEOUT_S, request_id=job))
        except UrlNotAllowed as error:
            raise OptionError(error.message, field=FIELD) from None
        except FetchFailed as error:
            log.info("bulk_webhook_failed job=%s error=%s", job, error.message)
            raise Unavailable("The job's webhook did not answer.", retry_after_s=RETRY_S) from error
        if not 200 <= status < 300:
            log.info("bulk_webhook_failed job=%s status=%d", job, status)
            raise Unavailable(f"The job's webhook answered {status}; 2xx is needed.", retry_after_s=RETRY_S)


def _bad(what: str) -> OptionError:
    return OptionError(f"{FIELD} {what}.", field=FIELD)
