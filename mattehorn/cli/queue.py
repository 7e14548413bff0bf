"""`mattehorn dead-letters` and `mattehorn redrive`: what bulk work gave up, and another try for it.

Added to the command line by main.py, which turns errors into exit codes. Both work beside a running service.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mattehorn.cli import jobs as cli_jobs
from mattehorn.errors import OptionError
from mattehorn.queue.interface import DeadLetter, Queue
from mattehorn.queue.open import open_queue
from mattehorn.settings import QueueSettings

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_BODY_CHARS = 100  # of a message in the list for people; --json has all of it
_LOOK = 20  # dead letters of one look, as many as a terminal shows


def add_commands(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    dead = commands.add_parser(
        "dead-letters", help="what bulk work gave up", description="Lists messages that failed on every attempt."
    )
    dead.add_argument(
        "--limit", type=cli_jobs.positive, default=_LOOK, metavar="N", help=f"at most N (default: {_LOOK})"
    )
    dead.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    dead.set_defaults(command=_dead_letters)
    redrive = commands.add_parser(
        "redrive", help="try dead letters again", description="Gives dead letters a fresh set of attempts."
    )
    redrive.add_argument("--limit", type=cli_jobs.positive, metavar="N", help="at most N (default: all)")
    redrive.set_defaults(command=_redrive)
    for command in (dead, redrive):
        for flag, name in (("--queue", "url"), ("--endpoint-url", "endpoint_url"), ("--region", "region")):
            info = QueueSettings.model_fields[name]
            default = f" (default: {info.default})" if info.default else ""
            command.add_argument(
                flag, dest=name, default=info.default, metavar="VALUE", help=f"{info.description}{default}"
            )


def _dead_letters(parsed: argparse.Namespace) -> int:
    with _queue(parsed) as queue:
        letters = queue.dead_letters(parsed.limit)
        depth = queue.depth()
    if parsed.json:
        print(json.dumps({"depth": asdict(depth), "dead_letters": [_document(letter) for letter in letters]}))
        return 0
    for letter in letters:
        print(_line(letter))
    print(f"{depth.dead} dead letters, {depth.ready} messages ready, {depth.leased} leased or delayed.")
    return 0


def _redrive(parsed: argparse.Namespace) -> int:
    with _queue(parsed) as queue:
        print(f"{queue.redrive(parsed.limit)} dead letters are in the queue again.")
    return 0


@contextmanager
def _queue(parsed: argparse.Namespace) -> Iterator[Queue]:
    """The queue, opened beside the service's own workers; a SQLite file is not made here."""
    settings = QueueSettings(url=parsed.url, endpoint_url=parsed.endpoint_url, region=parsed.region)
    try:
        queue = open_queue(**settings.model_dump(), must_exist=True)
    except ValueError as exc:
        raise OptionError(f"--queue: {exc}", field="queue") from exc
    with closing(queue):
        yield queue


def _document(letter: DeadLetter) -> dict[str, object]:
    return {**asdict(letter), "enqueued_at": _time(letter)}


def _line(letter: DeadLetter) -> str:
    """One line; texts of others are JSON strings, so that they cannot steer a terminal."""
    body = letter.body if len(letter.body) <= _BODY_CHARS else f"{letter.body[:_BODY_CHARS]}…"
    reason = json.dumps(letter.reason, ensure_ascii=False) if letter.reason else "no reason kept"
    return f"{letter.id}  {_time(letter)}  {letter.attempt} attempts  {reason}  {json.dumps(body, ensure_ascii=False)}"


def _time(letter: DeadLetter) -> str:
    return datetime.fromtimestamp(letter.enqueued_at, UTC).isoformat(timespec="seconds")
