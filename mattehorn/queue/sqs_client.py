"""How to reach an SQS queue: its URL, a boto3 client for it, and what the server's errors mean.

Called by queues.py and sqs_queue.py. boto3 is imported inside functions, so that only `sqs://` URLs load it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from mattehorn.errors import QueueUnavailable
from mattehorn.queue.interface import OUTAGE_RETRY_S, REFUSED_RETRY_S

log = logging.getLogger(__name__)

POLL_S = 20  # SQS's limit on one long poll
PERMISSIONS = {
    "receive": "sqs:ReceiveMessage",
    "hold": "sqs:ChangeMessageVisibility",
    "delete": "sqs:DeleteMessage",
    "send": "sqs:SendMessage",
    "inspect": "sqs:GetQueueAttributes",
}


class SqsRefused(QueueUnavailable):
    """SQS answered with an error; `data["sqs_code"]` is its code, without the old dotted prefix."""


def sqs_client(address: str, endpoint_url: str | None = None, region: str | None = None) -> Any:
    """A boto3 SQS client for the queue at `address`; credentials from boto3's own variables and files.

    The endpoint is the queue URL's own host unless given; so is the region, where the host names it. With three tries a
    refused connection is reported within 3 s, and a server that goes silent within 96 s.
    """
    import boto3
    from botocore.config import Config

    parts = urlsplit(address)
    session = boto3.session.Session()
    return session.client(
        "sqs",
        endpoint_url=endpoint_url or f"{parts.scheme}://{parts.netloc}",
        region_name=region or _region(parts.hostname or "") or session.region_name or "us-east-1",
        config=Config(
            max_pool_connections=32,  # as many as a replica has threads, with room to spare
            connect_timeout=5,
            read_timeout=POLL_S + 10,  # a long poll, and time for its answer
            retries={"mode": "standard", "total_max_attempts": 3},
        ),
    )


def queue_address(place: str, endpoint_url: str | None = None) -> str:
    """The queue's URL from what follows `sqs://`: `host/account/name`, or a whole URL. Raises ValueError."""
    scheme = "http" if (endpoint_url or "").startswith("http://") else "https"
    address = place if place.startswith(("http://", "https://")) else f"{scheme}://{place}"
    parts = urlsplit(address)
    name = parts.path.rpartition("/")[2]
    if not parts.hostname or parts.username or parts.query or parts.fragment or not name:
        raise ValueError(
            "queue.url is not sqs://host/account/name: the queue's URL as SQS shows it, with sqs:// for https://. "
            "Keys belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if name.endswith(".fifo"):
        raise ValueError("queue.url names a FIFO queue; S3 cannot send to those and order is not needed. Use standard.")
    return address


def _region(host: str) -> str | None:
    """`eu-west-1` of sqs.eu-west-1.amazonaws.com, FIPS and VPC endpoints and China included."""
    found = re.search(r"(?:^|\.)sqs(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?$", host)
    return found[1] if found else None


@contextmanager
def sqs_errors(action: str) -> Iterator[None]:
    """Turns boto3's errors into QueueUnavailable. `action` is a key of PERMISSIONS."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as exc:
        raise _refusal(action, int(exc.response["ResponseMetadata"].get("HTTPStatusCode", 0)), _code(exc)) from exc
    except NoCredentialsError as exc:
        message = "The queue has no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        raise QueueUnavailable(message, retry_after_s=REFUSED_RETRY_S) from exc
    except BotoCoreError as exc:
        log.warning("queue_unreachable action=%s error=%s", action, type(exc).__name__)
        raise QueueUnavailable("The queue did not answer. Try again.", retry_after_s=OUTAGE_RETRY_S) from exc


def _refusal(action: str, status: int, code: str) -> SqsRefused:
    """What an answered error means. The code names the reason and holds no secret; the server's text may."""
    log.warning("queue_refused action=%s status=%d code=%s", action, status, code)
    hint, retry_after_s = "Check queue.url, queue.region and the endpoint.", REFUSED_RETRY_S
    if status in (401, 403) or code.startswith("AccessDenied"):
        hint = f"Its credentials may be wrong, or lack {PERMISSIONS[action]}."
    elif status in (429, 500, 502, 503, 504) or code in ("OverLimit", "RequestThrottled"):
        hint, retry_after_s = "Try again.", OUTAGE_RETRY_S
    said = f"The queue refused to {action} ({status} {code}). {hint}"
    return SqsRefused(said, retry_after_s=retry_after_s, sqs_code=code)


def _code(exc: Any) -> str:
    return short_code(str(exc.response.get("Error", {}).get("Code", "")))


def short_code(code: str) -> str:
    """SQS's error code without its old prefix, as in AWS.SimpleQueueService.MessageNotInflight."""
    return code.rsplit(".", 1)[-1][:64]
