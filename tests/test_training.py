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

from mattehorn.models.registry import load_model
from mattehorn.models.unet import SlimHalfUNet
from training.augment import Layers, composite, free_strip, spread_foreground, view
from training.dataset import pack_sets
from training.degrade import augmix, disc_kernel, motion_kernel, real_blur
from training.evaluate import predictor, score_photo
from training.export import export
from training.losses import NAMES, Batch, matting_loss, pixel_trust, trimap_target
from training.networks import build, train_mode
from training.procedural import made_up_alpha
from training.recipe import Card, Kind, Recipe, RecipeError, SetChoice, Stage, load_recipe
from training.sampler import ALONE, KINDS, TWO_BACKDROPS, TWO_VIEWS, Sampler, choose
from training.train import train


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
    """The real recipe, shrunk: 64 px, 24 steps."""
    full = load_recipe(RECIPE)
    return replace(
        full,
        network="slim_half_w24",
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
    assert sum(rows[2]["losses"].values()) < sum(rows[0]["losses"].values())
    assert 0 <= rows[-1]["iou"] <= 1


def test_a_resumed_run_gives_the_same_curve(recipe: Recipe, data_dir: Path, tmp_path: Path) -> None:
    whole = train(recipe, data_dir, tmp_path / "a", workers=0, bf16=False)
    train(recipe, data_dir, tmp_path / "b", workers=0, bf16=False, stop_at=32)
    resumed = train(recipe, data_dir, tmp_path / "b", workers=0, bf16=False)
    assert logged(tmp_path / "a") == logged(tmp_path / "b")
    for own, other in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(own, other)


def test_the_published_encoder_fills_every_weight_and_its_first_rows_stay_as_they_are() -> None:
    recipe = load_recipe(RECIPE.with_name("base.toml"))
    fresh, started = build(replace(recipe, encoder=None)), build(recipe)
    own, published = fresh.encoder.state_dict(), started.encoder.state_dict()  # type: ignore[union-attr]
    assert all(not torch.equal(own[name], published[name]) for name in own if name.endswith("conv.weight"))
    train_mode(started, recipe.encoder)
    frozen = {name for name, weight in started.named_parameters() if not weight.requires_grad}
    assert {name.split(".")[1:3][0] for name in frozen} == {"stem", "rows"}
    assert {name.split(".")[2] for name in frozen if ".rows." in name} == {"0", "1"}
    assert not any(
        module.training
        for module in started.encoder.modules()
        if isinstance(module, torch.nn.BatchNorm2d)  # type: ignore[union-attr]
    )


def test_another_file_than_the_recipes_is_refused() -> None:
    recipe = load_recipe(RECIPE.with_name("base.toml"))
    assert recipe.encoder is not None
    with pytest.raises(RecipeError, match="sha256"):
        build(replace(recipe, encoder=replace(recipe.encoder, sha256="0" * 64)))


def test_stages_that_leave_a_part_of_a_batch_are_refused(recipe: Recipe, data_dir: Path, tmp_path: Path) -> None:
    odd = replace(recipe, stages=(Stage(side=64, batch=4, samples=66),))
    with pytest.raises(RecipeError, match="stage 1 has 66 samples"):
        train(odd, data_dir, tmp_path, workers=0, bf16=False)


@pytest.mark.slow
def test_the_seed_style_network_trains_with_the_same_recipe_and_loads_by_name(
    recipe: Recipe, data_dir: Path, tmp_path: Path
) -> None:
    seed_style = replace(
        recipe,
        network="attn-unet-r34",
        stages=(Stage(side=64, batch=4, samples=200),),
        optimiser=replace(recipe.optimiser, rate=1e-3),
        run=replace(recipe.run, evaluate_every=40, checkpoint_every=200, synchronise_every=1),
        card=Card(name="attn-unet-r34", version="1"),
    )
    train(seed_style, data_dir, tmp_path, workers=0, bf16=False)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [sum(row["losses"].values()) for row in rows if "losses" in row]
    assert len(losses) == 5  # ten steps each
    assert losses[-1] < 0.8 * losses[0]
    export(seed_style, RECIPE, tmp_path / "checkpoint.pt", tmp_path / "out", scores={})
    model = load_model(f"attn-unet-r34={tmp_path / 'out' / 'attn-unet-r34.safetensors'}")
    assert model.predict(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 64, 64)


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
    mixed = composite(Layers(image, mask, np.zeros_like(mask)), backdrop, "matte", np.random.default_rng(0))
    assert np.array_equal(mixed.image[mask == 255], image[mask == 255])
    assert np.array_equal(mixed.image[mask == 0], backdrop[mask == 0])
    assert np.array_equal(mixed.alpha, mask)


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
    batch = labelled(target, "matte")
    right, _ = matting_loss(target, classes, batch, recipe.loss)
    wrong, _ = matting_loss(1 - target, classes.flip(1), batch, recipe.loss)
    assert float(right) < 1e-3 < 1 < float(wrong)


def test_each_loss_sees_its_own_mistake(recipe: Recipe) -> None:
    target = torch.zeros(2, 1, 64, 64)
    target[..., 16:48, 16:48] = 1
    sure = torch.nn.functional.one_hot(trimap_target(target), 3).permute(0, 3, 1, 2).float() * 20
    off = target.clone()
    off[1, :, :8] = 0.5

    def part(alpha: torch.Tensor, trimap: torch.Tensor, batch: Batch, name: str) -> float:
        return float(matting_loss(alpha, trimap, batch, recipe.loss)[1][NAMES.index(name)])

    seen, unseen = labelled(target, "matte", contrast=255), labelled(target, "matte", contrast=0)
    assert part(off, sure, seen, "composition") > part(off, sure, unseen, "composition") == 0
    assert part(target, sure.flip(1), unseen, "closure") > 10 * part(target, sure, unseen, "closure")
    for couple, name, other in ((TWO_BACKDROPS, "pair", "divergence"), (TWO_VIEWS, "divergence", "pair")):
        batch = labelled(target, "matte", couple=couple)
        assert part(off, sure, batch, name) > 0 == part(target, sure, batch, name)
        assert part(off, sure, batch, other) == 0
    assert part(off, sure, labelled(target, "matte", couple=ALONE), "pair") == 0


def labelled(target: torch.Tensor, kind: Kind, contrast: int = 0, couple: int = ALONE) -> Batch:
    """A batch whose labels are `target` [N, 1, S, S]; images do not matter to the losses."""
    alpha = (target[:, 0] * 255).to(torch.uint8)
    labels = torch.stack((alpha, torch.full_like(alpha, contrast)), dim=-1)
    count = len(target)
    return Batch(torch.zeros(0), labels, torch.full((count,), KINDS.index(kind)), torch.full((count,), couple))


def sampler_of(recipe: Recipe, data_dir: Path, work_dir: Path) -> Sampler:
    return Sampler(pack_sets(recipe, data_dir, work_dir), recipe)


def test_a_couple_on_two_backdrops_shows_one_subject_and_two_scenes(
    recipe: Recipe, data_dir: Path, tmp_path: Path
) -> None:
    paired = replace(recipe, pairs=1.0, augment=replace(recipe.augment, made_up=0.0))
    sampler = sampler_of(paired, data_dir, tmp_path)
    stage = Stage(side=64, batch=4, samples=8, classes={"backdrop": 1.0})
    for number in (0, 2, 4):
        first, second = sampler.draw(number, stage), sampler.draw(number + 1, stage)
        assert first.couple == second.couple == TWO_BACKDROPS
        assert np.array_equal(first.label[..., 0], second.label[..., 0])
        assert not np.array_equal(first.image, second.image)


def test_a_noisy_couple_shares_its_label_and_not_its_noise(recipe: Recipe, data_dir: Path, tmp_path: Path) -> None:
    sampler = sampler_of(replace(recipe, pairs=1.0), data_dir, tmp_path)
    stage = Stage(side=64, batch=4, samples=8, classes={"noise": 1.0})
    for number in range(0, 20, 2):
        first, second = sampler.draw(number, stage), sampler.draw(number + 1, stage)
        assert first.couple == second.couple == TWO_VIEWS
        assert np.array_equal(first.label[..., 0], second.label[..., 0])
        assert not np.array_equal(first.image, second.image)


def test_a_sample_is_the_same_whenever_it_is_drawn(recipe: Recipe, data_dir: Path, tmp_path: Path) -> None:
    sampler = sampler_of(recipe, data_dir, tmp_path)
    stage = Stage(side=64, batch=4, samples=8)
    for number in range(12):
        first, again = sampler.draw(number, stage), sampler.draw(number, stage)
        assert np.array_equal(first.image, again.image)
        assert np.array_equal(first.label, again.label)


def test_classes_are_drawn_by_their_weight() -> None:
    rng = np.random.default_rng(0)
    drawn = [choose({"matte": 1.0, "real": 8.0, "backdrop": 5.0, "noise": 12.0}, rng) for _ in range(2600)]
    for name, share in (("matte", 100), ("real", 800), ("backdrop", 500), ("noise", 1200)):
        assert abs(drawn.count(name) - share) < 5 * share**0.5


def test_a_clear_stage_draws_no_dark_or_tiny_subject(recipe: Recipe, data_dir: Path, tmp_path: Path) -> None:
    (packed,) = pack_sets(recipe, data_dir, tmp_path)
    train = tuple(
        replace(entry, luminance=0.5 if place % 2 else 0.05, sharpness=9e3, area=0.3, name=f"{place}")
        for place, entry in enumerate(packed.train)
    )
    sampler = Sampler([replace(packed, train=train)], recipe)
    for clear, kinds in ((True, {1}), (False, {0, 1})):
        rng = np.random.default_rng(0)
        drawn = {sampler.pick("real", rng, clear)[1] % 2 for _ in range(60)}
        assert drawn == kinds


def test_made_up_mattes_hold_a_subject_and_a_soft_part() -> None:
    for seed in range(24):
        alpha = made_up_alpha(96, np.random.default_rng(seed))
        assert alpha.shape == (96, 96)
        assert 0 <= alpha.min() <= alpha.max() <= 1
        assert alpha.max() > 0.5
        assert ((alpha > 0.02) & (alpha < 0.98)).mean() > 0.002


def test_a_blur_kernel_spreads_light_and_loses_none() -> None:
    for length, angle in ((3.0, 0.0), (9.5, 0.7), (25.0, 2.0)):
        assert motion_kernel(length, angle).sum() == pytest.approx(1)
    assert disc_kernel(4.0).sum() == pytest.approx(1)
    across = motion_kernel(9.0, 0.0)
    assert np.count_nonzero(across[4]) >= 8
    assert np.count_nonzero(across.sum(axis=1)) == 1


def test_a_strong_blur_takes_the_label_along_and_a_mild_one_does_not(recipe: Recipe) -> None:
    image, mask = disc_photo(4)
    motion = replace(recipe.noise, motion=1.0)
    mild = replace(motion, motion_min=3.0, motion_max=4.0)
    strong = replace(motion, motion_min=24.0, motion_max=25.0)
    assert np.array_equal(real_blur(image, mask, mild, np.random.default_rng(0))[1], mask)
    blurred = real_blur(image, mask, strong, np.random.default_rng(0))[1]
    assert ((blurred > 20) & (blurred < 235)).sum() > 4 * ((mask > 20) & (mask < 235)).sum() + 50


def test_augmix_keeps_size_and_type_and_changes_the_picture(recipe: Recipe) -> None:
    image, _ = disc_photo(5)
    for seed in range(20):
        mixed = augmix(image, recipe.noise, np.random.default_rng(seed))
        assert mixed.shape == image.shape
        assert mixed.dtype == np.uint8
    assert not np.array_equal(mixed, image)


def test_an_estimated_foreground_holds_nothing_of_its_old_backdrop() -> None:
    weight = np.tile(np.clip((np.arange(128, dtype=np.float32) - 60) / 8, 0, 1), (128, 1))[..., None]
    front, back = np.array((200, 60, 40), np.float32), np.array((20, 220, 90), np.float32)
    photo = (weight * front + (1 - weight) * back + 0.5).astype(np.uint8)
    soft = (weight[..., 0] > 0.3) & (weight[..., 0] < 1)
    estimated = np.abs(spread_foreground(photo, weight) - front)[soft].mean()
    kept = np.abs(photo.astype(np.float32) - front)[soft].mean()
    assert estimated < kept / 2


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
