"""The packaged cards tell the truth: `evaluate` gives the scores that stand on them."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from mattehorn.cli.main import main

SETS = Path(__file__).parents[2] / "shared" / "data" / "eval"
# bf16 or fp32 is chosen by a timing at load: it moves a mean by less than this
SLACK = {"iou": 0.002, "dice": 0.002, "mad": 0.001, "mse": 0.001}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not SETS.is_dir(), reason="the evaluation sets are not beside the checkout (../shared/data/eval)"
    ),
]


@pytest.mark.parametrize("name", ["mattehorn-base", "mattehorn-slim"])
@pytest.mark.parametrize("set_name", ["ecssd", "alphamatting"])
def test_evaluate_prints_the_scores_of_the_card(name: str, set_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = resources.files("mattehorn.models") / "weights" / f"{name}.json"
    stated = json.loads(file.read_text("utf-8"))["scores"][set_name]
    assert main(["evaluate", "--model", name, str(SETS / set_name), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == stated["photos"]
    assert found["failures"] == stated["missed"]
    for metric, slack in SLACK.items():
        assert found[metric]["mean"] == pytest.approx(stated[metric], abs=slack), metric
