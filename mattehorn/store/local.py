"""The results store in a folder: the embedded default, for one machine or a shared disk with hard links.

Opened by store.open_store() for `file://` URLs. Layout below the root: objects under their keys as plain
files that anyone can open, `.meta/` with one note per object, `.tmp/` with writes under way.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mattehorn.errors import MattehornError, StoreUnavailable
from mattehorn.store.interface import (
    DEFAULT_TYPE,
    OUTAGE_RETRY_S,
    REFUSED_RETRY_S,
    Head,
    OpenObject,
    StoreKeyChanged,
    StoreKeyError,
    StoreKeyMissing,
    check_key,
)


class LocalStore:
    """A folder. Bytes go to `.tmp/`, are synced, then linked to their name, so a crash leaves no half object.

    Metadata lies beside, in `.meta/`, written by the winner after the object: it may be missing for a moment, and
    stays so after a crash at that point. Nothing may rest on it.
    Leftovers in `.tmp/` are never read and may be deleted while nothing runs. Needs a file system with hard
    links. Symbolic links below the root are refused and not listed.
    """

    RESERVED = (".tmp", ".meta")

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._temp = self._root / ".tmp"
        self._meta = self._root / ".meta"
        with _disk_errors(""):
            self._temp.mkdir(parents=True, exist_ok=True)
            self._meta.mkdir(exist_ok=True)

    def head(self, key: str) -> Head | None:
        path = self._path(key)
        with _disk_errors(key):
            if not path.is_file():
                return None
            try:
                stat = path.stat()
            except FileNotFoundError:  # deleted in between
                return None
            note = self._read_note(key)
        return Head(key, stat.st_size, _etag(stat), note["metadata"], note["content_type"])

    def get(self, key: str, if_match: str | None = None, version_id: str | None = None) -> bytes:
        with self.open(key, if_match, version_id) as opened:
            return opened.read()

    def open(self, key: str, if_match: str | None = None, version_id: str | None = None) -> OpenObject:
        path = self._path(key)
        try:
            file = path.open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as exc:
            raise StoreKeyMissing(f"Nothing is stored under {key!r}.") from exc
        except OSError as exc:
            raise _disk_error(exc, key) from exc
        try:
            return self._opened(key, file, if_match)
        except BaseException:
            file.close()
            raise

    def _opened(self, key: str, file: BinaryIO, if_match: str | None) -> OpenObject:
        """`check`: our own writes replace whole files, but another program may write into one while it is read."""

        def check(etag: str | None) -> None:
            if etag not in (None, _etag(os.fstat(file.fileno()))):
                raise StoreKeyChanged(f"{key!r} was changed since its etag was read.")

        with _disk_errors(key):
            check(if_match)
            stat = os.fstat(file.fileno())
            note = self._read_note(key)
        head = Head(key, stat.st_size, _etag(stat), note["metadata"], note["content_type"])
        return OpenObject(head, file, lambda: _disk_errors(key), lambda: check(head.etag))

    def put(
        self,
        key: str,
        data: bytes,
        *,
        create: bool = False,
        content_type: str,
        metadata: Mapping[str, str] = {},
    ) -> bool:
        path = self._path(key)
        with _disk_errors(key):
            if path.is_dir():
                raise StoreKeyError(f"{key!r} cannot be stored: other keys begin with {key + '/'!r}.")
            if create and path.exists():
                return False
            note = {
                "key": key,
                "content_type": content_type,
                "metadata": {k.lower(): v for k, v in metadata.items()},
            }
            if not self._place(data, path, create=create):
                return False
            return self._place(json.dumps(note, ensure_ascii=False).encode(), self._note_path(key), create=False)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _disk_errors(key):
            if path.is_file():
                path.unlink(missing_ok=True)
                self._note_path(key).unlink(missing_ok=True)
                self._prune(path.parent)

    def list(self, prefix: str, start_after: str | None = None) -> Iterator[str]:
        if prefix:
            check_key(prefix)
        with _disk_errors(prefix):
            yield from self._walk(self._root, "", prefix, start_after or "")

    def folders(self, prefix: str, start_after: str | None = None) -> Iterator[str]:
        folder = self._path(prefix.rstrip("/")) if prefix else self._root
        with _disk_errors(prefix):
            try:
                names = [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
            except (FileNotFoundError, NotADirectoryError):
                return
        for name in sorted(name + "/" for name in names if _is_text(name)):  # S3 sorts them with their slash
            if name[:-1] not in self.RESERVED and name[:-1] > (start_after or ""):
                yield name[:-1]

    def presign(self, key: str, expires_s: int) -> str | None:
        return None

    def _path(self, key: str) -> Path:
        parts = check_key(key).split("/")
        if "" in parts or "." in parts or parts[0] in self.RESERVED:
            raise StoreKeyError(f"The storage key {key!r} has an empty or '.' part, or begins with {self.RESERVED}.")
        path = self._root.joinpath(*parts)
        with _disk_errors(key):
            if path.resolve() != path:
                raise StoreKeyError(f"The storage key {key!r} leads through a symbolic link, which is not followed.")
        return path

    def _note_path(self, key: str) -> Path:
        """Named by hash: a key may fill a whole file name, and `a.json/b` must not meet the note of `a`."""
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._meta / name[:2] / f"{name}.json"

    def _read_note(self, key: str) -> dict[str, Any]:
        """A file that was put here by other means has no note."""
        try:
            note: dict[str, Any] = json.loads(self._note_path(key).read_bytes())
        except FileNotFoundError:
            return {"metadata": {}, "content_type": DEFAULT_TYPE}
        return note

    def _place(self, data: bytes, path: Path, *, create: bool) -> bool:
        """Puts whole, synced bytes under `path`; False when `create` and it exists."""
        temp = self._temp / secrets.token_hex(16)
        try:
            with temp.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            for _ in range(3):  # delete() may prune the empty folder between the two steps
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    (os.link if create else os.replace)(temp, path)
                except FileNotFoundError:
                    continue
                except FileExistsError:
                    if path.is_dir():
                        raise
                    return False
                _sync_folder(path.parent)
                return True
            raise StoreUnavailable("The results folder keeps changing. Try again.", retry_after_s=OUTAGE_RETRY_S)
        finally:
            temp.unlink(missing_ok=True)

    def _prune(self, folder: Path) -> None:
        """Removes folders that a delete left empty, so that `a` can be stored where `a/b` was."""
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone: both end the climb
                return
            folder = folder.parent

    def _walk(self, folder: Path, base: str, prefix: str, after: str) -> Iterator[str]:
        """S3's order: a folder sorts as its name plus `/`. Text order is UTF-8 byte order in Python."""
        try:
            entries = {e.name + "/" if e.is_dir(follow_symlinks=False) else e.name: e for e in os.scandir(folder)}
        except FileNotFoundError:  # pruned in between
            return
        for name, entry in sorted(entries.items()):
            key = base + name
            if not _is_text(key):  # a foreign file whose name is not UTF-8 has no key
                continue
            if key.endswith("/"):
                inside = key.startswith(prefix) or prefix.startswith(key)
                passed = key < after and not after.startswith(key)
                if inside and not passed and key[:-1] not in self.RESERVED:
                    yield from self._walk(Path(entry.path), key, prefix, after)
            elif entry.is_file(follow_symlinks=False) and key.startswith(prefix) and key > after:
                yield key


def _etag(stat: os.stat_result) -> str:
    return f"{stat.st_size:x}-{stat.st_mtime_ns:x}"


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _sync_folder(folder: Path) -> None:
    """Makes a new name in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _disk_errors(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _disk_error(exc, key) from exc


def _disk_error(exc: OSError, key: str) -> MattehornError:
    """The key's fault, for good; or the disk's, to be tried again. Names no path."""
    if exc.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
        return StoreKeyError(f"{key!r} cannot be stored: one of its folders is already stored as an object.")
    if exc.errno == errno.ENAMETOOLONG:
        return StoreKeyError("A part of the storage key is too long for this disk. Use a shorter name.")
    reason = os.strerror(exc.errno) if exc.errno else "unknown error"
    return StoreUnavailable(f"The results folder failed: {reason}.", retry_after_s=REFUSED_RETRY_S)
