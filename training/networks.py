"""The network a recipe names, ready to train: built, started from published encoder weights, partly frozen.

Called by `training/train.py` and the evaluations of training. The networks themselves are the library's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources

import torch
from torch import Tensor, nn

from mattehorn.models.efficient_unet import LITE2, BlockRow, EfficientUNet, LiteEncoder
from mattehorn.models.networks import Network, build_network
from training.recipe import Encoder, Recipe, RecipeError


def build(recipe: Recipe) -> Network:
    """The recipe's network of its seed, channels last, its encoder as published where the recipe says so."""
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.network)
    if recipe.encoder is not None:
        if not isinstance(network, EfficientUNet):
            raise RecipeError(f"encoder: {recipe.network} has no encoder with published weights; leave the table out")
        load_published(network.encoder, LITE2, recipe.encoder)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def train_mode(network: Network, encoder: Encoder | None) -> Network:
    """Training mode, save that a published encoder keeps its batch statistics and its first rows their weights.

    Statistics of small batches of composites would drift from those the weights were made with; the first rows see
    edges and colours, which need no relearning, and cost the most time to train.
    """
    network.train()
    if encoder is not None and isinstance(network, EfficientUNet):
        for module in network.encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        for frozen in (network.encoder.stem, *network.encoder.rows[: encoder.frozen_rows]):
            frozen.requires_grad_(False)
    return network


def parameter_groups(network: Network, recipe: Recipe) -> list[dict[str, object]]:
    """AdamW's groups: norms and biases are not decayed; a published encoder learns at its own share of the rate."""
    share = recipe.encoder.rate_share if recipe.encoder is not None else 1.0
    groups = []
    for inside in (False, True):
        own = [w for name, w in network.named_parameters() if name.startswith("encoder.") == inside and w.requires_grad]
        factor = share if inside else 1.0
        kernels, others = [w for w in own if w.ndim > 1], [w for w in own if w.ndim <= 1]
        if own:
            groups.append({"params": kernels, "weight_decay": recipe.optimiser.weight_decay, "share": factor})
            groups.append({"params": others, "weight_decay": 0.0, "share": factor})
    return groups


def load_published(encoder: LiteEncoder, rows: tuple[BlockRow, ...], choice: Encoder) -> None:
    """Fills the encoder from the file that the recipe's package carries; another file than the recipe's is refused."""
    file = resources.files(choice.package).joinpath(choice.file)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != choice.sha256:
        raise RecipeError(f"{choice.package}/{choice.file} has sha256 {found}, the recipe says {choice.sha256}")
    with resources.as_file(file) as path:
        state = torch.load(path, weights_only=True)
    encoder.load_state_dict(own_names(state, rows))


def own_names(published: Mapping[str, Tensor], rows: tuple[BlockRow, ...]) -> dict[str, Tensor]:
    """The published state dict under our names, without the classifier."""
    own: dict[str, Tensor] = {}

    def take(convolution: str, norm: str, ours: str) -> None:
        own[f"{ours}.conv.weight"] = published[f"{convolution}.weight"]
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            own[f"{ours}.norm.{part}"] = published[f"{norm}.{part}"]

    take("_conv_stem", "_bn0", "stem")
    places = [(r, b, row) for r, row in enumerate(rows) for b in range(row.repeats)]
    for number, (r, b, row) in enumerate(places):
        theirs, ours = f"_blocks.{number}", f"rows.{r}.{b}"
        if row.expand > 1:
            take(f"{theirs}._expand_conv", f"{theirs}._bn0", f"{ours}.expand")
        take(f"{theirs}._depthwise_conv", f"{theirs}._bn1", f"{ours}.depthwise")
        take(f"{theirs}._project_conv", f"{theirs}._bn2", f"{ours}.project")
    return own
