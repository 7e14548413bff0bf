"""What stands between a data folder and training: everything wrong with it is listed at once, the rest is packed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mattehorn.evaluation.metrics import grad
from training.dataset import class_probabilities, pack_sets, probabilities
from training.made_up_photos import FAULTS, write_sets
from training.recipe import Recipe, load_recipe
from training.sources import DataError, Source, read_image, read_photo, sharpen, stretch
from training.split import group_name, is_validation, merge_alike

RECIPE = Path(__file__).parents[1] / "training" / "recipes" / "smoke.toml"
COUNT = 24  # drawings a set: some of each set validate
SHAPES = "made_up_shapes"


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(RECIPE)


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """A work folder with a teacher's answers; its data folder stands beside it."""
    write_sets(tmp_path / "data", tmp_path / "work", COUNT)
    return tmp_path / "work"


def shapes(work_dir: Path) -> Path:
    return work_dir.parent / "data" / SHAPES


def pack(recipe: Recipe, work_dir: Path) -> dict[str, object]:
    return {packed.name: packed for packed in pack_sets(recipe, work_dir.parent / "data", work_dir)}


def refused(recipe: Recipe, work_dir: Path) -> str:
    with pytest.raises(DataError) as error:
        pack(recipe, work_dir)
    return str(error.value)


def test_everything_wrong_in_every_set_is_listed_at_once(recipe: Recipe, work_dir: Path) -> None:
    (shapes(work_dir) / "mask" / "photo 000.png").unlink()
    (shapes(work_dir) / "image" / "photo 001.jpg").unlink()
    (shapes(work_dir) / "image" / "photo 002.jpg").write_bytes(b"no picture")
    whole = (shapes(work_dir) / "image" / "photo 003.jpg").read_bytes()
    (shapes(work_dir) / "image" / "photo 003.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (10, 12), 255).save(shapes(work_dir) / "mask" / "photo 004.png")
    (work_dir / "teacher" / "made_up_unlabelled" / "photo 005.png").write_bytes(b"")
    message = refused(recipe, work_dir)
    assert message.startswith("6 problems")
    for number, words in enumerate(("no ", "no photo", "cannot identify", "truncated", "10x12", "cannot identify")):
        (line,) = (line for line in message.splitlines() if f"photo 00{number}" in line)
        assert words in line
    assert not (work_dir / "packed" / f"{SHAPES}.json").exists()


@pytest.mark.parametrize(
    ("mode", "value", "words"),
    [("I;16", 65535, "I;16"), ("RGBA", (255, 255, 255, 128), "RGBA"), ("L", 1, "write the subject as 255")],
)
def test_a_label_that_would_be_misread_is_refused(
    recipe: Recipe, work_dir: Path, mode: str, value: int, words: str
) -> None:
    path = shapes(work_dir) / "mask" / "photo 000.png"
    size = Image.open(path).size
    Image.new(mode, size, value).save(path)
    assert words in refused(recipe, work_dir)


def test_two_photos_of_one_name_are_refused(recipe: Recipe, work_dir: Path) -> None:
    Image.new("RGB", (160, 160)).save(shapes(work_dir) / "image" / "photo 000.png")
    assert "2 photos are named 'photo 000'" in refused(recipe, work_dir)


def test_a_missing_set_and_an_empty_one_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "data" / SHAPES / "image").mkdir(parents=True)
    message = refused(recipe, tmp_path / "work")
    assert "made_up_mattes: no such folder" in message
    assert f"{SHAPES}: 0 photos; at least 8 are needed" in message


def test_a_set_that_the_gates_leave_too_few_of_is_refused(recipe: Recipe, work_dir: Path) -> None:
    strict = replace(recipe, gates=replace(recipe.gates, sharpness_min=1e9))
    assert "the gates left 0 photos" in refused(strict, work_dir)
    assert (work_dir / "gates.jsonl").is_file()


def test_what_file_managers_leave_behind_is_not_data(recipe: Recipe, work_dir: Path) -> None:
    for kind in ("image", "mask"):
        (shapes(work_dir) / kind / ".DS_Store").write_bytes(b"")
    assert SHAPES in pack(recipe, work_dir)


def test_a_pack_keeps_pixels_and_no_group_crosses_the_split(recipe: Recipe, work_dir: Path) -> None:
    packed = next(one for one in pack_sets(recipe, work_dir.parent / "data", work_dir) if one.name == SHAPES)
    assert len(packed.train) + len(packed.validation) == COUNT + 1  # of the spoilt ones, `generous` is under review
    for entry in (*packed.train, *packed.validation):
        label = np.asarray(Image.open(shapes(work_dir) / "mask" / f"{entry.name}.png"))
        assert np.array_equal(packed.rgba(entry)[..., 3], label)
        assert np.array_equal(packed.rgba(entry)[..., :3], read_image(shapes(work_dir) / "image" / f"{entry.name}.jpg"))
    assert not {entry.group for entry in packed.train} & {entry.group for entry in packed.validation}


def test_an_entry_carries_its_measures_and_whether_it_is_under_review(recipe: Recipe, work_dir: Path) -> None:
    for packed in pack_sets(recipe, work_dir.parent / "data", work_dir):
        for entry in (*packed.train, *packed.validation):
            assert 0 < entry.luminance < 1
            assert entry.sharpness >= recipe.gates.sharpness_min
            assert entry.area == pytest.approx((packed.rgba(entry)[..., 3] > 127).mean(), abs=1e-3)
            assert entry.review == (entry.name == "generous")


def test_a_pack_is_used_again_until_a_choice_or_a_file_changes(
    recipe: Recipe, work_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(recipe, work_dir)
    assert "made_up_mattes" in capsys.readouterr().err
    pack(recipe, work_dir)
    pack(replace(recipe, gates=replace(recipe.gates, review_weight=0.1)), work_dir)
    assert capsys.readouterr().err == ""
    Image.new("L", (160, 160), 255).save(shapes(work_dir) / "mask" / "photo 000.png")
    pack(recipe, work_dir)
    assert "made_up_mattes" in capsys.readouterr().err


def test_the_decisions_of_all_sets_are_one_file(recipe: Recipe, work_dir: Path) -> None:
    pack(recipe, work_dir)
    rows = [json.loads(line) for line in (work_dir / "gates.jsonl").read_text().splitlines()]
    assert {row["set"] for row in rows} == set(recipe.sets)
    said = {row["file"]: (row["gate"], row["decision"]) for row in rows if row["decision"] != "keep"}
    assert said == dict(FAULTS)
    assert all(row["reason"] for row in rows if row["decision"] != "keep")


def test_a_label_under_review_is_drawn_by_its_weight(recipe: Recipe, work_dir: Path) -> None:
    packed = next(one for one in pack_sets(recipe, work_dir.parent / "data", work_dir) if one.name == SHAPES)
    entries = (replace(packed.train[0], review=True), *packed.train[1:4])
    assert probabilities(entries, 1.0, 0.5) == pytest.approx([1 / 7, 2 / 7, 2 / 7, 2 / 7])
    assert probabilities(entries, 1.0, 0.0) == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    assert not probabilities(entries[:1], 1.0, 0.0).any()


def test_a_teachers_blob_is_sharpened_at_the_photos_edge() -> None:
    truth = np.zeros((160, 200), np.uint8)
    cv2.circle(truth, (97, 83), 50, 255, -1)
    image = np.dstack([np.where(truth > 0, 210, 40)] * 3).astype(np.uint8)
    blob = cv2.resize(cv2.GaussianBlur(truth, (0, 0), 3), (320, 320)).astype(np.uint8)
    sharpened, plain = sharpen(image, blob), stretch(blob, truth.shape)
    assert sharpened.shape == truth.shape
    assert grad(unit(sharpened), unit(truth)) < 0.9 * grad(unit(plain), unit(truth))


def unit(label: np.ndarray) -> np.ndarray:
    return np.asarray(label / np.float32(255), np.float32)


def test_the_recipe_says_whether_a_teachers_label_is_sharpened(recipe: Recipe, work_dir: Path) -> None:
    folder = work_dir.parent / "data" / "made_up_unlabelled" / "image" / "photo 000.jpg"
    source = Source(folder, work_dir / "teacher" / "made_up_unlabelled" / "photo 000.png")
    choice = recipe.sets["made_up_unlabelled"]
    plain = read_photo(source, choice, replace(recipe.pack, sharpen_teacher=False))
    assert not np.array_equal(plain.label, read_photo(source, choice, recipe.pack).label)
    assert plain.label.shape == plain.image.shape[:2]


def test_photos_of_one_scene_share_a_group() -> None:
    assert group_name("s", "Faces__image_0003") == group_name("s", "Faces_easy__image_0003")
    assert group_name("s", "cat_7_jpg.rf.aa") == group_name("s", "cat_7_jpg.rf.bb")
    assert merge_alike(["a", "b", "c"], [0b1111, 0b1110, 1 << 60], 3) == ["a", "a", "c"]


def test_about_one_group_in_twenty_validates() -> None:
    assert 300 < sum(is_validation(f"set/{number}", 20) for number in range(8000)) < 500


def test_balance_evens_out_the_classes() -> None:
    names = ["a__1", "a__2", "a__3", "b__1"]
    assert class_probabilities(names, 1.0) == pytest.approx([0.25] * 4)
    assert class_probabilities(names, 0.0) == pytest.approx([1 / 6] * 3 + [1 / 2])
