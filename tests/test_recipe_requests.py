"""`recipe`, `tier` and the gate over HTTP, with a fast pool and a stronger one: 1.1, 1.4 and 1.5 of the contract."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mattehorn import telemetry
from mattehorn.recipe.recipe import Recipe, find_recipe, parse_recipe
from tests.api_client import EMPTY, JSON, PHOTO, Client, error_of, post
from tests.service import InProcessService, Pixels

STRONG = "mattehorn-base"


@pytest.fixture(autouse=True)
def keep_the_metrics_back_end() -> Iterator[None]:
    before = telemetry._backend
    yield
    telemetry._backend = before


def hazy(folder: Path, **args: Any) -> InProcessService:
    """A service whose model gives hazy mattes; a stronger one does not."""
    service = InProcessService(folder, **args)
    actual = service.matting.model.predict
    service.matting.model.predict = lambda images: np.asarray(actual(images) * 0.5, np.float32)  # type: ignore[method-assign]
    return service


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Client]:
    with Client(hazy(tmp_path, strong_model=STRONG)) as client:
        yield client


@pytest.fixture
def weak(tmp_path: Path) -> Iterator[Client]:
    with Client(hazy(tmp_path)) as client:
        yield client


def gated(accept: float = 0.99, **quality: Any) -> str:
    return json.dumps({"name": "mine", "version": 3, "quality": {"accept": accept, **quality}})


def asked(client: Client) -> tuple[int, int]:
    """Pictures that the fast pool and the stronger one have seen."""
    service = client.service
    return service.matting.asked, service.strong.asked if service.strong else 0


# the recipe


@pytest.mark.parametrize("name", ["minimal", "minimal@2"])
def test_a_recipe_by_its_name_gives_its_values_and_says_so(client: Client, name: str) -> None:
    answer = post(client, recipe=name)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert (answer.headers["x-width"], answer.headers["x-height"]) == ("1600", "2000")
    assert answer.headers["x-mattehorn-recipe"] == find_recipe("minimal@2").tag
    assert client.service.jobs[-1].recipe == find_recipe("minimal@2").tag
    assert "x-mattehorn-route" not in answer.headers


def test_fields_go_over_the_recipes_and_the_hash_follows(client: Client) -> None:
    answer = post(client, recipe="minimal", output_size="90x80", headers=JSON)
    changed = find_recipe("minimal").with_options({"output_size": "90x80"})
    assert answer.json()["recipe"] == {"name": "minimal", "version": 2, "hash": changed.hash}
    assert (answer.json()["width"], answer.json()["route"]) == (90, None)


@pytest.mark.parametrize("sent", [{"crop": "true"}, {"output": "alpha"}, {"output": "cutout"}, {"output": "zip"}])
def test_what_a_field_excludes_of_the_recipes_makes_way(client: Client, sent: dict[str, str]) -> None:
    answer = post(client, recipe="minimal", **sent)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-mattehorn-recipe"] == find_recipe("minimal").with_options(sent).tag


def test_the_recipes_own_value_in_another_spelling_is_the_same_request(client: Client) -> None:
    mine = json.dumps({"name": "mine", "version": 3, "options": {"background_color": "#f2f2f0"}, "locked": True})
    for fields in ({}, {"background_color": "F2F2F0", "feather_px": "no"}):
        assert post(client, recipe=mine, **fields).status_code == 200
    first, second = client.service.jobs[-2:]
    assert (first.recipe, first.options) == (second.recipe, second.options)


def test_raw_bodies_and_json_name_a_recipe_too(client: Client) -> None:
    raw = client.post("/v1/mattes?recipe=transparent-web", content=PHOTO, headers={"content-type": "image/png"})
    assert raw.headers["content-type"] == "image/webp"
    import base64

    body = {"image_base64": base64.b64encode(PHOTO).decode(), "recipe": {"name": "a", "version": 1, "options": {}}}
    answer = client.post("/v1/mattes", json=body)
    assert answer.headers["x-mattehorn-recipe"] == Recipe("a", 1).tag


def test_a_background_picture_takes_the_place_of_the_recipes(client: Client) -> None:
    files = {"file": ("a.png", PHOTO), "background_file": ("b.png", PHOTO)}
    answer = client.post("/v1/mattes", files=files, data={"recipe": "minimal", "output_size": "90x80"})
    assert answer.status_code == 200
    assert client.service.jobs[-1].options.background_color is None


@pytest.mark.parametrize(
    ("recipe", "code"),
    [
        ("nothing", "unknown_recipe"),
        ("minimal@9", "unknown_recipe"),
        ("{", "invalid_option"),
        ('{"name": "A", "version": 1}', "invalid_option"),
        ('{"name": "minimal", "version": 1, "options": {}}', "invalid_option"),
        ('{"name": "a", "version": 1, "options": {"backgrund": 1}}', "unknown_option"),
    ],
)
def test_a_recipe_that_is_none_is_refused(client: Client, recipe: str, code: str) -> None:
    assert error_of(post(client, recipe=recipe), 422, code)


def test_a_recipe_of_another_type_is_refused(client: Client) -> None:
    error_of(client.post("/v1/mattes", json={"image_base64": "aaaa", "recipe": [1]}), 422, "invalid_option")


def test_a_lock_names_field_and_recipe(client: Client) -> None:
    mine = json.dumps({"name": "mine", "version": 3, "options": {"feather_px": 1}, "locked": True})
    error = error_of(post(client, recipe=mine, feather_px="2"), 422, "conflicting_options")
    assert error["field"] == "feather_px"
    assert "mine@3" in error["message"]
    assert post(client, recipe=mine, store="true", name="shoe").status_code == 200


def test_the_operators_recipes_are_known_by_name(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    document = {"name": "shop", "version": 4, "options": {"output": "alpha"}}
    (tmp_path / "own" / "shop.json").write_text(json.dumps(document))
    with Client(InProcessService(tmp_path / "store", recipes_dir=str(tmp_path / "own"))) as client:
        assert post(client, recipe="shop").headers["x-mattehorn-recipe"] == parse_recipe(document).tag
        assert client.get("/v1/recipes").json()["recipes"][-1]["id"] == "shop@4"


def test_a_stored_result_and_a_zip_can_be_made_again(client: Client) -> None:
    answer = post(client, recipe="transparent-web", store="true")
    record = client.get(f"/v1/results/{answer.headers['x-mattehorn-result-id']}").json()
    assert (record["recipe"], record["model"]) == (find_recipe("transparent-web").tag, "fake@1")
    packed = zipfile.ZipFile(io.BytesIO(post(client, recipe="transparent-web", output="zip").content))
    meta = json.loads(packed.read("meta.json"))
    assert (meta["model"], meta["quality"]["reasons"]) == ("fake@1", [])
    assert meta["recipe"].startswith("transparent-web@1;")


# tiers


def test_each_tier_asks_its_pool_and_the_answer_names_the_model(both: Client) -> None:
    assert post(both, tier="fast").headers["x-mattehorn-model"] == "fake@1"
    assert asked(both) == (1, 0)
    assert post(both, tier="best").headers["x-mattehorn-model"] == "mattehorn-base@1"
    assert asked(both) == (1, 1)
    assert post(both, model=STRONG).headers["x-mattehorn-model"] == "mattehorn-base@1"
    assert post(both, model="fake").headers["x-mattehorn-model"] == "fake@1"
    assert asked(both) == (2, 2)


def test_auto_gives_the_better_of_two_when_the_first_is_weak(both: Client) -> None:
    answer = post(both)
    assert (asked(both), answer.headers["x-mattehorn-model"]) == ((1, 1), "mattehorn-base@1")
    assert Image.open(io.BytesIO(answer.content)).getchannel("A").getextrema() == (0, 255)
    text = both.get("/metrics").text
    assert 'mattehorn_quality_routes_total{route="retry"} 1.0' in text
    assert "mattehorn_quality_score_count 1.0" in text


def test_a_stronger_model_that_does_worse_is_not_given_out(tmp_path: Path) -> None:
    service = hazy(tmp_path, strong_model=STRONG)
    assert service.strong is not None
    service.strong.model.predict = lambda images: np.zeros(images.shape[:3], np.float32)  # type: ignore[method-assign]
    with Client(service) as client:
        answer = post(client, recipe=gated(accept=1.0, otherwise="accept"))
        assert (asked(client), answer.headers["x-mattehorn-model"]) == ((1, 1), "fake@1")


def test_a_good_first_matte_is_the_answer(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path, strong_model=STRONG)) as client:
        assert post(client).headers["x-mattehorn-model"] == "fake@1"
        assert asked(client) == (1, 0)


def test_best_without_a_stronger_model_warns(client: Client) -> None:
    assert post(client, tier="best").headers["x-mattehorn-warnings"] == "no_stronger_model"
    assert "x-mattehorn-warnings" not in post(client).headers


def test_an_empty_matte_has_a_second_try_and_is_then_no_foreground(both: Client) -> None:
    error_of(post(both, EMPTY), 422, "no_foreground")
    assert asked(both) == (1, 1)


def test_the_models_are_listed_and_one_that_does_not_run_is_refused(both: Client) -> None:
    models = both.get("/v1/models").json()["models"]
    assert [(model["name"], model["default"]) for model in models] == [("fake", True), (STRONG, False)]
    assert "fake@1 and mattehorn-base@1" in error_of(post(both, model="u2netp"), 422, "unknown_model")["message"]


# the gate


def test_a_gate_accepts_or_sends_to_review_and_says_so(weak: Client) -> None:
    assert post(weak, recipe=gated(0.1)).headers["x-mattehorn-route"] == "accept"
    answer = post(weak, recipe=gated(1.0), store="true", headers=JSON)
    assert answer.json()["route"] == answer.headers["x-mattehorn-route"] == "review"
    record = weak.get(f"/v1/results/{answer.headers['x-mattehorn-result-id']}").json()
    assert record["key"].startswith("review/outputs/")
    assert record["quality"]["route"] == "review"
    text = weak.get("/metrics").text
    assert 'mattehorn_quality_routes_total{route="accept"} 1.0' in text
    assert 'mattehorn_quality_routes_total{route="review"} 1.0' in text


def test_a_gate_that_rejects_answers_with_the_score(weak: Client) -> None:
    error = error_of(post(weak, recipe=gated(1.0, otherwise="reject")), 422, "low_quality")
    assert "accepts 1 and more" in error["message"]
    assert 'route="reject"} 1.0' in weak.get("/metrics").text


def test_a_gate_decides_when_the_stronger_model_has_a_go(both: Client) -> None:
    post(both, recipe=gated(0.01))
    assert asked(both) == (1, 0)
    post(both, recipe=gated(1.0, retry_model=False))
    assert asked(both) == (2, 0)
    assert post(both, recipe=gated(0.7)).headers["x-mattehorn-route"] == "accept"
    assert asked(both) == (3, 1)


def test_the_check_of_stability_shows_the_network_the_mirror_image(client: Client) -> None:
    seen: list[Pixels] = []
    actual = client.service.matting.predict.remote

    async def watch(pixels: Pixels, lane: Any) -> Any:
        seen.append(pixels)
        return await actual(pixels, lane)

    client.service.matting.predict.remote = watch
    for fields in ({"check_stability": "true"}, {"recipe": gated(0.1, check_stability=True)}):
        seen.clear()
        assert post(client, **fields).status_code == 200
        assert len(seen) == 2
        assert (seen[1][:48] == seen[0][:48, ::-1]).all()
