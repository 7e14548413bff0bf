"""Slims a trained `slim_half_wN` to a smaller width: keeps the channels with the largest batch-norm scales.

Network slimming: Liu et al., ICCV 2017. Channels that meet in a residual sum are one group and are kept or dropped
together, so the result is the same network at another width and needs no special code to run.
`python -m training.prune WORK/checkpoint.pt --width 24 --out WORK2/checkpoint.pt` writes a checkpoint that
`training.train` goes on from.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from mattehorn.models.unet import BasicBlock, DecoderStep, SlimHalfUNet
from training.networks import parameter_groups
from training.recipe import load_recipe
from training.train import State


@dataclass
class Layer:
    """One convolution: its name, the group of channels it writes and those it reads, in the order of its input."""

    name: str
    writes: str | None
    reads: tuple[str, ...]


@dataclass
class Plan:
    """All convolutions of a network, and the batch norms with the group each scales."""

    layers: list[Layer] = field(default_factory=list)
    norms: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, writes: str | None, reads: tuple[str, ...], norm: str | None = None) -> None:
        self.layers.append(Layer(name, writes, reads))
        if norm is not None and writes is not None:
            self.norms[norm] = writes


def plan_of(network: SlimHalfUNet) -> Plan:
    """Which channels belong together, from the picture ("image", never pruned) to the heads."""
    plan = Plan()
    plan.add("stem.conv", "scale0", ("image",), "stem.norm")
    for number, stage in enumerate(cast(list[nn.Sequential], network.stages)):
        before, own = f"scale{number}", f"scale{number + 1}"
        for place, block in enumerate(stage):
            name, inner = f"stages.{number}.{place}", f"inner{number}.{place}"
            reads = before if place == 0 else own
            plan.add(f"{name}.conv1", inner, (reads,), f"{name}.norm1")
            plan.add(f"{name}.conv2", own, (inner,), f"{name}.norm2")
            if isinstance(cast(BasicBlock, block).shortcut, nn.Sequential):
                plan.add(f"{name}.shortcut.0", own, (reads,), f"{name}.shortcut.1")
    deepest = f"scale{len(network.stages)}"
    plan.add("context.reduce.conv", "context", (deepest,), "context.reduce.norm")
    plan.add("context.scale", "context", (deepest,))
    above = "context"
    for level, step in enumerate(cast(list[DecoderStep], network.decoder)):
        skip, own, name = f"scale{len(network.stages) - 1 - level}", f"decoder{level}", f"decoder.{level}"
        if step.gate is not None:
            plan.add(f"{name}.gate.skip", f"gate{level}", (skip,))
            plan.add(f"{name}.gate.gating", f"gate{level}", (above,))
            plan.add(f"{name}.gate.psi", None, (f"gate{level}",))
        plan.add(f"{name}.merge.conv", own, (above, skip), f"{name}.merge.norm")
        above = own
    plan.add("alpha_head", None, (above,))
    plan.add("trimap_head", None, (above,))
    return plan


def importance(network: SlimHalfUNet, plan: Plan) -> dict[str, Tensor]:
    """What each channel of each group matters: the sum of its batch-norm scales, or its weight in a gate's psi."""
    state = network.state_dict()
    found: dict[str, Tensor] = {}
    for norm, group in plan.norms.items():
        scale = state[f"{norm}.weight"].abs()
        found[group] = found[group] + scale if group in found else scale
    for layer in plan.layers:
        if layer.name.endswith("gate.psi"):
            found[layer.reads[0]] = state[f"{layer.name}.weight"][0, :, 0, 0].abs()
    return found


def prune(network: SlimHalfUNet, width: int) -> SlimHalfUNet:
    """A network of `width` with the most important channels' weights of a wider one."""
    plan, small = plan_of(network), SlimHalfUNet(width)
    old, new = network.state_dict(), small.state_dict()
    sizes = {layer.writes: new[f"{layer.name}.weight"].shape[0] for layer in plan.layers if layer.writes}
    kept = {
        group: torch.sort(torch.topk(scores, sizes[group]).indices).values
        for group, scores in importance(network, plan).items()
    }
    widths = {layer.writes: old[f"{layer.name}.weight"].shape[0] for layer in plan.layers if layer.writes}
    for layer in plan.layers:
        weight = old[f"{layer.name}.weight"]
        if layer.reads != ("image",):
            starts = torch.tensor([0, *(widths[group] for group in layer.reads)]).cumsum(0)
            inputs = torch.cat([kept[group] + start for group, start in zip(layer.reads, starts, strict=False)])
            weight = weight[:, inputs]
        outputs = kept[layer.writes] if layer.writes else torch.arange(len(weight))
        new[f"{layer.name}.weight"] = weight[outputs]
        if f"{layer.name}.bias" in old:
            new[f"{layer.name}.bias"] = old[f"{layer.name}.bias"][outputs]
    for norm, group in plan.norms.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            new[f"{norm}.{part}"] = old[f"{norm}.{part}"][kept[group]]
    small.load_state_dict(new)
    return small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--recipe", type=Path, required=True, help="the recipe that will go on with the pruned network")
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    weights = torch.load(arguments.checkpoint, weights_only=True)["average"]
    wide = SlimHalfUNet(weights["stem.conv.weight"].shape[0])
    wide.load_state_dict(weights)
    small = prune(wide, arguments.width)
    recipe = load_recipe(arguments.recipe)
    optimiser = torch.optim.AdamW(parameter_groups(small, recipe), lr=recipe.optimiser.rate)
    average = SlimHalfUNet(arguments.width)
    average.load_state_dict(small.state_dict())
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    State(small, average, optimiser).save(arguments.out)
    counts = [sum(weight.numel() for weight in network.parameters()) for network in (wide, small)]
    print(f"{counts[0]:,} -> {counts[1]:,} parameters ({1 - counts[1] / counts[0]:.0%} fewer)")


if __name__ == "__main__":
    main()
