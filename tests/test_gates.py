"""The cleaning gates on known photos: what is measured, what each limit decides, and the sheet for a human eye."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from training.dataset import pack_sets
from training.gate_sheet import EDGE_COLOUR, GREEN, WINDOW, ZOOM, draw_samples, edge_views, write_sheet
from training.gates import Decision, Measures, dice, gate_table, measure, quality_gate, trust_gate, write_decisions
from training.made_up_photos import write_sets
from training.recipe import Gates, load_recipe
from training.sources import Photo
from training.teacher import SIDE, U2NetP, label_folder, probabilities

RECIPES = Path(__file__).parents[1] / "training" / "recipes"
GOOD = Measures(luminance=0.5, sharpness=500.0, area=0.3, clipped=0.0)
NOBODY = Path("no such file")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on a busy machine wait for each other at every layer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def gates() -> Gates:
    return load_recipe(RECIPES / "smoke.toml").gates


def square_photo(value: int, noise: float = 0.0) -> Photo:
    """A square of one grey before black, and its label: a quarter of 200x200 px."""
    label = np.zeros((200, 200), np.uint8)
    label[50:150, 50:150] = 255
    grain = np.random.default_rng(0).normal(0, noise, label.shape)
    grey = np.clip(np.where(label > 0, value + grain, 0), 0, 255)
    return Photo(np.dstack([grey] * 3).astype(np.uint8), label, 200)


def test_measures_are_of_the_subject_and_not_of_its_backdrop() -> None:
    measures = measure(square_photo(102))
    assert measures.luminance == pytest.approx(0.4)
    assert measures.area == pytest.approx(0.25)
    assert measures.clipped == 0
    assert measure(square_photo(254)).clipped == 1


def test_sharpness_falls_with_blur_and_hardly_with_the_photos_size() -> None:
    photo = square_photo(120, noise=30)
    soft = replace(photo, image=cv2.GaussianBlur(photo.image, (0, 0), 4).astype(np.uint8))
    assert measure(soft).sharpness < measure(photo).sharpness / 10
    shape = (600, 600)
    large = Photo(cv2.resize(photo.image, shape), cv2.resize(photo.label, shape), 600)
    assert measure(large).sharpness < measure(photo).sharpness  # enlarging adds no detail


def test_a_photo_without_a_subject_is_measured_whole() -> None:
    measures = measure(Photo(np.full((50, 60, 3), 51, np.uint8), np.zeros((50, 60), np.uint8), 50))
    assert measures.area == 0
    assert measures.luminance == pytest.approx(0.2)


def test_each_limit_of_quality_decides_alone(gates: Gates) -> None:
    assert quality_gate(gates.min_side, GOOD, gates) == (500.0, "keep", "")
    assert quality_gate(gates.min_side - 1, GOOD, gates)[1:] == ("drop", "short side 99 px is under 100")
    value, decision, reason = quality_gate(500, replace(GOOD, clipped=gates.clipped_max + 0.01), gates)
    assert (value, decision) == (gates.clipped_max + 0.01, "drop")
    assert "black or white" in reason
    value, decision, reason = quality_gate(500, replace(GOOD, sharpness=gates.sharpness_min - 1), gates)
    assert (value, decision, reason) == (99.0, "drop", "sharpness 99 is under 100")


@pytest.mark.parametrize(
    ("shift", "agreement", "decision"), [(0, 1.0, "keep"), (7, 0.93, "keep"), (9, 0.91, "review"), (51, 0.49, "drop")]
)
def test_a_made_label_is_trusted_by_its_agreement_with_the_teacher(
    gates: Gates, tmp_path: Path, shift: int, agreement: float, decision: str
) -> None:
    label = square_photo(100).label
    judge = tmp_path / "judge.png"
    Image.fromarray(np.roll(label, shift, axis=1)).save(judge)
    assert dice(label, judge) == pytest.approx(agreement)  # 2 * (100 - shift) / 200
    value, said, reason = trust_gate(label, "mask", judge, gates)
    assert (value, said) == (pytest.approx(agreement), decision)
    assert (reason == "") == (decision == "keep")
    assert trust_gate(label, "matte", judge, gates)[1] == decision


def test_a_label_nobody_judged_is_kept_and_says_so(gates: Gates) -> None:
    assert trust_gate(square_photo(100).label, "mask", NOBODY, gates) == (
        1.0, "keep", "not judged: the teacher was not asked",
    )  # fmt: skip


def test_an_empty_label_is_dropped(gates: Gates) -> None:
    assert trust_gate(np.zeros((9, 9), np.uint8), "matte", NOBODY, gates) == (0.0, "drop", "the label is empty")


def test_a_teachers_label_needs_a_subject_of_some_size_and_to_be_sure(gates: Gates) -> None:
    label = square_photo(100).label
    assert trust_gate(label, "teacher", NOBODY, gates) == (1.0, "keep", "")
    assert "0.0% of the picture" in trust_gate(label // 255, "teacher", NOBODY, gates)[2]
    assert "100.0% of the picture" in trust_gate(label | 255, "teacher", NOBODY, gates)[2]
    doubtful = label.copy()
    doubtful[:70] = 120
    value, decision, reason = trust_gate(doubtful, "teacher", NOBODY, gates)
    assert (value, decision) == (0.65, "drop")
    assert reason == "the teacher is sure of 65% of the picture only"


def test_counts_are_shown_by_set_and_gate_and_decisions_written_once(tmp_path: Path) -> None:
    decisions = [
        Decision("s", "a [1]", "quality", 500.0, "keep", ""),
        Decision("s", "ü", "quality", 9.0, "drop", "sharpness 9 is under 100"),
        Decision("s", "a [1]", "trust", 0.8, "review", "agreement"),
    ]
    header, quality, trust = gate_table(decisions).splitlines()
    assert header.split() == ["set", "gate", "photos", "review", "drop"]
    assert quality.split() == ["s", "quality", "2", "0", "(0.0%)", "1", "(50.0%)"]
    assert trust.split() == ["s", "trust", "1", "1", "(100.0%)", "0", "(0.0%)"]
    path = tmp_path / "gates.jsonl"
    write_decisions(decisions, path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [Decision(**row) for row in rows] == decisions
    before = path.stat().st_mtime_ns
    write_decisions(decisions, path)
    assert path.stat().st_mtime_ns == before
    assert [file.name for file in tmp_path.iterdir()] == ["gates.jsonl"]


def test_an_edge_is_shown_at_200_percent_three_times() -> None:
    photo = square_photo(200)
    views = edge_views(photo.image, photo.label, np.random.default_rng(3))
    side = WINDOW * ZOOM
    assert views.shape == (side, 3 * side, 3)
    plain, lined, cutout = views[:, :side], views[:, side : 2 * side], views[:, 2 * side :]
    assert not (plain == EDGE_COLOUR).all(axis=2).any()
    assert (lined == EDGE_COLOUR).all(axis=2).any()
    assert (cutout == GREEN).all(axis=2).any()
    assert (cutout == (200, 200, 200)).all(axis=2).any()


@pytest.mark.parametrize("value", [0, 255])
def test_a_label_without_an_edge_and_a_small_photo_still_have_a_view(value: int) -> None:
    views = edge_views(np.zeros((40, 30, 3), np.uint8), np.full((40, 30), value, np.uint8), np.random.default_rng(0))
    assert views.shape == (WINDOW * ZOOM, 3 * WINDOW * ZOOM, 3)


def test_the_sheet_is_one_file_of_a_fixed_draw_of_each_labelled_set(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / "smoke.toml")
    write_sets(tmp_path / "data", tmp_path / "work", 20)
    sets = pack_sets(recipe, tmp_path / "data", tmp_path / "work")
    drawn = [
        list(draw_samples(recipe, sets, tmp_path / "data", tmp_path / "work", 0.1, ("matte", "mask"))) for _ in "ab"
    ]
    assert drawn[0] == drawn[1]
    assert [sample.set for sample in drawn[0]] == ["made_up_shapes"] * 3 + ["made_up_mattes"] * 2  # of 21 and 20
    write_sheet(drawn[0], tmp_path / "sheet.html", recipe.seed)
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 5
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0]))).size == (3 * WINDOW * ZOOM, WINDOW * ZOOM)
    assert "http" not in page
    for sample in drawn[0]:
        assert f"{sample.set} / {sample.source.image.stem} (160x160), trust: " in page


def test_the_teacher_answers_at_its_own_size_whatever_sides_it_is_asked_at() -> None:
    teacher = U2NetP().eval()
    assert sum(weight.numel() for weight in teacher.parameters()) == 1_125_485
    image = square_photo(200, noise=20).image
    assert probabilities(teacher, [image], bf16=False, sides=(96, 64)).shape == (1, SIDE, SIDE)


def test_a_flipped_teacher_gives_a_flipped_answer() -> None:
    torch.manual_seed(0)
    teacher = U2NetP().eval()
    image = square_photo(200, noise=20).image
    own, mirrored = probabilities(teacher, [image, image[:, ::-1]], bf16=False, sides=(64,)).astype(int)
    assert np.abs(own - mirrored[:, ::-1]).max() <= 1
    alone, other = probabilities(teacher, [image, image[:, ::-1]], bf16=False, sides=(64,), flip=False).astype(int)
    assert np.abs((alone + other[:, ::-1]) / 2 - own).max() <= 1


def test_labelling_a_folder_goes_on_where_it_stopped(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    for name in "ab":
        Image.fromarray(square_photo(200).image).save(tmp_path / "image" / f"{name}.png")
    teacher = U2NetP().eval()
    assert label_folder(teacher, tmp_path / "image", tmp_path / "out", (64,), flip=False) == 2
    (tmp_path / "out" / "a.png").unlink()
    assert label_folder(teacher, tmp_path / "image", tmp_path / "out", (64,), flip=False) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
