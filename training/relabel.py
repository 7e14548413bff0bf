"""Second labels for unlabelled photos: the mean of the teacher's answer and that of a network trained on such answers.

Teacher and student err in different places, so their mean is nearer to labels by hand than either
(docs/training-log.md, 10). Where they differ the label is in doubt, which the loss counts for less (`teacher_doubt`).
Photos of the validation split keep the teacher's answer, so that scores before and after compare.
`python -m training.relabel CHECKPOINT --recipe R.toml --data-dir DATA --work-dir WORK --out WORK2` reads WORK's labels
and packs and writes `WORK2/teacher/SET/NAME.png`; run it again to finish a run cut short.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from mattehorn.models.networks import fuse
from training.choices import flipped, predictor
from training.dataset import PackedSet, pack_sets
from training.evaluate import Alpha, Predict
from training.gates import certainty
from training.networks import build
from training.recipe import Gates, load_recipe
from training.sources import Pixels


def mean_label(answer: Pixels, alpha: Alpha, gates: Gates) -> Pixels:
    """The mean of a teacher's answer, uint8 [H, W], and an alpha in 0..1, float32 [H, W]: uint8 [H, W].

    Where they differ so much that the trust gate would drop the mean, the answer alone: such photos are the hard ones,
    too good to lose, and the teacher is right more often.
    """
    mean = np.asarray((answer + alpha * 255) / 2 + 0.5, np.uint8)
    _, verdict, _ = certainty(mean, gates)
    return mean if verdict == "keep" else answer


def relabel(student: Predict, packed: PackedSet, gates: Gates, answers: Path, out: Path) -> int:
    """Writes a label for each photo that the set trains on, copies the other answers; leaves what `out` holds.

    Gives back how many it wrote.
    """
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    for entry in packed.train:
        label = out / f"{entry.name}.png"
        if not label.exists():
            pixels = packed.rgba(entry)
            alpha = student(np.ascontiguousarray(pixels[..., :3]))
            part = label.with_suffix(".part")
            Image.fromarray(mean_label(pixels[..., 3], alpha, gates)).save(part, "PNG")
            part.rename(label)
            count += 1
    trained_on = {entry.name for entry in packed.train}
    for answer in sorted(answers.glob("*.png")):
        if answer.stem not in trained_on and not (out / answer.name).exists():
            shutil.copyfile(answer, out / answer.name)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--recipe", type=Path, required=True, help="of the checkpoint")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the sets that the recipe names")
    parser.add_argument("--work-dir", type=Path, required=True, help="whose `teacher/` holds the first labels")
    parser.add_argument("--out", type=Path, required=True, help="work directory of the run that will learn from them")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.out.resolve() == arguments.work_dir.resolve():
        parser.error("--out is --work-dir: the first labels would be lost; name another folder")
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)
    recipe = load_recipe(arguments.recipe)
    network = build(recipe)
    network.load_state_dict(torch.load(arguments.checkpoint, weights_only=True)["average"])
    student = predictor(fuse(network), recipe, recipe.input_size, flipped)
    for packed in pack_sets(recipe, arguments.data_dir, arguments.work_dir):
        answers, out = arguments.work_dir / "teacher" / packed.name, arguments.out / "teacher" / packed.name
        if recipe.sets[packed.name].kind == "teacher":
            began = time.monotonic()
            count = relabel(student, packed, recipe.gates, answers, out)
            print(f"{packed.name}: {count} labelled in {time.monotonic() - began:.0f} s", flush=True)
        elif answers.is_dir():
            shutil.copytree(answers, out, dirs_exist_ok=True)  # the judge of labels by hand stays the teacher


if __name__ == "__main__":
    main()
