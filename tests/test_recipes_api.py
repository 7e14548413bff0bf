"""GET /v1/recipes. Contract, 1.5."""

from __future__ import annotations

from mattehorn.options import TEMPLATE_NAMES
from mattehorn.recipe.recipe import PRESETS, catalogue, parse_recipe
from tests.api_client import Client, post


def test_the_recipes_come_with_hash_and_effective_options(client: Client) -> None:
    answer = client.get("/v1/recipes")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    document = answer.json()
    assert document == catalogue()
    assert [entry["hash"] for entry in document["recipes"]] == [recipe.hash for recipe in PRESETS]
    assert [entry["name"] for entry in document["background_templates"]] == list(TEMPLATE_NAMES)


def test_an_entrys_options_are_taken_by_the_endpoint_for_one_photo(client: Client) -> None:
    (entry,) = (entry for entry in client.get("/v1/recipes").json()["recipes"] if entry["id"] == "id-photo@2")
    fields = {name: str(value) for name, value in entry["options"].items() if value is not None}
    answer = post(client, **fields)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert (answer.headers["x-width"], answer.headers["x-height"]) == ("413", "531")


def test_an_entrys_options_make_a_recipe_of_ones_own(client: Client) -> None:
    for entry in client.get("/v1/recipes").json()["recipes"]:
        mine = {"name": "mine", "version": 1, "options": entry["options"], "key_template": entry["key_template"]}
        recipe = parse_recipe(mine)
        assert recipe.bulk_options().kind == entry["options"]["output"]
        assert recipe.hash != entry["hash"]


def test_only_get_is_answered_and_the_security_headers_are_there(client: Client) -> None:
    assert client.post("/v1/recipes").status_code == 405
    assert client.get("/v1/recipes").headers["x-content-type-options"] == "nosniff"
