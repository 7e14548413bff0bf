"""The store's parts that need no server: the folder's own promises, URLs, addressing, and how S3Store answers a
scripted server. What every home has in common is in tests/s3/test_s3_store.py."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mattehorn.errors import StoreUnavailable
from mattehorn.settings import StoreSettings
from mattehorn.store.open import (
    LocalStore,
    S3Store,
    StoreKeyChanged,
    StoreKeyError,
    StoreKeyMissing,
    absolute_url,
    open_store,
    s3_client,
)

PNG = "image/png"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def local(root: Path) -> LocalStore:
    return LocalStore(root)


# ---- the folder ----


def test_exactly_one_of_sixteen_racing_creators_wins_and_its_bytes_stay(local: LocalStore) -> None:
    for round_number in range(10):
        key = f"race/{round_number}"
        start = threading.Barrier(16)

        def create(n: int, key: str = key, start: threading.Barrier = start) -> bool:
            start.wait()
            return local.put(key, bytes([n]) * 5000, create=True, content_type=PNG)

        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(create, range(16)))
        assert sum(won) == 1
        assert local.get(key) == bytes([won.index(True)]) * 5000


def test_an_object_is_a_plain_file_under_its_key(local: LocalStore, root: Path) -> None:
    local.put("outputs/商品/photo_matte.png", b"picture", content_type=PNG)
    assert (root / "outputs/商品/photo_matte.png").read_bytes() == b"picture"


def test_a_write_that_died_half_way_is_not_seen(local: LocalStore, root: Path) -> None:
    (root / ".tmp" / "0123abcd").write_bytes(b"half a pict")
    local.put("k", b"x", content_type=PNG)
    assert list(local.list("")) == ["k"]
    assert local.put("0123abcd", b"x", create=True, content_type=PNG)


def test_nothing_is_left_behind_by_writes_won_and_lost(local: LocalStore, root: Path) -> None:
    local.put("k", b"1", create=True, content_type=PNG)
    local.put("k", b"2", create=True, content_type=PNG)
    local.put("k", b"3", content_type=PNG)
    assert os.listdir(root / ".tmp") == []
    local.delete("k")
    assert sorted(os.listdir(root)) == [".meta", ".tmp"]
    assert [name for _, _, names in os.walk(root / ".meta") for name in names] == []


def test_a_file_put_into_the_folder_by_hand_is_an_object(local: LocalStore, root: Path) -> None:
    (root / "in").mkdir()
    (root / "in" / "photo.jpg").write_bytes(b"jpeg")
    assert list(local.list("in/")) == ["in/photo.jpg"]
    head = local.head("in/photo.jpg")
    assert head is not None
    assert (head.size, head.metadata, head.content_type) == (4, {}, "application/octet-stream")
    assert local.get("in/photo.jpg", if_match=head.etag) == b"jpeg"


@pytest.mark.parametrize("key", [".tmp/x", ".meta/x", ".tmp", "a//b", "a/", "./a", "a/./b", "n" * 256])
def test_a_key_that_a_folder_cannot_hold_is_refused(local: LocalStore, key: str) -> None:
    with pytest.raises(StoreKeyError):
        local.put(key, b"x", content_type=PNG)
    with pytest.raises(StoreKeyError):
        local.put(key, b"x", create=True, content_type=PNG)


@pytest.mark.parametrize("create", [True, False])
def test_a_key_cannot_lie_beside_keys_inside_it(local: LocalStore, create: bool) -> None:
    local.put("a/b", b"x", content_type=PNG)
    local.put("c", b"x", content_type=PNG)
    with pytest.raises(StoreKeyError, match="other keys begin with 'a/'"):
        local.put("a", b"y", create=create, content_type=PNG)
    for key in ("c/d", "c/d/e"):
        with pytest.raises(StoreKeyError, match="one of its folders is already stored"):
            local.put(key, b"y", create=create, content_type=PNG)
        assert local.head(key) is None
        with pytest.raises(StoreKeyMissing):
            local.get(key)
    assert list(local.list("")) == ["a/b", "c"]


def test_a_name_is_free_again_when_the_last_key_inside_it_is_deleted(local: LocalStore) -> None:
    local.put("a/b/c", b"x", content_type=PNG)
    local.delete("a/b/c")
    assert local.put("a", b"y", create=True, content_type=PNG)


def test_a_symbolic_link_is_neither_followed_nor_listed(local: LocalStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(b"secret")
    (root / "way").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret.txt")
    for key in ("way/secret.txt", "file"):
        for use in (local.get, local.head, local.delete):
            with pytest.raises(StoreKeyError, match="symbolic link"):
                use(key)
    for create in (True, False):
        with pytest.raises(StoreKeyError, match="symbolic link"):
            local.put("way/new", b"x", create=create, content_type=PNG)
    assert list(local.list("")) == []
    assert os.listdir(outside) == ["secret.txt"]


def test_a_root_that_is_itself_a_link_works(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    store = LocalStore(tmp_path / "link")
    assert store.put("a/b", b"x", create=True, content_type=PNG)
    assert store.get("a/b") == b"x"


def test_a_root_that_cannot_be_a_folder_is_unavailable_and_names_no_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((StoreUnavailable, StoreKeyError)) as refused:
        LocalStore(tmp_path / "file" / "inner")
    assert str(tmp_path) not in refused.value.message


@pytest.mark.parametrize("prefix", ["/", "../", "a/../../", "\0"])
def test_a_listing_cannot_climb_out(local: LocalStore, prefix: str) -> None:
    with pytest.raises(StoreKeyError):
        list(local.list(prefix))


def test_a_folder_has_no_urls(local: LocalStore) -> None:
    local.put("k", b"x", content_type=PNG)
    assert local.presign("k", 60) is None


# ---- opening ----


def test_a_relative_folder_is_made_absolute_where_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_url("file://./results") == f"file://{tmp_path}/results"
    assert absolute_url("file:///data/../results") == "file:///results"
    assert absolute_url("s3://bucket/prefix") == "s3://bucket/prefix"
    open_store(StoreSettings(url="file://./results")).put("k", b"x", content_type=PNG)
    assert (tmp_path / "results" / "k").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("results", "has no scheme; allowed are"),
        ("", "has no scheme; allowed are"),
        ("https://host/bucket", "begins with https://; allowed are"),
        ("gs://bucket", "begins with gs://; allowed are"),
        ("file://results", "write file:///dir"),
        ("file://~/results", "write file:///dir"),
        ("file://", "write file:///dir"),
        ("s3://", "3 to 63 letters"),
        ("s3://ab/prefix", "3 to 63 letters"),
        ("s3://bucket/a/../b", "holds '..'"),
    ],
)
def test_a_url_of_another_form_is_refused_and_says_what_is_allowed(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"store\.url") as refused:
        open_store(StoreSettings(url=url))
    assert said in str(refused.value)


@pytest.mark.parametrize("url", ["s3://AKIAKEY:hidden@bucket/prefix", "AKIAKEY:hidden"])
def test_a_secret_in_the_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"store\.url") as refused:
        open_store(StoreSettings(url=url))
    assert "hidden" not in str(refused.value)


def test_the_library_loads_no_boto3_until_a_bucket_is_opened(tmp_path: Path) -> None:
    program = (
        "import sys, mattehorn.store.results; from mattehorn.settings import StoreSettings; "
        "from mattehorn.store.open import open_store; "
        f"open_store(StoreSettings(url='file://{tmp_path}/s')); print('boto3' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize("kind", [StoreKeyError, StoreKeyMissing, StoreKeyChanged])
def test_the_stores_errors_cross_process_borders(kind: type[Exception]) -> None:
    copy = pickle.loads(pickle.dumps(kind("what came")))
    assert (type(copy), copy.message) == (kind, "what came")


# ---- the client ----


@pytest.mark.parametrize(
    ("endpoint", "style", "used", "checksums"),
    [
        (None, "auto", "auto", "when_supported"),
        ("https://s3.eu-west-1.amazonaws.com", "auto", "auto", "when_supported"),
        ("http://127.0.0.1:7080", "auto", "path", "when_required"),
        ("http://[::1]:7080", "auto", "path", "when_required"),
        ("http://localhost:7080", "auto", "path", "when_required"),
        ("http://swift:7080", "auto", "path", "when_required"),
        ("http://rgw.storage.svc:80", "auto", "path", "when_required"),
        ("https://oss-cn-hangzhou.aliyuncs.com", "auto", "auto", "when_required"),
        ("https://oss-cn-hangzhou.aliyuncs.com", "virtual", "virtual", "when_required"),
        ("http://127.0.0.1:7080", "virtual", "virtual", "when_required"),
        ("https://amazonaws.com.example.org", "path", "path", "when_required"),
    ],
)
def test_addressing_and_checksums_follow_from_the_endpoint(
    endpoint: str | None, style: Any, used: str, checksums: str
) -> None:
    client = s3_client(StoreSettings(url="s3://bucket", endpoint_url=endpoint, addressing_style=style))
    config = client.meta.config
    assert config.s3["addressing_style"] == used
    assert config.request_checksum_calculation == checksums
    assert config.response_checksum_validation == checksums
    assert (config.connect_timeout, config.read_timeout) == (5, 15)
    assert config.retries["mode"] == "standard"


# ---- S3Store against a scripted server ----


class ScriptedS3:
    """The calls of boto3's client that S3Store makes, over a dict. `refusals` are (call, status, code), used up
    in order; `conditional` says whether it honours If-None-Match, ignores it, or answers 501 to it."""

    def __init__(self, conditional: str = "honours", refusals: list[tuple[str, int, str]] | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self.conditional = conditional
        self.refusals = refusals or []
        self.calls: list[str] = []

    def put_object(self, Bucket: str, Key: str, Body: bytes, IfNoneMatch: str | None = None, **_: Any) -> None:
        self._called("put_object")
        if IfNoneMatch == "*" and self.conditional == "unknown":
            raise refusal(501, "NotImplemented")
        if IfNoneMatch == "*" and self.conditional == "honours" and Key in self.objects:
            raise refusal(412, "PreconditionFailed")
        self.objects[Key] = Body

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        self._called("head_object")
        if Key not in self.objects:
            raise refusal(404, "404")
        return {"ContentLength": len(self.objects[Key]), "ETag": '"tag"', "ContentType": PNG}

    def get_object(self, Bucket: str, Key: str, **_: Any) -> dict[str, Any]:
        self._called("get_object")
        if Key not in self.objects:
            raise refusal(404, "NoSuchKey")
        return {"Body": io.BytesIO(self.objects[Key]), "ETag": '"tag"'}

    def delete_object(self, Bucket: str, Key: str) -> None:
        self._called("delete_object")
        self.objects.pop(Key, None)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.refusals and self.refusals[0][0] == name:
            _, status, code = self.refusals.pop(0)
            raise refusal(status, code)


def refusal(status: int, code: str) -> Exception:
    from botocore.exceptions import ClientError

    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Any")


def probed(server: ScriptedS3) -> S3Store:
    """A store that has asked for conditional writes already, so that a test's script begins after the probe."""
    store = S3Store(server, "bucket", "p")
    store.create_mode()
    server.calls.clear()
    return store


@pytest.mark.parametrize(
    ("conditional", "mode"),
    [("honours", "native"), ("ignores", "head-then-put"), ("unknown", "head-then-put")],
)
def test_create_only_holds_in_sequence_whatever_the_server_knows(
    conditional: str, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = ScriptedS3(conditional)
    store = S3Store(server, "bucket", "p")
    assert store.put("k", b"first", create=True, content_type=PNG) is True
    assert store.put("k", b"second", create=True, content_type=PNG) is False
    assert server.objects == {"p/k": b"first"}
    assert store.create_mode() == mode
    assert ("head-then-put" in caplog.text) == (mode == "head-then-put")


def test_the_probe_runs_once(caplog: pytest.LogCaptureFixture) -> None:
    server = ScriptedS3()
    store = S3Store(server, "bucket", "p")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: store.create_mode(), range(16))) == {"native"}
    assert server.calls == ["put_object", "put_object", "delete_object"]


def test_a_probe_that_may_not_clean_up_still_counts() -> None:
    server = ScriptedS3(refusals=[("delete_object", 403, "AccessDenied")])
    assert S3Store(server, "bucket", "p").create_mode() == "native"
    assert len(server.objects) == 1


def test_a_probe_that_was_refused_is_asked_again_later() -> None:
    server = ScriptedS3(refusals=[("put_object", 403, "AccessDenied")])
    store = S3Store(server, "bucket", "p")
    with pytest.raises(StoreUnavailable, match="s3:PutObject"):
        store.put("k", b"x", create=True, content_type=PNG)
    assert store.put("k", b"x", create=True, content_type=PNG) is True
    assert store.create_mode() == "native"


def test_an_expired_token_is_not_taken_for_a_server_without_conditional_writes() -> None:
    refused = [("put_object", 400, "ExpiredToken"), ("put_object", 400, "ExpiredToken")]
    store = S3Store(ScriptedS3(refusals=refused), "bucket", "p")
    with pytest.raises(StoreUnavailable, match="ExpiredToken"):
        store.create_mode()
    assert store.create_mode() == "native"


def test_a_conflict_with_nothing_there_is_tried_again() -> None:
    server = ScriptedS3()
    store = probed(server)
    server.refusals = [("put_object", 409, "ConditionalRequestConflict")]
    assert store.put("k", b"x", create=True, content_type=PNG) is True
    assert server.calls == ["put_object", "head_object", "put_object"]


def test_a_conflict_that_never_ends_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ScriptedS3()
    store = probed(server)
    monkeypatch.setattr(S3Store, "CREATE_PAUSES_S", (0.0, 0.0, 0.0))
    server.refusals = [("put_object", 409, "ConditionalRequestConflict")] * 3
    with pytest.raises(StoreUnavailable, match="busy"):
        store.put("k", b"x", create=True, content_type=PNG)


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown"), (429, "TooManyRequests")])
def test_a_servers_own_trouble_is_unavailable_and_soon_worth_a_retry(status: int, code: str) -> None:
    store = S3Store(ScriptedS3(refusals=[("get_object", status, code)]), "bucket")
    with pytest.raises(StoreUnavailable, match=code) as trouble:
        store.get("k")
    assert trouble.value.retry_after_s == 5


def test_a_server_that_ignores_if_match_is_caught_by_the_etag_it_returns() -> None:
    server = ScriptedS3()
    server.objects["k"] = b"x"
    store = S3Store(server, "bucket")
    assert store.get("k", if_match="tag") == b"x"
    with pytest.raises(StoreKeyChanged):
        store.get("k", if_match="other")


def test_the_key_limit_counts_the_prefix() -> None:
    store = S3Store(ScriptedS3(), "bucket", "p" * 24)
    assert store.put("k" * 999, b"x", content_type=PNG)
    with pytest.raises(StoreKeyError, match="1025 bytes"):
        store.put("k" * 1000, b"x", content_type=PNG)
