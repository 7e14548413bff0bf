"""What to decide after training, on the validation split alone: input side, flip averaging, what the trimap head adds.

`python -m training.choices WORK/checkpoint.pt --recipe R.toml --data-dir DATA --work-dir WORK` prints one line a
choice. The product takes the cheapest that is not worse; docs/training-log.md has what came out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mattehorn.models.networks import Network, fuse
from mattehorn.resize import fit, restore_alpha
from training.dataset import pack_sets
from training.evaluate import Predict, normalise, score, summary
from training.networks import build
from training.recipe import Recipe, load_recipe
from training.train import validation_photos

Pixels = NDArray[np.uint8]
Combine = Callable[[Network, Tensor], Tensor]
SIDES = (320, 384, 448, 512)  # px: from the training's last stage but one to the product's


def alone(network: Network, x: Tensor) -> Tensor:
    """The alpha head's answer."""
    return network.alpha(x)


def with_trimap(network: Network, x: Tensor) -> Tensor:
    """P(F) + P(U) alpha: the trimap head says where, the alpha head how much."""
    alpha, trimap = network(x)
    _, unknown, foreground = trimap.float().softmax(dim=1).split(1, dim=1)
    return foreground + unknown * alpha


def flipped(network: Network, x: Tensor) -> Tensor:
    """The mean over the photo and its mirror image: twice the time."""
    return (network.alpha(x) + network.alpha(x.flip(-1)).flip(-1)) / 2


def predictor(network: Network, recipe: Recipe, side: int, combine: Combine, restored: bool = True) -> Predict:
    """Photo [H, W, 3] -> alpha [H, W] under one choice; without `restored` plain bilinear enlargement."""

    @torch.inference_mode()
    def predict(image: Pixels) -> NDArray[np.float32]:
        fitted = fit(image, side, "pad")
        with torch.autocast("cpu", torch.bfloat16):
            alpha = combine(network, normalise(torch.from_numpy(fitted.pixels)[None], recipe))[0, 0].float().numpy()
        if restored:
            return restore_alpha(image, fitted, alpha)
        whole = cv2.resize(
            alpha[: fitted.content_height, : fitted.content_width], image.shape[1::-1], interpolation=cv2.INTER_LINEAR
        )
        return np.asarray(whole, np.float32)

    return predict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    recipe = load_recipe(arguments.recipe)
    network = build(recipe)
    network.load_state_dict(torch.load(arguments.checkpoint, weights_only=True)["average"])
    network = fuse(network)
    photos = validation_photos(pack_sets(recipe, arguments.data_dir, arguments.work_dir), recipe.run.validation_photos)
    choices = {f"{side} px": predictor(network, recipe, side, alone) for side in arguments.sides}
    last = max(arguments.sides)
    choices[f"{last} px, P(F) + P(U) alpha"] = predictor(network, recipe, last, with_trimap)
    choices[f"{last} px, flip averaged"] = predictor(network, recipe, last, flipped)
    choices[f"{last} px, not guided"] = predictor(network, recipe, last, alone, restored=False)
    for name, predict in choices.items():
        rows = {own: score(predict, pairs) for own, pairs in photos.items()}
        by_set = {own: summary(scored)["iou"] for own, scored in rows.items()}
        whole = summary([row for scored in rows.values() for row in scored])
        print(json.dumps({"choice": name} | whole | {"iou_by_set": by_set}), flush=True)


if __name__ == "__main__":
    main()
