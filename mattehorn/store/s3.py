"""A bucket as a home of the store: S3Store, the boto3 client it talks through, and what the server's errors mean.

Opened by store.open_store() and store.open_bucket() for `s3://` URLs. boto3 is imported inside functions only, so that
nobody who keeps results in a folder waits for it.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal
from urllib.parse import quote, unquote, urlsplit

from mattehorn.errors import StoreUnavailable
from mattehorn.settings import StoreSettings
from mattehorn.store.interface import (
    DEFAULT_TYPE,
    KEY_BYTES,
    OUTAGE_RETRY_S,
    REFUSED_RETRY_S,
    Head,
    OpenObject,
    StoreKeyChanged,
    StoreKeyMissing,
    check_key,
)

log = logging.getLogger(__name__)

CreateMode = Literal["native", "head-then-put"]


class S3Store:
    """A bucket, all keys under `prefix`. One boto3 client, safe to share by threads.

    Create-only rests on `If-None-Match: *`, which some servers ignore: the first such put probes for it.
    """

    PERMISSIONS: ClassVar[Mapping[str, str]] = {
        "read": "s3:GetObject and s3:ListBucket",
        "write": "s3:PutObject",
        "delete": "s3:DeleteObject",
        "list": "s3:ListBucket",
    }
    # After 409 or 412 with no object to be seen: another writer is in the middle of its own.
    CREATE_PAUSES_S = (0.05, 0.2, 0.8)

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._mode: CreateMode | None = None
        self._mode_lock = threading.Lock()

    def head(self, key: str) -> Head | None:
        from botocore.exceptions import ClientError

        with _s3_errors("read"):
            try:
                answer = self._client.head_object(Bucket=self._bucket, Key=self._full(key))
            except ClientError as exc:
                if _status(exc) == 404:
                    return None
                raise
        return _head(key, answer)

    def get(self, key: str, if_match: str | None = None, version_id: str | None = None) -> bytes:
        with self.open(key, if_match, version_id) as opened:
            return opened.read()

    def open(self, key: str, if_match: str | None = None, version_id: str | None = None) -> OpenObject:
        from botocore.exceptions import ClientError

        fields = {"Bucket": self._bucket, "Key": self._full(key)}
        if if_match is not None:
            fields["IfMatch"] = f'"{if_match}"'
        if version_id is not None:
            fields["VersionId"] = version_id
        changed = StoreKeyChanged(f"{key!r} was changed since its etag was read.")
        with _s3_errors("read"):
            try:
                answer = self._client.get_object(**fields)
            except ClientError as exc:
                if _status(exc) == 412:
                    raise changed from exc
                if _status(exc) == 404 and _code(exc) != "NoSuchBucket":
                    raise StoreKeyMissing(f"Nothing is stored under {key!r}.") from exc
                raise
        head = _head(key, answer)
        if if_match not in (None, head.etag):  # some servers ignore If-Match
            answer["Body"].close()
            raise changed
        return OpenObject(head, answer["Body"], lambda: _s3_errors("read"))

    def put(
        self,
        key: str,
        data: bytes,
        *,
        create: bool = False,
        content_type: str,
        metadata: Mapping[str, str] = {},
    ) -> bool:
        fields = {
            "Bucket": self._bucket,
            "Key": self._full(key),
            "Body": data,
            "ContentType": content_type,
            # Metadata travels as HTTP headers: ASCII only, and outer blanks would be lost.
            "Metadata": {name.lower(): quote(value, safe="/:@+=,") for name, value in metadata.items()},
        }
        if create and self.create_mode(near=key) == "native":
            return self._create(key, fields)
        if create and self.head(key) is not None:
            return False
        with _s3_errors("write"):
            self._client.put_object(**fields)
        return True

    def delete(self, key: str) -> None:
        with _s3_errors("delete"):
            self._client.delete_object(Bucket=self._bucket, Key=self._full(key))

    def list(self, prefix: str, start_after: str | None = None) -> Iterator[str]:
        fields = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        if start_after:
            fields["StartAfter"] = self._prefix + start_after
        with _s3_errors("list"):
            for page in self._client.get_paginator("list_objects_v2").paginate(**fields):
                for entry in page.get("Contents", ()):
                    yield entry["Key"].removeprefix(self._prefix)

    def folders(self, prefix: str, start_after: str | None = None) -> Iterator[str]:
        base = self._prefix + prefix
        fields = {"Bucket": self._bucket, "Prefix": base, "Delimiter": "/"}
        if start_after:
            fields["StartAfter"] = f"{base}{start_after}/"
        with _s3_errors("list"):
            for page in self._client.get_paginator("list_objects_v2").paginate(**fields):
                for entry in page.get("CommonPrefixes", ()):
                    name = entry["Prefix"].removeprefix(base).removesuffix("/")
                    if name > (start_after or ""):  # servers differ in whether a folder begins after itself
                        yield name

    def presign(self, key: str, expires_s: int) -> str | None:
        """The home signs without asking the server, so the URL of a missing key is given too."""
        with _s3_errors("read"):
            url: str = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": self._full(key)}, ExpiresIn=expires_s
            )
        return url

    def create_mode(self, near: str = "") -> CreateMode:
        """How create-only puts work here; asks the server once. `head-then-put` lets racers overwrite.

        The probe lies in the folder of the key `near`: rights, and filters of notifications, may end at a prefix.
        """
        with self._mode_lock:
            if self._mode is None:
                self._mode = self._probe(near.rpartition("/")[0])
            return self._mode

    def _full(self, key: str) -> str:
        return check_key(self._prefix + check_key(key))

    def _create(self, key: str, fields: dict[str, Any]) -> bool:
        for pause_s in self.CREATE_PAUSES_S:
            with _s3_errors("write"):
                if self._put_if_absent(fields):
                    return True
            if self.head(key) is not None:
                return False
            time.sleep(pause_s)
        raise StoreUnavailable("The results store is busy with this key. Try again.", retry_after_s=OUTAGE_RETRY_S)

    def _put_if_absent(self, fields: dict[str, Any]) -> bool:
        """False for 412, and for the 409 with which AWS answers racing writers. Raises ClientError."""
        from botocore.exceptions import ClientError

        try:
            self._client.put_object(**fields, IfNoneMatch="*")
        except ClientError as exc:
            if _status(exc) in (409, 412):
                return False
            raise
        return True

    def _probe(self, folder: str) -> CreateMode:
        """Creates a random key twice: native when the second is refused, which does not prove it atomic."""
        from botocore.exceptions import ClientError

        name = f".probe/{secrets.token_hex(16)}"
        while len(f"{self._prefix}{folder}/{name}".encode()) > KEY_BYTES:
            folder = folder.rpartition("/")[0]
        key = f"{folder}/{name}" if folder else name
        fields = {"Bucket": self._bucket, "Key": self._full(key), "Body": b""}
        with _s3_errors("write"):
            try:
                self._put_if_absent(fields)
                second_won = self._put_if_absent(fields)
            except ClientError as exc:
                if _status(exc) not in (400, 501):  # how servers say that they do not know the header
                    raise
                self._client.put_object(**fields)  # raises when the 400 was about something else
                second_won = True
        try:
            self.delete(key)
        except StoreUnavailable as exc:  # the right to delete is not needed for anything else
            log.info("store_probe_left_behind key=%s reason=%s", key, exc.message)
        if second_won:
            log.warning("store_create_mode mode=head-then-put: the server ignores If-None-Match on PUT")
        return "head-then-put" if second_won else "native"


def s3_client(
    settings: StoreSettings, *, connect_timeout_s: float = 5, read_timeout_s: float = 15, attempts: int = 3
) -> Any:
    """A boto3 S3 client for AWS or any other endpoint; credentials from boto3's own variables and files.

    `attempts` count the first try; boto3 waits up to 1 and 2 s between. So a refused connection is
    reported within 3 s, an address that never answers in 18 s, and a silent server in 48 s, while a request ends at its
    own deadline: a longer patience would only hold its thread.
    """
    import boto3
    from botocore.config import Config

    host = urlsplit(settings.endpoint_url).hostname or "" if settings.endpoint_url else ""
    is_aws = not host or host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    # The newer default adds a CRC trailer that Alibaba OSS refuses and that breaks range reads on rclone.
    checksums: Literal["when_supported", "when_required"] = "when_supported" if is_aws else "when_required"
    style = settings.addressing_style
    if style == "auto" and _has_no_subdomains(host):
        style = "path"
    session = boto3.session.Session()
    return session.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region or session.region_name or "us-east-1",
        config=Config(
            signature_version="s3v4",
            max_pool_connections=32,  # as many as a replica has threads, with room to spare
            connect_timeout=connect_timeout_s,
            read_timeout=read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": attempts},
            s3={"addressing_style": style},
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
        ),
    )


def _has_no_subdomains(host: str) -> bool:
    """True where `bucket.host` will not resolve: addresses, names without a dot, names inside a cluster."""
    if not host:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".svc", ".internal"))
    return True


@contextmanager
def _s3_errors(action: str) -> Iterator[None]:
    """Turns boto3's errors into StoreUnavailable. `action` is a key of S3Store.PERMISSIONS."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as exc:
        raise _refusal(action, _status(exc), _code(exc)) from exc
    except NoCredentialsError as exc:
        message = "The results store has no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        raise StoreUnavailable(message, retry_after_s=REFUSED_RETRY_S) from exc
    except BotoCoreError as exc:
        log.warning("store_unreachable action=%s error=%s", action, type(exc).__name__)
        raise StoreUnavailable("The results store did not answer. Try again.", retry_after_s=OUTAGE_RETRY_S) from exc


def _refusal(action: str, status: int, code: str) -> StoreUnavailable:
    """What an answered error means. The code names the reason and holds no secret; the server's text may."""
    log.warning("store_refused action=%s status=%d code=%s", action, status, code)
    said = f"The results store refused to {action} ({status} {code})."
    if status in (401, 403):
        hint = f"Its credentials may be wrong, or lack {S3Store.PERMISSIONS[action]}."
        return StoreUnavailable(f"{said} {hint}", retry_after_s=REFUSED_RETRY_S)
    if status in (429, 500, 502, 503, 504):
        return StoreUnavailable(f"{said} Try again.", retry_after_s=OUTAGE_RETRY_S)
    return StoreUnavailable(f"{said} Check the bucket's name, region and endpoint.", retry_after_s=REFUSED_RETRY_S)


def _head(key: str, answer: Mapping[str, Any]) -> Head:
    """What boto3's answer to HEAD or GET says of the object."""
    metadata = {name.lower(): unquote(value) for name, value in answer.get("Metadata", {}).items()}
    version = answer.get("VersionId")
    return Head(
        key,
        answer.get("ContentLength", 0),
        answer["ETag"].strip('"'),
        metadata,
        answer.get("ContentType", DEFAULT_TYPE),
        None if version in (None, "", "null") else str(version),  # "null": from before versioning, may be overwritten
    )


def _status(exc: Any) -> int:
    """The HTTP status of a botocore ClientError."""
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(exc: Any) -> str:
    """S3's error code, such as NoSuchBucket; the status again where a HEAD answer has no body."""
    return str(exc.response.get("Error", {}).get("Code", ""))[:64]
