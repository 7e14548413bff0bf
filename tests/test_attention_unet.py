"""The large network: its size, its parts and how it learns. What all networks share is in test_networks.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mattehorn.models.attention_unet import AttentionUNet
from mattehorn.models.unet import SkipGate

PARAMETERS = 24_646_152  # design: attn-unet-r34
RESNET34_FEATURES = 21_284_672  # ResNet-34 without its classifier (21,797,672 - 513,000)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network() -> AttentionUNet:
    torch.manual_seed(0)
    return AttentionUNet().eval()


def size(*modules: nn.Module) -> int:
    return sum(weight.numel() for module in modules for weight in module.parameters())


def test_the_network_has_the_designed_number_of_parameters(network: AttentionUNet) -> None:
    assert size(network) == PARAMETERS


def test_the_encoder_is_a_resnet_34(network: AttentionUNet) -> None:
    assert [len(stage) for stage in network.stages] == [3, 4, 6, 3]
    assert (network.stem.conv.kernel_size, network.stem.conv.stride) == ((7, 7), (2, 2))
    assert size(network.stem, network.stages) == RESNET34_FEATURES


def test_all_four_skips_are_gated(network: AttentionUNet) -> None:
    gates = [module for module in network.modules() if isinstance(module, SkipGate)]
    assert [gate.skip.in_channels for gate in gates] == [256, 128, 64, 64]
    assert [gate.skip.out_channels for gate in gates] == [128, 64, 32, 32]
    assert all(gate.skip.bias is None for gate in gates)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 34), (33, 31), (1, 1)])
def test_both_heads_answer_at_the_size_of_the_input(network: AttentionUNet, height: int, width: int) -> None:
    with torch.no_grad():
        alpha, trimap = network(torch.randn(2, 3, height, width))
    assert alpha.shape == (2, 1, height, width)
    assert trimap.shape == (2, 3, height, width)


def test_the_features_are_at_full_size_with_32_channels(network: AttentionUNet) -> None:
    with torch.no_grad():
        assert network.features(torch.randn(1, 3, 64, 96)).shape == (1, 32, 64, 96)


def test_gradients_reach_every_weight() -> None:
    network = AttentionUNet().train()
    alpha, trimap = network(torch.randn(2, 3, 64, 64))
    (alpha.mean() + trimap.square().mean()).backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_it_learns_one_picture_by_heart() -> None:
    torch.manual_seed(3)
    network = AttentionUNet().train()
    image = torch.randn(2, 3, 64, 64)
    truth = torch.zeros(2, 1, 64, 64)
    truth[:, :, 16:48, 16:48] = 1
    image += 2 * truth
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = F.l1_loss(network(image)[0], truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
