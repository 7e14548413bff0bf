"""From a network's id, as cards and recipes name it, to the network; the one table of them.

Every network takes normalised RGB float [N, 3, H, W] and has two methods: `forward` gives alpha [N, 1, H, W] in 0..1
and trimap logits [N, 3, H, W], `alpha` the first alone. Called by torch_model.py and the training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mattehorn.errors import ModelError
from mattehorn.models.attention_unet import AttentionUNet
from mattehorn.models.efficient_unet import LITE2, EfficientUNet
from mattehorn.models.unet import SlimHalfUNet, fuse

__all__ = ["NETWORKS", "Network", "build_network", "fuse"]

Network = SlimHalfUNet | EfficientUNet | AttentionUNet

NETWORKS: Mapping[str, Callable[[], Network]] = {
    "slim_half_w32": lambda: SlimHalfUNet(width=32),
    "slim_half_w24": lambda: SlimHalfUNet(width=24),
    "lite2_unet": lambda: EfficientUNet(LITE2),
    "attn-unet-r34": AttentionUNet,
}


def build_network(network: str) -> Network:
    """A fresh network with random weights, in training mode. Raises ModelError for an unknown id."""
    if network not in NETWORKS:
        raise ModelError(f"network is {network[:100]}; known: {', '.join(NETWORKS)}. Correct the model's card.")
    return NETWORKS[network]()
