"""The keys file on disk: edited whole by the command line, looked at again and again by whoever lets callers in.

What it is not: it knows no key's form (keys.py).
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mattehorn.access.keys import Keyring, KeysDocument, encode_keys, parse_keys
from mattehorn.errors import MattehornError, OptionError

LOOK_EVERY_S = 1.0  # a look is one stat; a revoked key lives on so long, and as long as its requests take
_LOCK_S = 10.0  # an edit takes milliseconds

_log = logging.getLogger(__name__)

_Signature = tuple[int, int, int, int]


def read_keys(path: Path) -> KeysDocument:
    """Raises OSError; OptionError for a file that is damaged."""
    return parse_keys(path.read_bytes())


def edit_keys(path: Path, change: Callable[[KeysDocument], KeysDocument]) -> KeysDocument:
    """What `change` makes of the document (an empty one where there is no file) is in the file when this returns.

    One editor at a time; a reader finds the old file or the new one, whole, readable for its owner alone. The lock is a
    file beside it, `NAME.lock`, which stays. Raises OSError, OptionError, and what `change` does.
    """
    path = path.resolve()
    try:
        with FileLock(f"{path}.lock", timeout=_LOCK_S, mode=0o600):
            document = change(read_keys(path) if path.exists() else KeysDocument())
            _replace(path, encode_keys(document))
    except Timeout:
        raise OptionError(f"{path.name} is being edited by another program; try again.") from None
    return document


class KeysFile:
    """The keys as the file has them now. A file that cannot be read leaves those in force that were read last; from the
    start on, none."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.monotonic,
        log: logging.Logger = _log,
    ) -> None:
        self._path, self._clock, self._log = path, clock, log
        self._keyring = Keyring(KeysDocument())
        self._seen: _Signature | None = None
        self._missing = False
        self._looked = float("-inf")
        self._is_read = False

    def keyring(self) -> Keyring:
        """Looks at the file at most once a second."""
        now = self._clock()
        if now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._look()
        return self._keyring

    def read_keyring(self) -> Keyring | None:
        """As `keyring`; None while no file could be read since the start. For whom no limit is not no entry."""
        found = self.keyring()
        return found if self._is_read else None

    def _look(self) -> None:
        """A fault is logged once, not at every look."""
        try:
            signature = _signature(self._path)
        except OSError as error:
            if not self._missing:
                self._missing = True
                self._log.error("keys_file_unreadable reason=%s the keys read last stay in force", error.strerror)
            return
        if signature == self._seen and not self._missing:
            return
        self._seen, self._missing = signature, False
        try:
            self._keyring = Keyring(read_keys(self._path))
            self._is_read = True
        except (OSError, MattehornError) as error:
            reason = error.message if isinstance(error, MattehornError) else error.strerror
            self._log.error("keys_file_unreadable reason=%s the keys read last stay in force", reason)


def _signature(path: Path) -> _Signature:
    """What changes when the file does: another file in its place, or other bytes in this one."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _replace(path: Path, data: bytes) -> None:
    """Puts whole, synced bytes in the file's place, for the owner that it had."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():  # root edits what the service's user has to read
            owner = path.stat()
            with suppress(PermissionError):
                os.chown(temporary, owner.st_uid, owner.st_gid)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
