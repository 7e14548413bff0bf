"""Writes the packaged model: float16 weights of the running average and the card that says what they are.

`python -m training.export WORK/checkpoint.pt --recipe R.toml --out mattehorn/models/weights --scores ecssd=e.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from training.recipe import Recipe, load_recipe, recipe_sha256

LICENCE_NOTE = (
    "The weights are this project's own and offered under Apache-2.0. They were trained on photographs whose "
    "owners' rights are partly unstated (training_sets lists each set's terms), and partly on answers of U2NetP "
    "(weights Apache-2.0 by their author, trained on DUTS). Whether that limits commercial use is unclear: decide "
    "for your own case, or train on your own photos with the recipe."
)
HOW_MEASURED = (
    "`mattehorn evaluate` with this card: alpha scored at the file's size over all pixels, means over photos; IoU and "
    "Dice at 0.5, median_iou, missed = photos with IoU under 0.3. ecssd is the first 200 photos of ECSSD, alphamatting "
    "13 photos of the alphamatting.com training set, both never trained or tuned on."
)
SCORES = ("sad", "mse", "mad", "grad", "conn", "iou", "dice", "max_f")


def export(
    recipe: Recipe, recipe_path: Path, checkpoint: Path, out: Path, scores: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Writes NAME.safetensors and NAME.json, of the recipe's card, into `out` and gives back the card."""
    document = torch.load(checkpoint, weights_only=True)
    weights = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in document["average"].items()
        if not key.endswith("num_batches_tracked")  # a counter of training, not a weight
    }
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{recipe.card.name}.safetensors"
    save_file(weights, path)
    path.chmod(0o644)  # save_file keeps it to its owner, who is not who serves it
    parameters = sum(
        value.numel() for key, value in weights.items() if not key.endswith(("running_mean", "running_var"))
    )
    starts = (
        [f"{recipe.encoder.package}, which the encoder started from: {recipe.encoder.terms}"] if recipe.encoder else []
    )
    card = {
        "name": recipe.card.name,
        "version": recipe.card.version,
        "network": recipe.network,
        "parameters": parameters,
        "input_size": recipe.input_size,
        "fit": "pad",
        "mean": list(recipe.mean),
        "std": list(recipe.std),
        "scale": "255",
        "order": "rgb",
        "output": "alpha",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
        "commercial_use": "unclear",
        "licence_note": " ".join(filter(None, (LICENCE_NOTE, recipe.card.notes))),
        "training_sets": [f"{name}: {choice.terms}" for name, choice in recipe.sets.items()] + starts,
        "recipe": {"file": recipe_path.name, "sha256": recipe_sha256(recipe_path)},
        "samples_seen": document["samples"],
        "scores": scores | {"measured": HOW_MEASURED},
    }
    (out / f"{recipe.card.name}.json").write_text(
        json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return card


def scores_of(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """What a card says of a set, from the JSON that `mattehorn evaluate --json` prints."""
    means = {name: round(evaluation[name]["mean"], 4) for name in SCORES}
    median = round(evaluation["iou"]["median"], 4)
    return means | {"median_iou": median, "photos": evaluation["images"], "missed": evaluation["failures"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--scores",
        nargs="*",
        default=[],
        metavar="SET=FILE",
        help="output of `mattehorn evaluate --json`; none yet: left out",
    )
    arguments = parser.parse_args()
    files = dict(pair.split("=", 1) for pair in arguments.scores)
    scores = {name: scores_of(json.loads(Path(file).read_text(encoding="utf-8"))) for name, file in files.items()}
    card = export(load_recipe(arguments.recipe), arguments.recipe, arguments.checkpoint, arguments.out, scores)
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
