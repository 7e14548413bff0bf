"""Scores a network as the product runs it: fitted to its square, edge-padded, alpha restored to the file's size.

Used on the validation split during training and, by hand and once, on an evaluation folder:
`python -m training.evaluate FOLDER --weights X.safetensors --recipe R.toml`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from mattehorn.models.networks import Network, build_network, fuse
from mattehorn.resize import fit, restore_alpha
from training.recipe import Recipe, load_recipe

Pixels = NDArray[np.uint8]
Alpha = NDArray[np.float32]
Predict = Callable[[Pixels], Alpha]
FAILURE = 0.3  # an IoU below this is a missed subject


def normalise(images: Tensor, recipe: Recipe) -> Tensor:
    """uint8 [N, H, W, 3] RGB -> float32 [N, 3, H, W], channels last in memory, as the network takes it."""
    mean = torch.tensor(recipe.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(recipe.std, device=images.device).view(1, 3, 1, 1)
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def predictor(network: Network, recipe: Recipe, side: int, bf16: bool) -> Predict:
    """Photo [H, W, 3] -> alpha float32 [H, W] as the library gives it: padded fit, fused network, guided restore."""
    fused = fuse(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = next(network.parameters()).device

    @torch.inference_mode()
    def predict(image: Pixels) -> Alpha:
        fitted = fit(image, side, "pad")
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            alpha = fused.alpha(normalise(torch.from_numpy(fitted.pixels)[None].to(device), recipe))
        return restore_alpha(image, fitted, alpha[0, 0].float().cpu().numpy())

    return predict


def score_photo(alpha: Alpha, truth: Alpha) -> dict[str, float]:
    """IoU and Dice of alpha >= 0.5 against truth > 127/255, mean absolute and mean square error; both empty is 1."""
    found, wanted = alpha >= 0.5, truth > 127 / 255
    both, either = int((found & wanted).sum()), int((found | wanted).sum())
    error = np.abs(alpha - truth)
    return {
        "iou": both / either if either else 1.0,
        "dice": 2 * both / (both + either) if either else 1.0,
        "mae": float(error.mean()),
        "mse": float(np.square(error).mean()),
    }


def score(predict: Predict, photos: Iterable[tuple[Pixels, Alpha]]) -> list[dict[str, float]]:
    """The scores of each photo."""
    return [score_photo(predict(image), truth) for image, truth in photos]


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means over photos, the median IoU, the number of photos, and how many are missed (IoU below 0.3)."""
    means = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
    ious = [row["iou"] for row in rows]
    missed = sum(iou < FAILURE for iou in ious)
    return means | {"median_iou": round(float(np.median(ious)), 4), "photos": len(rows), "missed": missed}


def folder_photos(folder: Path) -> Iterator[tuple[Pixels, Alpha]]:
    """Image uint8 [H, W, 3] and truth float32 [H, W] of each pair `image/NAME.*`, `alpha|mask/NAME.png`."""
    labels = folder / "alpha" if (folder / "alpha").is_dir() else folder / "mask"
    for path in sorted((folder / "image").iterdir()):
        label = np.asarray(Image.open(labels / f"{path.stem}.png").convert("L"), np.float32)
        yield np.asarray(Image.open(path).convert("RGB"), np.uint8), label / np.float32(255)


def load_network(weights: Path, recipe: Recipe) -> Network:
    """The network of a safetensors file of any float type, as float32 in eval mode."""
    network = build_network(recipe.network)
    network.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--bf16", action="store_true", help="as the product runs on a CPU that gains by it")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe)
    predict = predictor(load_network(arguments.weights, recipe), recipe, recipe.input_size, arguments.bf16)
    print(json.dumps(summary(score(predict, folder_photos(arguments.folder)))))


if __name__ == "__main__":
    main()
