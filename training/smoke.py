"""Runs the whole training system on drawings, in about two minutes on two cores: `make train-smoke`.

Gates, packing, every stage, a kill and a resume, validation, the exported model, sheet and curves; each step says what
it did, and the first that is not as it must be ends the run with a reason. It proves the machinery, not a model.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import torch

from training.curves import Curves, curves_of, draw
from training.dataset import PackedSet, pack_sets
from training.evaluate import predictor, score, summary
from training.export import export
from training.gate_sheet import draw_samples, write_sheet
from training.made_up_photos import FAULTS, write_sets
from training.networks import build
from training.progress import read_log
from training.recipe import load_recipe
from training.train import validation_photos

RECIPE = Path(__file__).parent / "recipes" / "smoke.toml"
CLOCKS = ("seconds", "per_second")  # in a log's row, what may differ between two runs of one recipe
GAIN = 0.2  # IoU that training must add to the untrained network: it adds three times that
PATIENCE = 240.0  # seconds until a run that has written no rows counts as stuck
POLL = 0.05  # seconds between looks at its log


class SmokeError(RuntimeError):
    """A step did not give what it must; the message says which and what it gave."""


@dataclass(frozen=True)
class Setting:
    """Where one smoke run works and how."""

    recipe: Path
    folder: Path
    processes: int
    photos: int

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def work(self, name: str) -> Path:
        """The work folder of one of the two runs, holding the teacher's made-up answers."""
        return self.folder / name

    def command(self, name: str) -> list[str]:
        own = ["--data-dir", str(self.data), "--work-dir", str(self.work(name)), "--processes", str(self.processes)]
        return [sys.executable, "-m", "training.train", str(self.recipe), *own]


def run(setting: Setting) -> None:
    """Every step in order; raises SmokeError at the first that fails."""
    recipe = load_recipe(setting.recipe)
    write_sets(setting.data, setting.work("whole"), setting.photos)
    shutil.copytree(setting.work("whole") / "teacher", setting.work("killed") / "teacher")
    say("data", f"3 sets of {setting.photos} drawings and {len(FAULTS)} spoilt ones")
    say("bad data", refuse_bad_data(setting))
    sets = pack_sets(recipe, setting.data, setting.work("whole"))
    say("gates", check_gates(setting.work("whole") / "gates.jsonl"))
    samples = draw_samples(recipe, sets, setting.data, setting.work("whole"), 0.05, ("matte", "mask"))
    write_sheet(list(samples), setting.folder / "edges.html", recipe.seed)
    say("edge sheet", str(setting.folder / "edges.html"))
    train_whole(setting)
    say("training", f"{len(recipe.stages)} stages, {recipe.samples} samples, {setting.processes} processes")
    say("kill", kill_and_resume(setting, evaluations=len(recipe.stages)))
    runs = [curves_of(setting.work(name) / "log.jsonl", name) for name in ("whole", "killed")]
    say("resume", compare(*runs))
    say("scores", check_gain(setting, sets, runs[0]))
    card = export(recipe, setting.recipe, setting.work("killed") / "checkpoint.pt", setting.folder / "model", scores={})
    say("export", f"{card['name']}, {card['parameters']} parameters, {card['samples_seen']} samples seen")
    draw(runs, setting.folder / "curves.png")
    say("curves", str(setting.folder / "curves.png"))


def say(step: str, result: str) -> None:
    print(f"smoke: {step:11}{result}", flush=True)


def refuse_bad_data(setting: Setting) -> str:
    """Trains on a copy with a missing label, a corrupt photo and a wrong size; gives back what was refused."""
    bad = setting.folder / "bad"
    shutil.copytree(setting.data, bad / "data")
    shapes = bad / "data" / "made_up_shapes"
    (shapes / "mask" / "photo 000.png").unlink()
    (shapes / "image" / "photo 001.jpg").write_bytes(b"no photo")
    shutil.copy(shapes / "mask" / "tiny.png", shapes / "mask" / "photo 002.png")
    shutil.copytree(setting.work("whole") / "teacher", bad / "work" / "teacher")
    command = Setting(setting.recipe, bad, 1, setting.photos).command("work")
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    named = [stem for stem in ("photo 000", "photo 001", "photo 002") if stem in answer.stderr]
    if answer.returncode == 0 or len(named) < 3 or (bad / "work" / "log.jsonl").exists():
        raise SmokeError(f"three spoilt files were to be refused, named were {named}:\n{answer.stderr}")
    return "a missing label, a corrupt photo and a wrong size refused together"


def check_gates(decisions: Path) -> str:
    """Every spoilt photo was found by its gate, and no other photo was dropped."""
    rows = [json.loads(line) for line in decisions.read_text(encoding="utf-8").splitlines()]
    found = {row["file"]: (row["gate"], row["decision"]) for row in rows if row["decision"] != "keep"}
    if found != dict(FAULTS):
        raise SmokeError(f"the gates were to find {dict(FAULTS)}, they found {found}")
    return ", ".join(f"{name}: {decision} by {gate}" for name, (gate, decision) in found.items())


def train_whole(setting: Setting) -> None:
    """One run from start to end in its own processes."""
    answer = subprocess.run(setting.command("whole"), stdout=subprocess.DEVNULL, check=False)
    if answer.returncode:
        raise SmokeError(f"training ended with {answer.returncode}; its last words are above")


def kill_and_resume(setting: Setting, evaluations: int) -> str:
    """Kills all processes of a run that has logged so many evaluations, then lets the same command finish it."""
    log = setting.work("killed") / "log.jsonl"
    began = time.monotonic()
    # Its own group: its children are to die with it, as when a machine loses power.
    process = subprocess.Popen(setting.command("killed"), stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        while not log.is_file() or len(read_log(log)) < evaluations:
            if process.poll() is not None or time.monotonic() - began > PATIENCE:
                raise SmokeError(f"no {evaluations} evaluations to kill the run after: exit code {process.poll()}")
            time.sleep(POLL)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    at = read_log(log)[-1]["samples"]
    answer = subprocess.run(setting.command("killed"), stdout=subprocess.DEVNULL, check=False)
    if answer.returncode:
        raise SmokeError(f"the resumed run ended with {answer.returncode}; its last words are above")
    return f"by SIGKILL after {at} samples, then resumed"


def compare(whole: Curves, killed: Curves) -> str:
    """The two runs' curves are the same numbers."""
    for kind, own, other in (("losses", whole.trained, killed.trained), ("scores", whole.scored, killed.scored)):
        for mine, theirs in zip_longest(timeless(own), timeless(other)):
            if mine != theirs:
                raise SmokeError(f"the resumed run's {kind} differ: {mine} against {theirs}")
    return f"the same losses and scores at {len(whole.scored)} evaluations"


def timeless(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what depends on the clock."""
    return [{key: value for key, value in row.items() if key not in CLOCKS} for row in rows]


def check_gain(setting: Setting, sets: list[PackedSet], trained: Curves) -> str:
    """IoU on the validation side before any training and after."""
    recipe = load_recipe(setting.recipe)
    photos = validation_photos(sets, recipe.run.validation_photos)
    predict = predictor(build(recipe).eval(), recipe, recipe.input_size, bf16=False)
    before = summary([row for pairs in photos.values() for row in score(predict, pairs)])["iou"]
    after = trained.scored[-1]["iou"]
    if after < before + GAIN:
        raise SmokeError(f"IoU was {before} untrained and is {after} trained")
    return f"validation IoU {before} untrained, {after} trained"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="one of the smoke recipe's sets")
    parser.add_argument("--work-dir", type=Path, help="kept, and must not exist; without it a temporary folder is used")
    parser.add_argument("--processes", type=int, default=2, help="that train together")
    parser.add_argument("--photos", type=int, default=40, help="drawings a set")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    began = time.monotonic()
    folder = arguments.work_dir or Path(tempfile.mkdtemp(prefix="mattehorn-smoke-"))
    folder.mkdir(parents=True, exist_ok=not arguments.work_dir)
    try:
        run(Setting(arguments.recipe, folder, arguments.processes, arguments.photos))
    except SmokeError as error:
        sys.exit(f"smoke: {error}\nwhat was written is in {folder}")
    say("done", f"in {time.monotonic() - began:.0f} s, all in {folder}")


if __name__ == "__main__":
    main()
