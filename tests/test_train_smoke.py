"""`make train-smoke` in short: gates, all stages, SIGKILL and resume, export, curves; and its own checks can fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from training.curves import Curves
from training.made_up_photos import FAULTS
from training.recipe import load_recipe
from training.smoke import RECIPE, SmokeError, check_gates, compare

STEPS = (
    "data", "bad data", "gates", "edge sheet", "training", "kill", "resume", "scores", "export", "curves", "done",
)  # fmt: skip


def shortened(path: Path) -> Path:
    """The smoke recipe with stages of a few batches, written to `path`."""
    text = RECIPE.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^samples = (\d+)", lambda found: f"samples = {max(int(found[1]) // 5 // 8 * 8, 64)}", text)
    for key, samples in (("evaluate_every", 64), ("checkpoint_every", 32)):  # a kill may fall between two rows
        text = re.sub(rf"(?m)^{key} = \d+", f"{key} = {samples}", text)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.slow
def test_the_whole_training_system_runs_is_killed_and_resumes(tmp_path: Path) -> None:
    recipe = shortened(tmp_path / "short.toml")
    command = [sys.executable, "-m", "training.smoke", "--recipe", str(recipe), "--work-dir", str(tmp_path / "run")]
    answer = subprocess.run(
        [*command, "--processes", "1", "--photos", "24"], capture_output=True, text=True, timeout=600, check=False
    )
    assert answer.returncode == 0, answer.stderr
    said = [line for line in answer.stdout.splitlines() if line.startswith("smoke: ")]
    assert [line[len("smoke: ") :].startswith(step) for line, step in zip(said, STEPS, strict=True)] == [True] * 11
    for name in ("edges.html", "curves.png", "model/mattehorn-smoke.safetensors", "whole/log.jsonl"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    card = json.loads((tmp_path / "run" / "model" / "mattehorn-smoke.json").read_text())
    assert card["samples_seen"] == load_recipe(recipe).samples


def test_the_smoke_recipe_has_every_class_and_all_kinds_of_label() -> None:
    recipe = load_recipe(RECIPE)
    assert {choice.kind for choice in recipe.sets.values()} == {"matte", "mask", "teacher"}
    assert recipe.classes == {"matte": 1.0, "real": 8.0, "backdrop": 5.0, "noise": 12.0}
    assert [recipe.stages[-1].side, recipe.stages[-1].fit] == [recipe.input_size, 0.7]
    assert all(stage.samples % (2 * stage.batch) == 0 for stage in recipe.stages)  # two processes drop nothing


def test_curves_that_differ_in_more_than_time_are_no_resume() -> None:
    rows = [{"samples": 64, "losses": {"l1": 0.5}, "iou": 0.7, "seconds": 3, "per_second": 20.0}]
    run = Curves("whole", rows, rows)
    slower = [rows[0] | {"seconds": 9, "per_second": 7.0}]
    assert compare(run, Curves("killed", slower, slower)) == "the same losses and scores at 1 evaluations"
    with pytest.raises(SmokeError, match="losses differ"):
        compare(run, Curves("killed", [rows[0] | {"losses": {"l1": 0.6}}], slower))
    with pytest.raises(SmokeError, match="scores differ"):
        compare(run, replace(run, scored=[]))


def test_a_gate_that_misses_a_spoilt_photo_fails_the_smoke(tmp_path: Path) -> None:
    rows = [{"file": name, "gate": gate, "decision": decision} for name, (gate, decision) in FAULTS.items()]
    path = tmp_path / "gates.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "blurred: drop by quality" in check_gates(path)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))
    with pytest.raises(SmokeError, match="tiny"):
        check_gates(path)
