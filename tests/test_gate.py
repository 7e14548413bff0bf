"""Which model a photo goes to and what becomes of its result: every decision of the gate, and a recipe's locks."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mattehorn.errors import ConflictingOptions, LowQuality, OptionError, UnknownRecipe
from mattehorn.options import Options
from mattehorn.quality import Quality
from mattehorn.recipe.gate import NO_STRONGER_MODEL, RETRY_BELOW, Gate, Routing, Wish
from mattehorn.recipe.own import read_recipes
from mattehorn.recipe.recipe import Recipe, catalogue, find_recipe, parse_recipe

STRONG = ("big", "big@1")
LOW, HIGH = Quality(0.3, ("holes",)), Quality(0.9)


def routing(gate: Gate | None = None, strong: tuple[str, ...] = STRONG, **options: Any) -> Routing:
    return Routing(Wish(Options(**options), gate), strong)


@pytest.mark.parametrize(
    ("options", "strong", "first"),
    [
        ({}, STRONG, "fast"),
        ({"tier": "fast"}, STRONG, "fast"),
        ({"tier": "best"}, STRONG, "strong"),
        ({"tier": "best"}, (), "fast"),
        ({"model": "big"}, STRONG, "strong"),
        ({"model": "big@1", "tier": "fast"}, STRONG, "strong"),
        ({"model": "small", "tier": "best"}, STRONG, "fast"),
    ],
)
def test_the_first_model_follows_from_the_name_then_from_the_tier(
    options: dict[str, Any], strong: tuple[str, ...], first: str
) -> None:
    assert routing(strong=strong, **options).first == first


@pytest.mark.parametrize(
    ("gate", "options", "strong", "again"),
    [
        (None, {}, STRONG, True),
        (None, {}, (), False),
        (None, {"tier": "fast"}, STRONG, False),
        (None, {"tier": "best"}, STRONG, False),
        (None, {"model": "small"}, STRONG, False),
        (Gate(accept=0.2), {}, STRONG, False),
        (Gate(accept=0.4), {}, STRONG, True),
        (Gate(accept=0.4, retry_model=False), {}, STRONG, False),
    ],
)
def test_a_low_score_goes_to_the_stronger_model_only_where_everybody_lets_it(
    gate: Gate | None, options: dict[str, Any], strong: tuple[str, ...], again: bool
) -> None:
    assert routing(gate, strong, **options).wants_stronger(LOW) is again
    assert not routing(gate, strong, **options).wants_stronger(HIGH)


def test_without_a_gate_the_border_is_the_documented_one() -> None:
    assert routing().wants_stronger(Quality(RETRY_BELOW - 0.001))
    assert not routing().wants_stronger(Quality(RETRY_BELOW))


def test_best_without_a_stronger_model_is_said() -> None:
    assert routing(strong=(), tier="best").warnings == (NO_STRONGER_MODEL,)
    assert routing(tier="best").warnings == routing(strong=()).warnings == ()


@pytest.mark.parametrize(("otherwise", "route"), [("review", "review"), ("accept", "accept")])
def test_below_the_border_the_gate_says_what_becomes_of_it(otherwise: Any, route: str) -> None:
    gate = Gate(accept=0.5, otherwise=otherwise)
    assert (routing(gate).settled(HIGH), routing(gate).settled(LOW)) == ("accept", route)
    assert routing(None).settled(LOW) is None


def test_a_gate_that_rejects_names_score_reasons_and_border() -> None:
    with pytest.raises(LowQuality, match=r"0\.300 \(holes\); the recipe accepts 0\.5"):
        routing(Gate(accept=0.5, otherwise="reject")).settled(LOW)


def test_stability_is_checked_when_the_caller_or_the_gate_asks() -> None:
    asked = [Wish(Options(check_stability=True)), Wish(Options(), Gate(check_stability=True)), Wish(Options(), Gate())]
    assert [wish.check_stability for wish in asked] == [True, True, False]


@given(st.builds(Gate, st.floats(0, 1), st.booleans(), st.sampled_from(["review", "reject", "accept"]), st.booleans()))
def test_a_gate_comes_back_from_its_document(gate: Gate) -> None:
    assert Gate.read(json.loads(json.dumps(gate.document()))) == gate


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        (0.6, "is an object"),
        ({"acept": 0.6}, "has no acept"),
        ({"accept": 1.5}, "from 0 to 1"),
        ({"accept": True}, "from 0 to 1"),
        ({"otherwise": "drop"}, "review, reject, accept"),
        ({"retry_model": "yes"}, "true and false"),
    ],
)
def test_a_bad_gate_says_what_is_allowed(quality: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_recipe({"name": "a", "version": 1, "quality": quality})


# a recipe with locks and a gate


def test_locks_and_a_gate_are_in_the_hash_and_survive_document_and_pickle() -> None:
    plain = Recipe("a", 1, {"output": "alpha"})
    others = [
        dataclasses.replace(plain, locked=True),
        dataclasses.replace(plain, locked=("output",)),
        dataclasses.replace(plain, quality=Gate()),
        dataclasses.replace(plain, quality=Gate(accept=0.9)),
    ]
    assert len({recipe.hash for recipe in (plain, *others)}) == 5
    for recipe in others:
        assert parse_recipe(json.loads(json.dumps(recipe.document()))) == recipe
        assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert set(plain.document()) == {"name", "version", "options", "key_template"}


@pytest.mark.parametrize(
    ("locked", "sent"),
    [
        (True, {"feather_px": 3}),
        (["background_color"], {"background_color": "red"}),
        (["background_color"], {"background_gradient": "90deg #fff #000"}),
        (["padding"], {"padding_top": "0.3"}),
        (["output_size"], {"crop": "true"}),
        (["feather_px"], {"feather_px": "3"}),
    ],
)
def test_what_a_recipe_locks_nobody_replaces(locked: Any, sent: dict[str, Any]) -> None:
    recipe = parse_recipe({"name": "a", "version": 1, "options": {"background_color": "#fff"}, "locked": locked})
    for replace in (recipe.wish, recipe.with_options):
        with pytest.raises(ConflictingOptions, match="locked by the recipe a@1") as refused:
            replace(sent)
        assert refused.value.data["field"] == next(iter(sent))
    with pytest.raises(ConflictingOptions, match="background_file"):
        dataclasses.replace(recipe, locked=True).wish({}, background_file=True)


def test_what_is_about_one_photo_and_what_says_the_same_passes_every_lock() -> None:
    recipe = parse_recipe({"name": "a", "version": 1, "options": {"background_color": "#fff"}, "locked": True})
    wish = recipe.wish({"store": "true", "name": "shoe", "sku": "A-1", "background_color": "#FFF", "format": "jpg"})
    assert (wish.options.store, wish.options.sku) == (True, "A-1")


@pytest.mark.parametrize("locked", [3, "all", ["nothing"], ["store"], [1], {"a": 1}])
def test_a_bad_lock_is_refused(locked: Any) -> None:
    with pytest.raises(OptionError, match="locked"):
        parse_recipe({"name": "a", "version": 1, "locked": locked})


def test_a_wish_names_the_recipe_and_a_changed_one_has_a_hash_of_its_own() -> None:
    recipe = find_recipe("minimal")
    assert recipe.wish({"store": True, "sku": "A-1", "format": ""}).recipe == recipe.tag
    changed = recipe.wish({"padding": "0.1"})
    assert changed.recipe == recipe.with_options({"padding": "0.1"}).tag != recipe.tag
    assert recipe.wish({}, background_file=True).options.output == "composite"


# an operator's own


def own(folder: Path, **documents: Any) -> Path:
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return folder


def test_a_folder_of_recipes_is_known_by_name_and_version(tmp_path: Path) -> None:
    folder = own(
        tmp_path,
        b={"name": "shop", "version": 2, "options": {"output": "alpha"}},
        a={"name": "shop", "version": 1},
    )
    recipes = read_recipes(str(folder))
    assert [recipe.id for recipe in recipes] == ["shop@1", "shop@2"]
    assert find_recipe("shop", recipes).version == 2
    assert find_recipe("shop@1", recipes).version == 1
    assert [entry["id"] for entry in catalogue(recipes)["recipes"]][-2:] == ["shop@1", "shop@2"]
    with pytest.raises(UnknownRecipe, match="shop@2"):
        find_recipe("shop@3", recipes)
    assert read_recipes(None) == ()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "holds no JSON"),
        ({"name": "Shop", "version": 1}, "small letters"),
        ({"name": "minimal", "version": 7}, "that of a preset"),
        ({"name": "kept", "version": 1}, "another file"),
        ("[" * 70_000, "bytes; allowed"),
    ],
)
def test_a_bad_file_among_them_is_named(tmp_path: Path, document: Any, message: str) -> None:
    own(tmp_path, a={"name": "kept", "version": 1}, bad=document)
    with pytest.raises(OptionError, match=message) as refused:
        read_recipes(str(tmp_path))
    assert "bad.json" in refused.value.message
    with pytest.raises(OptionError, match="no folder"):
        read_recipes(str(tmp_path / "gone"))
