"""The presets: hashes that never change, what each gives, and the catalogue that shows them."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image, ImageOps

from mattehorn.colour import BACKGROUND_TEMPLATES
from mattehorn.models.fake import FakeModel
from mattehorn.options import Options, parse_options
from mattehorn.pipeline import run
from mattehorn.recipe.recipe import NOT_IN_BULK, PRESETS, Recipe, catalogue, find_recipe, parse_recipe
from mattehorn.recipe.result_keys import extension
from mattehorn.scenes import SCENES
from mattehorn.settings import Limits
from tests.service import BACKGROUND, encoded, photo

HASHES = {
    "transparent-web@1": "410ad765f5807f45f4285bc517f913df764de9be9900409cac8491e34092f838",
    "marketplace-white@1": "434f03ce6eb1fa1ea9ad968636f3b38aa64e56b3687fd6145e0fbb03c2c09125",
    "marketplace-white-2000@1": "3072ac09551d42b8ac0cfbcc4850c20a325263751f1a40d110a1cb3cbc143c2d",
    "gradient@1": "e5b8019a50c4e445b7dde2104049b1a14a02323692b14011ad7323a5a3f8b2fb",
    "soft-daylight@1": "eb910e98888fa369d2ee3e97e62b74dab45007bd3eb5a802f9072ef52240472a",
    "minimal@1": "bea32ff4ad7f7f6cc9dd949032eec89eccf3beba7ee9319fa9a3771cf48b3a64",
    "id-photo@1": "e8b2f2b8b3cf468d45a4dd6156688205987808276a94c1246ef4c02e28fd064d",
    "meeting-portrait@1": "d81244962505198d7d7dee836a5a3dfc3fb37bb1e992b6be41601ad0afd77105",
    "obs-asset@1": "bf529d68edb865b76c784d9997ae7873b21d27d2bf1cb592e63a63ad17dd7a9c",
    "marketplace-white@2": "c2f7879d9dd9b7737bf36e9ff9b0337dbba7864ccc3e8f2dbf1f818356af32c6",
    "marketplace-white-2000@2": "40e9f7d666436d320bfa2f3cf6ea5d91b299bf5ca3ed2e056c2f9bc849187bfb",
    "gradient@2": "66138021e681e7f50e1fc88c8c5da409c67519df88b0c5f1008bd459d72c1bfe",
    "soft-daylight@2": "67e4020818d524986835b0a4f85314ccde55702816dec04413b64db05b9fb428",
    "minimal@2": "4e2170dfd14a1ac717fe9451dfaae565fcc0a679fa4e5b53b13e587ce721d76e",
    "id-photo@2": "c3a924477ce1a894815d9597261bd8dd439dc4b9ac63c11d7388e8c69f3575c3",
}
SIZES = {  # without a layout a result has the photo's size
    "transparent-web": ("WEBP", (64, 48)),
    "marketplace-white": ("JPEG", (64, 48)),
    "marketplace-white-2000": ("JPEG", (2000, 2000)),
    "gradient": ("JPEG", (2000, 2000)),
    "soft-daylight": ("JPEG", (2000, 2000)),
    "minimal": ("JPEG", (1600, 2000)),
    "id-photo": ("JPEG", (413, 531)),
    "meeting-portrait": ("JPEG", (1920, 1080)),
    "obs-asset": ("PNG", (1920, 1080)),
}
EACH = pytest.mark.parametrize("recipe", PRESETS, ids=lambda recipe: recipe.id)


def made(recipe: Recipe) -> Image.Image:
    """What the preset makes of a small photo: a subject amid a plain background."""
    result = run(FakeModel(), encoded(photo()), recipe.bulk_options(), Limits())
    assert result.warnings == ()
    return Image.open(io.BytesIO(result.data))


def test_a_presets_hash_never_changes_or_a_bucket_would_be_done_again() -> None:
    assert {recipe.id: recipe.hash for recipe in PRESETS} == HASHES


@EACH
def test_a_preset_says_what_it_is_for(recipe: Recipe) -> None:
    assert recipe.description.endswith(".")
    assert find_recipe(recipe.id) is recipe


@EACH
def test_a_preset_makes_a_picture_of_its_format_and_size(recipe: Recipe) -> None:
    picture = made(recipe)
    assert (picture.format, picture.size) == SIZES[recipe.name]


def test_an_id_photo_measures_35_by_45_mm() -> None:
    picture = made(find_recipe("id-photo"))
    assert picture.info["dpi"] == (300, 300)
    assert [round(side / 300 * 25.4, 1) for side in picture.size] == [35.0, 45.0]


@pytest.mark.parametrize("name", ["marketplace-white", "marketplace-white-2000", "id-photo"])
def test_white_is_pure_white_in_the_file(name: str) -> None:
    picture = made(find_recipe(name)).convert("RGB")
    assert [picture.getpixel(at) for at in ((0, 0), (picture.width - 1, 0))] == [(255, 255, 255)] * 2


def test_a_large_marketplace_picture_is_filled_to_85_percent() -> None:
    picture = made(find_recipe("marketplace-white-2000")).convert("L")
    box = ImageOps.invert(picture).getbbox()  # all that is not pure white: the matte's faintest edge too
    assert box is not None
    assert max(box[2] - box[0], box[3] - box[1]) == pytest.approx(1700, abs=16)  # a block of jpg


def test_a_meeting_portrait_keeps_the_photos_own_background() -> None:
    corner = made(find_recipe("meeting-portrait")).convert("RGB").getpixel((2, 2))
    assert corner == pytest.approx(BACKGROUND, abs=4)


def test_an_obs_asset_is_transparent_around_the_subject() -> None:
    picture = made(find_recipe("obs-asset"))
    assert picture.mode == "RGBA"
    assert picture.getchannel("A").getextrema() == (0, 255)


# the catalogue


def test_the_catalogue_holds_every_preset_and_template_as_json() -> None:
    document = json.loads(json.dumps(catalogue()))
    assert set(document) == {"recipes", "background_templates"}
    assert [(entry["id"], entry["hash"]) for entry in document["recipes"]] == list(HASHES.items())
    templates = BACKGROUND_TEMPLATES | dict.fromkeys(SCENES)  # a scene has no gradient
    assert {entry["name"]: entry["gradient"] for entry in document["background_templates"]} == templates
    fields = {"name", "version", "id", "hash", "description", "options", "given", "key_template", "locked", "quality"}
    assert all(set(entry) == fields for entry in document["recipes"])


@EACH
def test_its_options_are_those_in_force_and_can_be_sent_as_they_are(recipe: Recipe) -> None:
    options = recipe.entry()["options"]
    assert set(options) == set(Options.model_fields) - set(NOT_IN_BULK)
    assert options.items() >= dict(recipe.options).items()
    assert parse_options(options).model_dump() == recipe.bulk_options().model_dump()


def test_what_a_recipe_leaves_to_its_other_options_is_filled_in() -> None:
    options = Recipe("a", 1, {"background_color": "white"}).entry()["options"]
    assert (options["output"], options["format"], options["encode_quality"]) == ("composite", "jpg", 90)
    assert extension(parse_options(options)) == "jpg"


@EACH
def test_an_entry_cut_down_to_a_document_is_the_same_recipe(recipe: Recipe) -> None:
    document = recipe.document() | {"description": recipe.description}
    assert parse_recipe(json.loads(json.dumps(document))).hash == recipe.hash
