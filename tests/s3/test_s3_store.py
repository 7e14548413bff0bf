"""One behaviour for every home of the store: a folder (fast), moto and a real Swift server (marked s3)."""

from __future__ import annotations

import dataclasses
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mattehorn.errors import ResultNotFound, StoreUnavailable
from mattehorn.ports import free_ports
from mattehorn.settings import StoreSettings
from mattehorn.store.history import Search, page
from mattehorn.store.open import (
    S3Store,
    Store,
    StoreKeyChanged,
    StoreKeyError,
    StoreKeyMissing,
    open_store,
    s3_client,
)
from mattehorn.store.records import StoredResult, load_result, record_key
from mattehorn.store.removal import remove_result
from mattehorn.store.results import load_alpha, load_image, load_source, save_result

from .conftest import BUCKET, SetKeys, settings_for
from .swift import S3Server

PNG = "image/png"
NOW = datetime(2026, 3, 4, 5, 6, 7, 123000, tzinfo=UTC)
HARD_KEYS = [
    "plain.png",
    "a folder/two words.png",
    "plus+and=and&.png",
    "percent%20and%2F.png",
    "商品/红色 连衣裙_matte.png",
    "emoji-\U0001f98a.png",
    "quote'\"and<angle>.png",
    "hash#question?.png",
    "k" * 200 + "/" + "l" * 200,
]


@pytest.fixture(
    params=["local", pytest.param("moto", marks=pytest.mark.s3), pytest.param("swift", marks=pytest.mark.s3)]
)
def store(request: pytest.FixtureRequest, tmp_path: Path, set_keys: SetKeys) -> Store:
    if request.param == "local":
        return open_store(StoreSettings(url=f"file://{tmp_path}/store"))
    server: S3Server = request.getfixturevalue(f"{request.param}_s3")
    set_keys(server)
    return open_store(settings_for(server))


@pytest.mark.parametrize("key", HARD_KEYS)
def test_what_is_put_comes_back_equal_and_is_listed_by_its_own_name(store: Store, key: str) -> None:
    data = bytes(range(256)) * 40
    assert store.put(key, data, create=True, content_type=PNG)
    assert store.get(key) == data
    assert list(store.list("")) == [key]
    head = store.head(key)
    assert head is not None
    assert (head.key, head.size, head.content_type) == (key, len(data), PNG)
    assert head.etag
    assert '"' not in head.etag


def test_a_second_create_says_false_and_keeps_the_first(store: Store) -> None:
    assert store.put("k/photo.png", b"first", create=True, content_type=PNG) is True
    assert store.put("k/photo.png", b"second", create=True, content_type=PNG) is False
    assert store.get("k/photo.png") == b"first"


def test_a_plain_put_replaces(store: Store) -> None:
    store.put("k", b"first", content_type=PNG, metadata={"n": "1"})
    assert store.put("k", b"second, longer", content_type="image/webp", metadata={"n": "2"}) is True
    assert store.get("k") == b"second, longer"
    head = store.head("k")
    assert head is not None
    assert (head.content_type, head.metadata) == ("image/webp", {"n": "2"})


def test_an_empty_object_is_an_object(store: Store) -> None:
    assert store.put("empty", b"", create=True, content_type=PNG)
    assert store.get("empty") == b""
    assert store.put("empty", b"x", create=True, content_type=PNG) is False


def test_metadata_comes_back_with_unicode_blanks_and_percent_signs(store: Store) -> None:
    sent = {
        "model": "mattehorn-slim@1",
        "name": "红色 连衣裙.jpg",
        "note": " 100% + a/b=c ",
        "emoji": "\U0001f98a",
    }
    store.put("k", b"x", content_type=PNG, metadata=sent)
    head = store.head("k")
    assert head is not None
    assert head.metadata == sent


def test_metadata_names_come_back_in_lower_case(store: Store) -> None:
    store.put("k", b"x", content_type=PNG, metadata={"Src-Etag": "abc"})
    head = store.head("k")
    assert head is not None
    assert head.metadata == {"src-etag": "abc"}


def test_a_missing_key_has_no_head_and_get_says_which(store: Store) -> None:
    assert store.head("not/there.png") is None
    with pytest.raises(StoreKeyMissing, match=r"not/there\.png"):
        store.get("not/there.png")


def test_delete_removes_and_a_second_delete_is_no_error(store: Store) -> None:
    store.put("a/b.png", b"x", content_type=PNG)
    store.delete("a/b.png")
    store.delete("a/b.png")
    assert store.head("a/b.png") is None
    assert list(store.list("")) == []
    assert store.put("a/b.png", b"y", create=True, content_type=PNG) is True


def test_get_with_an_etag_gives_only_that_version(store: Store) -> None:
    store.put("k", b"first", content_type=PNG)
    head = store.head("k")
    assert head is not None
    assert store.get("k", if_match=head.etag) == b"first"
    store.put("k", b"second, longer", content_type=PNG)
    with pytest.raises(StoreKeyChanged):
        store.get("k", if_match=head.etag)


def test_listing_follows_the_bytes_of_the_whole_key(store: Store) -> None:
    keys = ["a-b", "a.png", "a/1", "a/b-c", "a/b/2", "a/b0", "aa", "b/x", "A", "ä/1", "z", "中/1"]
    for key in keys:
        store.put(key, b"x", content_type=PNG)
    assert list(store.list("")) == sorted(keys, key=str.encode)
    assert list(store.list("a/")) == ["a/1", "a/b-c", "a/b/2", "a/b0"]
    assert list(store.list("a/b")) == ["a/b-c", "a/b/2", "a/b0"]
    assert list(store.list("nothing/")) == []


@pytest.mark.parametrize("after", ["a/1", "a/b-c", "a/b/", "a/b/2", "a", "a/zz", "zz"])
def test_listing_goes_on_after_any_key_there_or_not(store: Store, after: str) -> None:
    keys = ["a-b", "a/1", "a/b-c", "a/b/2", "a/b0", "aa", "b"]
    for key in keys:
        store.put(key, b"x", content_type=PNG)
    expected = [key for key in sorted(keys) if key > after]
    assert list(store.list("", start_after=after)) == expected
    assert list(store.list("a/", start_after=after)) == [key for key in expected if key.startswith("a/")]


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../b", "..", "a\0b", "k" * 1025, "\ud800"])
def test_a_key_that_can_never_work_is_refused_before_anything_is_sent(store: Store, key: str) -> None:
    for use in (store.head, store.get, store.delete):
        with pytest.raises(StoreKeyError):
            use(key)
    with pytest.raises(StoreKeyError):
        store.put(key, b"x", content_type=PNG)


def test_a_saved_result_loads_back_with_its_bytes(store: Store) -> None:
    info = {
        "name": "红色 连衣裙.jpg", "sku": "SKU 7/红", "width": 3, "height": 4, "model": "mattehorn-slim@1",
        "options": {"feather_px": 1, "background_color": None}, "quality": {"score": 0.5, "reasons": []},
        "tenant": "t1", "run": 7,
    }  # fmt: skip
    saved = save_result(
        store, image=b"picture", content_type=PNG, ext="png", info=info, alpha=b"matte", source=b"upload",
        source_ext="jpg", template="by-sku", now=NOW,
    )  # fmt: skip
    assert saved.key == "outputs/20260304/050607_SKU 7_红/红色 连衣裙_matte.png"
    assert store.get(saved.key) == b"picture"
    loaded = load_result(store, saved.id, "t1")
    assert loaded == saved
    assert (loaded.tenant, loaded.extra) == ("t1", {"run": 7})
    assert load_image(store, loaded) == b"picture"
    assert load_alpha(store, loaded) == b"matte"
    assert load_source(store, loaded) == b"upload"
    head = store.head(saved.key)
    assert head is not None
    assert (head.content_type, head.metadata["result-id"]) == (PNG, saved.id)


def test_other_bytes_under_the_same_key_get_a_number_and_equal_bytes_get_the_key(store: Store) -> None:
    def save(image: bytes) -> str:
        return save_result(
            store, image=image, content_type=PNG, ext="png", template="by-run", now=NOW,
            info={"name": "photo.jpg", "width": 1, "height": 1},
        ).key  # fmt: skip

    folder = "outputs/outputs_20260304050607"
    assert save(b"one") == f"{folder}/photo_matte.png"
    assert save(b"two") == f"{folder}/photo_matte-2.png"
    assert save(b"six") == f"{folder}/photo_matte-3.png"
    assert save(b"two") == f"{folder}/photo_matte-2.png"
    assert store.get(f"{folder}/photo_matte.png") == b"one"
    assert len(list(store.list(".results/of/"))) == 4


def test_a_history_is_paged_and_a_shared_picture_goes_with_its_last_result(store: Store) -> None:
    def save(number: int, tenant: str) -> StoredResult:
        return save_result(
            store, image=b"one", content_type=PNG, ext="png", template="{stem}.{ext}", now=NOW + timedelta(days=number),
            info={"name": "photo.jpg", "width": 1, "height": 1, "tenant": tenant},
        )  # fmt: skip

    results = [save(number, "shop") for number in range(3)]
    other = save(3, "other")
    with ThreadPoolExecutor(2) as readers:
        first = page(store, ["shop"], Search(until=NOW + timedelta(days=2)), 1, None, readers)
        second = page(store, ["shop"], Search(q="PHOTO"), 2, first.after, readers)
    assert ([*first.results], [*second.results], second.after) == ([results[1]], [results[0]], None)
    assert [result.key for result in (*results, other)] == ["photo.png"] * 3 + ["photo-2.png"]
    for result in results[:2]:
        assert remove_result(store, result)
        assert store.get("photo.png") == b"one"
    assert remove_result(store, results[2])
    assert list(store.list("")) == [record_key("other", other.id), "photo-2.png"]


def test_an_unknown_result_is_not_found(store: Store) -> None:
    with pytest.raises(ResultNotFound):
        load_result(store, "0" * 26)


@pytest.mark.s3
def test_racing_creators_leave_one_whole_object(s3_store: Store) -> None:
    """Swift may let several win, so what is promised is only this: one object, whole, and at least one winner."""
    contents = [bytes([n]) * 20_000 for n in range(16)]
    start = threading.Barrier(16)

    def create(data: bytes) -> bool:
        start.wait()
        return s3_store.put("race", data, create=True, content_type=PNG)

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(create, contents))
    assert any(won)
    assert s3_store.get("race") in [data for data, winner in zip(contents, won, strict=True) if winner]
    assert list(s3_store.list("")) == ["race"]


@pytest.mark.s3
def test_the_probe_finds_conditional_writes_and_leaves_nothing(s3_server: S3Server) -> None:
    settings = settings_for(s3_server)
    store = open_store(settings)
    assert isinstance(store, S3Store)
    assert store.create_mode() == "native"
    assert list(store.list("")) == []


@pytest.mark.s3
def test_a_prefix_keeps_stores_apart(s3_server: S3Server) -> None:
    inner = open_store(settings_for(s3_server, prefix="shop/inner"))
    outer = open_store(settings_for(s3_server, prefix="shop"))
    inner.put("k", b"x", content_type=PNG)
    assert outer.get("inner/k") == b"x"
    assert list(inner.list("")) == ["k"]
    inner.delete("k")


@pytest.mark.s3
def test_a_signed_url_reads_the_object_and_a_touched_one_does_not(s3_server: S3Server) -> None:
    store = open_store(settings_for(s3_server))
    store.put("a folder/红 +%.png", b"picture", content_type=PNG)
    url = store.presign("a folder/红 +%.png", expires_s=60)
    assert url is not None
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert (answer.read(), answer.headers["Content-Type"]) == (b"picture", PNG)
    if s3_server.checks_keys:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url[:-4] + "0000", timeout=10)
        assert refused.value.code == 403


@pytest.mark.s3
def test_a_wrong_secret_is_unavailable_names_the_permission_and_no_secret(
    swift_s3: S3Server, set_keys: SetKeys
) -> None:
    set_keys(dataclasses.replace(swift_s3, secret_key="not-the-secret"))
    store = open_store(settings_for(swift_s3))
    with pytest.raises(StoreUnavailable, match="s3:PutObject") as write:
        store.put("k", b"x", create=True, content_type=PNG)
    with pytest.raises(StoreUnavailable, match="s3:GetObject"):
        store.head("k")
    assert "not-the-secret" not in write.value.message
    assert swift_s3.access_key not in write.value.message
    assert write.value.retry_after_s is not None


@pytest.mark.s3
def test_a_missing_bucket_is_unavailable_not_a_missing_key(s3_server: S3Server) -> None:
    store = open_store(settings_for(s3_server, bucket="no-such-bucket"))
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        store.get("k")
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        store.put("k", b"x", create=True, content_type=PNG)


@pytest.mark.s3
def test_many_keys_are_listed_over_several_pages(moto_s3: S3Server, set_keys: SetKeys) -> None:
    set_keys(moto_s3)
    store = open_store(settings_for(moto_s3))
    keys = [f"k/{n:04d}" for n in range(1005)]  # a page has 1000
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b"", content_type=PNG), keys))
    assert list(store.list("k/")) == keys


@pytest.mark.s3
def test_a_store_that_is_down_is_unavailable_with_a_time_to_retry(set_keys: SetKeys) -> None:
    server = S3Server(f"http://127.0.0.1:{free_ports(1)[0]}", "key", "secret", checks_keys=True)
    set_keys(server)
    store = open_store(settings_for(server))
    with pytest.raises(StoreUnavailable, match="did not answer") as down:
        store.put("k", b"x", create=True, content_type=PNG)
    assert down.value.retry_after_s is not None


@pytest.mark.s3
def test_a_store_that_takes_connections_and_says_nothing_is_unavailable(set_keys: SetKeys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = S3Server(f"http://127.0.0.1:{silent.getsockname()[1]}", "key", "secret", checks_keys=True)
        set_keys(server)
        client = s3_client(settings_for(server), read_timeout_s=0.2, attempts=2)
        store = S3Store(client, BUCKET)
        with pytest.raises(StoreUnavailable, match="did not answer"):
            store.head("k")
        with pytest.raises(StoreUnavailable, match="did not answer"):
            list(store.list(""))
