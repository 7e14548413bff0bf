"""Pruning keeps what matters: dropping channels that do nothing changes nothing."""

from __future__ import annotations

import torch

from mattehorn.models.unet import SlimHalfUNet
from training.prune import plan_of, prune


def silenced(width: int, kept: int) -> SlimHalfUNet:
    """A network of `width` whose channels beyond the share `kept`/`width` of each group are zero everywhere."""
    torch.manual_seed(0)
    network, small = SlimHalfUNet(width).eval(), SlimHalfUNet(kept)
    state, plan = network.state_dict(), plan_of(network)
    for norm in plan.norms:
        live = small.state_dict()[f"{norm}.weight"].shape[0]
        # seeded by the group: channels that meet in a sum are live together
        generator = torch.Generator().manual_seed(sum(plan.norms[norm].encode()))
        places = torch.randperm(len(state[f"{norm}.weight"]), generator=generator)[:live]
        mask = torch.zeros_like(state[f"{norm}.weight"])
        mask[places] = torch.rand(live, generator=generator) + 0.5
        state[f"{norm}.weight"] = mask
        state[f"{norm}.bias"] = torch.zeros_like(mask)
        state[f"{norm}.running_mean"] = torch.randn(len(mask), generator=generator) * 0.1 * (mask > 0)
    for layer in plan.layers:
        if layer.name.endswith("gate.psi"):
            live = small.state_dict()[f"{layer.name}.weight"].shape[1]
            state[f"{layer.name}.weight"][:, live:] = 0
    network.load_state_dict(state)
    return network


def test_channels_that_say_nothing_can_go_without_a_trace() -> None:
    wide = silenced(32, 24)
    small = prune(wide, 24).eval()
    picture = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        for old, new in zip(wide(picture), small(picture), strict=True):
            assert torch.allclose(old, new, atol=1e-5)


def test_a_network_of_width_24_has_forty_percent_fewer_parameters() -> None:
    wide, small = SlimHalfUNet(32), prune(SlimHalfUNet(32), 24)
    counts = [sum(weight.numel() for weight in network.parameters()) for network in (wide, small)]
    assert counts[1] < 0.6 * counts[0]


def test_every_convolution_and_norm_is_in_the_plan() -> None:
    network = SlimHalfUNet(16)
    plan = plan_of(network)
    named = {layer.name for layer in plan.layers} | set(plan.norms)
    assert named == {name.rpartition(".")[0] for name, _ in network.named_parameters()}
