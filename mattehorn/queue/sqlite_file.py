"""The file under SqliteQueue: where it may lie, how it is made and opened, what SQLite's errors mean.

Called by sqlite_queue.py only. Any number of processes may open a new file at the same moment.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mattehorn.errors import QueueUnavailable
from mattehorn.queue.interface import OUTAGE_RETRY_S, REFUSED_RETRY_S

log = logging.getLogger(__name__)

_APPLICATION = 0x4D485131  # "MHQ1" in the file's header, so that nobody's other database is taken for a queue
_VERSION = 2  # of the table's form; 1 counted failures and lost leases as one
_BUSY_S = 30.0  # the longest wait for another process's write, all of which take milliseconds
_MAKING_S = 0.02  # about as long as another process holds the file while it makes it
_OLDEST_SQLITE = (3, 35)  # the first with RETURNING

_SCHEMA = f"""
CREATE TABLE msg(
  id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, so that logs name one message
  queue TEXT NOT NULL,
  body TEXT NOT NULL,
  visible_at REAL NOT NULL,
  leases INTEGER NOT NULL DEFAULT 0,  -- since it was sent or last failed
  failures INTEGER NOT NULL DEFAULT 0,
  receipt TEXT,
  reason TEXT,
  enqueued_at REAL NOT NULL
);
CREATE INDEX msg_ready ON msg(queue, visible_at, id);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
"""
_FROM_1 = """
ALTER TABLE msg RENAME COLUMN attempt TO leases;
ALTER TABLE msg ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 2;
"""


def check_place(path: Path, must_exist: bool) -> None:
    """Raises ValueError where the file, or the two that WAL puts beside it, cannot be written."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ValueError(f"SQLite is {sqlite3.sqlite_version}; the queue needs 3.35 or newer.")
    if path.is_dir():
        raise ValueError(f"queue.url names {path}, which is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise ValueError(
            f"queue.url names {path}, and there is no folder {path.parent}. Make it; or, since sqlite:///file "
            "is relative to the working folder, write sqlite:////dir/file for a full path."
        )
    if not path.exists():
        if must_exist:
            raise ValueError(f"There is no queue file {path}. Name the one that the service uses.")
    elif not _may_write(path):
        raise ValueError(f"The queue file {path} is read-only for this user. Give it the right to write.")
    if not _may_write(path.parent):
        raise ValueError(f"The folder {path.parent} is read-only for this user; SQLite writes beside the queue file.")


def _may_write(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def open_file(path: Path) -> sqlite3.Connection:
    """A connection to a file that has our table and is in WAL mode, whoever else is making it at this moment."""
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    until = time.monotonic() + _BUSY_S
    try:
        while not _prepare(db, path):
            if time.monotonic() > until:
                raise QueueUnavailable("The queue file stays locked. Try again.", retry_after_s=OUTAGE_RETRY_S)
            time.sleep(_MAKING_S)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> bool:
    """False when another process was in the way: SQLite does not wait for the lock that the change to WAL needs."""
    try:
        if _application(db) != _APPLICATION:
            _create(db, path)
        if _version(db) == 1:
            _bring_up(db)
        if (version := _version(db)) != _VERSION:
            raise ValueError(f"The queue file {path} has form {version}; this version of Mattehorn knows {_VERSION}.")
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        db.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error as exc:
        kind = _kind(exc)
        if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return False
        if kind == sqlite3.SQLITE_NOTADB:
            raise ValueError(f"{path} is not a SQLite database. Name another file for the queue.") from exc
        raise ValueError(f"The queue file {path} cannot be opened: {exc} ({_name(exc)}).") from exc
    return bool(mode == "wal")


def _application(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA application_id").fetchone()[0])


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _create(db: sqlite3.Connection, path: Path) -> None:
    """Makes the table in an empty file, unless another process has just done so. Raises ValueError for other files."""
    with _alone(db):
        if _application(db) == _APPLICATION:
            return
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise ValueError(f"{path} is a SQLite database of something else. Name another file for the queue.")
        _execute(db, _SCHEMA)


def _bring_up(db: sqlite3.Connection) -> None:
    """Gives a file of form 1 the present form, unless another process has just done so."""
    with _alone(db):
        if _version(db) == 1:
            _execute(db, _FROM_1)


@contextmanager
def _alone(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _execute(db: sqlite3.Connection, script: str) -> None:
    """executescript would end the transaction."""
    for statement in script.split(";\n"):
        db.execute(statement)


@contextmanager
def sqlite_errors(action: str) -> Iterator[None]:
    """Turns SQLite's errors into QueueUnavailable. Paths go to the log, not to the caller."""
    try:
        yield
    except sqlite3.Error as exc:
        log.warning("queue_failed action=%r error=%s message=%s", action, _name(exc), exc)
        if _kind(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise QueueUnavailable("The queue is busy. Try again.", retry_after_s=OUTAGE_RETRY_S) from exc
        message = f"The queue could not {action} ({_name(exc)}). Its disk may be full or broken."
        raise QueueUnavailable(message, retry_after_s=REFUSED_RETRY_S) from exc


def _kind(exc: sqlite3.Error) -> int:
    """SQLite's primary code: the low byte of an extended one; 0 for errors of the Python module itself."""
    return int(getattr(exc, "sqlite_errorcode", 0)) & 0xFF


def _name(exc: sqlite3.Error) -> str:
    return str(getattr(exc, "sqlite_errorname", type(exc).__name__))
