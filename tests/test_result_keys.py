"""Bulk keys are pure functions, and the format they promise is the one that the pipeline makes, byte for byte alike."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mattehorn.errors import ModelError, OptionError, UnknownModel
from mattehorn.options import parse_options
from mattehorn.pipeline import run
from mattehorn.recipe.result_keys import (
    check_bulk_template,
    error_key,
    extension,
    identity,
    model_digest,
    needs_job,
    output_key,
    settled_format,
    short_error_key,
)
from mattehorn.settings import Limits
from mattehorn.store.interface import StoreKeyError

from .bulk_bench import MODEL, photo

RUN = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
H = "0123456789ab"


def test_the_identity_is_the_first_twelve_digits_over_version_model_and_recipe() -> None:
    expected = hashlib.sha256(b"etag-1\0model\0recipe").hexdigest()[:12]
    assert identity("etag-1", "model", "recipe") == expected


@pytest.mark.parametrize(
    "other", [("etag-2", "m", "r"), ("etag-1", "n", "r"), ("etag-1", "m", "s"), ("etag-1m", "", "r")]
)
def test_another_version_model_or_recipe_is_another_identity(other: tuple[str, str, str]) -> None:
    assert identity(*other) != identity("etag-1", "m", "r")


def test_the_usual_key_is_the_photos_own_with_hash_and_suffix() -> None:
    assert output_key("{key}.{h}.{ext}", "a/b c+ü.jpg", H, "webp") == f"a/b c+ü.jpg.{H}.webp"


def test_an_error_lies_under_errors_with_the_same_hash() -> None:
    assert error_key("a/b.jpg", H) == f"errors/a/b.jpg.{H}.json"


def test_an_error_of_a_key_that_nothing_can_hold_has_a_short_key() -> None:
    key = short_error_key("x" * 5000 + "\ud800", H)
    assert key.startswith("errors/by-hash/")
    assert len(key) < 120


def test_dates_come_from_the_job_in_utc() -> None:
    template = "{run:%Y%m%d}/{run:%H%M%S}_{sku}/{stem}_{h}.{ext}"
    key = output_key(template, "in/shoe.jpg", H, "png", sku="A 1", job="j", run=RUN)
    east = RUN.astimezone(timezone(timedelta(hours=8)))
    assert key.startswith("20260301/233000_A 1/shoe_")
    assert output_key(template, "in/shoe.jpg", H, "png", sku="A 1", job="j", run=east) == key


@pytest.mark.parametrize("template", ["{run}/{key}.{h}.{ext}", "{job}/{key}.{h}.{ext}"])
def test_a_template_with_dates_or_a_job_needs_a_job(template: str) -> None:
    assert needs_job(check_bulk_template(template))
    with pytest.raises(StoreKeyError, match="job"):
        output_key(template, "a.jpg", H, "png")


def test_without_the_key_in_the_template_two_photos_still_never_share_a_result() -> None:
    first = output_key("{stem}_{h}.{ext}", "a/shoe.jpg", H, "png")
    second = output_key("{stem}_{h}.{ext}", "b/shoe.jpg", H, "png")
    assert first.startswith("shoe_")
    assert first != second


@given(st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=8, unique=True))
def test_different_keys_never_meet(keys: list[str]) -> None:
    made = []
    for key in keys:
        try:
            made.append(output_key("{stem}_{h}.{ext}", key, H, "png"))
        except StoreKeyError:
            continue
    assert len(set(made)) == len(made)


@pytest.mark.parametrize(
    "template",
    [
        "",
        "{key}.{ext}",
        "{key}.{h}",
        "{key}.{h}.{ext",
        "{key}.{h}.{ext}.{time}",
        "{time:%Y}/{key}.{h}.{ext}",
        "{key!r}.{h}.{ext}",
        "{key:>10}.{h}.{ext}",
        "{run:%s}/{key}.{h}.{ext}",
        "/{key}.{h}.{ext}",
        "a//{key}.{h}.{ext}",
        "../{key}.{h}.{ext}",
        ".hidden/{key}.{h}.{ext}",
        "a\\{key}.{h}.{ext}",
        "{}.{h}.{ext}",
        "x" * 500 + "{key}.{h}.{ext}",
    ],
)
def test_a_template_that_is_not_a_pure_function_or_no_key_is_refused(template: str) -> None:
    with pytest.raises(OptionError) as refused:
        check_bulk_template(template)
    assert refused.value.data["field"] == "key_template"


@pytest.mark.parametrize("key", ["/a.jpg", "a/../b.jpg", "a\0b.jpg", "k" * 1020, "\ud800.jpg"])
def test_a_key_that_no_store_can_hold_is_an_error_of_the_key(key: str) -> None:
    with pytest.raises(StoreKeyError):
        output_key("{key}.{h}.{ext}", key, H, "png")


WISHES: list[dict[str, Any]] = [
    {},
    {"output": "alpha"},
    {"format": "avif"},
    {"output": "zip"},
    {"output": "composite"},
    {"background_color": "#fff8"},
    {"background_color": "transparent"},
    {"background_color": "red", "shadow": "drop"},
    {"background_template": "sunset"},
    {"background_gradient": "90deg white transparent"},
    {"background_gradient": "radial white black"},
    {"background_blur_px": "8"},
    {"output": "composite", "format": "webp"},
]


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_the_promised_suffix_is_the_one_the_pipeline_gives(wish: dict[str, Any]) -> None:
    options = settled_format(parse_options(wish))
    assert run(MODEL, photo(), options, Limits()).extension == extension(options)


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_the_same_photo_and_options_give_the_same_bytes(wish: dict[str, Any]) -> None:
    options = settled_format(parse_options(wish))
    first, second = (run(MODEL, photo(), options, Limits()).data for _ in range(2))
    assert first == second


def test_a_models_digest_follows_its_weights_and_its_processing(tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    digests = {
        model_digest("mattehorn-slim"),
        model_digest("fake"),
        model_digest(f"mattehorn-slim={one}"),
        model_digest(f"mattehorn-slim={two}"),
    }
    assert len(digests) == 4
    assert model_digest("mattehorn-slim") == model_digest("mattehorn-slim@1")


def test_a_model_that_is_not_there_has_no_digest() -> None:
    with pytest.raises(UnknownModel):
        model_digest("nobody")
    with pytest.raises(ModelError):
        model_digest("mattehorn-slim=/nowhere.safetensors")
