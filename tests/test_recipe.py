"""Recipes: what they take, and the hash that every bulk key rests on."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from typing import Any

import pytest

from mattehorn.errors import ConflictingOptions, OptionError, UnknownOption
from mattehorn.options import parse_options
from mattehorn.recipe.gate import Wish
from mattehorn.recipe.recipe import PRESETS, Recipe, find_recipe, parse_recipe, sent_recipe


def test_the_hash_is_over_canonical_json() -> None:
    recipe = Recipe("a", 1, {"output": "alpha", "format": "png"})
    text = '{"key_template":"{key}.{h}.{ext}","name":"a","options":{"format":"png","output":"alpha"},"version":1}'
    assert recipe.hash == hashlib.sha256(text.encode()).hexdigest()


def test_a_description_is_for_people_and_in_no_hash() -> None:
    plain = Recipe("a", 1, {"output": "alpha"})
    told = parse_recipe({**plain.document(), "description": "The matte alone, für Größe S."})
    assert told.description == "The matte alone, für Größe S."
    assert (told.hash, told) == (plain.hash, plain)
    assert "description" not in told.document()
    assert told.with_options({"format": "webp"}).description == told.description
    assert pickle.loads(pickle.dumps(told)).description == told.description


@pytest.mark.parametrize("description", [3, None, ["a"], "a" * 301, "two\nlines", "\x1b[31m"])
def test_a_description_is_one_short_line(description: Any) -> None:
    with pytest.raises(OptionError, match="description"):
        parse_recipe({"name": "a", "version": 1, "description": description})


def test_the_same_wish_has_one_hash_however_it_is_written() -> None:
    first = Recipe("a", 1, {"encode_quality": "90", "format": "JPEG", "output": "composite"})
    second = Recipe("a", 1, {"output": "composite", "format": "jpg", "encode_quality": 90})
    assert first.hash == second.hash


@pytest.mark.parametrize(
    "other",
    [
        Recipe("b", 1, {"output": "alpha"}),
        Recipe("a", 2, {"output": "alpha"}),
        Recipe("a", 1, {"output": "cutout"}),
        Recipe("a", 1, {"output": "alpha", "format": "webp"}),
        Recipe("a", 1, {"output": "alpha"}, "{stem}.{h}.{ext}"),
    ],
)
def test_any_difference_gives_another_hash(other: Recipe) -> None:
    assert other.hash != Recipe("a", 1, {"output": "alpha"}).hash


def test_options_of_a_job_go_over_the_recipes_and_change_its_hash() -> None:
    recipe = find_recipe("transparent-web")
    changed = recipe.with_options({"encode_quality": 80})
    assert changed.options == {"output": "cutout", "format": "webp", "encode_quality": 80}
    assert changed.hash != recipe.hash
    assert recipe.with_options({}) is recipe
    assert recipe.with_options({"sku": "", "roi": None}) is recipe


@pytest.mark.parametrize(
    ("own", "sent", "merged"),
    [
        ({"background_color": "#fff"}, {"background_gradient": "90deg #fff #000"}, {"background_gradient"}),
        (
            {"background_blur_px": 9, "shadow": "drop"},
            {"background_template": "night"},
            {"background_template", "shadow"},
        ),
        ({"background_template": "mint"}, {"background_color": "red"}, {"background_color"}),
        ({"background_color": "#fff"}, {"feather_px": 1}, {"background_color", "feather_px"}),
        ({"output": "cutout", "format": "webp"}, {"output": "zip"}, {"output"}),
        ({"output": "cutout", "format": "webp"}, {"output": "alpha"}, {"output", "format"}),
    ],
)
def test_a_background_takes_the_place_of_the_recipes_and_zip_that_of_its_format(
    own: dict[str, Any], sent: dict[str, Any], merged: set[str]
) -> None:
    changed = Recipe("a", 1, own).with_options(sent)
    assert set(changed.options) == merged
    assert {name: changed.options[name] for name in sent} == Recipe("a", 1, sent).options


@pytest.mark.parametrize(
    ("own", "sent", "merged"),
    [
        ({"output_size": "90x80"}, {"crop": "true"}, {"crop"}),
        ({"output_size": "90x80"}, {"crop": "false"}, {"output_size"}),
        ({"crop": True}, {"output_size": "90x80"}, {"output_size"}),
        ({"output_size": "90x80", "padding": "0.1"}, {"max_width": 70}, {"max_width", "padding"}),
        ({"max_width": 70, "max_height": 70}, {"output_size": "90X80"}, {"output_size"}),
        ({"max_width": 70}, {"output_size": "cropped_subject"}, {"max_width", "output_size"}),
        ({"background_color": "#fff", "shadow": "drop", "shadow_blur_px": 3}, {"output": "alpha"}, {"output"}),
        ({"output": "composite", "format": "jpg"}, {"output": "cutout"}, {"output"}),
        ({"output": "composite", "format": "jpg"}, {"output": "alpha"}, {"output", "format"}),
        ({"output": "composite", "format": "jpg"}, {"output": "zip"}, {"output"}),
        ({"output": "cutout", "format": "webp"}, {"background_color": "red"}, {"background_color", "format"}),
        ({"output": "composite", "format": "jpg"}, {"background_color": "#fff8"}, {"output", "background_color"}),
    ],
)
def test_what_a_sent_field_excludes_of_the_recipes_makes_way(
    own: dict[str, Any], sent: dict[str, Any], merged: set[str]
) -> None:
    changed = Recipe("a", 1, own).with_options(sent)
    assert set(changed.options) == merged
    assert Recipe("a", 1, own).wish(sent) == Wish(parse_options(changed.options), recipe=changed.tag)


@pytest.mark.parametrize("output", ["cutout", "alpha", "zip"])
@pytest.mark.parametrize("recipe", PRESETS, ids=lambda recipe: recipe.id)
def test_every_preset_gives_every_output_and_a_crop(recipe: Recipe, output: str) -> None:
    wish = recipe.wish({"output": output, "crop": "true"})
    assert (wish.options.kind, wish.options.has_background, wish.options.output_size) == (output, False, None)
    assert wish.recipe.startswith(f"{recipe.id};")
    assert wish.recipe != recipe.tag


@pytest.mark.parametrize(
    ("locked", "sent", "field"),
    [
        ("background_color", {"output": "alpha"}, "output"),
        ("format", {"output": "cutout"}, "output"),
        ("format", {"background_color": "transparent"}, "background_color"),
        ("output_size", {"max_height": 7}, "max_height"),
    ],
)
def test_what_is_locked_makes_way_for_nothing(locked: str, sent: dict[str, Any], field: str) -> None:
    own = {"output": "composite", "background_color": "#fff", "format": "jpg", "output_size": "90x80"}
    with pytest.raises(ConflictingOptions, match=f"place of {locked}, which is locked by the recipe a@1") as refused:
        Recipe("a", 1, own, locked=(locked,)).wish(sent)
    assert refused.value.data["field"] == field


@pytest.mark.parametrize(
    "sent",
    [
        {"background_color": "F2F2F0"},
        {"background_color": "#f2f2f0ff"},
        {"padding": "15%"},
        {"encode_quality": "95", "alpha_threshold": "70"},
        {"feather_px": "no", "erode_px": "0.0"},  # the defaults, which it does not name
        {"check_stability": "off", "crop": "0"},
        {"shadow_offset": " 0px  08px"},
    ],
    ids=lambda sent: "+".join(sent),
)
def test_what_is_in_force_anyway_changes_no_hash_and_passes_a_lock(sent: dict[str, Any]) -> None:
    recipe = find_recipe("minimal")
    assert recipe.with_options(sent) == recipe
    assert recipe.wish(sent) == recipe.wish({})
    locked = dataclasses.replace(recipe, locked=True)
    assert locked.wish(sent) == locked.wish({})


def test_two_backgrounds_of_one_job_stay_a_conflict() -> None:
    with pytest.raises(ConflictingOptions):
        Recipe("a", 1).with_options({"background_color": "red", "background_blur_px": 3})


@pytest.mark.parametrize(
    "changed",
    [{"version": 9}, {"options": {"output": "alpha"}}, {"locked": True}, {"quality": {}}],
    ids=lambda changed: next(iter(changed)),
)
def test_what_somebody_sends_does_not_pass_for_a_known_recipe(changed: dict[str, Any]) -> None:
    preset = find_recipe("minimal@1").document()
    assert sent_recipe({**preset, "description": "Mine."}) == find_recipe("minimal@1")
    elsewhere = "{stem}.{h}.{ext}"
    assert sent_recipe({**preset, "key_template": elsewhere}).key_template == elsewhere
    with pytest.raises(OptionError, match="calls itself minimal@") as refused:
        sent_recipe({**preset, **changed})
    assert refused.value.data["field"] == "recipe"
    own = [Recipe("shop", 4, {"output": "alpha"})]
    assert sent_recipe(own[0].document(), own) == own[0]
    assert sent_recipe({"name": "shop", "version": 5}, own) == Recipe("shop", 5)
    with pytest.raises(OptionError, match="the shop@4 that is known here"):
        sent_recipe({"name": "shop", "version": 4}, own)


def test_a_preset_is_found_with_and_without_its_version() -> None:
    assert find_recipe("marketplace-white") == find_recipe("marketplace-white@2") != find_recipe("marketplace-white@1")
    assert find_recipe("marketplace-white").bulk_options().background_color == "#ffffff"


@pytest.mark.parametrize("name", ["", "nothing", "transparent-web@2", "transparent-web@01", "@1"])
def test_an_unknown_recipe_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(OptionError, match="transparent-web@1"):
        find_recipe(name)


@pytest.mark.parametrize("option", ["store", "store_source", "inline", "include", "name"])
def test_options_that_only_an_answer_has_are_refused(option: str) -> None:
    with pytest.raises(OptionError) as refused:
        Recipe("a", 1, {option: "x"})
    assert refused.value.data["field"] == option


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(UnknownOption):
        Recipe("a", 1, {"backgrund": "white"})


@pytest.mark.parametrize("name", ["", "A", "a/b", "a" * 65, "-a", "a b"])
def test_a_name_that_cannot_be_typed_or_stored_is_refused(name: str) -> None:
    with pytest.raises(OptionError):
        Recipe(name, 1)


@pytest.mark.parametrize("version", [0, -1, True, "1", 1.5])
def test_a_version_is_a_whole_number_from_one(version: Any) -> None:
    with pytest.raises(OptionError):
        Recipe("a", version)


def test_a_document_comes_back_as_the_same_recipe() -> None:
    for recipe in PRESETS:
        assert parse_recipe(recipe.document()) == recipe
        assert parse_recipe(recipe.document()).hash == recipe.hash
        assert pickle.loads(pickle.dumps(recipe)) == recipe


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"name": "a"},
        {"name": "a", "version": 1, "more": 1},
        {"name": "a", "version": 1, "options": []},
        {"name": "a", "version": 1, "key_template": 3},
    ],
)
def test_what_is_no_recipe_is_refused(document: Any) -> None:
    with pytest.raises(OptionError):
        parse_recipe(document)


@pytest.mark.parametrize(("document", "name"), [({"version": 1}, "name"), ({"name": "a"}, "version"), ({}, "name")])
def test_a_recipe_that_lacks_a_field_is_told_which(document: Any, name: str) -> None:
    with pytest.raises(OptionError, match=f"has no {name}; write"):
        parse_recipe(document)
