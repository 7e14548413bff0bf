"""The training recipe on made-up photos: it learns, resumes on the same curve, and refuses what is wrong early."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mattehorn.models.unet import SlimHalfUNet
from training.augment import KINDS, composite, free_strip, view
from training.dataset import DataError, class_probabilities, group_name, is_validation, merge_alike, pack_sets
from training.evaluate import predictor, score_photo
from training.export import export
from training.losses import matting_loss, pixel_trust, trimap_target
from training.recipe import Recipe, RecipeError, SetChoice, Stage, load_recipe
from training.teacher import SIDE, U2NetP, probabilities
from training.train import learning_rate, train


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on a busy machine wait for each other at every layer of a tiny network."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


RECIPE = Path(__file__).parents[1] / "training" / "recipes" / "slim.toml"


def disc_photo(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on a dark textured ground, and its mask."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 90, (120, 140, 3)).astype(np.uint8)
    mask = np.zeros((120, 140), np.uint8)
    centre = (int(rng.integers(40, 100)), int(rng.integers(40, 80)))
    cv2.circle(mask, centre, int(rng.integers(20, 38)), 255, -1)
    image[mask > 0] = rng.integers(170, 255, 3)
    return image, mask


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for kind in ("image", "mask"):
        (folder / "discs" / kind).mkdir(parents=True)
    for number in range(24):
        image, mask = disc_photo(number)
        Image.fromarray(image).save(folder / "discs" / "image" / f"disc [{number}].a.jpg", quality=95)
        Image.fromarray(mask).save(folder / "discs" / "mask" / f"disc [{number}].a.png")
    return folder


@pytest.fixture
def recipe() -> Recipe:
    """The real recipe, shrunk: a width-8 network, 64 px, 24 steps."""
    full = load_recipe(RECIPE)
    return replace(
        full,
        width=8,
        input_size=64,
        sets={"discs": SetChoice(kind="mask", weight=1.0, terms="made up")},
        stages=(Stage(side=64, batch=4, samples=64), Stage(side=96, batch=4, samples=32)),
        pack=replace(full.pack, validation_modulus=5),
        optimiser=replace(full.optimiser, warmup=8),
        run=replace(full.run, evaluate_every=32, checkpoint_every=32, synchronise_every=4),
    )


def logged(work_dir: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (work_dir / "log.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in ("samples", "losses", "iou") if key in row} for row in rows]


def test_the_loss_falls_and_each_validation_is_one_json_line(recipe: Recipe, data_dir: Path, tmp_path: Path) -> None:
    state = train(recipe, data_dir, tmp_path, workers=0, bf16=False)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert state.samples == 96
    assert [row["samples"] for row in rows] == [32, 64, 96, 96]
    assert sum(rows[2]["losses"]) < sum(rows[0]["losses"])
    assert 0 <= rows[-1]["iou"] <= 1


def test_a_resumed_run_gives_the_same_curve(recipe: Recipe, data_dir: Path, tmp_path: Path) -> None:
    whole = train(recipe, data_dir, tmp_path / "a", workers=0, bf16=False)
    train(recipe, data_dir, tmp_path / "b", workers=0, bf16=False, stop_at=32)
    resumed = train(recipe, data_dir, tmp_path / "b", workers=0, bf16=False)
    assert logged(tmp_path / "a") == logged(tmp_path / "b")
    for own, other in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(own, other)


def test_an_unknown_recipe_key_is_refused_by_its_full_name(tmp_path: Path) -> None:
    path = tmp_path / "typo.toml"
    path.write_text(RECIPE.read_text().replace("cross_entropy = 1.0", "cross_entropy = 1.0\ncros_entropy = 1.0"))
    with pytest.raises(RecipeError, match=r"loss\.'cros_entropy'"):
        load_recipe(path)


def test_a_missing_key_and_a_wrong_type_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(RECIPE.read_text().replace("seed = 20", ""))
    with pytest.raises(RecipeError, match="seed"):
        load_recipe(path)
    path.write_text(RECIPE.read_text().replace("seed = 20", 'seed = "twenty"'))
    with pytest.raises(RecipeError, match="seed must be int"):
        load_recipe(path)


def test_missing_pairs_are_listed_before_training(recipe: Recipe, data_dir: Path, tmp_path: Path) -> None:
    for kind in ("image", "mask"):
        (tmp_path / "discs" / kind).mkdir(parents=True)
    for name in ("lonely", "single"):
        Image.fromarray(disc_photo(0)[0]).save(tmp_path / "discs" / "image" / f"{name}.jpg")
    with pytest.raises(DataError, match=r"2 files[\s\S]*lonely[\s\S]*single"):
        pack_sets(recipe, tmp_path, tmp_path / "work")


def test_corrupt_files_and_wrong_sizes_are_listed_before_training(recipe: Recipe, tmp_path: Path) -> None:
    for kind in ("image", "mask"):
        (tmp_path / "discs" / kind).mkdir(parents=True)
    (tmp_path / "discs" / "image" / "broken.jpg").write_bytes(b"no picture")
    Image.fromarray(disc_photo(0)[0]).save(tmp_path / "discs" / "image" / "small.jpg")
    for name in ("broken", "small"):
        Image.new("L", (10, 10), 255).save(tmp_path / "discs" / "mask" / f"{name}.png")
    with pytest.raises(DataError, match=r"2 files[\s\S]*broken[\s\S]*small"):
        pack_sets(recipe, tmp_path, tmp_path / "work")


def test_a_missing_set_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="discs: no such folder"):
        pack_sets(recipe, tmp_path, tmp_path / "work")


def test_a_pack_keeps_pixels_and_no_group_crosses_the_split(recipe: Recipe, data_dir: Path, tmp_path: Path) -> None:
    (packed,) = pack_sets(recipe, data_dir, tmp_path)
    assert len(packed.train) + len(packed.validation) == 24
    entry = packed.train[0]
    mask = np.asarray(Image.open(data_dir / "discs" / "mask" / f"{entry.name}.png"))
    assert np.array_equal(packed.rgba(entry)[..., 3], mask)
    assert not {e.group for e in packed.train} & {e.group for e in packed.validation}


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


def test_a_view_moves_photo_and_label_together(recipe: Recipe) -> None:
    _, mask = disc_photo(1)
    rgba = np.dstack([mask] * 4)
    for number in range(40):
        seen = view(rgba, 64, 0.5, recipe.augment, np.random.default_rng(number))
        assert seen.shape == (64, 64, 4)
        assert np.array_equal(seen[..., 0], seen[..., 3])


def test_compositing_keeps_the_subject_and_replaces_the_rest() -> None:
    image, mask = disc_photo(2)
    backdrop = np.full_like(image, 40)
    mixed = composite(image, mask, backdrop, "matte", np.random.default_rng(0))
    assert np.array_equal(mixed[mask == 255], image[mask == 255])
    assert np.array_equal(mixed[mask == 0], backdrop[mask == 0])


def test_a_backdrop_strip_holds_no_subject() -> None:
    rgba = np.zeros((100, 120, 4), np.uint8)
    rgba[20:80, 70:, 3] = 255
    strip = free_strip(rgba)
    assert strip is not None
    assert strip.shape[:2] == (100, 70)
    assert strip[..., 3].max() == 0
    rgba[..., 3] = 255
    assert free_strip(rgba) is None


def test_the_loss_is_near_zero_for_the_right_answer_and_larger_for_a_wrong_one(recipe: Recipe) -> None:
    target = torch.zeros(1, 1, 64, 64)
    target[..., 16:48, 16:48] = 1
    classes = torch.nn.functional.one_hot(trimap_target(target), 3).permute(0, 3, 1, 2).float() * 20
    kinds = torch.tensor([KINDS.index("matte")])
    right, _ = matting_loss(target, classes, target, kinds, recipe.loss)
    wrong, _ = matting_loss(1 - target, classes.flip(1), target, kinds, recipe.loss)
    assert float(right) < 1e-3 < 1 < float(wrong)


def test_a_hand_made_mask_is_not_trusted_at_its_edge(recipe: Recipe) -> None:
    target = torch.zeros(1, 1, 256, 256)
    target[..., 128:] = 1
    trust, _ = pixel_trust(target, torch.tensor([KINDS.index("mask")]), recipe.loss)
    assert trust[0, 0, 0, 125:131].sum() == 0
    assert trust[0, 0, 0, :120].min() == 1
    trust, _ = pixel_trust(target, torch.tensor([KINDS.index("matte")]), recipe.loss)
    assert trust.min() == 1


def test_a_teachers_doubt_counts_little_and_never_as_an_edge(recipe: Recipe) -> None:
    target = torch.full((1, 1, 32, 32), 0.5)
    trust, edges = pixel_trust(target, torch.tensor([KINDS.index("teacher")]), recipe.loss)
    assert float(trust.max()) == pytest.approx(recipe.loss.teacher_doubt)
    assert edges.max() == 0


def test_the_learning_rate_warms_up_and_ends_at_its_floor(recipe: Recipe) -> None:
    stages = (Stage(side=1, batch=1, samples=1000), Stage(side=2, batch=1, samples=250))
    recipe = replace(recipe, stages=stages, optimiser=replace(recipe.optimiser, rate=1.0, warmup=100, floor=0.01))
    assert learning_rate(0, recipe) == 0
    assert learning_rate(50, recipe) == pytest.approx(0.5, rel=0.02)
    assert learning_rate(1000, recipe) == pytest.approx(0.505)
    assert learning_rate(1250, recipe) == pytest.approx(0.01)


def test_the_teacher_answers_at_its_own_size() -> None:
    teacher = U2NetP().eval()
    assert sum(weight.numel() for weight in teacher.parameters()) == 1_125_485
    assert probabilities(teacher, [disc_photo(3)[0]], bf16=False).shape == (1, SIDE, SIDE)


def test_a_prediction_has_the_size_of_its_photo(recipe: Recipe) -> None:
    predict = predictor(SlimHalfUNet(8).eval(), recipe, 64, bf16=False)
    assert predict(disc_photo(5)[0]).shape == (120, 140)


def test_scores_know_the_perfect_the_empty_and_the_wrong() -> None:
    truth = np.zeros((8, 8), np.float32)
    assert score_photo(truth, truth) == {"iou": 1.0, "dice": 1.0, "mae": 0.0, "mse": 0.0}
    truth[:4] = 1
    assert score_photo(truth, truth)["iou"] == 1.0
    assert score_photo(1 - truth, truth)["iou"] == 0.0


def test_an_export_is_half_precision_with_a_card_that_names_its_sets(
    recipe: Recipe, data_dir: Path, tmp_path: Path
) -> None:
    train(recipe, data_dir, tmp_path, workers=0, bf16=False, stop_at=32)
    card = export(recipe, RECIPE, tmp_path / "checkpoint.pt", tmp_path / "out", scores={"validation": {"iou": 0.5}})
    assert json.loads((tmp_path / "out" / "mattehorn-slim.json").read_text()) == card
    assert card["samples_seen"] == 32
    assert card["training_sets"] == ["discs: made up"]
    assert card["commercial_use"] == "unclear"
