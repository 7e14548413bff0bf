"""Key templates against known keys, ids, and records that survive what a store can do to them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mattehorn.errors import MattehornError, ResultNotFound
from mattehorn.store.open import LocalStore, check_key
from mattehorn.store.records import StoredResult, load_result, new_id, record_key, time_of
from mattehorn.store.results import (
    KEY_PRESETS,
    check_template,
    load_alpha,
    load_image,
    load_source,
    render_key,
    save_result,
)

NOW = datetime(2026, 3, 4, 5, 6, 7, 123456, tzinfo=UTC)
INFO: dict[str, Any] = {"name": "photo.jpg", "width": 3, "height": 4}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def key(template: str = "{stem}.{ext}", name: str = "photo.jpg", sku: str | None = None, ext: str = "png") -> str:
    return render_key(template, name=name, sku=sku, time=NOW, ext=ext)


def save(store: LocalStore, image: bytes = b"picture", **changes: Any) -> StoredResult:
    arguments: dict[str, Any] = {"content_type": "image/png", "ext": "png", "info": INFO}
    arguments |= {"template": "by-run", "now": NOW} | changes
    return save_result(store, image=image, **arguments)


# ---- keys ----


def test_the_presets_give_the_two_known_folders() -> None:
    assert key("by-run") == "outputs/outputs_20260304050607/photo_matte.png"
    assert key("by-sku", sku="A-17") == "outputs/20260304/050607_A-17/photo_matte.png"
    assert key("by-sku", ext="webp") == "outputs/20260304/050607_no-sku/photo_matte.webp"


def test_a_run_keeps_its_own_time() -> None:
    run = datetime(2026, 3, 4, 5, 0, 0, tzinfo=UTC)
    assert render_key("by-run", name="a.jpg", sku=None, time=NOW, run=run, ext="png") == (
        "outputs/outputs_20260304050000/a_matte.png"
    )


def test_times_are_turned_into_utc() -> None:
    in_china = datetime(2026, 3, 4, 3, 0, 0, tzinfo=timezone(timedelta(hours=8)))
    assert render_key("{time:%Y%m%d-%H}/{stem}.{ext}", name="a", sku=None, time=in_china, ext="png") == (
        "20260303-19/a.png"
    )
    with pytest.raises(ValueError, match="time zone"):
        render_key("by-run", name="a", sku=None, time=datetime(2026, 3, 4), ext="png")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("photo.jpg", "photo"),
        ("photo.JPEG", "photo"),
        ("photo", "photo"),
        ("chair v1.2", "chair v1.2"),
        ("photo.final.webp", "photo.final"),
        ("红色 连衣裙.heic", "红色 连衣裙"),
        ("cafe\u0301.png", "café"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\photos\\a.png", "C:_photos_a"),
        ("...", "image"),
        ("", "image"),
        (" . .hidden.png ", "hidden"),
        (".png", "png"),
        ("a\0b\nc\x7f.png", "abc"),
        ("gpj\u202e.png", "gpj"),
        ("\ud800x.png", "x"),
        ("{sku}.png", "{sku}"),
    ],
)
def test_a_name_becomes_one_clean_path_part(name: str, stem: str) -> None:
    assert key("{stem}.{ext}", name=name) == f"{stem}.png"


def test_an_sku_becomes_one_clean_path_part() -> None:
    assert key("{sku}/{stem}.{ext}", sku="../a/b\\c") == "_a_b_c/photo.png"
    assert key("{sku}/{stem}.{ext}", sku=" .. ") == "no-sku/photo.png"


def test_long_names_are_cut_at_whole_characters() -> None:
    assert key("{stem}.{ext}", name="连" * 200) == "连" * 46 + ".png"
    assert key("{sku}/{stem}.{ext}", sku="é" * 200) == "é" * 32 + "/photo.png"


@given(name=st.text(max_size=300), sku=st.none() | st.text(max_size=300))
def test_any_name_and_sku_give_a_key_that_every_store_can_hold(name: str, sku: str | None) -> None:
    for template in (*KEY_PRESETS, "{sku}_{stem}.{ext}"):
        rendered = render_key(template, name=name, sku=sku, time=NOW, ext="webp")
        assert check_key(rendered) == rendered
        parts = rendered.split("/")
        assert len(parts) == len(check_template(template).split("/"))
        assert all(part and not part.startswith(".") and len(part.encode()) <= 215 for part in parts)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{photo}.png", "unknown field 'photo'; allowed are run, time, stem, sku, ext"),
        ("{stem.__class__}", "unknown field 'stem.__class__'"),
        ("{stem[0]}", "unknown field"),
        ("{}/{stem}", "unknown field"),
        ("{stem!r}.{ext}", "only on run and time"),
        ("{stem:>400}.{ext}", "only on run and time"),
        ("{time:%c}/{stem}", "only on run and time"),
        ("{time:{sku}}/{stem}", "only on run and time"),
        ("{stem", "brace"),
        ("by-date", "no preset (by-run, by-sku)"),
        ("outputs/result.{ext}", "same key"),
        ("/{stem}.{ext}", "empty part"),
        ("a//{stem}.{ext}", "empty part"),
        ("../{stem}.{ext}", "leading dot"),
        (".results/{stem}.{ext}", "leading dot"),
        ("{time:.%Y}/{stem}.{ext}", "leading dot"),
        ("a\\{stem}.{ext}", "backslash"),
        ("a\n{stem}.{ext}", "control character"),
        ("{stem}_{stem}.{ext}", "too long"),
        ("/".join(["{stem}"] * 8), "too long"),
    ],
)
def test_a_bad_template_is_refused_at_start_and_says_what_is_allowed(template: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"store\.key_template") as refused:
        check_template(template)
    assert said in str(refused.value)


@pytest.mark.parametrize("ext", ["", "PNG", ".png", "p/g", "../x", "toolongext"])
def test_a_file_suffix_is_letters_and_digits(ext: str) -> None:
    with pytest.raises(ValueError, match="file suffix"):
        key(ext=ext)


# ---- ids ----


def test_ids_of_later_results_sort_first() -> None:
    moments = [NOW + timedelta(milliseconds=n) for n in (0, 1, 31, 32, 33, 1_000_000, 10**12)]
    ids = [new_id(moment) for moment in moments]
    assert ids == sorted(ids, reverse=True)
    assert [round(time_of(each) * 1000) for each in ids] == [int(moment.timestamp() * 1000) for moment in moments]


def test_ids_of_one_moment_differ_and_share_only_their_time() -> None:
    ids = {new_id(NOW) for _ in range(1000)}
    assert len(ids) == 1000
    assert len({result_id[:10] for result_id in ids}) == 1
    assert all(re.fullmatch(r"[0-9a-hjkmnp-tv-z]{26}", result_id) for result_id in ids)


# ---- records ----


def test_records_list_newest_first(store: LocalStore) -> None:
    saved = [save(store, image=bytes([n]), now=NOW + timedelta(seconds=n)) for n in range(3)]
    assert list(store.list(".results/")) == [record_key("anonymous", each.id) for each in reversed(saved)]


def test_a_record_tells_size_digest_and_time(store: LocalStore) -> None:
    saved = save(store, image=b"abc", info=INFO | {"model": "slim@1", "options": {"roi": (1, 2)}, "shop": "t"})
    assert saved.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (saved.size, saved.width, saved.height, saved.name) == (3, 3, 4, "photo.jpg")
    assert saved.created_at == "2026-03-04T05:06:07.123Z"
    assert (saved.model, saved.options, saved.extra) == ("slim@1", {"roi": [1, 2]}, {"shop": "t"})
    assert load_result(store, saved.id) == saved


def test_matte_and_source_lie_beside_the_picture(store: LocalStore) -> None:
    saved = save(store, alpha=b"matte", source=b"upload", source_ext="jpeg")
    folder = "outputs/outputs_20260304050607"
    assert (saved.alpha_key, saved.source_key) == (
        f"{folder}/photo_matte_alpha.png",
        f"{folder}/photo_matte_source.jpeg",
    )
    assert (load_alpha(store, saved), load_source(store, saved)) == (b"matte", b"upload")
    assert saved.source_content_type == "image/jpeg"
    again = save(store, alpha=b"other matte", source=b"upload", source_ext="jpeg")
    assert (again.key, again.source_key) == (saved.key, saved.source_key)
    assert again.alpha_key == f"{folder}/photo_matte_alpha-2.png"


def test_what_was_not_kept_is_not_found_and_says_how_to_keep_it(store: LocalStore) -> None:
    saved = save(store)
    with pytest.raises(ResultNotFound, match="store_alpha=true"):
        load_alpha(store, saved)
    with pytest.raises(ResultNotFound, match="store_source=true"):
        load_source(store, saved)


def test_a_busy_name_gets_numbers_to_twenty_and_then_the_id(store: LocalStore) -> None:
    saved = [save(store, image=b"%d" % n) for n in range(22)]
    names = [each.key.rpartition("/")[2] for each in saved]
    assert names[:20] == ["photo_matte.png", *(f"photo_matte-{n}.png" for n in range(2, 21))]
    assert names[20:] == [f"photo_matte-{each.id}.png" for each in saved[20:]]
    assert [load_image(store, each) for each in saved] == [b"%d" % n for n in range(22)]


@pytest.mark.parametrize(
    "result_id",
    ["", "x", "0" * 25, "0" * 27, "../" + "0" * 23, "0" * 25 + "/", "0" * 25 + "U", "0" * 25 + "i", "0" * 26 + "\n",
     "..%2f" + "0" * 21, "０" * 26, "/etc/passwd"],
)  # fmt: skip
def test_a_malformed_or_hostile_id_is_not_found_without_asking_the_store(result_id: str) -> None:
    no_store: Any = object()
    with pytest.raises(ResultNotFound) as unknown:
        load_result(no_store, result_id)
    assert unknown.value.code == "result_not_found"


def test_a_picture_that_is_gone_or_replaced_is_not_found_and_never_another(store: LocalStore) -> None:
    saved = save(store)
    store.put(saved.key, b"another", content_type="image/png")
    with pytest.raises(ResultNotFound, match="replaced"):
        load_image(store, saved)
    store.delete(saved.key)
    with pytest.raises(ResultNotFound, match="no longer"):
        load_image(store, saved)


def test_a_record_of_version_0_1_is_its_tenants_alone(store: LocalStore) -> None:
    saved = save(store, info=INFO | {"tenant": "shop"})
    data = store.get(record_key("shop", saved.id))
    store.delete(record_key("shop", saved.id))
    store.put(f".results/{saved.id}.json", data, content_type="application/json")
    assert load_result(store, saved.id, "shop") == saved
    with pytest.raises(ResultNotFound):
        load_result(store, saved.id)


def test_a_record_of_a_later_version_still_loads(store: LocalStore) -> None:
    saved = save(store)
    path = record_key("anonymous", saved.id)
    later = json.loads(store.get(path)) | {"new_field": 1}
    store.put(path, json.dumps(later).encode(), content_type="application/json")
    assert load_result(store, saved.id) == saved


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'"text"', b"{}", b"\xff"])
def test_a_damaged_record_is_an_internal_error_without_details(store: LocalStore, damage: bytes) -> None:
    saved = save(store)
    store.put(record_key("anonymous", saved.id), damage, content_type="application/json")
    with pytest.raises(MattehornError, match="damaged") as broken:
        load_result(store, saved.id)
    assert broken.value.code == "internal"


@pytest.mark.parametrize("info", [{"width": 1}, INFO | {"options": {"x": b"bytes"}}])
def test_bad_information_fails_before_anything_is_written(store: LocalStore, info: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        save(store, info=info)
    assert list(store.list("")) == []


def test_a_store_that_fails_leaves_no_record_and_a_retry_takes_the_same_key(store: LocalStore) -> None:
    class Failing:
        """Takes pictures but no records."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def put(self, key: str, data: bytes, **options: Any) -> bool:
            if key.startswith(".results/"):
                raise ConnectionError("down")
            return store.put(key, data, **options)

    failing: Any = Failing()
    with pytest.raises(ConnectionError):
        save(failing)
    assert list(store.list(".results/")) == []
    assert save(store).key == "outputs/outputs_20260304050607/photo_matte.png"
