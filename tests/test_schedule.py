"""The learning rate over a run: warm-up, cosines in pixels, restarts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from training.recipe import Recipe, Stage, load_recipe
from training.train import learning_rate


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(Path(__file__).parents[1] / "training" / "recipes" / "slim.toml")


def test_the_learning_rate_warms_up_and_ends_at_its_floor(recipe: Recipe) -> None:
    stages = (Stage(side=1, batch=1, samples=1000), Stage(side=2, batch=1, samples=250))
    recipe = replace(recipe, stages=stages, optimiser=replace(recipe.optimiser, rate=1.0, warmup=100, floor=0.01))
    assert learning_rate(0, recipe) == 0
    assert learning_rate(50, recipe) == pytest.approx(0.5, rel=0.02)
    assert learning_rate(1000, recipe) == pytest.approx(0.505)
    assert learning_rate(1250, recipe) == pytest.approx(0.01)


def test_a_stage_that_restarts_begins_a_cosine_of_its_own(recipe: Recipe) -> None:
    first, last = Stage(32, 8, 1000), Stage(32, 8, 1000, restart=0.3)
    optimiser = replace(recipe.optimiser, rate=1.0, warmup=0, floor=0.01)
    two = replace(recipe, optimiser=optimiser, stages=(first, last))
    alone = replace(two, stages=(first,))
    for samples in (10, 500, 999):
        assert learning_rate(samples, two) == learning_rate(samples, alone)
    assert learning_rate(1000, two) == pytest.approx(0.3)
    assert learning_rate(1500, two) == pytest.approx(0.01 + 0.29 / 2)
    assert learning_rate(2000, two) == pytest.approx(0.01)
