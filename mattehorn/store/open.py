"""Where results are kept and where bulk work reads its photos: a folder (`file://`) or a bucket (`s3://`). Opened here.

What it is not: it knows nothing of pictures, result ids or key templates (results.py), and it has no
database. Opened once per process by compose, ingress and the bulk worker; threads may share an opened store.
Every call blocks, so an event loop runs it in a thread. boto3 is imported for `s3://` only.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mattehorn.settings import StoreSettings
from mattehorn.store.interface import (
    Head,
    OpenObject,
    Store,
    StoreKeyChanged,
    StoreKeyError,
    StoreKeyMissing,
    check_key,
)
from mattehorn.store.local import LocalStore
from mattehorn.store.s3 import S3Store, s3_client

__all__ = [
    "Head",
    "LocalStore",
    "OpenObject",
    "S3Store",
    "Store",
    "StoreKeyChanged",
    "StoreKeyError",
    "StoreKeyMissing",
    "absolute_url",
    "bucket_and_key",
    "check_key",
    "open_bucket",
    "open_store",
    "s3_client",
]


def open_store(settings: StoreSettings) -> Store:
    """The store that `settings.url` names. Raises ValueError for a URL of another form."""
    url = settings.url
    if url.startswith("file://"):
        return LocalStore(Path(absolute_url(url).removeprefix("file://")))
    if url.startswith("s3://"):
        bucket, prefix = _bucket_and_prefix(url)
        return S3Store(s3_client(settings), bucket, prefix)
    scheme, found, _ = url.partition("://")  # the rest is not repeated: somebody may have put a secret into it
    came = f"begins with {scheme}://" if found else "has no scheme"
    raise ValueError(f"store.url {came}; allowed are file:///dir, file://./dir and s3://bucket/prefix.")


def open_bucket(bucket: str, settings: StoreSettings, **patience: Any) -> Store:
    """A whole bucket at the results store's endpoint and with its credentials; `""` is the results folder. `patience`
    is s3_client's.

    Raises ValueError where `settings.url` is no folder and `bucket` is empty, or is no bucket's name.
    """
    if bucket:
        return S3Store(s3_client(settings, **patience), _check_bucket(bucket))
    if not settings.url.startswith("file://"):
        raise ValueError("Only a results folder can be read without a bucket's name; write s3://bucket/key.")
    return open_store(settings)


def bucket_and_key(url: str, settings: StoreSettings) -> tuple[str, str]:
    """(bucket, key or key prefix) of `s3://bucket/key`, or ("", key) of a `file://` URL under the results folder.

    Keys are taken as they stand, without URL-decoding. Raises ValueError that says what is allowed.
    """
    if url.startswith("s3://"):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        return _check_bucket(bucket), key
    if url.startswith("file://") and settings.url.startswith("file://"):
        root = absolute_url(settings.url).removeprefix("file://")
        path = url.removeprefix("file://")
        inside = os.path.relpath(os.path.realpath(path), os.path.realpath(root)) if path.startswith("/") else ".."
        if inside.split(os.sep)[0] != os.pardir:
            slash = "/" if path.endswith("/") and inside != "." else ""
            return "", "" if inside == "." else inside.replace(os.sep, "/") + slash
        raise ValueError(f"{url[:200]!r} lies outside the results folder; a file:// URL names a full path inside it.")
    allowed = " or a file:// URL under the results folder" if settings.url.startswith("file://") else ""
    raise ValueError(f"{url[:200]!r} was given; allowed is s3://bucket/key{allowed}.")


def absolute_url(url: str) -> str:
    """`url` with a relative `file://./dir` made absolute against this process's folder, other URLs unchanged.

    For the process that starts workers, whose own working folder may differ.
    """
    if not url.startswith("file://"):
        return url
    place = url.removeprefix("file://")
    if not (place.startswith("/") or place in (".", "..") or place.startswith(("./", "../"))):
        raise ValueError(f"store.url is {url!r}; write file:///dir for a full path or file://./dir for one from here.")
    return "file://" + os.path.abspath(place)


def _check_bucket(bucket: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", bucket):
        raise ValueError(f"{bucket[:80]!r} is no bucket's name: 3 to 63 letters, digits, dots or hyphens.")
    return bucket


def _bucket_and_prefix(url: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    try:
        _check_bucket(bucket)
    except ValueError:  # not repeated: somebody may have put a secret into the URL
        raise ValueError(
            "store.url is not s3://bucket/prefix; a bucket has 3 to 63 letters, digits, dots or hyphens. "
            "The endpoint belongs in store.endpoint_url, keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from None
    prefix = prefix.strip("/")
    try:
        return bucket, check_key(prefix) if prefix else ""
    except StoreKeyError as exc:
        raise ValueError(f"store.url: {exc.message}") from exc
