"""Opens the queue that a URL names: a SQLite file (`sqlite:///file`) or an SQS queue (`sqs://host/account/name`).

What it is not: it knows nothing of what the messages say. Called by the webhook, the bulk worker and the commands
`dead-letters` and `redrive`. boto3 is imported for `sqs://` only.
"""

from __future__ import annotations

import os
from pathlib import Path

from mattehorn.queue.interface import Queue
from mattehorn.queue.sqlite import SqliteQueue
from mattehorn.queue.sqs import SqsQueue
from mattehorn.queue.sqs_client import queue_address, sqs_client

__all__ = ["absolute_queue_url", "open_queue"]

_SQLITE = "sqlite:///"
_SQS = "sqs://"
_FORMS = "allowed are sqlite:///file, sqlite:////full/path/file and sqs://sqs.REGION.amazonaws.com/ACCOUNT/NAME"


def open_queue(
    url: str,
    *,
    lease_s: float,
    max_receive: int,
    endpoint_url: str | None = None,
    region: str | None = None,
    must_exist: bool = False,
) -> Queue:
    """The queue behind `url`; the arguments are the fields of QueueSettings, so `**settings.queue.model_dump()` fits.

    `max_receive` counts failures for SQLite; SQS counts receives, by its own redrive policy. A SQLite file is made
    unless `must_exist`. SQS is not asked anything yet. Raises ValueError for a URL or a file that cannot work,
    QueueUnavailable for a file that another process keeps locked.
    """
    if url.startswith(_SQLITE):
        return SqliteQueue(_file(url), lease_s=lease_s, max_receive=max_receive, must_exist=must_exist)
    if url.startswith(_SQS):
        address = queue_address(url.removeprefix(_SQS), endpoint_url)
        return SqsQueue(sqs_client(address, endpoint_url, region), address, lease_s=lease_s)
    raise ValueError(_wrong_form(url))


def absolute_queue_url(url: str) -> str:
    """`url` with a relative SQLite file made absolute against this process's folder, other URLs unchanged.

    For the process that starts workers, whose own working folder may differ.
    """
    return f"{_SQLITE}{_file(url)}" if url.startswith(_SQLITE) else url


def _file(url: str) -> Path:
    """The file's full path: what follows the third slash, relative to the working folder unless it begins with one."""
    name = url.removeprefix(_SQLITE)
    if not name or name.endswith("/") or "\0" in name:
        raise ValueError(f"queue.url names no file; {_FORMS}.")
    return Path(os.path.abspath(name))


def _wrong_form(url: str) -> str:
    scheme, found, _ = url.partition("://")  # the rest is not repeated: somebody may have put a secret into it
    came = f"begins with {scheme}://" if found else "has no scheme"
    if scheme == "sqlite":
        came += " and two slashes, not three"
    return f"queue.url {came}; {_FORMS}."
