"""Second labels: the mean where teacher and student agree enough, the teacher's own where not, the split untouched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.dataset import Entry, PackedSet
from training.evaluate import Alpha
from training.recipe import Gates, load_recipe
from training.relabel import mean_label, relabel
from training.sources import Pixels, read_label

RECIPE = Path(__file__).parent.parent / "training/recipes/base.toml"
SIDE = 40


@pytest.fixture(scope="module")
def gates() -> Gates:
    return load_recipe(RECIPE).gates


def half(value: int = 255) -> Pixels:
    """A label whose left half is the subject."""
    label = np.zeros((SIDE, SIDE), np.uint8)
    label[:, : SIDE // 2] = value
    return label


def test_the_mean_of_two_answers_lies_between_them(gates: Gates) -> None:
    student = half().astype(np.float32) / 255
    student[:, SIDE // 2] = 1.0  # one column more than the teacher
    mean = mean_label(half(), student, gates)
    assert (mean[:, : SIDE // 2] == 255).all()
    assert (mean[:, SIDE // 2] == 128).all()
    assert (mean[:, SIDE // 2 + 1 :] == 0).all()


def test_the_teacher_is_kept_where_they_differ_too_much(gates: Gates) -> None:
    elsewhere = np.ascontiguousarray(half()[:, ::-1]).astype(np.float32) / 255
    assert np.array_equal(mean_label(half(), elsewhere, gates), half())
    assert not np.array_equal(mean_label(half(), elsewhere, replace(gates, certain_floor=0.0, cover_max=1.0)), half())


def packed_set() -> PackedSet:
    """Three photos, the last of the validation split."""
    photo = np.dstack((np.full((SIDE, SIDE, 3), 90, np.uint8), half())).reshape(-1, 4)
    entries = [
        Entry(name, name, number * SIDE * SIDE, SIDE, SIDE, "teacher", number == 2, False, 0.5, 900.0, 0.5)
        for number, name in enumerate(("a", "b", "c"))
    ]
    return PackedSet("set", np.concatenate([photo] * 3), tuple(entries[:2]), np.full(2, 0.5), tuple(entries[2:]))


def test_the_split_and_dropped_photos_keep_the_teachers_answer(gates: Gates, tmp_path: Path) -> None:
    answers, out = tmp_path / "answers", tmp_path / "out"
    answers.mkdir()
    for name in ("a", "b", "c", "dropped"):
        Image.fromarray(half(200)).save(answers / f"{name}.png")
    asked = []

    def student(image: Pixels) -> Alpha:
        asked.append(image.shape)
        return np.asarray(half(), np.float32) / 255 * 0.9

    assert relabel(student, packed_set(), gates, answers, out) == 2
    assert asked == [(SIDE, SIDE, 3)] * 2
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "c.png", "dropped.png"]
    assert read_label(out / "a.png").max() == 242  # (255 + .9 * 255) / 2
    assert read_label(out / "c.png").max() == read_label(out / "dropped.png").max() == 200


def test_a_second_run_writes_only_what_is_missing(gates: Gates, tmp_path: Path) -> None:
    answers, out = tmp_path / "answers", tmp_path / "out"
    answers.mkdir()
    out.mkdir()
    Image.fromarray(half(7)).save(out / "a.png")
    assert relabel(lambda image: half().astype(np.float32) / 255, packed_set(), gates, answers, out) == 1
    assert read_label(out / "a.png").max() == 7
