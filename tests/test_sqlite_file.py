"""Where the embedded queue's file may lie, and which files it refuses, with their contents left alone."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mattehorn.queue.sqlite import SqliteQueue

NOBODY = 65534  # the user without rights


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


def opened(path: Path) -> SqliteQueue:
    return SqliteQueue(path, lease_s=60, max_receive=5)


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"notes, not a database\n" * 100)
    with pytest.raises(ValueError, match="is not a SQLite database"):
        opened(path)
    assert path.read_bytes() == b"notes, not a database\n" * 100


def test_somebody_elses_database_is_refused_and_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE notes(text)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match="something else"):
        opened(path)
    assert path.read_bytes() == before


def test_a_file_of_a_later_version_is_refused(path: Path) -> None:
    opened(path).close()
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 3")
    later.close()
    with pytest.raises(ValueError, match="form 3"):
        opened(path)


FORM_1 = """
CREATE TABLE msg(id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, body TEXT NOT NULL,
  visible_at REAL NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, receipt TEXT, reason TEXT, enqueued_at REAL NOT NULL);
CREATE INDEX msg_ready ON msg(queue, visible_at, id);
INSERT INTO msg(queue, body, visible_at, attempt, enqueued_at) VALUES ('bulk', 'waits', 0, 3, 0);
INSERT INTO msg(queue, body, visible_at, attempt, reason, enqueued_at) VALUES ('bulk.dead', 'dead', 0, 5, 'why', 0);
PRAGMA application_id = 0x4D485131;
PRAGMA user_version = 1;
"""


def test_a_file_of_the_first_version_keeps_its_messages(path: Path) -> None:
    old = sqlite3.connect(path)
    old.executescript(FORM_1)
    old.close()
    for _ in range(2):
        queue = opened(path)
        assert [(letter.body, letter.attempt, letter.reason) for letter in queue.dead_letters(5)] == [
            ("dead", 5, "why")
        ]
        queue.close()
    queue = opened(path)
    (message,) = queue.receive(5)
    assert (message.body, message.attempt, message.leases) == ("waits", 1, 4)
    assert queue.ack(message) is True
    queue.close()


def test_an_empty_file_becomes_a_queue(path: Path) -> None:
    path.touch()
    queue = opened(path)
    queue.send_many(["a"])
    assert len(queue.receive(1)) == 1
    queue.close()


def test_a_missing_folder_is_named_with_the_form_of_a_full_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder .*/none\. .*sqlite:////dir/file"):
        opened(tmp_path / "none" / "queue.db")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder"):
        opened(tmp_path)


def test_a_file_that_must_exist_is_not_made(path: Path) -> None:
    with pytest.raises(ValueError, match="There is no queue file"):
        SqliteQueue(path, lease_s=60, max_receive=5, must_exist=True)
    assert not path.exists()


@contextmanager
def plain_user_folder() -> Iterator[Path]:
    """A folder for a user whom file modes bind: root may write everywhere, so root steps aside for nobody."""
    with tempfile.TemporaryDirectory() as folder:
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            Path(folder).chmod(0o700)
            if is_root:
                os.seteuid(0)


def test_a_read_only_file_is_refused() -> None:
    with plain_user_folder() as folder:
        opened(folder / "queue.db").close()
        (folder / "queue.db").chmod(0o444)
        with pytest.raises(ValueError, match=r"file .*queue\.db is read-only"):
            opened(folder / "queue.db")


def test_a_read_only_folder_is_refused() -> None:
    with plain_user_folder() as folder:
        opened(folder / "queue.db").close()
        folder.chmod(0o500)
        for name in ("queue.db", "new.db"):
            with pytest.raises(ValueError, match=r"folder .* is read-only"):
                opened(folder / name)
